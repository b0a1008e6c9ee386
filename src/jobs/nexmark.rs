//! Nexmark's queries as built-in jobs.
//!
//! Owns: [`NexmarkArgs`] and the queries q0, q1, q2, q5, written with the public API. Each query is a few lines from
//! events to rows; source and sink are chosen by flags.
//! Invariant: rows print as the same JSON whichever sink they go to.
//! Left out: the other queries (they need joins and state).

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::source::pace::Pace;
use ringflow_dataplane::source::{SourceFactory, SourceOutput, SourceProgress, SourceReader};

use crate::api::data_stream::Source;
use crate::nexmark::schema::{AuctionPrice, ConvertedBid, ConvertedBidArgs, Event, HotAuction};
use crate::nexmark::{
    EmissionOrder, EventWriter, NexmarkConfig, Numbers, event_time_ms, numbers, rows,
};
use crate::prelude::*;

table_record!(Event);
table_record!(ConvertedBid);
struct_record!(AuctionPrice);
struct_record!(HotAuction);

/// The queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Query {
    /// Pass-through: all bids.
    Q0,
    /// Currency conversion: price x 0.908.
    Q1,
    /// Selection: bids on auctions whose id divides by 123.
    Q2,
    /// Hot items: auctions with most bids in the last 10 s, every 2 s.
    Q5,
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            self.to_possible_value()
                .expect("no query is hidden")
                .get_name(),
        )
    }
}

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// Made on the fly.
    Generator,
    /// A Kafka topic of Nexmark events, as `ringflow generate nexmark --topic` fills it.
    Kafka,
}

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkKind {
    /// Standard output of the TaskManagers, one JSON object per line.
    Print,
    /// Nowhere; they are counted.
    Discard,
    /// A Kafka topic, one JSON object per record.
    Kafka,
}

/// What to do with Kafka payloads that are no valid event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BadRecordPolicy {
    /// Count and skip them.
    Skip,
    /// Fail the job.
    Fail,
}

/// Nexmark on the command line.
#[derive(Debug, Clone, Args)]
pub struct NexmarkArgs {
    /// Query to run
    #[arg(value_enum)]
    pub query: Query,
    /// Where events come from
    #[arg(long, value_enum, default_value = "generator")]
    pub source: SourceKind,
    /// Number of events to generate; 0 generates without end. With --source kafka the topic decides
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u64,
    /// Events per second of wall time, by an open loop; without it, as fast as possible
    #[arg(long)]
    pub rate: Option<u64>,
    /// Events per second of event time
    #[arg(long, default_value_t = 10_000)]
    pub event_rate: u64,
    /// Seed of the generator: the same seed makes the same events
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Emit events out of order: one may come up to so many milliseconds of event time late; 0 keeps the order
    #[arg(long, default_value_t = 0)]
    pub shuffle_ms: u64,
    /// How far events may be out of order, in milliseconds of event time
    #[arg(long, default_value_t = 4_000)]
    pub out_of_orderness_ms: u64,
    /// Milliseconds without records after which a Kafka partition no longer holds the watermark back; 0: never
    #[arg(long, default_value_t = 0)]
    pub idle_timeout_ms: u64,
    /// Kafka brokers, for --source kafka and --sink kafka
    #[arg(long, value_name = "HOST:PORT,..")]
    pub bootstrap_servers: Option<String>,
    /// Kafka topic to read
    #[arg(long)]
    pub topic: Option<String>,
    /// Go on reading the topic for ever, where the default stops at its end as of the start
    #[arg(long)]
    pub unbounded: bool,
    /// What to do with Kafka payloads that are no valid event
    #[arg(long, value_enum, default_value = "skip")]
    pub on_bad_record: BadRecordPolicy,
    /// Where rows go
    #[arg(long, value_enum, default_value = "discard")]
    pub sink: SinkKind,
    /// Kafka topic to write
    #[arg(long)]
    pub output_topic: Option<String>,
}

