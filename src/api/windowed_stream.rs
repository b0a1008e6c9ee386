//! Keyed streams, cut into windows.
//!
//! Owns: [`WindowedStream`]. Invariant: windows that are not legal are refused when the job is executed.

use std::marker::PhantomData;

use bytemuck::Pod;
use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::assigner::SlidingWindows;
use ringflow_dataplane::operator::window::{
    AggregateFunction, TimeWindow, WindowOperator, WindowResult,
};
use ringflow_dataplane::record::{Record, Row};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_schemas::graph::OperatorKind;

use crate::api::data_stream::{DataStream, factory};
use crate::api::key::Key;

/// A keyed stream, cut into windows.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct WindowedStream<R, K, KF> {
    stream: DataStream<R>,
    key: KF,
    windows: Result<SlidingWindows, String>,
    keys: PhantomData<fn() -> K>,
}

impl<R: Record, K: Key, KF> WindowedStream<R, K, KF>
where
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send + Sync + 'static,
{
    /// `stream`, whose records go by `key`, in `windows`.
    pub(crate) fn new(
        stream: DataStream<R>,
        key: KF,
        windows: Result<SlidingWindows, String>,
    ) -> Self {
        Self {
            stream,
            key,
            windows,
            keys: PhantomData,
        }
    }

    /// Aggregates each key's window as records come in; gives out key, value and window.
    #[must_use]
    pub fn aggregate<A>(self, aggregate: A) -> DataStream<WindowResult<K, A::Output>>
    where
        K: Pod,
        A: AggregateFunction<R> + Sync,
        A::Output: Pod,
    {
        self.aggregate_then(
            aggregate,
            |key: &K, value, window, out: &mut Collector<'_, WindowResult<K, A::Output>>| {
                out.collect_window_result(key, &value, window);
            },
        )
    }

    /// Aggregates each key's window as records come in; `emit` makes any number of records of the result.
    #[must_use]
    pub fn aggregate_then<A, O, EF>(self, aggregate: A, emit: EF) -> DataStream<O>
    where
        A: AggregateFunction<R> + Sync,
        O: Record,
        EF: Fn(&K, A::Output, TimeWindow, &mut Collector<'_, O>) + Clone + Send + Sync + 'static,
    {
        let windows = match self.windows {
            Ok(windows) => windows,
            Err(why) => {
                self.stream.env().refuse(why);
                // Never runs: `execute` reports the refusal.
                SlidingWindows::new(
                    std::time::Duration::from_secs(1),
                    std::time::Duration::from_secs(1),
                    0,
                )
                .expect("one second is a legal window")
            }
        };
        let name = if windows.is_tumbling() {
            "TumblingEventTimeWindows"
        } else {
            "SlidingEventTimeWindows"
        };
        let key = self.key;
        let make = move |_: &PrepareContext| {
            let operator = WindowOperator::<R, K, A, O, _, _>::new(
                windows,
                key.clone(),
                aggregate.clone(),
                emit.clone(),
            );
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.stream.add(name, OperatorKind::OneInput, factory(make))
    }
}
