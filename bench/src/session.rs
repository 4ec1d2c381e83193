//! What every part needs: the targets that answer, the cores, the interleaved order of rounds.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::sched_getaffinity;

use crate::{
    cli::{Options, Part},
    client,
    launch::{Capture, Running},
    peers::{PEERS, Setup, Target, Workshop, find},
    report::Metric,
};

pub struct Session<'a> {
    pub options: &'a Options,
    pub shop: Workshop,
    /// The first is the one that ratios refer to.
    pub targets: Vec<Target>,
    pub cores: Cores,
    /// What was not found, by name.
    pub missing: BTreeMap<String, String>,
    pub server: Option<PathBuf>,
    pub healthcheck: Option<PathBuf>,
}

/// Servers run on one core, load on another.
#[derive(Clone)]
pub struct Cores {
    pub server: usize,
    pub load: usize,
    pub all: Vec<usize>,
}

impl<'a> Session<'a> {
    pub fn prepare(options: &'a Options) -> Result<Self> {
        raise_descriptor_limit();
        let mut session = Self {
            options,
            shop: Workshop::open()?,
            targets: Vec::new(),
            cores: Cores::choose(options)?,
            missing: BTreeMap::new(),
            server: None,
            healthcheck: None,
        };
        if !options.only {
            session.find_product();
        }
        if options
            .parts()
            .iter()
            .any(|&part| part != Part::Probe && part != Part::Image)
        {
            session.find_targets()?;
        }
        for (name, reason) in &session.missing {
            eprintln!("left out: {name}: {reason}");
        }
        Ok(session)
    }

    fn find_product(&mut self) {
        let given = (
            self.options.server.clone(),
            self.options.healthcheck.clone(),
        );
        (self.server, self.healthcheck) = given;
        if self.server.is_some() && self.healthcheck.is_some() {
            return;
        }
        eprintln!("building scratch-server for {}", self.shop.musl_target);
        match self.shop.build_product() {
            Ok((server, healthcheck)) => {
                self.server.get_or_insert(server);
                self.healthcheck.get_or_insert(healthcheck);
            }
            Err(error) => {
                self.missing
                    .insert("scratch-server".to_owned(), format!("{error:#}"));
            }
        }
    }

