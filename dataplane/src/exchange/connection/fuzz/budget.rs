//! How long a fuzz target runs, and from which seed.
//!
//! Owns: [`run`]. `RINGFLOW_FUZZ_SECONDS` is the time per target (default 2), `RINGFLOW_FUZZ_SEED` the first seed (default: a
//! random one). Invariant: a seed decides its batch of cases, and a failure names the seed.
//! Left out: a corpus kept between runs.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Cases that one seed decides.
const BATCH: u32 = 32;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} must be a whole number, not `{value}`")))
}

/// Gives `test` new inputs until the time is over; at least one batch. `test` panics on what must not be.
#[allow(
    clippy::disallowed_methods,
    reason = "the budget is time, and what a case does never depends on it"
)]
pub(super) fn run<S: Strategy>(target: &str, strategy: &S, test: impl Fn(S::Value)) {
    let budget = Duration::from_secs(setting("RINGFLOW_FUZZ_SECONDS").unwrap_or(2));
    let first = setting("RINGFLOW_FUZZ_SEED");
    let first = first.unwrap_or_else(|| RandomState::new().hash_one(target));
    let config = Config {
        cases: BATCH,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let start = Instant::now();
    let (mut seed, mut cases) = (first, 0u64);
    loop {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config.clone(), rng);
        let result = runner.run(strategy, |input| {
            test(input);
            Ok::<(), TestCaseError>(())
        });
        if let Err(error) = result {
            panic!(
                "{target}: case {cases} or soon after: {error}\nrepeat it: RINGFLOW_FUZZ_SECONDS=0 \
                 RINGFLOW_FUZZ_SEED={seed} cargo test -p ringflow-dataplane fuzz::{target}"
            );
        }
        cases += u64::from(BATCH);
        if start.elapsed() >= budget {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{target}: {cases} cases in {seconds:.1} s, seeds {first}..={seed}");
}
