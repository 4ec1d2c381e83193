//! Servers run on one core, load comes from another.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

#[derive(Clone, Debug)]
pub struct Cores {
    pub server: Vec<usize>,
    pub load: Vec<usize>,
    pub all: Vec<usize>,
}

impl Cores {
    /// The last core for servers, and for the load another that is no hardware thread of the same, where there is one.
    pub fn choose(server: Option<usize>, load: Option<usize>) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let is_allowed = |core: &usize| allowed.is_set(*core).unwrap_or(false);
        let all: Vec<usize> = (0..CpuSet::count()).filter(is_allowed).collect();
        let server = server.or(all.last().copied()).context("no core")?;
        let siblings = siblings(server);
        let other =
            |apart: &dyn Fn(usize) -> bool| all.iter().rev().copied().find(|&core| apart(core));
        let load = load
            .or_else(|| other(&|core| !siblings.contains(&core)))
            .or_else(|| other(&|core| core != server))
            .unwrap_or(server);
        for core in [server, load] {
            ensure!(
                all.contains(&core),
                "core {core} is not among those allowed: {all:?}"
            );
        }
        let (server, load) = (vec![server], vec![load]);
        Ok(Self { server, load, all })
    }

    /// The same for both: the load takes time from the server.
    pub fn are_shared(&self) -> bool {
        self.server == self.load
    }
}

/// Confines the calling thread, and what it starts from now on, to `cores`.
pub fn pin(cores: &[usize]) {
    let mut set = CpuSet::new();
    for &core in cores {
        let _ = set.set(core);
    }
    // Without it the figures are noisier, not wrong; the cores were taken from the allowed set.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// The hardware threads of the core that `cpu` is one of: load on another of them slows it.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let mut cores = parse_list(fs::read_to_string(path).unwrap_or_default().trim());
    cores.push(cpu);
    cores
}

/// `0,4-6`, as the kernel writes lists of CPUs.
pub fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_hold_numbers_and_ranges() {
        assert_eq!(parse_list("0,4-6"), [0, 4, 5, 6]);
        assert!(parse_list("").is_empty());
    }

    #[test]
    fn core_that_is_not_there_is_refused() {
        let error = Cores::choose(Some(1000), None).unwrap_err().to_string();
        assert!(
            error.starts_with("core 1000 is not among those allowed"),
            "{error}"
        );
    }
}
