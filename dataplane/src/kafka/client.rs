//! One librdkafka client: its handle and its end.
//!
//! Owns: [`NativeClient`] (the handle), [`Topic`] (a topic of a client).
//! librdkafka's threads inherit the CPU mask of the thread that creates the client: a housekeeping thread.
//! Invariant: everything taken from a client (topics, queues, messages) holds the client, so the handle is destroyed
//! last, whatever the order of drops.
//! Left out: polling the main queues of admin clients and producers for errors. librdkafka queues there only for
//! callbacks and events that were asked for (`rd_kafka_op_err` logs when nobody asked): readers ask for errors
//! ([`ClientErrors`]), producers for deliveries, and statistics are off.

use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as ffi;
use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Error, Result};
use crate::kafka::config::{KafkaClientConfig, Role};
use crate::kafka::log::{ClientError, ClientLog, on_error, on_log};
use crate::kafka::ready::ReadyQueue;
use crate::runtime::doorbell::Bell;

/// An owned librdkafka client.
///
/// Cost: creation starts threads; dropping joins them. Both block: keep them off the data cores (see
/// [`OffCore`](crate::runtime::housekeeping::OffCore)).
pub struct NativeClient {
    handle: NonNull<ffi::rd_kafka_t>,
    /// librdkafka holds its address: boxed, and dropped after the handle.
    log: Box<ClientLog>,
    bootstrap_servers: String,
}

// SAFETY: librdkafka's handles may be used and destroyed from any thread ("completely thread-safe", rdkafka.h).
unsafe impl Send for NativeClient {}
// SAFETY: as above.
unsafe impl Sync for NativeClient {}

impl NativeClient {
    /// Creates a client. Does not connect yet: an unreachable broker shows at the first request.
    ///
    /// # Errors
    /// A property is refused; names it.
    pub fn new(config: &KafkaClientConfig, role: Role) -> Result<Arc<Self>> {
        let native = config.native(role)?;
        let log = Box::new(ClientLog::new(role, &config.client_id));
        let opaque = ptr::from_ref::<ClientLog>(&log).cast_mut().cast();
        // SAFETY: the configuration is alive; the boxed log outlives the client.
        unsafe { ffi::rd_kafka_conf_set_opaque(native.ptr(), opaque) };
        // SAFETY: the configuration is alive; the callback has the declared signature and may run on any thread.
        unsafe { ffi::rd_kafka_conf_set_log_cb(native.ptr(), Some(on_log)) };
        if let Role::Reader { .. } = role {
            // SAFETY: as above. Errors of a partition reach us no other way than by this callback.
            unsafe { ffi::rd_kafka_conf_set_error_cb(native.ptr(), Some(on_error)) };
        }
        let kind = if role == Role::Producer {
            // SAFETY: the configuration is alive.
            unsafe { ffi::rd_kafka_conf_set_events(native.ptr(), ffi::RD_KAFKA_EVENT_DR) };
            ffi::rd_kafka_type_t::RD_KAFKA_PRODUCER
        } else {
            ffi::rd_kafka_type_t::RD_KAFKA_CONSUMER
        };
        let mut reason = [0_u8; 512];
        // SAFETY: the configuration is alive and is given away on success; `reason` is as long as it says.
        let handle = unsafe {
            ffi::rd_kafka_new(kind, native.ptr(), reason.as_mut_ptr().cast(), reason.len())
        };
        let Some(handle) = NonNull::new(handle) else {
            let reason = CStr::from_bytes_until_nul(&reason)
                .unwrap_or_default()
                .to_string_lossy();
            return Err(Error::deployment(format!(
                "Kafka client for {}: {reason}",
                config.bootstrap_servers
            )));
        };
        std::mem::forget(native);
        Ok(Arc::new(Self {
            handle,
            log,
            bootstrap_servers: config.bootstrap_servers.clone(),
        }))
    }

    /// The handle, for calls of this module.
    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_t {
        self.handle.as_ptr()
    }

    /// Where the cluster is, as the user gave it.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Serves the main queue of a client that is no producer, waiting for something at most so long.
    pub(crate) fn serve(&self, timeout_ms: i32) {
        debug_assert_ne!(
            self.log.role(),
            Role::Producer,
            "its deliveries would be lost"
        );
        // SAFETY: the handle is alive.
        unsafe { ffi::rd_kafka_poll(self.as_ptr(), timeout_ms) };
    }

    /// Takes the newest trouble with a broker that was logged, such as a refused connection.
    #[must_use]
    pub fn take_trouble(&self) -> Option<String> {
        if self.log.role() != Role::Producer {
            self.serve(0);
        }
        self.log.take_trouble()
    }

