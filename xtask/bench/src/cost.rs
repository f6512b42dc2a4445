//! The processor time and memory of processes, from `/proc` (Linux manual, proc(5)).

use std::fs;
use std::time::{Duration, Instant};

use xtask::Failure;

/// Ticks per second of the times in `/proc/*/stat`: `USER_HZ`, 100 on every Linux that Rust supports.
const TICKS: u64 = 100;
/// The places of user and system time among the fields after the name (fields 14 and 15 of proc_pid_stat(5)).
const TIMES: std::ops::Range<usize> = 11..13;

/// The processor times of the service and of `mongod` at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    at: Instant,
    client: Duration,
    server: Duration,
}

/// The times between two marks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub wall: Duration,
    /// The processor time of the service.
    pub client: Duration,
    /// The processor time of `mongod`.
    pub server: Duration,
}

impl Mark {
    /// `client` and `server` are process ids. A client that is not started yet is `None` and has no processor time.
    pub(super) fn now(client: Option<u32>, server: u32) -> Result<Self, Failure> {
        let client = client.map_or(Ok(Duration::ZERO), processor_time)?;
        Ok(Self { at: Instant::now(), client, server: processor_time(server)? })
    }

    pub(super) fn until(&self, later: &Self) -> Spent {
        Spent {
            wall: later.at - self.at,
            client: later.client.saturating_sub(self.client),
            server: later.server.saturating_sub(self.server),
        }
    }
}

/// The sum of user and system time of a process.
pub(super) fn processor_time(pid: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may have any characters, so the last parenthesis counts.
    let (_, fields) = stat.rsplit_once(')').ok_or("a /proc/*/stat without a name")?;
    let times = fields.split_whitespace().skip(TIMES.start).take(TIMES.len());
    let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// The peak of the resident memory so far, in bytes.
pub(super) fn peak_memory(pid: u32) -> Result<u64, Failure> {
    memory(pid, "VmHWM:")
}

/// The current resident memory, in bytes.
pub(super) fn resident_memory(pid: u32) -> Result<u64, Failure> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("the process is gone")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// A text about the machine, for the readers of the results: cores, processor and memory.
pub(super) fn machine() -> String {
    let first = |file: &str, field: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field).map(str::to_owned));
        line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = first("/proc/meminfo", "MemTotal:");
    let memory: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
    format!("{cores} cores ({}), {} GB", first("/proc/cpuinfo", "model name"), memory / 1_000_000)
}

/// The load average of the last minute: the number of processes that run or want to.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
