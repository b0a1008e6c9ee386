//! Async I/O: a question to the outside for each record, many at a time.
//!
//! Owns: `ordered_wait` and `unordered_wait` of [`DataStream`]. Invariant: the functions get records of the stream's
//! type, which is what the operator behind trusts. Left out: threads and order
//! ([`ringflow_dataplane::operator::async_wait`]).
//!
//! Source: Flink `AsyncDataStream`, `AsyncFunction`.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;

use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::async_wait::{
    AsyncFunction, AsyncOptions, AsyncWaitOperator, OutputMode,
};
use ringflow_dataplane::record::{OwnedRecord, Record, ResultRecord};
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_schemas::graph::OperatorKind;

use crate::api::data_stream::{DataStream, factory};

/// The type of a function on timeout that is not there.
type NoFunction<R, X> = fn(OwnedRecord<R>) -> Result<Vec<X>, Infallible>;

impl<R: Record> DataStream<R> {
    /// Awaits the future that `function` makes of each record, and gives on the records that it results in, any number
    /// of them. They leave in the order of the records that they were made from, with their event time and kind.
    /// Watermarks keep their place.
    ///
    /// Up to [`AsyncOptions::capacity`] futures of a subtask are awaited at a time. They run on a tokio runtime on the
    /// TaskManager's housekeeping cores, with one thread for each, so they may use tokio, and must not block
    /// (`tokio::task::spawn_blocking` may). All subtasks of a TaskManager share the function and what it holds, such as
    /// a client with its connections. A future that is not done when its subtask ends is dropped.
    ///
    /// An error, when no retry is left, fails the job with its text; so do a panic and a timeout.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// async fn square(number: u64) -> Result<u64, String> {
    ///     number.checked_mul(number).ok_or_else(|| format!("the square of {number} is too large"))
    /// }
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(100), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .ordered_wait(
    ///         |number| async move { square(number.view().value()).await.map(|square| vec![Number::new(square)]) },
    ///         AsyncOptions::timeout(Duration::from_secs(1))
    ///             .capacity(50)
    ///             .retry(AsyncRetryStrategy::fixed_delay(3, Duration::from_millis(10))),
    ///     )
    ///     .discard();
    /// # assert_eq!(env.execute("squares")?.records_out, 100);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    ///
    /// Tables are given back as [`OwnedRecord::table`].
    #[must_use]
    pub fn ordered_wait<X, E, Fut>(
        self,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
        options: AsyncOptions,
    ) -> DataStream<X::Record>
    where
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        let on_timeout = None::<NoFunction<R, X>>;
        self.add_async(
            "ordered_wait",
            OutputMode::Ordered,
            function,
            options,
            on_timeout,
        )
    }

    /// As [`DataStream::ordered_wait`], but results leave as soon as they are there. They never overtake a watermark,
    /// and none overtakes them. Not for updates: a record that is no insertion fails the job.
    #[must_use]
    pub fn unordered_wait<X, E, Fut>(
        self,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
        options: AsyncOptions,
    ) -> DataStream<X::Record>
    where
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        let on_timeout = None::<NoFunction<R, X>>;
        self.add_async(
            "unordered_wait",
            OutputMode::Unordered,
            function,
            options,
            on_timeout,
        )
    }

    /// As [`DataStream::ordered_wait`], but a record that times out results in what `on_timeout` makes of it. It runs
    /// where the futures do.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// env.from_source(SequenceSource::new(10), WatermarkStrategy::no_watermarks(), "numbers")
    ///     .ordered_wait_or_else(
    ///         |_| std::future::pending::<Result<Vec<Number>, String>>(),
    ///         AsyncOptions::timeout(Duration::from_millis(20)),
    ///         |number| Ok(vec![number.view()]),
    ///     )
    ///     .discard();
    /// # assert_eq!(env.execute("what nobody answers")?.records_out, 10);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn ordered_wait_or_else<X, E, Fut>(
        self,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
        options: AsyncOptions,
        on_timeout: impl Fn(OwnedRecord<R>) -> Result<Vec<X>, E> + Send + Sync + 'static,
    ) -> DataStream<X::Record>
    where
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        self.add_async(
            "ordered_wait_or_else",
            OutputMode::Ordered,
            function,
            options,
            Some(on_timeout),
        )
    }

    /// As [`DataStream::unordered_wait`], but a record that times out results in what `on_timeout` makes of it.
    #[must_use]
    pub fn unordered_wait_or_else<X, E, Fut>(
        self,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
        options: AsyncOptions,
        on_timeout: impl Fn(OwnedRecord<R>) -> Result<Vec<X>, E> + Send + Sync + 'static,
    ) -> DataStream<X::Record>
    where
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        self.add_async(
            "unordered_wait_or_else",
            OutputMode::Unordered,
            function,
            options,
            Some(on_timeout),
        )
    }

    /// Adds the operator; `call` is the name of the method that was called. Without `on_timeout` a timeout fails the job.
    fn add_async<X, E, T, Fut>(
        self,
        call: &str,
        mode: OutputMode,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
        options: AsyncOptions,
        on_timeout: Option<impl Fn(OwnedRecord<R>) -> Result<Vec<X>, T> + Send + Sync + 'static>,
    ) -> DataStream<X::Record>
    where
        X: ResultRecord,
        E: Display,
        T: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        if let Err(why) = options.check() {
            self.env().refuse(format!("`{call}` has {why}"));
        }
        // SAFETY: it is put behind this stream.
        let mut function = unsafe { AsyncFunction::new(mode, options, function) };
        if let Some(on_timeout) = on_timeout {
            // SAFETY: as above.
            function = unsafe { function.or_else(on_timeout) };
        }
        let make = move |context: &PrepareContext| {
            let threads = context.housekeeping.futures();
            let operator = AsyncWaitOperator::new(function.clone(), threads)?;
            Ok(Box::new(operator) as Box<dyn Operator>)
        };
        self.add("Async Wait", OperatorKind::OneInput, factory(make))
    }
}
