//! Fetched records, drained in batches from one partition's queue.
//!
//! Owns: [`PartitionQueue`] (a partition being fetched), [`MessageBatch`] (records taken from it and not yet given on)
//! and [`Message`] (one of them). Invariant: each message is destroyed exactly once, and before its client.
//! One message pins the whole fetch response that it lies in, so batches are short and given on at once.
//! Left out: positions, bounds and what counts as an error (`source::kafka`).

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as ffi;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Error, Result};
use crate::kafka::client::{NativeClient, Topic, describe};
use crate::kafka::ready::ReadyQueue;
use crate::record::EventTime;
use crate::runtime::doorbell::Bell;

/// Records taken from a partition at a time, and so the most by which one partition gets ahead of its neighbours in a
/// turn. librdkafka locks per record anyway, so longer batches gain nothing.
pub const BATCH_RECORDS: usize = 256;

/// One partition that librdkafka fetches into a queue of its own.
pub struct PartitionQueue {
    queue: ReadyQueue,
    topic: Arc<Topic>,
    kafka_partition: i32,
}

impl PartitionQueue {
    /// Starts fetching a partition at an offset.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn start(topic: &Arc<Topic>, kafka_partition: i32, offset: i64) -> Result<Self> {
        let refused = |reason: String| {
            let name = topic.name();
            Error::deployment(format!(
                "cannot read partition {kafka_partition} of `{name}` at {offset}: {reason}"
            ))
        };
        let client = topic.client().as_ptr();
        // SAFETY: client and name are alive.
        let handle = unsafe {
            ffi::rd_kafka_queue_get_partition(client, topic.c_name().as_ptr(), kafka_partition)
        };
        let handle = NonNull::new(handle).ok_or_else(|| refused("it has no queue".to_owned()))?;
        // SAFETY: just got, with a reference of its own; `topic` holds the client.
        let queue = unsafe { ReadyQueue::new(handle) };
        let queue = Self {
            queue,
            topic: Arc::clone(topic),
            kafka_partition,
        };
        // SAFETY: the topic is alive. Without a queue of ours, records stay in the partition's.
        if unsafe { ffi::rd_kafka_consume_start(topic.as_ptr(), kafka_partition, offset) } == -1 {
            // SAFETY: reads this thread's last error, set by the call before.
            return Err(refused(describe(unsafe { ffi::rd_kafka_last_error() })));
        }
        Ok(queue)
    }

    /// From now on, rings the bell when the queue goes from empty to not empty. Drain once more after this.
    pub fn ring(&self, bell: Bell) {
        self.queue.ring(bell);
    }

    /// Fills an empty batch with what is there. Never waits.
    ///
    /// Cost: one load when nothing came since the queue was last found empty.
    #[inline]
    pub fn drain(&self, batch: &mut MessageBatch) {
        debug_assert!(batch.is_empty(), "what is held comes first");
        if !self.queue.lower() {
            return;
        }
        let messages = batch.messages.as_mut_ptr();
        // SAFETY: the queue is alive, and there is room for `BATCH_RECORDS` pointers.
        let count = unsafe {
            ffi::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages, BATCH_RECORDS)
        };
        batch.next = 0;
        // -1 is an error of arguments, which there is none of.
        batch.count = usize::try_from(count).unwrap_or(0);
        if batch.count > 0 {
            // Taken in full or not: the next call finds it empty, and lowers the flag for good.
            self.queue.raise();
        }
    }

    /// How far behind the partition's end a position is, as of the last fetch; `None` before that.
    #[must_use]
    pub fn lag(&self, position: i64) -> Option<u64> {
        let (mut start, mut end) = (0, 0);
        let (client, name) = (self.topic.client().as_ptr(), self.topic.c_name().as_ptr());
        // SAFETY: client and name are alive; answers from librdkafka's cache, without a request.
        let code = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                client,
                name,
                self.kafka_partition,
                &raw mut start,
                &raw mut end,
            )
        };
        let known = code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && end >= 0;
        known.then(|| u64::try_from(end - position).unwrap_or(0))
    }
}

