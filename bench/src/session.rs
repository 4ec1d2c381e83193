//! What the parts about the product need: the targets that answer, and how to start them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    cli::{Part, PartOptions},
    measure::{
        client::{self, Url, Wanted},
        cores::Cores,
        process::Running,
        rounds::interleave,
        samples::Metric,
    },
    peers::{self, Peer, Target},
    workshop::Workshop,
};

/// The name of the build that is measured by default.
pub const PRODUCT: &str = "scratch-server";
/// Its other build, as peers.toml names it.
pub const TINY: &str = "tiny";
/// How long a target may take to start.
pub const LIMIT: Duration = Duration::from_secs(10);

pub struct Session<'a> {
    pub options: &'a PartOptions,
    pub shop: Workshop,
    /// The first is the one that ratios refer to.
    pub targets: Vec<Target>,
    pub cores: Cores,
    /// What was not found, by name.
    pub missing: BTreeMap<String, String>,
    pub server: Option<PathBuf>,
    pub healthcheck: Option<PathBuf>,
}

impl<'a> Session<'a> {
    pub fn prepare(options: &'a PartOptions) -> Result<Self> {
        raise_descriptor_limit()?;
        let mut session = Self {
            options,
            shop: Workshop::open()?,
            targets: Vec::new(),
            cores: Cores::choose(options.cores.server_core, options.cores.load_core)?,
            missing: BTreeMap::new(),
            server: options.server.clone(),
            healthcheck: options.healthcheck.clone(),
        };
        if !options.only && (session.server.is_none() || session.healthcheck.is_none()) {
            session.build_product();
        }
        if options
            .parts()
            .iter()
            .any(|part| ![Part::Probe, Part::Image].contains(part))
        {
            session.find_targets()?;
        }
        Ok(session)
    }

    fn build_product(&mut self) {
        eprintln!("building scratch-server for {}", self.shop.musl_target);
        match self.shop.build_product() {
            Ok((server, healthcheck)) => {
                self.server.get_or_insert(server);
                self.healthcheck.get_or_insert(healthcheck);
            }
            Err(error) => drop(
                self.missing
                    .insert(PRODUCT.to_owned(), format!("{error:#}")),
            ),
        }
    }

    fn find_targets(&mut self) -> Result<()> {
        let product = self
            .server
            .clone()
            .filter(|_| !self.options.only)
            .map(|path| (PRODUCT.to_owned(), path));
        let ours = product.iter().chain(&self.options.variants);
        let mut wanted: Vec<Peer> = ours.map(|(name, path)| Peer::ours(name, path)).collect();
        let mut peers = peers::all()?;
        match &self.options.peers {
            Some(names) => {
                let known: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
                let unknown = names
                    .iter()
                    .find(|&name| name != "none" && !known.contains(name));
                ensure!(
                    unknown.is_none(),
                    "no peer {:?}: there are {}",
                    unknown.unwrap_or(&String::new()),
                    known.join(", ")
                );
                peers.retain(|peer| names.contains(&peer.name));
            }
            None if self.options.only => peers.clear(),
            None => {}
        }
        wanted.extend(peers);
        for peer in wanted {
            eprintln!("preparing {}", peer.name);
            let name = peer.name.clone();
            // One that does not answer would fail in every round.
            let target = peer.prepare(&self.shop);
            match target
                .and_then(|target| self.start(&target, &self.cores, 1, false).map(|_| target))
            {
                Ok(target) => self.targets.push(target),
                Err(error) => drop(self.missing.insert(name, format!("{error:#}"))),
            }
        }
        Ok(())
    }

    /// Starts a target and waits until it answers.
    pub fn start(
        &self,
        target: &Target,
        cores: &Cores,
        workers: usize,
        many_connections: bool,
    ) -> Result<Server> {
        let port = client::free_port()?;
        let program = target.program(&self.shop, port, workers, many_connections)?;
        let mut running = Running::start(&program, cores)?;
        wait_ready(port, || running.check()).map_err(|error| running.explain(error))?;
        Ok(Server { running, port })
    }

    pub fn metric(&self, name: &str, unit: &str) -> Metric {
        let names: Vec<String> = self
            .targets
            .iter()
            .map(|target| target.peer.name.clone())
            .collect();
        Metric::new(name, unit, &names)
    }

    /// `interleave` over the targets that can be measured.
    pub fn each_target(
        &self,
        what: &str,
        rounds: usize,
        able: impl Fn(&Target) -> bool,
        mut sample: impl FnMut(usize, &Target) -> Result<()>,
    ) -> BTreeMap<String, String> {
        let able: Vec<&Target> = self.targets.iter().filter(|target| able(target)).collect();
        let failed = interleave(
            what,
            rounds,
            &able,
            |target| &target.peer.name,
            |round, target| sample(round, target),
        );
        failed
            .into_iter()
            .map(|(name, why)| (format!("{name}, {what}"), why))
            .collect()
    }
}

/// A target that answers. Dropping it kills it.
pub struct Server {
    pub running: Running,
    pub port: u16,
}

/// For when the moment does not matter.
pub fn wait_ready(port: u16, check: impl FnMut() -> Result<()>) -> Result<()> {
    let pause = Duration::from_millis(1);
    let wanted = Wanted {
        url: &Url::of_port(port),
        statuses: &[200],
        limit: LIMIT,
        pause,
    };
    client::first_answer(&wanted, check).map(drop)
}

/// Thousands of connections need as many descriptors, here and in the servers, which inherit it.
fn raise_descriptor_limit() -> Result<()> {
    const WANTED: u64 = 65_536;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Above the hard limit it takes root.
    if hard >= WANTED || setrlimit(Resource::RLIMIT_NOFILE, WANTED, WANTED).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(WANTED), hard)?;
    }
    Ok(())
}
