//! CPU time of a job.
//!
//! Owns: for each TaskManager of the job, the CPU time of its process when the job came (once all its subtasks have
//! run: when the last of them there said so) and the last one known.
//! Invariant: frozen once the job has ended (nobody calls `observe` any more).
//! Left out: telling jobs of one process apart; two jobs that share a process both count all of it.

use std::collections::BTreeMap;

use crate::event::ConnectionId;

#[derive(Debug, Clone, Copy)]
struct Span {
    from_ns: u64,
    latest_ns: u64,
}

/// CPU time since all subtasks ran, or before since deployment, over all TaskManagers of a job.
#[derive(Debug, Default)]
pub(crate) struct JobCpu {
    spans: BTreeMap<ConnectionId, Option<Span>>,
}

impl JobCpu {
    /// The job came to a TaskManager whose process had used `process_cpu_ns`, when that is known.
    pub(crate) fn begin(&mut self, connection: ConnectionId, process_cpu_ns: Option<u64>) {
        let span = process_cpu_ns.map(|from_ns| Span {
            from_ns,
            latest_ns: from_ns,
        });
        self.spans.insert(connection, span);
    }

    /// A TaskManager told of its CPU time. The first figure after an unknown start counts as the start.
    pub(crate) fn observe(&mut self, connection: ConnectionId, process_cpu_ns: u64) {
        if let Some(span) = self.spans.get_mut(&connection) {
            let span = span.get_or_insert(Span {
                from_ns: process_cpu_ns,
                latest_ns: process_cpu_ns,
            });
            span.latest_ns = span.latest_ns.max(process_cpu_ns);
        }
    }

    /// All subtasks are running: what building them cost is over, and not the job's.
    pub(crate) fn restart(&mut self) {
        for span in self.spans.values_mut().flatten() {
            span.from_ns = span.latest_ns;
        }
    }

    /// Whether the job came to this TaskManager.
    pub(crate) fn involves(&self, connection: ConnectionId) -> bool {
        self.spans.contains_key(&connection)
    }

    pub(crate) fn seconds(&self) -> f64 {
        let total_ns = self.spans.values().flatten().fold(0u64, |total, span| {
            total.saturating_add(span.latest_ns.saturating_sub(span.from_ns))
        });
        std::time::Duration::from_nanos(total_ns).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_before_all_subtasks_ran_is_not_the_job_s() {
        let (early, late) = (ConnectionId(1), ConnectionId(2));
        let mut cpu = JobCpu::default();
        cpu.begin(early, Some(1_000_000_000));
        cpu.begin(late, None);
        cpu.observe(early, 3_000_000_000);
        cpu.observe(late, 5_000_000_000);
        assert!((cpu.seconds() - 2.0).abs() < 1e-9);
        cpu.restart();
        assert!(cpu.seconds().abs() < 1e-9);
        cpu.observe(early, 3_500_000_000);
        cpu.observe(late, 6_000_000_000);
        assert!((cpu.seconds() - 1.5).abs() < 1e-9);
    }
}
