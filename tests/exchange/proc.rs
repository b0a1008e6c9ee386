//! What /proc says about a process.

use std::time::Duration;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Resident memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// CPU time that the process has used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name, field 2, may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields = fields.split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on every architecture we run on.
    Duration::from_millis(ticks * 10)
}

/// State of the process, such as 'T' for stopped.
pub(crate) fn state(pid: u32) -> char {
    let stat = read(&format!("/proc/{pid}/stat"));
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.chars().next().unwrap()
}

/// Threads whose name starts with `prefix`.
pub(crate) fn threads(pid: u32, prefix: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut found = Vec::new();
    for entry in entries.map_while(Result::ok) {
        let name = std::fs::read_to_string(entry.path().join("comm"));
        if name.is_ok_and(|name| name.starts_with(prefix)) {
            found.push(entry.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    found
}
