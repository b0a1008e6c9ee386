//! Records on their way to a broker.
//!
//! Owns: [`Producer`]: one topic of one producing client, sending without waiting, and counting what is under way.
//! Invariant: each record that was queued comes back exactly once as a [`Delivery`]; `in_flight` counts the others.
//! What travels with a record is one number (`origin_ns`) in librdkafka's opaque pointer, so nothing is allocated here.
//! Left out: what to do when the queue is full or a delivery fails (`sink::kafka`), transactions.

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as ffi;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Error, Result};
use crate::kafka::client::{NativeClient, Topic};
use crate::kafka::ready::ReadyQueue;
use crate::record::EventTime;
use crate::runtime::doorbell::Bell;

/// librdkafka's `RD_KAFKA_PARTITION_UA`: its partitioner chooses.
const PARTITION_UNASSIGNED: i32 = -1;

/// Sends records to one topic.
///
/// Lives: created on a housekeeping thread, used by one core, dropped on a housekeeping thread (blocks).
pub struct Producer {
    /// The client's main queue, on which deliveries arrive.
    deliveries: ReadyQueue,
    /// Holds the client: dropped after the queue.
    topic: Topic,
    in_flight: u64,
}

/// What became of a record.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// As it was sent.
    pub origin_ns: u64,
    /// Partition it went to.
    pub kafka_partition: i32,
    /// `None`: acknowledged.
    pub error: Option<RDKafkaErrorCode>,
}

impl Producer {
    /// A producer of a topic.
    ///
    /// # Errors
    /// The topic's name is refused.
    pub fn new(client: &Arc<NativeClient>, topic: &str) -> Result<Self> {
        let topic = Topic::new(client, topic)?;
        // SAFETY: the client is alive; a reference to its main queue is ours to give back.
        let queue = unsafe { ffi::rd_kafka_queue_get_main(client.as_ptr()) };
        let queue = NonNull::new(queue)
            .ok_or_else(|| Error::deployment("a Kafka client has no main queue"))?;
        // SAFETY: just got, with a reference of its own; the topic holds the client, and is dropped later.
        let deliveries = unsafe { ReadyQueue::new(queue) };
        Ok(Self {
            deliveries,
            topic,
            in_flight: 0,
        })
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Records sent and not yet delivered or failed.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// From now on, rings the bell when deliveries arrive. Serve once more after this.
    pub fn ring(&self, bell: Bell) {
        self.deliveries.ring(bell);
    }

    /// Queues a record, copying its bytes. Never waits.
    ///
    /// Shape: without a partition, librdkafka chooses; without an event time (or with one before 1970), the record's
    /// time is now.
    ///
    /// # Errors
    /// `QueueFull`: nothing happened, try again when deliveries have arrived. Any other is the record's failure.
    #[inline]
    pub fn send(
        &mut self,
        kafka_partition: Option<i32>,
        bytes: &[u8],
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Result<(), RDKafkaErrorCode> {
        use ffi::rd_kafka_vtype_t as tag;
        let (client, topic) = (self.topic.client().as_ptr(), self.topic.as_ptr());
        let payload = bytes.as_ptr().cast_mut().cast::<c_void>();
        let opaque = ptr::without_provenance_mut::<c_void>(usize::try_from(origin_ns).unwrap_or(0));
        // SAFETY: client and topic are alive, the payload is copied before it returns; tags and types of the variable
        // arguments are those of `rd_kafka_vtype_t`, closed by END.
        let code = unsafe {
            ffi::rd_kafka_producev(
                client,
                tag::RD_KAFKA_VTYPE_RKT,
                topic,
                tag::RD_KAFKA_VTYPE_PARTITION,
                kafka_partition.unwrap_or(PARTITION_UNASSIGNED),
                tag::RD_KAFKA_VTYPE_MSGFLAGS,
                ffi::RD_KAFKA_MSG_F_COPY,
                tag::RD_KAFKA_VTYPE_VALUE,
                payload,
                bytes.len(),
                tag::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp.0.max(0),
                tag::RD_KAFKA_VTYPE_OPAQUE,
                opaque,
                tag::RD_KAFKA_VTYPE_END,
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {
                self.in_flight += 1;
                Ok(())
            }
            code => Err(code),
        }
    }

    /// Reports every delivery that has arrived, and returns how many. Never waits; drains to empty, because the
    /// bell rings again only after that.
    ///
    /// Cost: one load when none has arrived.
    pub fn serve(&mut self, mut on_delivery: impl FnMut(Delivery)) -> u64 {
        if !self.deliveries.lower() {
            return 0;
        }
        let mut served = 0;
        while let Some(event) = Event::next(&self.deliveries) {
            while let Some(message) = event.next_message() {
                served += 1;
                on_delivery(Delivery {
                    origin_ns: message._private.addr() as u64,
                    kafka_partition: message.partition,
                    error: match RDKafkaErrorCode::from(message.err) {
                        RDKafkaErrorCode::NoError => None,
                        code => Some(code),
                    },
                });
            }
        }
        self.in_flight -= served;
        served
    }
}

impl Drop for Producer {
    /// Gives up what is under way.
    fn drop(&mut self) {
        if self.in_flight > 0 {
            let flags = ffi::RD_KAFKA_PURGE_F_QUEUE | ffi::RD_KAFKA_PURGE_F_INFLIGHT;
            // SAFETY: the client is alive. Failing leaves the records to the client's own end.
            let _: ffi::rd_kafka_resp_err_t =
                unsafe { ffi::rd_kafka_purge(self.topic.client().as_ptr(), flags) };
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Producer({}, {} in flight)",
            self.topic.name(),
            self.in_flight
        )
    }
}

/// Deliveries that arrived together, freed on drop.
struct Event(NonNull<ffi::rd_kafka_event_t>);

impl Event {
    fn next(queue: &ReadyQueue) -> Option<Self> {
        // SAFETY: the queue is alive; a timeout of 0 returns at once.
        let event = unsafe { ffi::rd_kafka_queue_poll(queue.as_ptr(), 0) };
        NonNull::new(event).map(Self)
    }

    fn next_message(&self) -> Option<&ffi::rd_kafka_message_t> {
        // SAFETY: the event is alive; other kinds of events than deliveries answer null.
        let message = unsafe { ffi::rd_kafka_event_message_next(self.0.as_ptr()) };
        // SAFETY: null, or a message that lives as long as the event.
        unsafe { message.as_ref() }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: returned by `rd_kafka_queue_poll`, freed once.
        unsafe { ffi::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}
