//! Async I/O: a user's future for each record, off the data core.
//!
//! Owns: [`AsyncWaitOperator`]. A record is copied once and goes to the TaskManager's threads for futures (`caller`);
//! its results come back through a queue and a ring of the core's bell, wait for their turn (`queue`) and leave with
//! the record's event time, kind and origin.
//! ```text
//!   on_record -> requests (channel) -> a task for each record: call, retry, timeout      housekeeping cores
//!   release  <- ElementQueue <- poll <- answers (queue), doorbell <-'                     data core above, and here
//! ```
//! Invariant: of `capacity` records at most results are awaited or not out; more than that comes in only while an
//! operator before makes several records of one, and waits here. Watermarks keep their place, and the end of input
//! waits until all is out.
//! Left out: checkpoints. In-flight elements will be state: a snapshot needs the input records of its queue, results or
//! not, in order and with the control elements between them, and calls the function again for each after a restore, as
//! Flink does.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::element::{Control, StopMode};
use crate::error::{Error, Result};
use crate::metrics::Accumulator;
use crate::operator::async_wait::caller::{
    Answer, Caller, Function, Input, Request, Results, Ticket, dispatch,
};
use crate::operator::async_wait::queue::{ElementQueue, Next};
use crate::operator::chain::Output;
use crate::operator::{Operator, Progress};
use crate::record::{OwnedRecord, Record, RecordRef, ResultRecord, RowKind};
use crate::runtime::context::OpenContext;
use crate::runtime::future_threads::FutureThreads;

mod caller;
mod options;
mod queue;

pub use options::{AsyncOptions, AsyncRetryStrategy};
pub use queue::OutputMode;

/// A user's async function, with what to do when it takes too long. Clones share it.
#[derive(Clone)]
pub struct AsyncFunction {
    function: Function,
    options: AsyncOptions,
    mode: OutputMode,
}

impl fmt::Debug for AsyncFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFunction")
            .field("options", &self.options)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl AsyncFunction {
    /// Calls `function` with each record. A timeout fails the job.
    ///
    /// # Safety
    /// The stream in front of operators of it carries `R`.
    #[must_use]
    pub unsafe fn new<R, X, E, Fut>(
        mode: OutputMode,
        options: AsyncOptions,
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        R: Record,
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        Self {
            // SAFETY: the caller's, as operators call it with their input alone.
            function: unsafe { Function::new(function) },
            options,
            mode,
        }
    }

    /// After a timeout, the results are those of `on_timeout`.
    ///
    /// # Safety
    /// As [`AsyncFunction::new`].
    #[must_use]
    pub unsafe fn or_else<R, X, E>(
        mut self,
        on_timeout: impl Fn(OwnedRecord<R>) -> Result<Vec<X>, E> + Send + Sync + 'static,
    ) -> Self
    where
        R: Record,
        X: ResultRecord,
        E: Display,
    {
        // SAFETY: the caller's.
        self.function = unsafe { self.function.or_else(on_timeout) };
        self
    }
}

/// A record's results on their way out.
#[derive(Debug)]
struct Ready {
    ticket: Ticket,
    results: Results,
    /// How many of them are out.
    given: usize,
}

/// Awaits a user's future for each record.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct AsyncWaitOperator {
    capacity: usize,
    queue: ElementQueue<Ready>,
    /// Records beyond the capacity, oldest first; none as a rule.
    waiting: VecDeque<Request>,
    /// At most `capacity` lie in it: those on their way.
    requests: Option<Sender<Request>>,
    answers: Arc<ArrayQueue<Answer>>,
    /// Until `open`.
    start: Option<(AsyncFunction, Receiver<Request>)>,
    threads: FutureThreads,
}

impl AsyncWaitOperator {
    /// An operator whose futures run on `threads`, which this starts: call it on a housekeeping thread.
    ///
    /// # Errors
    /// The options cannot work, or the threads cannot start.
    pub fn new(function: AsyncFunction, threads: &FutureThreads) -> Result<Self> {
        let AsyncFunction { options, mode, .. } = function;
        options.check().map_err(Error::deployment)?;
        threads.start()?;
        let (requests, receiver) = channel(options.capacity);
        Ok(Self {
            capacity: options.capacity,
            queue: ElementQueue::new(mode),
            waiting: VecDeque::new(),
            requests: Some(requests),
            answers: Arc::new(ArrayQueue::new(options.capacity)),
            start: Some((function, receiver)),
            threads: threads.clone(),
        })
    }

