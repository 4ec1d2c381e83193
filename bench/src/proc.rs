//! What `/proc` tells about a process group: CPU time, page faults, memory.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;

/// The processes of a group: a server may have workers.
pub fn members(group: Pid) -> Result<Vec<u32>> {
    let group = group.as_raw_nonzero().get();
    let pids =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter(|&pid| {
            stat(pid)
                .and_then(|stat| field(&stat, PGRP))
                .is_ok_and(|pgrp| pgrp == group as u64)
        })
        .collect())
}

/// CPU nanoseconds, user and system.
pub fn cpu(pid: u32) -> Result<u64> {
    // Exact, but of the threads that live.
    let living = fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    // Of all threads that there were, but in whole ticks: rounded down, like the other.
    let stat = stat(pid)?;
    let ticks = field(&stat, UTIME)? + field(&stat, STIME)?;
    Ok((ticks * NANOS_PER_TICK).max(living))
}

/// Minor page faults.
pub fn faults(pid: u32) -> Result<u64> {
    faults_of(&stat(pid)?)
}

/// The same, of a `stat` that was read already.
pub fn faults_of(stat: &str) -> Result<u64> {
    field(stat, MINFLT)
}

/// `Pss`, `Rss`, ... of `smaps_rollup`, in bytes.
pub fn memory(pid: u32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    rollup(&text, key).with_context(|| format!("no {key} in smaps_rollup"))
}

/// The sum over a group.
pub fn total(group: Pid, measure: impl Fn(u32) -> Result<u64>) -> Result<u64> {
    let leader = group.as_raw_nonzero().get() as u32;
    let mut sum = measure(leader)?;
    // The others may end while this looks at them: a process for each request.
    sum += members(group)?
        .into_iter()
        .filter(|&pid| pid != leader)
        .flat_map(measure)
        .sum::<u64>();
    Ok(sum)
}

// Numbered as in proc_pid_stat(5).
const PGRP: usize = 5;
const MINFLT: usize = 10;
const UTIME: usize = 14;
const STIME: usize = 15;

/// USER_HZ is 100 on every Linux that Rust runs on.
const NANOS_PER_TICK: u64 = 10_000_000;

fn stat(pid: u32) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn field(stat: &str, number: usize) -> Result<u64> {
    // The second field is the name in parentheses, and may hold spaces and parentheses.
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let text = after_name
        .split_whitespace()
        .nth(number - 3)
        .context("stat is too short")?;
    text.parse()
        .with_context(|| format!("field {number} of stat: {text:?}"))
}

fn rollup(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_counted_after_the_last_parenthesis() {
        let stat = "42 (a) b (c)) S 1 77 77 0 -1 4194560 123 0 0 0 5 6";
        assert_eq!(field(stat, PGRP).unwrap(), 77);
        assert_eq!(field(stat, MINFLT).unwrap(), 123);
        assert!(field(stat, 99).is_err());
    }

    #[test]
    fn rollup_finds_the_whole_key_and_gives_bytes() {
        let text = "00400000-7ff [rollup]\nRss:     500 kB\nPss:       12 kB\nPss_Dirty:    3 kB\n";
        assert_eq!(rollup(text, "Pss"), Some(12 * 1024));
        assert_eq!(rollup(text, "Swap"), None);
    }

    #[test]
    fn own_process_is_measured() {
        let own = std::process::id();
        assert!(cpu(own).unwrap() > 0);
        assert!(faults(own).unwrap() > 0);
        assert!(memory(own, "Pss").unwrap() > 0);
    }
}
