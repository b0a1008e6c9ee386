//! A real broker for tests, shared by the tests of one suite that run at the same time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use ringflow_dataplane::kafka::{KafkaClientConfig, create_topic, describe_topics, offset_ranges};

pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A broker of our own, stopped when the last test lets go.
pub struct Broker {
    directory: PathBuf,
    pub address: String,
}

fn script(arguments: &[&str]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
    let output = Command::new(script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

impl Broker {
    fn start() -> Result<Self, String> {
        static FETCHED: OnceLock<Result<String, String>> = OnceLock::new();
        FETCHED.get_or_init(|| script(&["fetch"])).clone()?;
        let name = format!("ringflow-kafka-{}-{}", std::process::id(), unique());
        let directory = std::env::temp_dir().join(name);
        let address = script(&[
            "start",
            "--data",
            directory.to_str().unwrap(),
            "--port",
            "0",
        ])?;
        Ok(Self { directory, address })
    }

    /// Creates a topic whose records are kept whatever their timestamps.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        let name = format!("{name}-{}", unique());
        let settings = [("retention.ms", "-1")];
        create_topic(&self.client(), &name, partitions, None, &settings, TIMEOUT).unwrap();
        name
    }

    pub fn client(&self) -> KafkaClientConfig {
        KafkaClientConfig::new(&self.address)
    }

    /// All records of a topic, committed ones, as text.
    pub fn read(&self, topic: &str) -> Vec<String> {
        let partitions = describe_topics(&self.client(), &[topic.to_owned()], TIMEOUT).unwrap()[0]
            .partition_count;
        let ranges = offset_ranges(&self.client(), topic, TIMEOUT).unwrap();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("group.id", "reader-of-results")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let expected: i64 = ranges.iter().map(|range| range.end - range.start).sum();
        let expected = usize::try_from(expected).unwrap();
        let mut records = Vec::new();
        while records.len() < expected {
            let message = consumer
                .poll(TIMEOUT)
                .expect("the broker still has records")
                .unwrap();
            records
                .push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
        records
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let directory = self.directory.to_str().unwrap();
        drop(script(&["stop", "--data", directory]));
        drop(script(&["wipe", "--data", directory]));
    }
}

pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The suite's broker; `None`, said loudly, where there is no Kafka and none was promised (`RINGFLOW_TEST_KAFKA=required`).
pub fn broker() -> Option<Arc<Broker>> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(broker) = shared.upgrade() {
        return Some(broker);
    }
    match Broker::start() {
        Ok(broker) => {
            let broker = Arc::new(broker);
            *shared = Arc::downgrade(&broker);
            Some(broker)
        }
        Err(why)
            if std::env::var("RINGFLOW_TEST_KAFKA").is_ok_and(|promise| promise == "required") =>
        {
            panic!("Kafka was promised and cannot be had: {why}")
        }
        Err(why) => {
            eprintln!("SKIPPED: this test needs a Kafka broker, and none can be had: {why}");
            None
        }
    }
}
