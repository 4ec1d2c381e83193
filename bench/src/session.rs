//! What every part needs: the targets that answer, the cores, the interleaved order of rounds.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::thread::sched_getaffinity;

use crate::{
    cli::{Options, Part},
    client,
    launch::{Capture, Running, adopt_orphans},
    peers::{MUSL_GCC, PEERS, Setup, Target, Workshop, c_compiler, find},
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

/// The name of the build that is measured by default.
pub const PRODUCT: &str = "scratch-server";

const MAX_FAILURES: usize = 3;

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
        adopt_orphans();
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
        if c_compiler() != MUSL_GCC {
            eprintln!("warning: {MUSL_GCC} is not installed: nothing is judged by the floors");
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
                    .insert(PRODUCT.to_owned(), format!("{error:#}"));
            }
        }
    }

    fn find_targets(&mut self) -> Result<()> {
        let product = self.server.clone().map(|path| (PRODUCT.to_owned(), path));
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

    /// `interleave` over the targets that can be measured.
    pub fn each_target(
        &self,
        what: &str,
        rounds: usize,
        able: impl Fn(&Target) -> bool,
        sample: impl FnMut(usize, &Target) -> Result<()>,
    ) -> Vec<String> {
        let able: Vec<&Target> = self.targets.iter().filter(|target| able(target)).collect();
        interleave(what, rounds, &able, |target| &target.name, sample)
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

/// Calls `sample` for each in each round, in another order each time: what disturbs the machine for a
/// while disturbs all alike, and so does what the one before has left in the processor's caches. The
/// orders are the same in each run. Returns what failed.
pub fn interleave<T>(
    what: &str,
    rounds: usize,
    items: &[&T],
    name: impl Fn(&T) -> &str,
    mut sample: impl FnMut(usize, &T) -> Result<()>,
) -> Vec<String> {
    let progress = ProgressBar::new((rounds * items.len()) as u64).with_prefix(what.to_owned());
    let style = ProgressStyle::with_template("{prefix:32} {bar:30} {pos}/{len} {eta} {msg}");
    progress.set_style(style.expect("the template is valid"));
    let mut failures: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(0);
    let mut order = items.to_vec();
    for round in 0..rounds {
        random.shuffle(&mut order);
        for &item in &order {
            progress.set_message(name(item).to_owned());
            // One that fails may take its whole time limit each time.
            if failures
                .get(name(item))
                .is_none_or(|failures| failures.len() < MAX_FAILURES)
                && let Err(error) = sample(round, item)
            {
                failures
                    .entry(name(item))
                    .or_default()
                    .push(format!("{error:#}"));
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let note = |(name, errors): (&str, Vec<String>)| match errors.len() {
        MAX_FAILURES => format!("{what}: {name} was given up: {}", errors[0]),
        count => format!(
            "{what}: {name} failed in {count} of {rounds} rounds: {}",
            errors[0]
        ),
    };
    failures.into_iter().map(note).collect()
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
    fn each_is_in_each_round_and_follows_each_other() {
        let mut order = String::new();
        let sample = |_, name: &&str| {
            order.push_str(name);
            Ok(())
        };
        let failed = interleave("test", 100, &[&"a", &"b", &"c"], |name| name, sample);
        assert!(failed.is_empty());
        let mut followers: BTreeMap<_, usize> = BTreeMap::new();
        for round in order.as_bytes().chunks(3) {
            let mut names = round.to_vec();
            names.sort_unstable();
            assert_eq!(names, b"abc");
            for pair in round.windows(2) {
                *followers.entry(pair).or_default() += 1;
            }
        }
        // 200 pairs of six kinds.
        assert_eq!(followers.len(), 6);
        assert!(followers.values().all(|&times| times > 20), "{followers:?}");
    }

    #[test]
    fn one_that_keeps_failing_is_given_up_and_the_others_go_on() {
        let mut calls = BTreeMap::new();
        let failed = interleave(
            "test",
            10,
            &[&"good", &"bad"],
            |name| name,
            |_, &name| {
                *calls.entry(name).or_insert(0) += 1;
                ensure!(name == "good", "no answer");
                Ok(())
            },
        );
        assert_eq!(calls, BTreeMap::from([("good", 10), ("bad", MAX_FAILURES)]));
        assert_eq!(failed, ["test: bad was given up: no answer"]);
    }

    #[test]
    fn cpu_lists_hold_numbers_and_ranges() {
        assert_eq!(parse_list("0,4-6"), [0, 4, 5, 6]);
        assert!(parse_list("").is_empty());
    }
}