impl NexmarkArgs {
    /// Arguments that make the same job.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        fn name(value: impl ValueEnum) -> String {
            value
                .to_possible_value()
                .expect("nothing is hidden")
                .get_name()
                .to_owned()
        }
        let mut arguments = vec![self.query.to_string()];
        let mut put = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
        put("source", name(self.source));
        put("events", self.events.to_string());
        put("event-rate", self.event_rate.to_string());
        put("seed", self.seed.to_string());
        put("shuffle-ms", self.shuffle_ms.to_string());
        put("out-of-orderness-ms", self.out_of_orderness_ms.to_string());
        put("idle-timeout-ms", self.idle_timeout_ms.to_string());
        put("on-bad-record", name(self.on_bad_record));
        put("sink", name(self.sink));
        let optional = [
            ("rate", self.rate.map(|rate| rate.to_string())),
            ("bootstrap-servers", self.bootstrap_servers.clone()),
            ("topic", self.topic.clone()),
            ("output-topic", self.output_topic.clone()),
        ];
        for (flag, value) in optional {
            if let Some(value) = value {
                put(flag, value);
            }
        }
        if self.unbounded {
            arguments.push("--unbounded".to_owned());
        }
        arguments
    }

    fn check(&self) -> crate::Result<()> {
        ensure!(self.event_rate > 0, "--event-rate must be 1 or more");
        ensure!(
            self.rate != Some(0),
            "--rate must be 1 or more; leave it out to run as fast as possible"
        );
        let kafka = self.source == SourceKind::Kafka || self.sink == SinkKind::Kafka;
        ensure!(
            kafka || self.bootstrap_servers.is_none(),
            "--bootstrap-servers is given, but neither --source nor --sink is kafka"
        );
        ensure!(
            self.source == SourceKind::Kafka || self.topic.is_none(),
            "--topic is for --source kafka"
        );
        ensure!(
            self.sink == SinkKind::Kafka || self.output_topic.is_none(),
            "--output-topic is for --sink kafka"
        );
        ensure!(
            self.source == SourceKind::Kafka || !self.unbounded,
            "--unbounded is for --source kafka; use --events 0"
        );
        ensure!(
            self.source == SourceKind::Generator || self.rate.is_none(),
            "--rate is for --source generator: a topic is read as fast as it fills"
        );
        ensure!(
            self.source == SourceKind::Generator || self.shuffle_ms == 0,
            "--shuffle-ms is for --source generator; shuffle the topic's events with `ringflow generate`"
        );
        Ok(())
    }

    /// Puts the job into `env`.
    ///
    /// # Errors
    /// Flags that contradict each other or are missing.
    pub fn build(&self, env: &StreamExecutionEnvironment) -> crate::Result<()> {
        self.check()?;
        let events = self.events(env)?;
        let bids = events
            .filter(|event| event.body_as_bid().is_some())
            .name("bids");
        match self.query {
            Query::Q0 => self.sink(bids, |event, line| {
                if let Some(bid) = event.body_as_bid() {
                    rows::append_q0(bid, line);
                }
            }),
            Query::Q1 => self.sink(convert_currency(bids), |bid, line| {
                rows::append_q1(bid.view(), line)
            }),
            Query::Q2 => self.sink(select_auctions(bids), |row, line| {
                rows::append_q2(&row, line)
            }),
            Query::Q5 => {
                let order =
                    |row: Row<'_, HotAuction>| i64::try_from(row.bids()).unwrap_or(i64::MAX);
                let hot = hot_items(bids).keep_top("hot auctions", 10, order, |row, line| {
                    rows::append_q5(&row, line)
                });
                self.sink(hot.name("top"), |row, line| rows::append_q5(&row, line))
            }
        }
    }

    fn events(
        &self,
        env: &StreamExecutionEnvironment,
    ) -> crate::Result<DataStream<Event<'static>>> {
        let mut watermarks = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(
            self.out_of_orderness_ms,
        ));
        if self.idle_timeout_ms > 0 {
            watermarks = watermarks.idleness(Duration::from_millis(self.idle_timeout_ms));
        }
        if self.source == SourceKind::Generator {
            let config = NexmarkConfig {
                seed: self.seed,
                events_per_second: self.event_rate,
                ..NexmarkConfig::default()
            };
            let total = if self.events == 0 {
                u64::MAX
            } else {
                self.events
            };
            return Ok(env.from_source(
                NexmarkSource {
                    config,
                    order: EmissionOrder::new(&config, self.shuffle_ms, total)
                        .context("--shuffle-ms")?,
                    total,
                    rate: self.rate,
                },
                watermarks,
                "nexmark events",
            ));
        }
        let servers = self
            .bootstrap_servers
            .as_deref()
            .context("--source kafka needs --bootstrap-servers")?;
        let topic = self
            .topic
            .as_deref()
            .context("--source kafka needs --topic")?;
        let source = KafkaSource::<Event<'_>>::builder()
            .bootstrap_servers(servers)
            .topics([topic])
            .bounded(!self.unbounded)
            .on_bad_record(match self.on_bad_record {
                BadRecordPolicy::Skip => OnBadRecord::Skip,
                BadRecordPolicy::Fail => OnBadRecord::Fail,
            })
            .build()?;
        Ok(env.from_source(source, watermarks.timestamp(event_time), "nexmark events"))
    }

    fn sink<R: Record>(
        &self,
        rows: DataStream<R>,
        render: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Clone + Send + Sync + 'static,
    ) -> crate::Result<()> {
        match self.sink {
            SinkKind::Print => drop(rows.print_with(render)),
            SinkKind::Discard => drop(rows.discard()),
            SinkKind::Kafka => {
                let servers = self
                    .bootstrap_servers
                    .as_deref()
                    .context("--sink kafka needs --bootstrap-servers")?;
                let topic = self
                    .output_topic
                    .as_deref()
                    .context("--sink kafka needs --output-topic")?;
                let sink = KafkaSink::builder()
                    .bootstrap_servers(servers)
                    .topic(topic)
                    .encode_with(render)
                    // Nexmark's event times are of 2015: with them a broker would soon delete the rows.
                    .event_times(false)
                    .build()?;
                drop(rows.sink_to(sink));
            }
        }
        Ok(())
    }
}

