//! Calls a user's async function, beside the data cores.
//!
//! Owns: [`Caller`], which knows how to call, when to try again and when to give up, and [`dispatch`], the task of one
//! operator that starts a task for each record.
//! Invariant: of each request one [`Answer`] comes, or the job fails; when the operator is gone all of its calls are
//! dropped.
//! Left out: order and capacity, which are the operator's ([`super::AsyncWaitOperator`]).
//!
//! Await points: in `dispatch` the next request or the end of a call; in a call the user's future, a retry's delay, and
//! the timeout over both. Cancel safety: a call that is dropped anywhere answers nothing and leaves nothing behind but
//! what the user's future leaves when it is dropped.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc::Receiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::error::panic_text;
use crate::operator::async_wait::AsyncOptions;
use crate::operator::async_wait::queue::SegmentNumber;
use crate::record::{EventTime, OwnedRecord, Record, ResultRecord, RowKind};
use crate::runtime::doorbell::Doorbell;

/// A record as it goes to the function, of whatever type.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) bytes: Arc<[u8]>,
    pub(super) timestamp: EventTime,
    pub(super) kind: RowKind,
}

impl Input {
    /// # Safety
    /// The bytes are an `R`.
    unsafe fn into_record<R: Record>(self) -> OwnedRecord<R> {
        // SAFETY: passed on to the caller.
        unsafe { OwnedRecord::from_bytes(self.bytes, self.timestamp, self.kind) }
    }
}

/// The records that were made of one, end to end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Results {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Results {
    fn of<X: ResultRecord>(records: &[X]) -> Self {
        let mut results = Self::default();
        for record in records {
            results.bytes.extend_from_slice(record.bytes());
            results.ends.push(results.bytes.len());
        }
        results
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of the record at `index`.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }
}

type Outcome = Result<Results, String>;
type Call = dyn Fn(Input) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync;
type OnTimeout = dyn Fn(Input) -> Outcome + Send + Sync;

/// A user's function with its types erased. Clones share it.
#[derive(Clone)]
pub(super) struct Function {
    call: Arc<Call>,
    on_timeout: Option<Arc<OnTimeout>>,
}

impl Function {
    /// # Safety
    /// It is called with inputs that are records of `R` only.
    pub(super) unsafe fn new<R, X, E, Fut>(
        function: impl Fn(OwnedRecord<R>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        R: Record,
        X: ResultRecord,
        E: Display,
        Fut: Future<Output = Result<Vec<X>, E>> + Send + 'static,
    {
        let call = move |input: Input| {
            // SAFETY: the caller's.
            let called = function(unsafe { input.into_record::<R>() });
            let outcome = async { outcome(called.await) };
            Box::pin(outcome) as Pin<Box<dyn Future<Output = Outcome> + Send>>
        };
        Self {
            call: Arc::new(call),
            on_timeout: None,
        }
    }

    /// # Safety
    /// As [`Function::new`].
    pub(super) unsafe fn or_else<R, X, E>(
        mut self,
        on_timeout: impl Fn(OwnedRecord<R>) -> Result<Vec<X>, E> + Send + Sync + 'static,
    ) -> Self
    where
        R: Record,
        X: ResultRecord,
        E: Display,
    {
        // SAFETY: the caller's.
        let on_timeout =
            move |input: Input| outcome(on_timeout(unsafe { input.into_record::<R>() }));
        self.on_timeout = Some(Arc::new(on_timeout));
        self
    }
}

/// An error's own way of showing its causes, where it has one.
fn outcome<X: ResultRecord>(result: Result<Vec<X>, impl Display>) -> Outcome {
    match result {
        Ok(records) => Ok(Results::of(&records)),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// A record that shall be looked after.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) input: Input,
    pub(super) ticket: Ticket,
}

/// What the operator has to know of a record when its results come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) place: SegmentNumber,
    pub(super) timestamp: EventTime,
    pub(super) kind: RowKind,
    pub(super) origin_ns: u64,
}

/// A record's results, or why the job fails.
pub(super) type Answer = Result<(Ticket, Results), String>;

/// What the calls of one operator share.
pub(super) struct Caller {
    pub(super) function: Function,
    pub(super) options: AsyncOptions,
    /// As long as the operator's capacity, so there is a place for each request.
    pub(super) answers: Arc<ArrayQueue<Answer>>,
    pub(super) doorbell: Arc<Doorbell>,
}

impl Caller {
    async fn answer(self: Arc<Self>, Request { input, ticket }: Request) {
        let outcome = self.call_in_time(&input).await;
        self.say(outcome.map(|results| (ticket, results)));
    }

    fn say(&self, answer: Answer) {
        let room = self.answers.push(answer);
        debug_assert!(room.is_ok(), "as many places as requests");
        self.doorbell.ring();
    }

    pub(super) async fn call_in_time(&self, input: &Input) -> Outcome {
        let limit = self.options.timeout;
        match timeout(limit, self.call(input)).await {
            Ok(outcome) => outcome,
            Err(_) => match &self.function.on_timeout {
                Some(on_timeout) => on_timeout(input.clone()).map_err(|why| {
                    format!("what to do after a timeout of {limit:?} failed: {why}")
                }),
                None => Err(format!(
                    "the async function gave no result within its timeout of {limit:?}; allow it more time, or say \
                     what to do then (`ordered_wait_or_else`, `unordered_wait_or_else`)"
                )),
            },
        }
    }

    /// Calls until there is something to show for it, or there are no retries left.
    async fn call(&self, input: &Input) -> Outcome {
        let retry = &self.options.retry;
        for calls in 1u32.. {
            let outcome = (self.function.call)(input.clone()).await;
            let failed = match &outcome {
                Ok(results) => results.is_empty() && retry.retries_empty_results(),
                Err(_) => true,
            };
            match retry.delay_after(calls) {
                Some(delay) if failed => sleep(delay).await,
                _ if calls > 1 => {
                    return outcome.map_err(|why| {
                        format!("the async function failed, the last of {calls} times with: {why}")
                    });
                }
                _ => return outcome.map_err(|why| format!("the async function failed: {why}")),
            }
        }
        Err("the async function failed 4294967295 times".to_owned())
    }
}

/// Looks after requests until the operator drops its end, and drops what is not answered then.
pub(super) async fn dispatch(mut requests: Receiver<Request>, caller: Arc<Caller>) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                // What still lies in the channel when the operator goes is not begun any more.
                let Some(request) = request.filter(|_| !requests.is_closed()) else { return };
                drop(calls.spawn(Arc::clone(&caller).answer(request)));
            }
            Some(ended) = calls.join_next() => {
                if let Some(panic) = ended.err().filter(JoinError::is_panic) {
                    let panic = panic.into_panic();
                    let text = panic_text(panic.as_ref());
                    caller.say(Err(format!("the async function panicked: {text}")));
                }
            }
        }
    }
}
