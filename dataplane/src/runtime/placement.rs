//! Which CPUs do what, from the user's flags, and the proof that it is so.
//!
//! Owns: [`PlacementRequest`] (flags), [`Placement`] (the decision), [`confine_to_housekeeping`] and [`verify`], which reads
//! back from /proc what every thread may run on.
//! Invariant: a data core is one CPU that this process may use; housekeeping is never empty.
//! Left out: NUMA distances, SMT siblings (shown, not weighed).

use std::collections::BTreeSet;
use std::fmt;

use crate::exchange::uring::Features;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What the user asked for; absent: decide.
#[derive(Debug, Clone, Default)]
pub struct PlacementRequest {
    /// `--cores`.
    pub cores: Option<CpuList>,
    /// `--housekeeping-cores`.
    pub housekeeping_cores: Option<CpuList>,
    /// `--slots-per-core`.
    pub slots_per_core: Option<u32>,
    /// `--slots`.
    pub slots: Option<u32>,
}

/// CPUs as `0,2-5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl std::str::FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |part: &str| format!("`{part}` is no CPU or range of CPUs; write them as 2-5,8");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let number = |digits: &str| digits.trim().parse::<usize>().map_err(|_| bad(part));
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(bad(part));
            }
            cpus.extend(first..=last);
        }
        let mut seen = BTreeSet::new();
        match cpus.iter().find(|cpu| !seen.insert(**cpu)) {
            Some(twice) => Err(format!("CPU {twice} is named twice in `{text}`")),
            None => Ok(Self(cpus)),
        }
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(","))
    }
}

/// Which CPUs do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// One data core each, in order.
    pub data: Vec<usize>,
    /// For everything else.
    pub housekeeping: Vec<usize>,
    /// Core index of each slot.
    pub slots: Vec<u32>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// CPUs that this process may use.
///
/// # Errors
/// The kernel does not say.
pub fn allowed_cpus() -> std::io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

impl Placement {
    /// Decides, given the CPUs that may be used.
    ///
    /// # Errors
    /// Flags that contradict each other or name CPUs that are not there, with what to change.
    pub fn decide(request: &PlacementRequest, allowed: &[usize]) -> Result<Self, String> {
        if allowed.is_empty() {
            return Err("this process may run on no CPU".to_owned());
        }
        for (flag, list) in [
            ("--cores", &request.cores),
            ("--housekeeping-cores", &request.housekeeping_cores),
        ] {
            if let Some(cpu) = list
                .iter()
                .flat_map(|list| &list.0)
                .find(|cpu| !allowed.contains(cpu))
            {
                let usable = CpuList(allowed.to_vec());
                return Err(format!(
                    "{flag} names CPU {cpu}, but this process may only use CPUs {usable}"
                ));
            }
        }
        for (flag, count) in [
            ("--slots", request.slots),
            ("--slots-per-core", request.slots_per_core),
        ] {
            if count.is_some_and(|count| count == 0 || count > 1024) {
                return Err(format!(
                    "{flag} must be 1 to 1024, not {}",
                    count.unwrap_or_default()
                ));
            }
        }
        let data = Self::data_cores(request, allowed)?;
        let slots = Self::slots(request, data.len())?;
        let (housekeeping, warnings) = Self::housekeeping(request, allowed, &data);
        Ok(Self {
            data,
            housekeeping,
            slots,
            warnings,
        })
    }

    fn data_cores(request: &PlacementRequest, allowed: &[usize]) -> Result<Vec<usize>, String> {
        if let Some(cores) = &request.cores {
            return Ok(cores.0.clone());
        }
        let reserved = |cpu: &&usize| {
            request
                .housekeeping_cores
                .as_ref()
                .is_none_or(|housekeeping| !housekeeping.0.contains(cpu))
        };
        let mut free: Vec<usize> = allowed.iter().filter(reserved).copied().collect();
        if free.is_empty() {
            free = allowed.to_vec();
        }
        // Leave one CPU to housekeeping where there are several and the user reserved none.
        if request.housekeeping_cores.is_none() && free.len() > 1 {
            free.remove(0);
        }
        let wanted = match (request.slots, request.slots_per_core) {
            (Some(slots), per_core) => slots.div_ceil(per_core.unwrap_or(1)) as usize,
            (None, _) => free.len(),
        };
        free.truncate(wanted.max(1));
        Ok(free)
    }

    fn slots(request: &PlacementRequest, cores: usize) -> Result<Vec<u32>, String> {
        let cores = u32::try_from(cores).expect("at most CpuSet::MAX_CPU");
        let count = match (request.slots, request.slots_per_core) {
            (Some(slots), Some(per_core))
                if request.cores.is_some() && slots != cores * per_core =>
            {
                return Err(format!(
                    "--slots {slots} contradicts --cores with {cores} CPUs x --slots-per-core {per_core} = {}: leave one out",
                    cores * per_core
                ));
            }
            (Some(slots), _) => slots,
            (None, per_core) => cores * per_core.unwrap_or(1),
        };
        if count < cores {
            return Err(format!(
                "{count} slots on {cores} data cores leave cores without work: name fewer in --cores"
            ));
        }
        Ok((0..count).map(|slot| slot % cores).collect())
    }

