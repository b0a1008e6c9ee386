//! `ringflow generate`: a benchmark's events, for Kafka or as lines of JSON.
//!
//! Owns: filling topics and files. Invariant: event n is the same whatever it goes to; in a topic it goes to partition
//! n modulo the number of partitions. Its Kafka timestamp is the time of writing: event times are of 2015, and a broker
//! deletes by timestamp.
//! Left out: jobs that generate for themselves.

use std::io::{BufWriter, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use ringflow_dataplane::kafka::{KafkaClientConfig, TopicCreation, create_topic};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::source::pace::Pace;

use crate::cli::args::{Generate, GenerateArgs, GenerateNexmarkArgs};
use crate::cli::progress::grouped;
use crate::cli::topic_writer::TopicWriter;
use crate::nexmark::{EmissionOrder, EventWriter, NexmarkConfig, write_ndjson};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Generates events.
///
/// # Errors
/// The file, standard output or Kafka do not take them.
pub fn generate(args: &GenerateArgs) -> crate::Result<()> {
    let Generate::Nexmark(args) = &args.what;
    let config = NexmarkConfig {
        seed: args.seed,
        events_per_second: args.event_rate,
        ..NexmarkConfig::default()
    };
    let order =
        EmissionOrder::new(&config, args.shuffle_ms, args.events).context("--shuffle-ms")?;
    match (&args.topic, args.file.as_deref()) {
        (Some(topic), _) => to_kafka(args, config, order, topic),
        (None, None | Some("-")) => to_lines(args, config, order, std::io::stdout().lock()),
        (None, Some(path)) => {
            let file =
                std::fs::File::create(path).with_context(|| format!("cannot write {path}"))?;
            to_lines(args, config, order, file).with_context(|| format!("cannot write {path}"))
        }
    }
}

/// Waits until the event at `position` is due.
fn wait_for(pace: &Pace, clock: &Clock, position: u64) {
    if pace.is_unlimited() {
        return;
    }
    loop {
        let left = pace.due_ns(position).saturating_sub(clock.now_ns());
        if left == 0 {
            return;
        }
        std::thread::park_timeout(Duration::from_nanos(left));
    }
}

fn to_lines(
    args: &GenerateNexmarkArgs,
    config: NexmarkConfig,
    order: EmissionOrder,
    out: impl Write,
) -> crate::Result<()> {
    let clock = Clock::system();
    let pace = Pace::new(args.rate, clock.now_ns());
    let mut out = BufWriter::with_capacity(1 << 20, out);
    for position in 0..args.events {
        if !pace.is_unlimited() && pace.due_ns(position) > clock.now_ns() {
            out.flush()?;
            wait_for(&pace, &clock, position);
        }
        write_ndjson(&config, order.number_at(position), &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn to_kafka(
    args: &GenerateNexmarkArgs,
    config: NexmarkConfig,
    order: EmissionOrder,
    topic: &str,
) -> crate::Result<()> {
    let servers = args
        .bootstrap_servers
        .as_deref()
        .context("--topic needs --bootstrap-servers")?;
    let client = KafkaClientConfig::new(servers);
    if let Some(partitions) = args.create_topic {
        let created = create_topic(&client, topic, partitions, None, &[], TIMEOUT)
            .map_err(anyhow::Error::msg)?;
        if let TopicCreation::Existed { partition_count } = created
            && partition_count != partitions
        {
            bail!(
                "topic `{topic}` exists with {partition_count} partitions, --create-topic asks for {partitions}"
            );
        }
    }
    let writer = TopicWriter::open(servers, topic, TIMEOUT)?;
    let partitions = u64::from(writer.partition_count());
    let clock = Clock::system();
    let pace = Pace::new(args.rate, clock.now_ns());
    let mut events = EventWriter::new(config);
    for position in 0..args.events {
        wait_for(&pace, &clock, position);
        let number = order.number_at(position);
        let partition =
            i32::try_from(number % partitions).context("more partitions than Kafka allows")?;
        writer.write(partition, events.write(number))?;
    }
    writer.finish()?;
    writeln!(
        std::io::stderr(),
        "{} events written to {partitions} partitions of topic `{topic}`",
        grouped(args.events)
    )?;
    Ok(())
}
