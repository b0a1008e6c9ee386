//! The control plane under seeded faults.
//!
//! One seed decides the cluster, the jobs, the order and delay of messages, and the faults: TaskManagers die, leave,
//! lose their connection, come back under the same name, subtasks fail, clients cancel and stop. Then a heal phase: faults end,
//! TaskManagers come back, time goes on.
//!
//! | property | checked in |
//! |---|---|
//! | no slot holds open subtasks of two jobs, none is reused before they are terminal | `oracle.rs`, `task_manager.rs` |
//! | one open attempt per subtask | `oracle.rs` |
//! | only sources that run are told to stop, each where it is, and each job that is stopped ends | `oracle.rs`, `World::drain` |
//! | network memory within limits: deployed attempts fit every core's buffers | `oracle.rs`, `Engine::check` |
//! | the engine's own invariants, its memory bounds | `Engine::check` after each event |
//! | every accepted job ends after healing; a failed one names a cause | `world.rs`, `World::drain` |
//! | the same seed gives the same commands | `main.rs` |
//!
//! `RINGFLOW_SIMULATION_SEED=7 cargo test -p ringflow-control --test simulation` runs one seed,
//! `RINGFLOW_SIMULATION_SEEDS=5000 ...` more of them.
#![expect(clippy::unwrap_used, reason = "tests say what they expect")]

mod oracle;
mod random;
#[path = "../support/mod.rs"]
mod support;
mod task_manager;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use ringflow_schemas::network::NETWORK_LEVELS;
use world::World;

const SEEDS_DEFAULT: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) -> World {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        world.safety_phase();
        world.drain();
        world
    }));
    outcome.unwrap_or_else(|panic| {
        let command = "cargo test -p ringflow-control --test simulation";
        eprintln!("seed {seed} failed; again: RINGFLOW_SIMULATION_SEED={seed} {command}");
        resume_unwind(panic)
    })
}

#[test]
fn jobs_survive_faults_or_fail_with_a_cause() {
    if let Some(seed) = number("RINGFLOW_SIMULATION_SEED") {
        run(seed);
        return;
    }
    let mut ends = std::collections::BTreeMap::new();
    let (mut levels, mut short, mut stopped) = (std::collections::BTreeMap::new(), 0, 0);
    for seed in 0..number("RINGFLOW_SIMULATION_SEEDS").unwrap_or(SEEDS_DEFAULT) {
        let world = run(seed);
        for (status, count) in world.ends() {
            *ends.entry(status.name()).or_insert(0) += count;
        }
        for (&level, count) in world.levels() {
            *levels.entry(level).or_insert(0) += count;
        }
        short += world.short();
        stopped += world.stopped();
    }
    // A simulation in which nothing ever happens proves nothing.
    for end in ["FINISHED", "FAILED", "CANCELED"] {
        assert!(
            ends.get(end).is_some_and(|&count| count > 20),
            "too few jobs ended {end}: {ends:?}"
        );
    }
    for level in NETWORK_LEVELS {
        assert!(
            levels.get(&level).is_some_and(|&count| count > 20),
            "too few roads at {level:?}: {levels:?}"
        );
    }
    assert!(
        stopped > 20,
        "only {stopped} jobs finished because of a stop"
    );
    assert!(short > 20, "only {short} jobs found too few buffers");
}

#[test]
fn the_same_seed_gives_the_same_commands() {
    for seed in 0..20 {
        assert_eq!(
            run(seed).fingerprint(),
            run(seed).fingerprint(),
            "seed {seed}"
        );
    }
}
