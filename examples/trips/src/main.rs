//! Fares per zone in windows of a minute, and trips that look wrong beside them.
//!
//! `cargo run` runs it in one process; `trips jobmanager` and `trips taskmanager` are a cluster of this program, to which
//! `trips --jobmanager host:8081` submits.

use std::time::Duration;

use ringflow::prelude::*;
use trips::{Trip, TripArgs, ZoneFares};

// What flatc made of schemas/trips.fbs. Its code has its own style.
#[path = "trips_generated.rs"]
#[rustfmt::skip]
#[allow(
    warnings,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]
mod generated;
use generated::trips;

// From here on they are records.
table_record!(Trip);
struct_record!(ZoneFares);

const TRIPS: u64 = 100_000;
const SUSPICIOUS: OutputTag<Trip<'static>> = OutputTag::new("suspicious");

/// Trips without a real source: trip n ends n * 10 ms after midnight of 2026-01-01.
fn made_up_trips() -> DataGeneratorSource<Trip<'static>> {
    DataGeneratorSource::tables(TRIPS, |n, builder| {
        let driver = Some(builder.create_string(&format!("driver {}", n % 700)));
        let trip = TripArgs {
            driver,
            zone: u32::try_from(n * 7 % 40).unwrap_or(0),
            fare_cents: 500 + n * 37 % 4000,
            // Every thousandth taximeter was not reset.
            distance_m: if n % 1000 == 999 {
                900_000
            } else {
                1000 + n * 13 % 20_000
            },
            ended_at: 1_767_225_600_000 + i64::try_from(n * 10).unwrap_or(0),
        };
        Trip::create(builder, &trip)
    })
}

/// Adds up trips and fares.
#[derive(Clone)]
struct Fares;

impl AggregateFunction<Trip<'static>> for Fares {
    type Accumulator = (u64, u64);
    type Output = (u64, u64);

    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, trip: Row<'_, Trip<'static>>, (trips, cents): &mut (u64, u64)) {
        *trips += 1;
        *cents += trip.fare_cents();
    }
    fn merge(&self, into: &mut (u64, u64), other: &(u64, u64)) {
        *into = (into.0 + other.0, into.1 + other.1);
    }
    fn result(&self, sums: (u64, u64)) -> (u64, u64) {
        sums
    }
}

fn main() -> ringflow::Result<()> {
    let env = StreamExecutionEnvironment::get_execution_environment();

    // Trips may be reported up to five seconds late.
    let in_order = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
        .timestamp(|trip: Row<'_, Trip<'static>>| trip.ended_at());
    let trips = env
        .from_source(made_up_trips(), in_order, "trips")
        .flat_map(|trip, out: &mut Collector<'_, Trip<'static>>| {
            if trip.distance_m() > 500_000 {
                out.side(&SUSPICIOUS).collect_row(trip);
            } else {
                out.collect_row(trip);
            }
        })
        .name("sort out");

    trips.get_side_output(&SUSPICIOUS).print_with(|trip, line| {
        let text = format!(
            "suspicious: {} drove {} m",
            trip.driver(),
            trip.distance_m()
        );
        line.extend_from_slice(text.as_bytes());
    });

    trips
        .key_by(|trip| u64::from(trip.zone()))
        .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
        .aggregate_then(
            Fares,
            |zone: &u64, (trips, cents), window, out: &mut Collector<'_, ZoneFares>| {
                out.collect(ZoneFares::new(*zone, trips, cents, window.end()));
            },
        )
        .name("fares per zone and minute")
        .print_with(|fares, line| {
            let (zone, trips, cents) = (fares.zone(), fares.trips(), fares.fare_cents());
            let end = fares.window_end();
            let text = format!("zone {zone}: {trips} trips, {cents} cents, until {end}");
            line.extend_from_slice(text.as_bytes());
        });

    env.execute("fares per zone")?;
    Ok(())
}