    fn housekeeping(
        request: &PlacementRequest,
        allowed: &[usize],
        data: &[usize],
    ) -> (Vec<usize>, Vec<String>) {
        let left: Vec<usize> = allowed
            .iter()
            .filter(|cpu| !data.contains(cpu))
            .copied()
            .collect();
        let housekeeping = match &request.housekeeping_cores {
            Some(cores) => cores.0.clone(),
            None if left.is_empty() => allowed.to_vec(),
            None => left,
        };
        let shared: Vec<usize> = housekeeping
            .iter()
            .filter(|cpu| data.contains(cpu))
            .copied()
            .collect();
        let mut warnings = Vec::new();
        if !shared.is_empty() {
            warnings.push(format!(
                "CPUs {} are data cores and housekeeping cores: control, librdkafka and other threads will interrupt the \
                 data path there for up to a scheduler slice; leave CPUs out of --cores to separate them",
                CpuList(shared)
            ));
        }
        (housekeeping, warnings)
    }
}

/// Confines the calling thread, and so every thread started from it later, to the housekeeping cores.
///
/// # Errors
/// The kernel refuses the mask.
pub fn confine_to_housekeeping(placement: &Placement) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in &placement.housekeeping {
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Claims the data cores against other ringflow processes of this host, for as long as the files live. Returns also the
/// CPUs that another process has claimed: both would run their data cores there and halve each other's speed.
#[must_use]
pub fn claim(placement: &Placement) -> (Vec<std::fs::File>, Vec<usize>) {
    use rustix::fs::{FlockOperation, flock};
    let (mut claims, mut taken) = (Vec::new(), Vec::new());
    for cpu in &placement.data {
        let path = std::env::temp_dir().join(format!("ringflow-cpu-{cpu}.lock"));
        // Another user's file or a full disk makes no claim and no trouble.
        let Ok(file) = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
        else {
            continue;
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => claims.push(file),
            Err(rustix::io::Errno::WOULDBLOCK) => taken.push(*cpu),
            Err(_) => {}
        }
    }
    (claims, taken)
}

/// One thread as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPlacement {
    /// Its id, as in /proc.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// CPUs it may run on.
    pub allowed: Vec<usize>,
}

/// All threads of this process.
///
/// # Errors
/// /proc cannot be read.
pub fn threads() -> std::io::Result<Vec<ThreadPlacement>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        // A thread may end while we look.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let mut lines = status.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .unwrap_or_default()
        };
        let allowed = field("Cpus_allowed_list:").parse::<CpuList>();
        threads.push(ThreadPlacement {
            id: field("Pid:").parse().unwrap_or_default(),
            name: field("Name:").to_owned(),
            allowed: allowed.map(|list| list.0).unwrap_or_default(),
        });
    }
    Ok(threads)
}

/// What the TaskManager promised about placement and what the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// A line each: what, and how it stands.
    pub table: Vec<(String, String)>,
    /// Promises that do not hold.
    pub broken: Vec<String>,
}

/// Checks the promises: each data thread may run on exactly its CPU, nobody else on a data core (unless the sets overlap),
/// enough lockable memory for the rings. `data_threads` are the ids of the data cores' threads, in order; `features` is what
/// they use of io_uring.
///
/// # Errors
/// /proc cannot be read.
pub fn verify(
    placement: &Placement,
    data_threads: &[i32],
    features: Features,
) -> std::io::Result<Verification> {
    let threads = threads()?;
    let mut table = Vec::new();
    let mut broken = Vec::new();
    for (index, cpu) in placement.data.iter().enumerate() {
        let id = data_threads.get(index);
        let found = threads.iter().find(|thread| Some(&thread.id) == id);
        let allowed = found
            .map(|thread| thread.allowed.clone())
            .unwrap_or_default();
        if allowed != [*cpu] {
            broken.push(format!(
                "data core {index} should run on CPU {cpu} only, but may run on `{}`",
                CpuList(allowed.clone())
            ));
        }
        let slots = placement
            .slots
            .iter()
            .filter(|core| **core as usize == index)
            .count();
        table.push((
            format!("data core {index}"),
            format!("CPU {}, {slots} slots{}", CpuList(allowed), cpu_notes(*cpu)),
        ));
    }
    let shared = placement
        .housekeeping
        .iter()
        .any(|cpu| placement.data.contains(cpu));
    let foreign = threads
        .iter()
        .filter(|thread| !data_threads.contains(&thread.id));
    let strays: Vec<String> = foreign
        .filter(|thread| {
            thread
                .allowed
                .iter()
                .any(|cpu| placement.data.contains(cpu))
        })
        .map(|thread| thread.name.clone())
        .collect();
    if !shared && !strays.is_empty() {
        broken.push(format!("threads {strays:?} may run on data cores"));
    }
    let sharing = if shared {
        " (shared with data cores)"
    } else {
        ""
    };
    table.push((
        "housekeeping".to_owned(),
        format!("CPU {}{sharing}", CpuList(placement.housekeeping.clone())),
    ));
    table.push((
        "foreign threads on data cores".to_owned(),
        strays.len().to_string(),
    ));
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let memlock_text = memlock.map_or_else(
        || "unlimited".to_owned(),
        |bytes| format!("{} KiB", bytes / 1024),
    );
    if memlock.is_some_and(|bytes| bytes < 512 << 10) {
        broken.push(format!(
            "lockable memory is {memlock_text}, 512 KiB are needed: raise `ulimit -l`"
        ));
    }
    table.push(("lockable memory".to_owned(), memlock_text));
    table.push(("io_uring".to_owned(), features.describe().to_owned()));
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    table.push(("kernel".to_owned(), release));
    Ok(Verification { table, broken })
}