    /// The error that made the client unusable, if there was one.
    #[must_use]
    pub fn fatal_error(&self) -> Option<String> {
        let mut reason = [0_u8; 512];
        // SAFETY: the handle is alive; `reason` is as long as it says.
        let code = unsafe {
            ffi::rd_kafka_fatal_error(self.as_ptr(), reason.as_mut_ptr().cast(), reason.len())
        };
        (code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
            CStr::from_bytes_until_nul(&reason)
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_new`, destroyed once; what refers to it holds the client, so is gone.
        unsafe { ffi::rd_kafka_destroy(self.as_ptr()) };
    }
}

impl fmt::Debug for NativeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            log,
            bootstrap_servers,
            ..
        } = self;
        write!(
            f,
            "NativeClient({} at {bootstrap_servers})",
            log.client_id()
        )
    }
}

/// The errors of a reader's client, of it all and of its partitions.
#[derive(Debug)]
pub struct ClientErrors {
    main: ReadyQueue,
    /// Dropped after its queue.
    client: Arc<NativeClient>,
}

impl ClientErrors {
    /// Listens to a client.
    ///
    /// # Errors
    /// librdkafka has no main queue, which is a fault of it.
    pub fn new(client: &Arc<NativeClient>) -> Result<Self> {
        // SAFETY: the client is alive; a reference to its main queue is ours to give back.
        let queue = unsafe { ffi::rd_kafka_queue_get_main(client.as_ptr()) };
        let queue = NonNull::new(queue)
            .ok_or_else(|| Error::deployment("a Kafka client has no main queue"))?;
        // SAFETY: just got, with a reference of its own; the client is held, and dropped later.
        let main = unsafe { ReadyQueue::new(queue) };
        Ok(Self {
            main,
            client: Arc::clone(client),
        })
    }

    /// From now on, rings the bell when the client has an error. Take once more after this.
    pub fn ring(&self, bell: Bell) {
        self.main.ring(bell);
    }

    /// Takes the oldest error to fail by. Those of partitions are found while their queues are drained.
    ///
    /// Cost: a few loads when there is none; never waits.
    #[inline]
    #[must_use]
    pub fn take(&self) -> Option<ClientError> {
        if self.main.lower() {
            self.client.serve(0);
        }
        self.client.log.take_error()
    }
}

/// A topic of a client.
pub struct Topic {
    handle: NonNull<ffi::rd_kafka_topic_t>,
    name: CString,
    client: Arc<NativeClient>,
}

// SAFETY: topic handles are as thread-safe as clients.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// Refers to a topic; does not ask whether it exists.
    ///
    /// # Errors
    /// The name holds a NUL, or librdkafka refuses it.
    pub fn new(client: &Arc<NativeClient>, name: &str) -> Result<Self> {
        let refused = |reason: &str| {
            Error::deployment(format!("`{name}` is no name of a Kafka topic: {reason}"))
        };
        let c_name = CString::new(name).map_err(|_| refused("it holds a NUL"))?;
        // SAFETY: the client is alive, the name nul-terminated; no configuration means the client's.
        let handle =
            unsafe { ffi::rd_kafka_topic_new(client.as_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or_else(|| refused("librdkafka refuses it"))?;
        Ok(Self {
            handle,
            name: c_name,
            client: Arc::clone(client),
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_topic_t {
        self.handle.as_ptr()
    }

    pub(crate) fn client(&self) -> &Arc<NativeClient> {
        &self.client
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    pub(crate) fn c_name(&self) -> &CStr {
        &self.name
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: created by `rd_kafka_topic_new`, destroyed once, before the client that this holds.
        unsafe { ffi::rd_kafka_topic_destroy(self.as_ptr()) };
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.name())
    }
}

/// librdkafka's words for an error code.
pub(crate) fn describe(code: ffi::rd_kafka_resp_err_t) -> String {
    RDKafkaErrorCode::from(code).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_and_go_without_a_broker() {
        for role in [
            Role::Admin,
            Role::Producer,
            Role::Reader {
                partitions: 1,
                announce_end: true,
            },
        ] {
            let client = NativeClient::new(&KafkaClientConfig::new("127.0.0.1:1"), role).unwrap();
            let topic = Topic::new(&client, "t").unwrap();
            drop(client);
            assert_eq!(topic.name(), "t");
            assert!(topic.client().fatal_error().is_none());
        }
    }

    #[test]
    fn a_topic_has_no_nul() {
        let client =
            NativeClient::new(&KafkaClientConfig::new("127.0.0.1:1"), Role::Admin).unwrap();
        assert!(
            Topic::new(&client, "a\0b")
                .unwrap_err()
                .to_string()
                .contains("NUL")
        );
    }
}