impl Drop for PartitionQueue {
    /// Blocks until librdkafka's thread has stopped fetching the partition.
    fn drop(&mut self) {
        // SAFETY: the topic is alive; stopping what is gone already is an error that changes nothing.
        let _: c_int =
            unsafe { ffi::rd_kafka_consume_stop(self.topic.as_ptr(), self.kafka_partition) };
        // What is left in the queue refers to the partition, which holds the queue. librdkafka breaks that circle for
        // partitions that it knows; one whose topic was deleted would keep the client from ending, for ever.
        let mut batch = MessageBatch::new(Arc::clone(self.topic.client()));
        loop {
            self.queue.raise();
            self.drain(&mut batch);
            if batch.is_empty() {
                break;
            }
            batch.clear();
        }
    }
}

impl fmt::Debug for PartitionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PartitionQueue({} {})",
            self.topic.name(),
            self.kafka_partition
        )
    }
}

/// Messages taken from a queue and not yet given on, in order.
pub struct MessageBatch {
    messages: Box<[*mut ffi::rd_kafka_message_t; BATCH_RECORDS]>,
    next: usize,
    count: usize,
    /// The messages' client.
    _client: Arc<NativeClient>,
}

// SAFETY: messages are owned by the batch; librdkafka lets any thread read and destroy them.
unsafe impl Send for MessageBatch {}

impl MessageBatch {
    /// An empty batch for messages of a client.
    #[must_use]
    pub fn new(client: Arc<NativeClient>) -> Self {
        Self {
            messages: Box::new([ptr::null_mut(); BATCH_RECORDS]),
            next: 0,
            count: 0,
            _client: client,
        }
    }

    /// Nothing is left in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.count
    }

    /// The next message.
    #[inline]
    pub fn take_next(&mut self) -> Option<Message<'_>> {
        if self.is_empty() {
            return None;
        }
        let message = self.messages[self.next];
        self.next += 1;
        NonNull::new(message).map(|message| Message {
            message,
            _batch: self,
        })
    }

    /// Drops what is left.
    pub fn clear(&mut self) {
        while self.take_next().is_some() {}
    }
}

impl Drop for MessageBatch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for MessageBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageBatch({} left)", self.count - self.next)
    }
}

/// One record, or one piece of news about its partition. Destroyed on drop.
pub struct Message<'a> {
    message: NonNull<ffi::rd_kafka_message_t>,
    _batch: &'a mut MessageBatch,
}

impl Message<'_> {
    fn raw(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: librdkafka gave it to us; it lives until drop, and nobody writes to it.
        unsafe { self.message.as_ref() }
    }

    /// What this is instead of a record; `None`: it is a record.
    #[inline]
    #[must_use]
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.raw().err;
        (code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// librdkafka's words for [`Message::error`].
    #[must_use]
    pub fn error_text(&self) -> String {
        // SAFETY: the message is alive.
        let text = unsafe { ffi::rd_kafka_message_errstr(self.message.as_ptr()) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: nul-terminated, lives as long as the message.
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    }

    /// Its offset; for the end of the partition, the offset of the next record.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The record's value, in librdkafka's fetch buffer; empty for a tombstone.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let raw = self.raw();
        if raw.payload.is_null() {
            return &[];
        }
        // SAFETY: librdkafka lays out `len` bytes there, which live as long as the message.
        unsafe { slice::from_raw_parts(raw.payload.cast(), raw.len) }
    }

    /// The record's time, as its producer or its broker set it.
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` is written before it returns.
        let time = unsafe { ffi::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        if kind == ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE {
            return EventTime::NONE;
        }
        EventTime(time)
    }
}

impl Drop for Message<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once; its client is alive, because the batch holds it.
        unsafe { ffi::rd_kafka_message_destroy(self.message.as_ptr()) };
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("offset", &self.offset())
            .field("error", &self.error())
            .finish()
    }
}