/// SMT siblings and frequency governor of a CPU, where the kernel tells.
fn cpu_notes(cpu: usize) -> String {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/{file}"))
            .map(|text| text.trim().to_owned())
    };
    let mut notes = String::new();
    if let Ok(siblings) = read("topology/thread_siblings_list")
        && siblings != cpu.to_string()
    {
        notes.push_str(&format!(", SMT siblings {siblings}"));
    }
    if let Ok(governor) = read("cpufreq/scaling_governor") {
        notes.push_str(&format!(", governor {governor}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        cores: Option<&str>,
        housekeeping: Option<&str>,
        per_core: Option<u32>,
        slots: Option<u32>,
    ) -> PlacementRequest {
        let list = |text: &str| text.parse::<CpuList>().expect("legal");
        PlacementRequest {
            cores: cores.map(list),
            housekeeping_cores: housekeeping.map(list),
            slots_per_core: per_core,
            slots,
        }
    }

    #[test]
    fn cpu_lists_parse() {
        assert_eq!("0,2-4".parse(), Ok(CpuList(vec![0, 2, 3, 4])));
        for bad in ["", "x", "3-1", "1,1", "0-2,1", "99999"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_leave_one_cpu_to_housekeeping() {
        let placement =
            Placement::decide(&request(None, None, None, None), &[0, 1, 2, 3]).expect("legal");
        assert_eq!(
            (placement.data, placement.housekeeping, placement.slots),
            (vec![1, 2, 3], vec![0], vec![0, 1, 2])
        );
        let one = Placement::decide(&request(None, None, None, None), &[5]).expect("legal");
        assert_eq!(
            (one.data, one.housekeeping, one.warnings.len()),
            (vec![5], vec![5], 1)
        );
    }

    #[test]
    fn slots_share_cores_when_there_are_too_few() {
        let placement =
            Placement::decide(&request(None, None, None, Some(4)), &[0, 1]).expect("legal");
        assert_eq!(
            (placement.data, placement.slots),
            (vec![1], vec![0, 0, 0, 0])
        );
        let placement =
            Placement::decide(&request(Some("0-1"), None, Some(2), None), &[0, 1]).expect("legal");
        assert_eq!(
            (placement.slots, placement.warnings.len()),
            (vec![0, 1, 0, 1], 1)
        );
    }

    #[test]
    fn the_table_tells_which_receive_is_in_use() {
        let placement = Placement::decide(&request(None, None, None, None), &[0]).expect("legal");
        let line = |multishot, deferred| {
            let features = Features {
                deferred,
                multishot,
                zero_copy: true,
            };
            let verification = verify(&placement, &[], features).expect("/proc");
            let mut lines = verification.table.into_iter();
            let line = lines.find(|(what, _)| what == "io_uring");
            line.expect("a line about io_uring").1
        };
        assert!(line(true, true).starts_with("multishot receive"));
        assert!(line(true, false).contains("6.1 or newer"));
        let single = "one receive operation at a time";
        assert!(line(false, true).starts_with(single) && !line(false, true).contains("newer"));
        assert!(line(false, false).starts_with(single));
    }

    #[test]
    fn contradictions_are_refused_with_numbers() {
        let message =
            |r: PlacementRequest| Placement::decide(&r, &[0, 1]).expect_err("contradiction");
        assert!(message(request(Some("0-1"), None, Some(2), Some(3))).contains("contradicts"));
        assert!(message(request(Some("7"), None, None, None)).contains("may only use CPUs 0,1"));
        assert!(message(request(Some("0-1"), None, None, Some(1))).contains("fewer"));
        assert!(message(request(None, None, Some(0), None)).contains("1 to 1024"));
    }
}