    /// Sends waiting requests off, as far as the capacity goes.
    fn send_waiting(&mut self) -> Result<()> {
        let Some(requests) = &self.requests else {
            return Ok(());
        };
        while self.queue.records() - self.waiting.len() < self.capacity {
            let Some(request) = self.waiting.pop_front() else {
                break;
            };
            match requests.try_send(request) {
                Ok(()) => {}
                Err(TrySendError::Full(request)) => {
                    debug_assert!(false, "as many places as records on their way");
                    self.waiting.push_front(request);
                    break;
                }
                Err(TrySendError::Closed(_)) => {
                    let why = "the threads for async functions have ended: this TaskManager stops";
                    return Err(Error::operator(why));
                }
            }
        }
        Ok(())
    }

    fn end(&self) -> Progress {
        if self.queue.is_empty() {
            Progress::Done
        } else {
            Progress::Blocked
        }
    }
}

impl Operator for AsyncWaitOperator {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        if let Some((function, requests)) = self.start.take() {
            let caller = Caller {
                function: function.function,
                options: function.options,
                answers: Arc::clone(&self.answers),
                doorbell: Arc::clone(&context.doorbell),
            };
            self.threads.spawn(dispatch(requests, Arc::new(caller)));
        }
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let (timestamp, kind, origin_ns) = (record.timestamp, record.kind, record.origin_ns);
        if kind != RowKind::Insert && self.queue.overtakes() {
            return Err(out_of_order(kind));
        }
        let place = self.queue.push();
        self.waiting.push_back(Request {
            input: Input {
                bytes: Arc::from(record.bytes),
                timestamp,
                kind,
            },
            ticket: Ticket {
                place,
                timestamp,
                kind,
                origin_ns,
            },
        });
        self.send_waiting()
    }

    fn on_end_of_input(&mut self, _mode: StopMode, _output: &mut Output) -> Result<Progress> {
        Ok(self.end())
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        Ok(self.end())
    }

    fn wants_poll(&self) -> bool {
        true
    }

    /// Takes answers in.
    fn poll(&mut self) -> Result<()> {
        while let Some(answer) = self.answers.pop() {
            let (ticket, results) = answer.map_err(Error::operator)?;
            let ready = Ready {
                ticket,
                results,
                given: 0,
            };
            self.queue.complete(ticket.place, ready);
        }
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        self.queue.records() >= self.capacity
    }

    fn keeps_back(&self) -> bool {
        true
    }

    fn keep_back(&mut self, control: Control) -> bool {
        self.queue.keep(control)
    }

    fn release(&mut self, output: &mut Output, budget: &mut usize) -> Result<Option<Control>> {
        while *budget > 0 {
            match self.queue.next() {
                None => break,
                Some(Next::Control(control)) => {
                    *budget -= 1;
                    return Ok(Some(control));
                }
                Some(Next::Ready(ready)) => {
                    if !ready.give_out(output, budget)? {
                        return Ok(None);
                    }
                    self.queue.pop();
                    self.send_waiting()?;
                }
            }
        }
        Ok(None)
    }

    fn can_release(&self) -> bool {
        !self.answers.is_empty() || self.queue.is_ready()
    }

    fn close(&mut self, _accumulators: &mut Vec<Accumulator>) {
        // Without a sender the dispatcher ends, and with it every call that is not answered.
        self.requests = None;
    }
}

impl Ready {
    /// Gives out results; false when some are left.
    fn give_out(&mut self, output: &mut Output, budget: &mut usize) -> Result<bool> {
        while let Some(bytes) = self.results.get(self.given) {
            if *budget == 0 || output.is_blocked() {
                return Ok(false);
            }
            *budget -= 1;
            self.given += 1;
            output.collect(&RecordRef {
                bytes,
                timestamp: self.ticket.timestamp,
                key_hash: 0,
                kind: self.ticket.kind,
                origin_ns: self.ticket.origin_ns,
            })?;
        }
        // A record without results is work too.
        *budget = budget.saturating_sub(usize::from(self.given == 0));
        Ok(true)
    }
}

#[cold]
fn out_of_order(kind: RowKind) -> Error {
    Error::operator(format!(
        "a `{}` record came to `unordered_wait`, where updates of a row could overtake each other: use `ordered_wait`",
        kind.short_name()
    ))
}

#[cfg(test)]
mod tests;