/// The event's own time.
fn event_time(event: Row<'_, Event<'static>>) -> i64 {
    let bid = event.body_as_bid().map(|bid| bid.date_time());
    bid.or_else(|| event.body_as_auction().map(|auction| auction.date_time()))
        .or_else(|| event.body_as_person().map(|person| person.date_time()))
        .unwrap_or(EventTime::NONE.0)
}

/// q1: prices in another currency.
fn convert_currency(bids: DataStream<Event<'static>>) -> DataStream<ConvertedBid<'static>> {
    let convert = |event: Row<'_, Event<'static>>,
                   out: &mut Collector<'_, ConvertedBid<'static>>| {
        let Some(bid) = event.body_as_bid() else {
            return;
        };
        out.collect_table(|builder| {
            let extra = Some(builder.create_string(bid.extra()));
            ConvertedBid::create(
                builder,
                &ConvertedBidArgs {
                    auction: bid.auction(),
                    bidder: bid.bidder(),
                    price_milli: bid.price().saturating_mul(908),
                    date_time: bid.date_time(),
                    extra,
                },
            )
        });
    };
    bids.flat_map(convert).name("currency")
}

/// q2: some auctions.
fn select_auctions(bids: DataStream<Event<'static>>) -> DataStream<AuctionPrice> {
    bids.filter(|event| {
        event
            .body_as_bid()
            .is_some_and(|bid| bid.auction() % 123 == 0)
    })
    .name("selection")
    .map(|event| {
        event
            .body_as_bid()
            .map(|bid| AuctionPrice::new(bid.auction(), bid.price()))
            .unwrap_or_default()
    })
    .name("auction and price")
}

/// q5: per window, the auctions with most bids.
fn hot_items(bids: DataStream<Event<'static>>) -> DataStream<HotAuction> {
    let (size, slide) = (Duration::from_secs(10), Duration::from_secs(2));
    bids.key_by(|event| event.body_as_bid().map_or(0, |bid| bid.auction()))
        .window(SlidingEventTimeWindows::of(size, slide))
        .aggregate(Count)
        .name("bids per auction")
        // A window's counts all carry its last millisecond, so a tumbling window of one slide holds exactly them.
        .key_by(|count| count.window().end())
        .window(TumblingEventTimeWindows::of(slide))
        .aggregate_then(
            MostBids,
            |end: &i64, hottest: Hottest, _window, out: &mut Collector<'_, HotAuction>| {
                for auction in hottest.auctions {
                    out.collect(HotAuction::new(
                        auction,
                        hottest.bids,
                        end - hottest.size_ms,
                        *end,
                    ));
                }
            },
        )
        .name("hot auctions")
}

