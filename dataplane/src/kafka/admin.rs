//! Changes to a cluster: topics made and deleted.
//!
//! Owns: [`create_topic`], [`delete_topic`]. Both block, for the command line and for tests.
//! Invariant: a topic that `create_topic` reports can be described at once.
//! Left out: everything else that an administrator does.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use crate::error::{Error, Result};
use crate::kafka::client::{NativeClient, Topic};
use crate::kafka::config::{KafkaClientConfig, Role};
use crate::kafka::metadata::{find, nanoseconds};
use crate::runtime::clock::Clock;

/// Replication by the broker's own default.
const REPLICATION_OF_BROKER: i32 = -1;

/// How long to wait before looking again for a topic that was created.
const LOOK_AGAIN_MS: i32 = 20;

/// What became of a request to create a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCreation {
    /// It is new.
    Created,
    /// It was there already, with this many partitions.
    Existed {
        /// Partitions that it has.
        partition_count: i32,
    },
}

/// Creates a topic and waits until it can be used. Blocks, at most for about twice `timeout`.
///
/// Shape: `replication` of `None` is the broker's default; `settings` are topic settings such as `retention.ms`.
///
/// # Errors
/// The cluster is unreachable or refuses; the message says why.
pub fn create_topic(
    config: &KafkaClientConfig,
    name: &str,
    partition_count: i32,
    replication: Option<i32>,
    settings: &[(&str, &str)],
    timeout: Duration,
) -> Result<TopicCreation> {
    let replication = TopicReplication::Fixed(replication.unwrap_or(REPLICATION_OF_BROKER));
    let client = NativeClient::new(config, Role::Admin)?;
    let topic = Topic::new(&client, name)?;
    // Asked first for its clear errors; another may still create the topic before we do.
    if let Some(partition_count) = find(&topic, timeout)? {
        return Ok(TopicCreation::Existed { partition_count });
    }
    let mut new = NewTopic::new(name, partition_count, replication);
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let (admin, options) = (admin_client(config)?, options(timeout));
    match first(block_on(admin.create_topics(&[new], &options))) {
        Ok(()) => wait_for(&topic, timeout).map(|_| TopicCreation::Created),
        Err(RDKafkaErrorCode::TopicAlreadyExists) => wait_for(&topic, timeout)
            .map(|partition_count| TopicCreation::Existed { partition_count }),
        Err(code) => Err(refused("create", &topic, code)),
    }
}

/// Deletes a topic; one that does not exist is as good as deleted. Blocks, at most for about twice `timeout`.
///
/// # Errors
/// The cluster is unreachable or refuses.
pub fn delete_topic(config: &KafkaClientConfig, name: &str, timeout: Duration) -> Result<()> {
    let client = NativeClient::new(config, Role::Admin)?;
    let topic = Topic::new(&client, name)?;
    if find(&topic, timeout)?.is_none() {
        return Ok(());
    }
    let (admin, options) = (admin_client(config)?, options(timeout));
    match first(block_on(admin.delete_topics(&[name], &options))) {
        Ok(()) | Err(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(()),
        Err(code) => Err(refused("delete", &topic, code)),
    }
}

fn refused(what: &str, topic: &Topic, code: RDKafkaErrorCode) -> Error {
    let (name, servers) = (topic.name(), topic.client().bootstrap_servers());
    Error::deployment(format!("cannot {what} topic `{name}` on {servers}: {code}"))
}

/// A new topic is known to the controller first and to the brokers a moment later.
fn wait_for(topic: &Topic, timeout: Duration) -> Result<i32> {
    let deadline_ns = Clock::system()
        .now_ns()
        .saturating_add(nanoseconds(timeout));
    loop {
        match find(topic, timeout)? {
            Some(partition_count) => return Ok(partition_count),
            None if Clock::system().now_ns() < deadline_ns => topic.client().serve(LOOK_AGAIN_MS),
            None => {
                let name = topic.name();
                return Err(Error::deployment(format!(
                    "topic `{name}` was created, but no broker knows it after {timeout:?}; is the cluster healthy?"
                )));
            }
        }
    }
}

/// librdkafka's log lines of the admin client wait in a queue that nobody reads; this is where they would go.
struct Silent;
impl ClientContext for Silent {}

fn admin_client(config: &KafkaClientConfig) -> Result<AdminClient<Silent>> {
    // Checks the properties with our own words before rdkafka does with its.
    drop(config.native(Role::Admin)?);
    let mut plain = ClientConfig::new();
    for (key, value) in &config.properties {
        plain.set(key, value);
    }
    plain
        .set("client.id", &config.client_id)
        .set("bootstrap.servers", &config.bootstrap_servers);
    AdminClient::from_config_and_context(&plain, Silent).map_err(|error| {
        Error::deployment(format!(
            "Kafka client for {}: {error}",
            config.bootstrap_servers
        ))
    })
}

fn options(timeout: Duration) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(timeout))
        .operation_timeout(Some(timeout))
}

fn first(results: KafkaResult<Vec<TopicResult>>) -> Result<(), RDKafkaErrorCode> {
    match results.map(|results| results.into_iter().next()) {
        Ok(Some(Ok(_))) => Ok(()),
        Ok(Some(Err((_, code)))) => Err(code),
        Ok(None) => Err(RDKafkaErrorCode::Fail),
        Err(error) => {
            tracing::warn!("request to change a topic: {error}");
            Err(error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument))
        }
    }
}

/// Waits for an answer on this thread: rdkafka's futures are woken by a thread of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "a second thread is what is tested"
    )]
    fn futures_are_waited_for() {
        let (mut sender, receiver) = (None, std::sync::mpsc::channel::<Waker>());
        sender.replace(receiver.0);
        let waiting = thread::spawn(move || receiver.1.recv().unwrap().wake());
        let mut polls = 0;
        let value = block_on(std::future::poll_fn(|context| {
            polls += 1;
            match sender.take() {
                Some(sender) => {
                    sender.send(context.waker().clone()).unwrap();
                    Poll::Pending
                }
                None => Poll::Ready(7),
            }
        }));
        waiting.join().unwrap();
        assert_eq!((value, polls), (7, 2));
    }

    #[test]
    fn a_topic_cannot_be_created_nowhere() {
        let config = KafkaClientConfig::new("127.0.0.1:1");
        let error =
            create_topic(&config, "t", 1, None, &[], Duration::from_millis(700)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot reach Kafka at 127.0.0.1:1 within 700ms"),
            "{error}"
        );
    }
}
