//! Nexmark's queries as built-in jobs.
//!
//! Owns: [`NexmarkArgs`] and the queries, written with the public API. Each query is a few lines from
//! events to rows; source and sink are chosen by flags.
//! Invariant: rows print as the same JSON whichever sink they go to.
//! Left out: q6, which no SQL engine runs (it asks for an OVER window of a changelog).

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, FromArgMatches, ValueEnum};

use crate::duration;
use crate::nexmark::schema::{
    AuctionPrice, AuctionReport, AuctionSpan, BidFacts, BidPrice, BidderWindow, CalculatedBid,
    CategoryBid, CategoryPrice, ChannelBid, ChannelReport, ConvertedBid, DayReport, DirectoryBid,
    EnrichedBid, Event, ExpandedBid, FiledBid, HighestBid, HotAuction, LocalItem, LocalPerson,
    NamedPerson, NewSeller, Offer, RankedBid, SellerBid, SellerItem, WinningBid,
};
use crate::nexmark::{EmissionOrder, NexmarkConfig, rows};
use crate::prelude::*;

use self::files::{by_minute, json_lines};
use self::joins::{
    category_prices, enriched_bids, expanded_bids, local_items, new_sellers, seller_bids,
    winning_bids,
};
use self::ranks::{auction_reports, last_bids, top_bids};
use self::reports::{channel_report, daily_report};
use self::source::NexmarkSource;
use self::stateless::{
    calculate, channel_ids, convert_currency, directories, file_by_minute, select_auctions,
};
use self::windows::{bids_per_processing_time, bids_per_session, highest_bids, hot_items};

mod calendar;
mod files;
mod joins;
mod ranks;
mod reports;
mod source;
mod stateless;
mod windows;

table_record!(Event);
table_record!(CalculatedBid);
table_record!(ChannelBid);
table_record!(ChannelReport);
table_record!(ConvertedBid);
table_record!(DayReport);
table_record!(HighestBid);
table_record!(AuctionReport);
table_record!(EnrichedBid);
table_record!(ExpandedBid);
table_record!(LocalItem);
table_record!(LocalPerson);
table_record!(NamedPerson);
table_record!(NewSeller);
table_record!(Offer);
table_record!(RankedBid);
table_record!(SellerBid);
table_record!(WinningBid);
table_record!(DirectoryBid);
table_record!(FiledBid);
struct_record!(AuctionPrice);
struct_record!(AuctionSpan);
struct_record!(BidFacts);
struct_record!(BidPrice);
struct_record!(BidderWindow);
struct_record!(CategoryBid);
struct_record!(CategoryPrice);
struct_record!(HotAuction);
struct_record!(SellerItem);

/// The queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Query {
    /// Pass-through: all bids.
    Q0,
    /// Currency conversion: price x 0.908.
    Q1,
    /// Selection: bids on auctions whose id divides by 123.
    Q2,
    /// Local items: auctions of category 10 whose sellers live in Oregon, Idaho or California.
    Q3,
    /// Average of the highest bids of each category's auctions, kept up to date.
    Q4,
    /// Hot items: auctions with most bids in the last 10 s, every 2 s.
    Q5,
    /// The highest bids of each 10 s.
    Q7,
    /// Persons who opened an auction in the 10 s in which they came.
    Q8,
    /// Winning bid of each auction, kept up to date.
    Q9,
    /// Bids with the day and minute that they are filed under.
    Q10,
    /// Bids of each bidder's sessions.
    Q11,
    /// Bids of each bidder in each 10 s of the wall clock.
    Q12,
    /// Bids with what a table says of their auction.
    Q13,
    /// Calculation: bids of a price range, part of the day, characters counted.
    Q14,
    /// Bids, bidders and auctions of each day, kept up to date.
    Q15,
    /// The same of each channel and day.
    Q16,
    /// Bids and prices of each auction and day, kept up to date.
    Q17,
    /// Last bid of each bidder for each auction, kept up to date.
    Q18,
    /// Ten highest bids of each auction, kept up to date.
    Q19,
    /// Bids and their auctions, of category 10.
    Q20,
    /// Channel identifiers, by name or out of the url.
    Q21,
    /// Directories of urls.
    Q22,
    /// Bids, their bidders, and the auctions these opened.
    Q23,
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
    /// Files on the TaskManagers' hosts, one JSON object per line; of q10, CSV in a directory per minute, marked when it is complete.
    Files,
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
    /// Events due in this time after the start are not measured, such as 2s
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = duration::parse)]
    pub warm_up: Duration,
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
    /// Table that q13 looks auctions up in, on the TaskManagers' hosts: a file of lines `key,value`; without it, the numbers 0 to
    /// 9999 by themselves
    #[arg(long, value_name = "FILE")]
    pub side_input: Option<std::path::PathBuf>,
    /// Where rows go
    #[arg(long, value_enum, default_value = "discard")]
    pub sink: SinkKind,
    /// Kafka topic to write
    #[arg(long)]
    pub output_topic: Option<String>,
    /// Directory to write files to, for --sink files; with TaskManagers on several hosts, on a file system that they share
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<std::path::PathBuf>,
}

