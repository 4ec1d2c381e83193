//! Docker or Podman, by its command.

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    cores::Cores,
    process::{Program, Running, THIS_TOOL, find, now},
};

const CLEAN: &str = "__clean";
/// Containers have it with the process id of the tool as its value.
const LABEL: &str = "startup-bench";
/// For what takes an engine a moment.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const PULL_LIMIT: Duration = Duration::from_secs(600);

pub struct Engine {
    pub name: String,
    cores: Cores,
    cleaner: Child,
    /// Closing it without a word means that the tool has died.
    alive: Option<ChildStdin>,
}

pub struct Image {
    pub bytes: f64,
    /// The one that it exposes, if it is one.
    pub port: Option<u16>,
    pub has_healthcheck: bool,
}

/// A command of the engine: when it was executed and when it ended.
pub struct Done {
    pub executed: u64,
    pub ended: u64,
    pub stdout: String,
}

impl Engine {
    /// The one that is named, or the first that answers.
    pub fn find(named: Option<&str>, cores: &Cores) -> Result<Self> {
        let candidates = named.map_or(vec!["docker", "podman"], |name| vec![name]);
        let mut errors = Vec::new();
        for name in candidates {
            // An engine has the cores that it wants; only servers are confined to theirs.
            let cores = Cores {
                server: cores.all.clone(),
                load: cores.all.clone(),
                ..cores.clone()
            };
            // `info` needs the engine itself where its command is only a client.
            match find(name).and_then(|_| run(name, &["info"], &cores, COMMAND_LIMIT)) {
                Ok(_) => return Self::with_cleaner(name, cores),
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        bail!("no engine: {}", errors.join("; "))
    }

    fn with_cleaner(name: &str, cores: Cores) -> Result<Self> {
        let mut cleaner = Command::new(THIS_TOOL)
            .args([CLEAN, name, &process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of the terminal's group: Ctrl-C must not end it.
            .process_group(0)
            .spawn()?;
        let alive = cleaner.stdin.take();
        Ok(Self {
            name: name.to_owned(),
            cores,
            cleaner,
            alive,
        })
    }

    pub fn run(&self, args: &[&str]) -> Result<Done> {
        run(&self.name, args, &self.cores, COMMAND_LIMIT)
    }

    pub fn start(&self, args: &[&str]) -> Result<Running> {
        start(&self.name, args, &self.cores)
    }

    /// Pulls it if it is not here.
    pub fn image(&self, reference: &str) -> Result<Image> {
        let inspect = ["image", "inspect", reference];
        let inspected = match self.run(&inspect) {
            Ok(inspected) => inspected,
            Err(_) => {
                let pulled = run(
                    &self.name,
                    &["pull", "--quiet", reference],
                    &self.cores,
                    PULL_LIMIT,
                );
                pulled.with_context(|| {
                    format!("no image {reference} is here, and it cannot be pulled")
                })?;
                self.run(&inspect)?
            }
        };
        let image = &first_of(&inspected.stdout)?;
        let exposed = image["Config"]["ExposedPorts"].as_object();
        let mut ports = exposed
            .into_iter()
            .flatten()
            .filter_map(|(port, _)| port.strip_suffix("/tcp")?.parse().ok());
        let port = ports.next();
        // Docker's and Podman's places for it.
        let checks = [
            &image["Config"]["Healthcheck"]["Test"],
            &image["Healthcheck"]["Test"],
            &image["HealthCheck"]["Test"],
        ];
        Ok(Image {
            bytes: image["Size"].as_f64().context("the image has no size")?,
            port: port.filter(|_| ports.next().is_none()),
            has_healthcheck: checks
                .iter()
                .any(|test| test[0].as_str().is_some_and(|first| first != "NONE")),
        })
    }

    /// What the engine says about a container.
    pub fn state(&self, container: &Container) -> Result<Value> {
        Ok(first_of(&self.run(&["inspect", &container.name])?.stdout)?["State"].take())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut alive) = self.alive.take() {
            let _ = alive.write_all(b"done");
        }
        let _ = self.cleaner.wait();
    }
}

/// Dropping it removes it.
pub struct Container<'a> {
    engine: &'a Engine,
    pub name: String,
}

impl<'a> Container<'a> {
    /// With a port of it published on loopback, so that nothing outside of this machine reaches it.
    pub fn create(
        engine: &'a Engine,
        publish: (u16, u16),
        env: &[(String, String)],
        words: &[String],
    ) -> Result<(Self, Done)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tool = process::id();
        let name = format!("{LABEL}-{tool}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (label, publish) = (
            format!("{LABEL}={tool}"),
            format!("127.0.0.1:{}:{}", publish.0, publish.1),
        );
        let mut args = vec![
            "create",
            "--name",
            &name,
            "--label",
            &label,
            "--publish",
            &publish,
        ];
        let env: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        args.extend(env.iter().flat_map(|variable| ["--env", variable.as_str()]));
        args.extend(words.iter().map(String::as_str));
        // Before it is there, so that it is removed whatever happens.
        let container = Self {
            engine,
            name: name.clone(),
        };
        let done = engine.run(&args)?;
        Ok((container, done))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.engine.run(&["rm", "--force", "--volumes", &self.name]);
    }
}

fn start(engine: &str, args: &[&str], cores: &Cores) -> Result<Running> {
    let words: Vec<String> = [engine]
        .iter()
        .chain(args)
        .map(|&word| word.to_owned())
        .collect();
    Running::start(&Program::from_words(&words)?, cores)
}

fn run(engine: &str, args: &[&str], cores: &Cores, limit: Duration) -> Result<Done> {
    finish(start(engine, args, cores)?, limit).with_context(|| format!("{engine} {}", args[0]))
}

/// Waits for a command of the engine, which has to succeed.
pub fn finish(mut running: Running, limit: Duration) -> Result<Done> {
    let ended = running
        .wait(limit)?
        .with_context(|| format!("it did not end within {limit:?}"))?;
    ensure!(ended.code == Some(0), "{}", running.last_lines());
    Ok(Done {
        executed: running.executed()?.at,
        ended: ended.at,
        stdout: running.stdout()?,
    })
}

fn first_of(list: &str) -> Result<Value> {
    let list: Value = serde_json::from_str(list).context("the engine's answer")?;
    Ok(list[0].clone())
}

/// When the first process of the next container was executed, and when it listened, as far as `/proc` shows them: an
/// engine on this machine, and not in a virtual machine of its own. Sets `executed`, and looks until `done`.
pub fn watch_start(port: u16, executed: &AtomicBool, done: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    let mut newest = newest_pid();
    let pause = || thread::sleep(Duration::from_micros(100));
    let mut init = None;
    while init.is_none() && !done.load(Ordering::Relaxed) {
        let last = newest_pid();
        // Process 1 of its own namespace: `NSpid: 4242 1`.
        let is_init = |pid: &u64| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            pids.is_some_and(|pids| {
                pids.split_whitespace().count() > 1 && pids.trim_end().ends_with("\t1")
            })
        };
        init = (newest + 1..=last).find(is_init);
        newest = last;
        pause();
    }
    let Some(pid) = init else { return watched };
    watched.pid = Some(pid);
    let is_runtime = || {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "exe"
            || ["runc", "crun"]
                .iter()
                .any(|runtime| name.starts_with(runtime))
    };
    while is_runtime() && !done.load(Ordering::Relaxed) {
        pause();
    }
    if done.load(Ordering::Relaxed) {
        return watched;
    }
    watched.executed = Some(now());
    executed.store(true, Ordering::Relaxed);
    // Not by /proc/net/tcp, which takes milliseconds to read: the kernel looks through its table of all connections.
    let routes = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    let address = own_address(&routes).map(|address| SocketAddr::from((address, port)));
    let limit = Duration::from_secs(1);
    let listens =
        || address.is_some_and(|address| TcpStream::connect_timeout(&address, limit).is_ok());
    while !done.load(Ordering::Relaxed) {
        if listens() {
            watched.listening = Some(now());
            break;
        }
        pause();
    }
    watched
}

