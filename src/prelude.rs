//! Everything a job needs, in one `use`.

pub use crate::api::data_stream::{DataStream, KeyedStream, WindowedStream};
pub use crate::api::environment::StreamExecutionEnvironment;
pub use crate::api::kafka::{KafkaSink, KafkaSource, OnBadRecord, StartingOffsets};
pub use crate::api::sequence::SequenceSource;
pub use crate::api::watermark::WatermarkStrategy;
pub use crate::api::window::{SlidingEventTimeWindows, TumblingEventTimeWindows};
pub use crate::{struct_record, table_record};
pub use ringflow_dataplane::operator::stateless::Collector;
pub use ringflow_dataplane::operator::window::{
    AggregateFunction, Count, TimeWindow, WindowResult,
};
pub use ringflow_dataplane::record::{EventTime, Record, Row, StructRecord};
