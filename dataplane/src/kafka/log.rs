//! What librdkafka says about its clients: log lines passed on to `tracing`, errors kept for whoever must fail.
//!
//! Owns: `ClientLog`, which each client has one of, and the callbacks that fill it. Log lines are called back on
//! librdkafka's threads. Errors are called back only for readers, inside calls that serve a queue: those of a partition
//! (its topic is gone) while it is drained, the others from the main queue ([`super::client::ClientErrors`]).
//! Invariant: librdkafka writes nothing to the terminal by itself; an error that it does not recover from by itself is
//! kept until it is taken.
//! Left out: statistics.

use std::ffi::{CStr, c_char, c_int, c_void};

use crossbeam_queue::ArrayQueue;
use rdkafka::bindings as ffi;
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::config::Role;

/// syslog's level of errors, in librdkafka's log.
const ERROR_LEVEL: c_int = 3;

/// What librdkafka's threads write about a client.
#[derive(Debug)]
pub(crate) struct ClientLog {
    role: Role,
    client_id: String,
    /// The newest trouble with a broker, for error messages. Written by librdkafka's threads.
    trouble: ArrayQueue<String>,
    /// Errors to fail by, oldest first; the oldest gives way when nobody takes them.
    errors: ArrayQueue<ClientError>,
}

/// An error of a client or of one of its partitions, from which librdkafka does not recover by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    /// Which.
    pub code: RDKafkaErrorCode,
    /// librdkafka's words: for a partition, they start with its topic and number.
    pub text: String,
}

/// Errors kept at most: one is enough to fail, the rest is for the log.
const ERRORS_KEPT: usize = 16;

/// librdkafka goes on by itself.
pub(crate) fn is_transient(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
    )
}

/// Called by librdkafka's threads for each line of its log.
///
/// # Safety
/// For librdkafka only: the client's opaque is its [`ClientLog`].
pub(crate) unsafe extern "C" fn on_log(
    client: *const ffi::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    if client.is_null() {
        return;
    }
    // SAFETY: librdkafka calls with its live client.
    let log = unsafe { ffi::rd_kafka_opaque(client) }.cast::<ClientLog>();
    // SAFETY: the opaque is the client's boxed log, which outlives the client; shared references only.
    let Some(log) = (unsafe { log.as_ref() }) else {
        return;
    };
    // SAFETY: librdkafka passes nul-terminated strings that live for the call.
    let facility = unsafe { CStr::from_ptr(facility) }.to_string_lossy();
    // SAFETY: as above.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    log.on_line(level, &facility, without_thread(&text));
}

/// Called for errors, on the thread that serves a queue of the client.
///
/// # Safety
/// For librdkafka only: the client's opaque is its [`ClientLog`].
pub(crate) unsafe extern "C" fn on_error(
    _client: *mut ffi::rd_kafka_t,
    code: c_int,
    text: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque is the client's boxed log, which outlives the client; shared references only.
    let Some(log) = (unsafe { opaque.cast::<ClientLog>().as_ref() }) else {
        return;
    };
    // SAFETY: librdkafka passes nul-terminated strings that live for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let code = ffi::rd_kafka_resp_err_t::try_from(code);
    log.on_error(code.map_or(RDKafkaErrorCode::Unknown, Into::into), &text);
}

impl ClientLog {
    pub(crate) fn new(role: Role, client_id: &str) -> Self {
        Self {
            role,
            client_id: client_id.to_owned(),
            trouble: ArrayQueue::new(1),
            errors: ArrayQueue::new(ERRORS_KEPT),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Takes the oldest error to fail by.
    #[inline]
    pub(crate) fn take_error(&self) -> Option<ClientError> {
        self.errors.pop()
    }

    fn on_error(&self, code: RDKafkaErrorCode, text: &str) {
        if is_transient(code) {
            // Logged already, as a line of its own.
            self.on_trouble(text);
        } else {
            self.errors.force_push(ClientError {
                code,
                text: text.to_owned(),
            });
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Takes the newest trouble.
    pub(crate) fn take_trouble(&self) -> Option<String> {
        self.trouble.pop()
    }

    fn on_trouble(&self, text: &str) {
        if !is_summary(text) {
            self.trouble.force_push(without_state(text).to_owned());
        }
    }

    fn on_line(&self, level: c_int, facility: &str, text: &str) {
        let client_id = self.client_id.as_str();
        if is_summary(text) {
            tracing::debug!(target: "librdkafka", client_id, "{facility}: {text}");
            return;
        }
        if level <= ERROR_LEVEL {
            self.on_trouble(text);
        }
        match level {
            // The caller of an admin client gets the trouble in its error.
            ..=ERROR_LEVEL if self.role == Role::Admin => {
                tracing::debug!(target: "librdkafka", client_id, "{facility}: {text}");
            }
            // Trouble that librdkafka goes on with by itself, such as a lost connection: a warning, not an error.
            ..=ERROR_LEVEL => tracing::warn!(target: "librdkafka", client_id, "{facility}: {text}"),
            // A broker that has just started hands out producer ids after a second or two.
            4 if facility != "GETPID" => {
                tracing::warn!(target: "librdkafka", client_id, "{facility}: {text}")
            }
            4..=6 => tracing::info!(target: "librdkafka", client_id, "{facility}: {text}"),
            _ => tracing::debug!(target: "librdkafka", client_id, "{facility}: {text}"),
        }
    }
}

/// Repeated many times a second, and always behind a line that says why.
fn is_summary(text: &str) -> bool {
    text.ends_with("brokers are down")
}

/// What failed, without how long a connection was in which state.
fn without_state(text: &str) -> &str {
    text.split_once(" (after ").map_or(text, |(what, _)| what)
}

/// A log line without librdkafka's `[thrd:…]: `, which names a thread of its own.
fn without_thread(text: &str) -> &str {
    match text
        .strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "))
    {
        Some((_, rest)) => rest,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_cut_from_log_lines() {
        let line = "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect failed";
        assert_eq!(
            without_thread(line),
            "127.0.0.1:1/bootstrap: Connect failed"
        );
        assert_eq!(without_thread("[thrd: odd"), "[thrd: odd");
        assert_eq!(
            without_state("Connect failed: refused (after 0ms in state CONNECT)"),
            "Connect failed: refused"
        );
    }

    #[test]
    fn the_newest_trouble_is_kept_for_error_messages() {
        let log = ClientLog::new(Role::Admin, "c");
        log.on_line(3, "FAIL", "first (after 1ms in state CONNECT)");
        log.on_line(3, "FAIL", "second (after 1ms in state CONNECT)");
        log.on_line(3, "ERROR", "1/1 brokers are down");
        log.on_line(6, "INFO", "chatter");
        log.on_error(RDKafkaErrorCode::AllBrokersDown, "2/2 brokers are down");
        assert_eq!(log.take_error(), None);
        assert_eq!(log.take_trouble().as_deref(), Some("second"));
    }
    #[test]
    fn errors_to_fail_by_are_kept() {
        let log = ClientLog::new(Role::Producer, "c");
        let code = RDKafkaErrorCode::UnknownTopicOrPartition;
        log.on_error(code, "t [0]: topic does not exist");
        log.on_error(RDKafkaErrorCode::BrokerTransportFailure, "connection lost");
        let text = "t [0]: topic does not exist".to_owned();
        assert_eq!(log.take_error(), Some(ClientError { code, text }));
        assert_eq!(log.take_error(), None);
        assert_eq!(log.take_trouble().as_deref(), Some("connection lost"));
    }
}
