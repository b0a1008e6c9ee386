//! Which CPUs the two sides of a measurement run on, and threads pinned to them.
//!
//! Owns: [`Cpus`] (the decision), [`on_cpu`] and [`on_two_cpus`], [`Stop`].
//! Invariant: floor and engine of one run use the same data CPUs; when one of two threads fails, the other stops.
//! Left out: pinning of the engine itself; TaskManagers do that, and verify it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow, ensure};
use ringflow_dataplane::runtime::placement::{CpuList, allowed_cpus};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cli::interrupt::Interrupts;

/// How many sides a measurement has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// All happens on one CPU.
    One,
    /// Producer and consumer have a CPU each.
    Two,
    /// All do all: so many CPUs at most, all those of `--cores` that there are.
    Many(usize),
}

/// The CPUs of a run.
#[derive(Debug, Clone)]
pub struct Cpus {
    /// All that this process may use.
    pub allowed: Vec<usize>,
    /// Two data CPUs, one per side; the same one twice when there is but one.
    pub data: [usize; 2],
    /// All CPUs of the engine's data cores: those two, or as many as were asked for.
    pub engine: Vec<usize>,
    /// For the JobManager, the client and all that may block.
    pub housekeeping: Vec<usize>,
}

impl Cpus {
    /// Takes `cores` in turn, or else the allowed CPUs from the last on; the first one twice when all happens on one side.
    ///
    /// # Errors
    /// A CPU that this process may not use.
    pub fn decide(
        cores: Option<&CpuList>,
        housekeeping: Option<&CpuList>,
        sides: Sides,
    ) -> crate::Result<Self> {
        let allowed = allowed_cpus().context("cannot tell which CPUs this process may use")?;
        for (flag, list) in [("--cores", cores), ("--housekeeping-cores", housekeeping)] {
            let foreign = list
                .into_iter()
                .flat_map(|list| &list.0)
                .find(|cpu| !allowed.contains(cpu));
            if let Some(cpu) = foreign {
                return Err(anyhow!(
                    "{flag} names CPU {cpu}, but this process may only use CPUs {}",
                    CpuList(allowed)
                ));
            }
        }
        let candidates: Vec<usize> = match cores {
            Some(cores) => cores.0.clone(),
            None => allowed.iter().rev().copied().collect(),
        };
        let [Some(first), Some(second)] = [0, 1].map(|side: usize| {
            let one = matches!(sides, Sides::One | Sides::Many(0 | 1));
            let side = if one { 0 } else { side };
            let index = side.checked_rem(candidates.len())?;
            candidates.get(index).copied()
        }) else {
            return Err(anyhow!("this process may run on no CPU"));
        };
        let data = [first, second];
        let engine = match sides {
            Sides::One => vec![first],
            Sides::Two if first == second => vec![first],
            Sides::Two => data.to_vec(),
            Sides::Many(count) => candidates.into_iter().take(count.max(1)).collect(),
        };
        let left = || allowed.iter().copied().filter(|cpu| !engine.contains(cpu));
        let housekeeping = match housekeeping {
            Some(list) => list.0.clone(),
            None if left().next().is_none() => allowed.clone(),
            None => left().collect(),
        };
        Ok(Self {
            allowed,
            data,
            engine,
            housekeeping,
        })
    }

    /// Different data CPUs: 1 or 2.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.data.iter().collect::<BTreeSet<_>>().len()
    }

    /// Refuses what makes no sense when both sides take turns on one CPU.
    ///
    /// # Errors
    /// There is one data CPU.
    pub fn need_two(&self, what: &str) -> crate::Result<()> {
        ensure!(
            self.distinct() == 2,
            "{what} needs two CPUs, and there is only CPU {}: on one, both sides take turns and the figure would be the \
             scheduler's time slice. Run it on a machine with more CPUs, or name two in --cores",
            self.data[0]
        );
        Ok(())
    }
}

fn mask(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    set
}

/// Confines the calling thread, and so every process and thread it starts later.
///
/// # Errors
/// The kernel refuses the mask.
pub fn confine(cpus: &[usize]) -> std::io::Result<()> {
    Ok(sched_setaffinity(None, &mask(cpus))?)
}

/// Tells the threads of a measurement to give up.
#[derive(Debug)]
pub struct Stop<'a> {
    failed: AtomicBool,
    interrupts: Option<&'a Interrupts>,
}

impl<'a> Stop<'a> {
    /// Stops when the user interrupts.
    #[must_use]
    pub fn new(interrupts: Option<&'a Interrupts>) -> Self {
        Self {
            failed: AtomicBool::new(false),
            interrupts,
        }
    }

