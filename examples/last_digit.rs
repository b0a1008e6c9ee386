//! Counts numbers by their last digit, in windows. Run it: `cargo run --release --example last_digit`.

use std::time::Duration;

use ringflow::prelude::*;

fn main() -> ringflow::Result<()> {
    let env = StreamExecutionEnvironment::get_execution_environment();
    env.from_source(
        SequenceSource::new(1_000_000),
        WatermarkStrategy::monotonous_timestamps(),
        "numbers",
    )
    .key_by(|number| number.value() % 10)
    .window(TumblingEventTimeWindows::of(Duration::from_secs(100)))
    .aggregate(Count)
    .print();
    env.execute("count by last digit")?;
    Ok(())
}