#[derive(Default)]
pub struct Watched {
    pub pid: Option<u64>,
    pub executed: Option<u64>,
    pub listening: Option<u64>,
}

/// `/proc/loadavg` ends with the last process id that was given out.
fn newest_pid() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .last()
        .and_then(|pid| pid.parse().ok())
        .unwrap_or(0)
}

/// The first one in the routes of a network namespace that is its own and not loopback: the line `|-- ADDRESS` before one that
/// says `host LOCAL`.
fn own_address(routes: &str) -> Option<Ipv4Addr> {
    let lines: Vec<&str> = routes.lines().map(str::trim).collect();
    let local = lines
        .windows(2)
        .filter(|pair| pair[1].ends_with("host LOCAL"));
    let addresses = local.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse::<Ipv4Addr>().ok());
    addresses.into_iter().find(|address| !address.is_loopback())
}

/// Runs the cleaner, if this process was started as one: it removes the containers of a tool that was killed, even
/// with SIGKILL. A container belongs to the engine, so it does not end with the tool.
pub fn play_role() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [role, engine, tool] = &args[..] else {
        return;
    };
    if role != CLEAN {
        return;
    }
    let mut word = String::new();
    let _ = std::io::stdin().read_to_string(&mut word);
    let start = Instant::now();
    // For a while: a command that was on its way may yet create one.
    while word.is_empty() && start.elapsed() < Duration::from_secs(3) {
        let filter = format!("label={LABEL}={tool}");
        let listed = Command::new(engine)
            .args(["ps", "--all", "--quiet", "--filter", &filter])
            .output();
        let listed = listed
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        if !listed.trim().is_empty() {
            let _ = Command::new(engine)
                .args(["rm", "--force", "--volumes"])
                .args(listed.split_whitespace())
                .output();
        }
        thread::sleep(Duration::from_millis(200));
    }
    process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_is_the_local_one_that_is_not_loopback() {
        let routes = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 172.17.0.0
        /16 link UNICAST
     |-- 172.17.0.2
        /32 host LOCAL
";
        assert_eq!(own_address(routes), Some(Ipv4Addr::new(172, 17, 0, 2)));
        assert_eq!(own_address("Main:\n"), None);
    }
}
