//! What one record, one buffer and one sweep cost on the hot path, each beside the floor it is judged by.
//!
//! Owns: the groups, in the order a record travels. Invariant: a group's floor runs in the same group and the same run; figures
//! without it are not compared. How to run and read them: `benches/README.md`.
//! Left out: throughput and latency of whole jobs (`ringflow bench`, a cluster).

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod changelog;
mod exchange;
mod keyed;
mod memory;

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_200))
        .without_plots()
}

criterion_group! {
    name = hot;
    config = config();
    targets = keyed::partitioner, memory::result_partition, memory::decode, memory::buffer_pool, memory::ring,
        exchange::frame, exchange::credit, exchange::idle_sweep, keyed::window_pane, keyed::window_firing,
        keyed::state_table, keyed::value_state,
        changelog::group_aggregate, changelog::join
}
criterion_main!(hot);