    fn find_targets(&mut self) -> Result<()> {
        let product = self
            .server
            .clone()
            .map(|path| ("scratch-server".to_owned(), path));
        let ours = product
            .into_iter()
            .chain(self.options.variants.iter().cloned());
        let mut found: Vec<_> = ours
            .map(|(name, path)| (name.clone(), Target::ours(&name, &path, &self.shop)))
            .collect();

        let wanted = match &self.options.peers {
            Some(names) => names
                .iter()
                .map(String::as_str)
                .filter(|&name| name != "none")
                .collect(),
            None if self.options.only => Vec::new(),
            None => PEERS.iter().map(|&(name, _)| name).collect(),
        };
        for name in wanted {
            let names = || {
                PEERS
                    .iter()
                    .map(|&(name, _)| name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let (_, make) = PEERS
                .iter()
                .find(|peer| peer.0 == name)
                .with_context(|| format!("no peer {name:?}: there are {}", names()))?;
            eprintln!("preparing {name}");
            found.push((name.to_owned(), make(&self.shop)));
        }
        for (name, target) in found {
            // One that does not answer would fail in every round.
            match target.and_then(|target| self.check(&target).map(|()| target)) {
                Ok(target) => self.targets.push(target),
                Err(error) => {
                    self.missing.insert(name, format!("{error:#}"));
                }
            }
        }
        ensure!(
            !self.targets.is_empty(),
            "nothing to measure: {:?}",
            self.missing
        );
        Ok(())
    }

    fn check(&self, target: &Target) -> Result<()> {
        self.start(target, &[self.cores.server], 1, false).map(drop)
    }

    /// Starts a target and waits until it answers.
    pub fn start(
        &self,
        target: &Target,
        cores: &[usize],
        workers: usize,
        many: bool,
    ) -> Result<Server> {
        let port = client::free_port()?;
        let setup = Setup {
            port,
            workers,
            many_connections: many,
            announce: false,
            directory: &self.directory(target),
        };
        let mut running = Running::start(&target.program(&setup)?, cores, Capture::Nothing)?;
        running.exec()?;
        client::wait_ready(port, Duration::from_secs(10)).with_context(|| target.name.clone())?;
        Ok(Server { running, port })
    }

    pub fn directory(&self, target: &Target) -> PathBuf {
        self.shop.directory.join(&target.name)
    }

    pub fn metric(&self, name: &str, unit: &'static str) -> Metric {
        Metric::new(
            name,
            unit,
            self.targets
                .iter()
                .map(|target| target.name.clone())
                .collect(),
        )
    }

    /// Calls `sample` for each of the chosen targets in each round: A B C, B C A, C A B, ... so that
    /// what disturbs the machine for a while disturbs all alike, and each follows each.
    pub fn interleave(
        &self,
        what: &str,
        rounds: usize,
        chosen: impl Fn(&Target) -> bool,
        mut sample: impl FnMut(usize, &Target) -> Result<()>,
    ) -> Vec<String> {
        let chosen: Vec<&Target> = self
            .targets
            .iter()
            .filter(|target| chosen(target))
            .collect();
        let progress =
            ProgressBar::new((rounds * chosen.len()) as u64).with_prefix(what.to_owned());
        let style = ProgressStyle::with_template("{prefix:32} {bar:30} {pos}/{len} {eta} {msg}");
        progress.set_style(style.expect("the template is valid"));
        let mut failures = BTreeMap::new();
        for round in 0..rounds {
            for turn in 0..chosen.len() {
                let target = chosen[(round + turn) % chosen.len()];
                progress.set_message(target.name.clone());
                if let Err(error) = sample(round, target) {
                    failures
                        .entry(&target.name)
                        .or_insert_with(Vec::new)
                        .push(format!("{error:#}"));
                }
                progress.inc(1);
            }
        }
        progress.finish_and_clear();
        let note = |(name, errors): (&String, Vec<String>)| {
            format!(
                "{what}: {name} failed in {} of {rounds} rounds: {}",
                errors.len(),
                errors[0]
            )
        };
        failures.into_iter().map(note).collect()
    }

    /// The load generator that saturates.
    pub fn wrk(&self) -> Option<PathBuf> {
        find("wrk").ok()
    }
}

/// A target that answers. Dropping it kills it.
pub struct Server {
    pub running: Running,
    pub port: u16,
}

impl Cores {
    fn choose(options: &Options) -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..1024).filter(|&core| allowed.is_set(core)).collect();
        let server = options
            .server_core
            .or(all.last().copied())
            .context("no core")?;
        let siblings = siblings(server);
        let load = options
            .load_core
            .or_else(|| {
                all.iter()
                    .rev()
                    .copied()
                    .find(|core| !siblings.contains(core))
            })
            .or_else(|| all.iter().copied().find(|&core| core != server))
            .unwrap_or(server);
        for core in [server, load] {
            if !all.contains(&core) {
                bail!("core {core} is not among those allowed: {all:?}");
            }
        }
        if server == load {
            eprintln!("warning: one core for servers and load: throughput figures mean little");
        }
        Ok(Self { server, load, all })
    }
}

/// The hardware threads of the core that `cpu` is one of: load on another of them slows it.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut cores = parse_list(text.trim());
    cores.push(cpu);
    cores
}

/// `0,4-6`, as the kernel writes lists of CPUs.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Thousands of connections need as many descriptors, here and in the servers, which inherit it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = 65_536;
    let raised = Rlimit {
        current: Some(wanted),
        maximum: Some(wanted),
    };
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < wanted) && setrlimit(Resource::Nofile, raised).is_ok() {
        return;
    }
    let current = hard.map_or(wanted, |hard| hard.min(wanted));
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            maximum: hard,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_hold_numbers_and_ranges() {
        assert_eq!(parse_list("0,4-6"), [0, 4, 5, 6]);
        assert!(parse_list("").is_empty());
    }
}
