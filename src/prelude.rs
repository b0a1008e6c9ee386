//! Everything a job needs, in one `use`.

pub use crate::api::connected_streams::ConnectedStreams;
pub use crate::api::csv::CsvRow;
pub use crate::api::data_stream::DataStream;
pub use crate::api::environment::StreamExecutionEnvironment;
pub use crate::api::file::{FileSink, PartitionCommit, RollingPolicy, append_partition};
pub use crate::api::generator::DataGeneratorSource;
pub use crate::api::kafka::{KafkaSink, KafkaSource, OnBadRecord, StartingOffsets};
pub use crate::api::keyed_stream::KeyedStream;
pub use crate::api::sequence::{Number, SequenceSource};
pub use crate::api::watermark::{WatermarkGenerator, WatermarkStrategy};
pub use crate::api::window::*;
pub use crate::api::windowed_stream::WindowedStream;
pub use crate::{struct_record, table_record};
/// What functions with state return.
pub use ringflow_dataplane::error::Result as OperatorResult;
pub use ringflow_dataplane::operator::async_wait::{AsyncOptions, AsyncRetryStrategy};
pub use ringflow_dataplane::operator::changelog::{ChangelogMode, ChangelogOptions};
pub use ringflow_dataplane::operator::co_group::Rows;
pub use ringflow_dataplane::operator::deduplicate::Deduplicate;
pub use ringflow_dataplane::operator::group_aggregate::{CannotRetract, GroupAggregateFunction};
pub use ringflow_dataplane::operator::interval_join::IntervalContext;
pub use ringflow_dataplane::operator::lookup_join::LookupTable;
pub use ringflow_dataplane::operator::process::{
    BroadcastAccess, BroadcastState, BroadcastView, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, ProcessContext, ProcessFunction,
    RuntimeContext,
};
pub use ringflow_dataplane::operator::side_output::OutputTag;
pub use ringflow_dataplane::operator::stateless::Collector;
pub use ringflow_dataplane::operator::top_n::TopN;
pub use ringflow_dataplane::plain_value;
pub use ringflow_dataplane::record::{EventTime, OwnedRecord, Record, Row, RowKind, StructRecord};
pub use ringflow_dataplane::source::watermark::WatermarkOutput;
pub use ringflow_dataplane::state::backend::KeyedStateBackend;
pub use ringflow_dataplane::state::handles::{
    AggregatingState, AggregatingStateDescriptor, KeyedAccess, ListState, ListStateDescriptor,
    MapState, MapStateDescriptor, ReducingState, ReducingStateDescriptor, StateTtlConfig,
    StateVisibility, UpdateType, ValueState, ValueStateDescriptor,
};
pub use ringflow_dataplane::state::operator_state::{
    OperatorListState, OperatorLists, OperatorStateStore,
};
pub use ringflow_dataplane::state::value::{PlainValue, RecordOf, StateValue, Stored};