impl NexmarkArgs {
    /// What the command line makes of a query alone.
    ///
    /// # Panics
    /// Never: every flag has a default.
    #[must_use]
    pub fn of(query: Query) -> Self {
        let command = Self::augment_args(clap::Command::new("nexmark").no_binary_name(true));
        let parsed = command
            .try_get_matches_from([query.to_string()])
            .and_then(|matches| Self::from_arg_matches(&matches));
        parsed.expect("every flag has a default")
    }

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
        put("warm-up", duration::text(self.warm_up));
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
            (
                "output-dir",
                self.output_dir
                    .as_ref()
                    .map(|directory| directory.display().to_string()),
            ),
            (
                "side-input",
                self.side_input
                    .as_ref()
                    .map(|file| file.display().to_string()),
            ),
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
            self.sink == SinkKind::Files || self.output_dir.is_none(),
            "--output-dir is for --sink files"
        );
        ensure!(
            self.query == Query::Q13 || self.side_input.is_none(),
            "--side-input is for q13"
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
            self.source == SourceKind::Generator || self.warm_up.is_zero(),
            "--warm-up is for --source generator: a topic's records are all measured"
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
        let bids = || {
            let bids = events.clone().filter(|event| event.body_as_bid().is_some());
            bids.name("bids")
        };
        match self.query {
            Query::Q0 => self.sink(bids(), |event, line| {
                if let Some(bid) = event.body_as_bid() {
                    rows::append_q0(bid, line);
                }
            }),
            Query::Q1 => self.sink(convert_currency(bids()), |bid, line| {
                rows::append_q1(bid.view(), line)
            }),
            Query::Q2 => self.sink(select_auctions(bids()), |row, line| {
                rows::append_q2(&row, line)
            }),
            Query::Q3 => self.sink(local_items(&events), |row, line| {
                rows::append_q3(row.view(), line)
            }),
            Query::Q4 => self.sink(category_prices(&events), |row, line| {
                rows::append_q4(row.kind(), &row, line)
            }),
            Query::Q8 => self.sink(new_sellers(&events), |row, line| {
                rows::append_q8(row.view(), line)
            }),
            Query::Q13 => self.sink(
                enriched_bids(bids(), self.side_input.as_deref()),
                |row, line| rows::append_q13(row.view(), line),
            ),
            Query::Q9 => self.sink(winning_bids(&events), |row, line| {
                rows::append_q9(row.kind(), row.view(), line)
            }),
            Query::Q11 => self.sink(bids_per_session(bids()), |row, line| {
                rows::append_q11(&row, line)
            }),
            Query::Q12 => self.sink(bids_per_processing_time(bids()), |row, line| {
                rows::append_q12(&row, line)
            }),
            Query::Q17 => self.sink(auction_reports(bids()), |row, line| {
                rows::append_q17(row.kind(), row.view(), line)
            }),
            Query::Q18 => self.sink(last_bids(bids()), |event, line| {
                if let Some(bid) = event.body_as_bid() {
                    rows::append_q18(event.kind(), bid, line);
                }
            }),
            Query::Q19 => self.sink(top_bids(bids()), |row, line| {
                rows::append_q19(row.kind(), row.view(), line)
            }),
            Query::Q20 => self.sink(expanded_bids(&events), |row, line| {
                rows::append_q20(row.view(), line)
            }),
            Query::Q23 => self.sink(seller_bids(&events), |row, line| {
                rows::append_q23(row.view(), line)
            }),
            Query::Q7 => self.sink(highest_bids(bids()), |row, line| {
                rows::append_q7(row.view(), line)
            }),
            Query::Q15 => self.sink(daily_report(bids()), |row, line| {
                rows::append_q15(row.kind(), row.view(), line)
            }),
            Query::Q16 => self.sink(channel_report(bids()), |row, line| {
                rows::append_q16(row.kind(), row.view(), line)
            }),
            Query::Q10 if self.sink == SinkKind::Files => {
                let filed = file_by_minute(bids());
                drop(filed.sink_to(by_minute(self.output_directory()?)));
                Ok(())
            }
            Query::Q10 => self.sink(file_by_minute(bids()), |row, line| {
                rows::append_q10(row.view(), line)
            }),
            Query::Q14 => self.sink(calculate(bids()), |row, line| {
                rows::append_q14(row.view(), line)
            }),
            Query::Q21 => self.sink(channel_ids(bids()), |row, line| {
                rows::append_q21(row.view(), line)
            }),
            Query::Q22 => self.sink(directories(bids()), |row, line| {
                rows::append_q22(row.view(), line)
            }),
            Query::Q5 => {
                let order =
                    |row: Row<'_, HotAuction>| i64::try_from(row.bids()).unwrap_or(i64::MAX);
                let hot = hot_items(bids()).keep_top("hot auctions", 10, order, |row, line| {
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
                    warm_up: self.warm_up,
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
            SinkKind::Files => {
                let sink = json_lines(self.output_directory()?, render);
                drop(rows.sink_to(sink));
            }
        }
        Ok(())
    }

    fn output_directory(&self) -> crate::Result<&std::path::Path> {
        let directory = self.output_dir.as_deref();
        directory.context("--sink files needs --output-dir")
    }
}

/// The event's own time.
fn event_time(event: Row<'_, Event<'static>>) -> i64 {
    let bid = event.body_as_bid().map(|bid| bid.date_time());
    bid.or_else(|| event.body_as_auction().map(|auction| auction.date_time()))
        .or_else(|| event.body_as_person().map(|person| person.date_time()))
        .unwrap_or(EventTime::NONE.0)
}