    /// Give up.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.interrupts.is_some_and(Interrupts::any)
    }

    /// Nobody has to give up.
    ///
    /// # Errors
    /// The user interrupted, or the other side failed.
    #[inline]
    pub fn check(&self) -> crate::Result<()> {
        if self.is_set() {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}

/// The user, or the other side of the measurement, asked for an end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Sets the flag when its thread ends in any way but a good one.
struct Failing<'a>(&'a AtomicBool, bool);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs `work` on a thread of its own that may run on `cpu` only.
///
/// # Errors
/// No thread, no such CPU, or what `work` says.
pub fn on_cpu<T: Send>(
    cpu: usize,
    stop: &Stop<'_>,
    work: impl FnOnce() -> crate::Result<T> + Send,
) -> crate::Result<T> {
    on_two_cpus([cpu, cpu], stop, work, || Ok(())).map(|(done, ())| done)
}

/// Runs `first` and `second` on threads of their own, pinned to a CPU each.
///
/// # Errors
/// No thread, no such CPU, or what either says: the first one's error unless it only gave up after the second.
pub fn on_two_cpus<A: Send, B: Send>(
    cpus: [usize; 2],
    stop: &Stop<'_>,
    first: impl FnOnce() -> crate::Result<A> + Send,
    second: impl FnOnce() -> crate::Result<B> + Send,
) -> crate::Result<(A, B)> {
    std::thread::scope(|scope| {
        let first = spawn(scope, "rf-bench-0", cpus[0], stop, first)?;
        let second = spawn(scope, "rf-bench-1", cpus[1], stop, second);
        if second.is_err() {
            stop.failed.store(true, Ordering::Relaxed);
        }
        let first = first
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a measuring thread panicked")));
        let second = second?
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a measuring thread panicked")));
        match (first, second) {
            (Ok(first), Ok(second)) => Ok((first, second)),
            (Err(gave_up), Err(cause)) if gave_up.is::<Interrupted>() => Err(cause),
            (Err(cause), _) | (_, Err(cause)) => Err(cause),
        }
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    name: &str,
    cpu: usize,
    stop: &'scope Stop<'_>,
    work: impl FnOnce() -> crate::Result<T> + Send + 'scope,
) -> crate::Result<std::thread::ScopedJoinHandle<'scope, crate::Result<T>>> {
    let body = move || {
        let mut failing = Failing(&stop.failed, false);
        confine(&[cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
        let done = work();
        failing.1 = done.is_ok();
        done
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, body)
        .context("cannot start a measuring thread")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cpus_are_taken_in_turn_from_the_last() {
        let allowed = allowed_cpus().unwrap();
        let cpus = Cpus::decide(None, None, Sides::Two).unwrap();
        assert_eq!(cpus.data[0], *allowed.last().unwrap());
        assert_eq!(cpus.distinct(), allowed.len().min(2));
        let one = CpuList(vec![allowed[0]]);
        let cpus = Cpus::decide(Some(&one), None, Sides::Two).unwrap();
        assert_eq!(cpus.data, [allowed[0]; 2]);
        assert!(
            cpus.need_two("x")
                .unwrap_err()
                .to_string()
                .contains("two CPUs")
        );
        assert!(Cpus::decide(Some(&CpuList(vec![9999])), None, Sides::Two).is_err());
        let cpus = Cpus::decide(None, None, Sides::One).unwrap();
        assert_eq!(cpus.data, [*allowed.last().unwrap(); 2]);
        assert!(allowed.len() < 2 || !cpus.housekeeping.contains(&cpus.data[0]));
        assert_eq!(cpus.engine, [cpus.data[0]]);
        let cpus = Cpus::decide(None, None, Sides::Many(usize::MAX)).unwrap();
        assert_eq!(cpus.engine.len(), allowed.len());
        assert_eq!(cpus.housekeeping, allowed, "none is left");
    }

    #[test]
    fn when_one_side_fails_the_other_gives_up_and_the_cause_is_told() {
        let cpus = Cpus::decide(None, None, Sides::Two).unwrap();
        let stop = Stop::new(None);
        let wait = || -> crate::Result<()> {
            loop {
                stop.check()?;
                std::thread::yield_now();
            }
        };
        let fail = || -> crate::Result<()> { Err(anyhow!("the cause")) };
        let error = on_two_cpus(cpus.data, &stop, wait, fail).unwrap_err();
        assert_eq!(error.to_string(), "the cause");
    }
}
