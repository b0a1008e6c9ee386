//! Streams by key.
//!
//! Owns: [`KeyedStream`]. Invariant: records of one key meet in one subtask, and operators on a keyed stream see state of
//! their record's key only.
//! Left out: windows ([`super::windowed_stream`]).

use std::marker::PhantomData;

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::reduce::Reduce;
use ringflow_dataplane::record::{Record, Row, StructRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_schemas::graph::OperatorKind;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;
use crate::api::window::WindowAssigner;
use crate::api::windowed_stream::WindowedStream;

/// A stream whose records of one key meet in one subtask.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct KeyedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> KeyedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    /// `stream`, whose records go by `key`.
    pub(crate) fn new(stream: DataStream<R>, key: KF) -> Self {
        Self {
            stream,
            key,
            keys: PhantomData,
        }
    }

    /// Combines each record with what came of the earlier ones of its key: the first goes on as it is, later ones as
    /// `reduce(before, record)`, each with its own event time. What `reduce` returns must have the same key.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// let mut env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(100), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .key_by(|number| number.value() % 10)
    ///     .reduce(|greatest, number| if number.value() > greatest.value() { number } else { greatest })
    ///     .discard();
    /// # assert_eq!(env.execute("greatest by last digit")?.records_out, 100);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn reduce(self, reduce: impl Fn(R, R) -> R + Clone + Send + Sync + 'static) -> DataStream<R>
    where
        R: StructRecord,
    {
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = Reduce::<R, K, _, _>::new(key.clone(), reduce.clone());
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream
            .add("Keyed Reduce", OperatorKind::OneInput, factory(make))
    }

    /// Groups records by windows of event time.
    #[must_use]
    pub fn window(self, windows: impl WindowAssigner) -> WindowedStream<R, K, KF> {
        WindowedStream::new(self.stream, self.key, windows.windows())
    }
}