/// The auctions with the most bids so far, all of them when several have as many.
#[derive(Debug, Clone, Default)]
struct Hottest {
    bids: u64,
    auctions: Vec<u64>,
    size_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct MostBids;

impl MostBids {
    fn offer(hottest: &mut Hottest, bids: u64, auctions: &[u64]) {
        if bids > hottest.bids {
            hottest.bids = bids;
            hottest.auctions.clear();
        }
        if bids == hottest.bids {
            hottest.auctions.extend_from_slice(auctions);
        }
    }
}

impl AggregateFunction<WindowResult<u64, u64>> for MostBids {
    type Accumulator = Hottest;
    type Output = Hottest;

    fn create_accumulator(&self) -> Hottest {
        Hottest::default()
    }

    fn add(&self, count: Row<'_, WindowResult<u64, u64>>, hottest: &mut Hottest) {
        hottest.size_ms = count.window().end() - count.window().start();
        Self::offer(hottest, *count.value(), &[*count.key()]);
    }

    fn merge(&self, into: &mut Hottest, other: &Hottest) {
        into.size_ms = into.size_ms.max(other.size_ms);
        Self::offer(into, other.bids, &other.auctions);
    }

    fn result(&self, hottest: Hottest) -> Hottest {
        hottest
    }
}

/// The generator as a source: each subtask makes the events of every p-th position.
#[derive(Debug, Clone, Copy)]
struct NexmarkSource {
    config: NexmarkConfig,
    order: EmissionOrder,
    total: u64,
    rate: Option<u64>,
}

impl Source for NexmarkSource {
    type Record = Event<'static>;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(*self)
    }
}

impl SourceFactory for NexmarkSource {
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn SourceReader>> {
        Ok(Box::new(NexmarkReader {
            source: *self,
            writer: EventWriter::new(self.config),
            numbers: numbers(context.subtask_index, context.parallelism, self.total),
            pace: None,
        }))
    }

    fn divides_itself(&self) -> bool {
        true
    }
}

struct NexmarkReader {
    source: NexmarkSource,
    writer: EventWriter,
    /// Positions in the order of emission.
    numbers: Numbers,
    /// Set on the core: the schedule starts when the reader does.
    pace: Option<Pace>,
}

impl SourceReader for NexmarkReader {
    /// Events that are due and not made yet: how far a paced source is behind.
    fn pending_records(&self) -> Option<u64> {
        let (pace, rate) = (self.pace?, self.source.rate?);
        let since_ns = Clock::system().now_ns().saturating_sub(pace.due_ns(0));
        let due = u128::from(since_ns) * u128::from(rate) / 1_000_000_000;
        let due = u64::try_from(due)
            .unwrap_or(u64::MAX)
            .min(self.source.total);
        Some((due / self.numbers.parallelism()).saturating_sub(self.numbers.position()))
    }

    fn open(&mut self, _doorbell_fd: RawFd) -> DataResult<()> {
        self.pace = Some(Pace::new(self.source.rate, Clock::system().now_ns()));
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let pace = self
            .pace
            .unwrap_or_else(|| Pace::new(None, output.now_ns()));
        let (now_ns, wall_ns) = (output.now_ns(), output.wall_ns());
        for emitted in 0..records_max {
            let made = self.numbers.position();
            let Some(position) = self.numbers.next() else {
                return Ok(SourceProgress::Finished);
            };
            let due_ns = pace.due_ns(position);
            let origin_ns = if pace.is_unlimited() {
                // Without a schedule only the wait inside the job can be measured: once per poll is enough.
                if emitted == 0 { wall_ns } else { 0 }
            } else if due_ns > now_ns {
                self.numbers.seek(made);
                return Ok(SourceProgress::Idle {
                    until_ns: Some(due_ns),
                });
            } else {
                wall_ns - (now_ns - due_ns)
            };
            let number = self.source.order.number_at(position);
            let time = EventTime(event_time_ms(&self.source.config, number));
            output.emit(0, self.writer.write(number), time, origin_ns)?;
            if output.is_blocked() {
                break;
            }
        }
        Ok(SourceProgress::More)
    }
}
