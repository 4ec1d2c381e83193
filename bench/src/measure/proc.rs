//! What `/proc` tells about processes: CPU time, page faults, memory.

use std::{
    collections::BTreeMap,
    fs,
    iter::Sum,
    ops::{Add, Sub},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a process has used, with those of its children that have ended and been waited for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Usage {
    /// CPU nanoseconds, user and system.
    pub cpu: u64,
    /// Nanoseconds that threads were ready to run and had no processor. Of those that live alone.
    pub waited: u64,
    /// Page faults, minor and major.
    pub faults: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            waited: self.waited + other.waited,
            faults: self.faults + other.faults,
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            waited: self.waited.saturating_sub(other.waited),
            faults: self.faults.saturating_sub(other.faults),
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Add::add)
    }
}

/// Of a process that lives, or has ended and is not waited for.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = stat(pid)?;
    let sum = |fields: &[usize]| {
        fields
            .iter()
            .map(|&number| field(&stat, number))
            .sum::<Result<u64>>()
    };
    // Of the threads that live it is exact, of all that there were it is in whole ticks: rounded down.
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let (mut living, mut waited) = (0, 0);
    for task in threads.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut times = text.split_whitespace().flat_map(str::parse::<u64>);
        living += times.next().unwrap_or(0);
        waited += times.next().unwrap_or(0);
    }
    let own = (sum(&[UTIME, STIME])? * NANOS_PER_TICK).max(living);
    Ok(Usage {
        cpu: own + sum(&[CUTIME, CSTIME])? * NANOS_PER_TICK,
        waited,
        faults: sum(&[MINFLT, CMINFLT, MAJFLT, CMAJFLT])?,
    })
}

/// The processes below `root`, those that have ended and are not waited for included.
pub fn descendants(root: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for pid in pids {
        if let Ok(parent) = stat(pid).and_then(|stat| field(&stat, PPID)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&root.into()).unwrap_or_default();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children.remove(&pid.into()).unwrap_or_default());
        next += 1;
    }
    found
}

/// `Pss` and the like of `smaps_rollup`, or `VmHWM` (the peak of the resident memory) and the like of `status`, in bytes.
pub fn memory(pid: u32, key: &str) -> Result<u64> {
    let file = if key.starts_with("Vm") {
        "status"
    } else {
        "smaps_rollup"
    };
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    kibibytes(&text, key).with_context(|| format!("no {key} in {file}"))
}

// Numbered as in proc_pid_stat(5).
const PPID: usize = 4;
const MINFLT: usize = 10;
const CMINFLT: usize = 11;
const MAJFLT: usize = 12;
const CMAJFLT: usize = 13;
const UTIME: usize = 14;
const STIME: usize = 15;
const CUTIME: usize = 16;
const CSTIME: usize = 17;

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

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_counted_after_the_last_parenthesis() {
        let stat = "42 (a) b (c)) S 1 77 77 0 -1 4194560 123 0 0 0 5 6";
        assert_eq!(field(stat, PPID).unwrap(), 1);
        assert_eq!(field(stat, MINFLT).unwrap(), 123);
        assert!(field(stat, 99).is_err());
    }

    #[test]
    fn memory_is_found_by_the_whole_key_and_in_bytes() {
        let text = "00400000-7ff [rollup]\nRss:     500 kB\nPss:       12 kB\nPss_Dirty:    3 kB\n";
        assert_eq!(kibibytes(text, "Pss"), Some(12 * 1024));
        assert_eq!(kibibytes(text, "Swap"), None);
    }

    #[test]
    fn own_process_is_measured() {
        let own = std::process::id();
        let used = usage(own).unwrap();
        assert!(used.cpu > 0 && used.faults > 0, "{used:?}");
        assert!(memory(own, "Pss").unwrap() > 0);
        assert!(memory(own, "VmHWM").unwrap() > 0);
    }

    #[test]
    fn children_of_a_process_are_its_descendants() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(std::process::id()).contains(&child.id()));
    }
}
