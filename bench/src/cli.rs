//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  How long does Python's server take to answer?
    startup-bench measure --server 'python3 -m http.server --bind 127.0.0.1 {port}'

  Beside node, with a table and a plot for a page:
    startup-bench measure --server 'python=python3 -m http.server --bind 127.0.0.1 {port}' \\
      --server 'node=node -e \"http.createServer((_, a) => a.end()).listen(process.env.PORT)\"' \\
      --runs 20 --markdown startup.md --svg startup.svg

  What does an image take, from create to its first answer, and to stop?
    startup-bench measure --image nginx:alpine --runs 10

Exit codes:
  0  all was measured, and the gate is open
  1  the gate is closed: --fail-above
  2  the command line or a file on it is wrong
  3  nothing could be measured
  4  something was left out, or failed in some of the rounds";

/// Measures how long servers and images take from exec to their first answer.
#[derive(Parser)]
#[command(name = "startup-bench", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub parts: PartOptions,
}

#[derive(Subcommand)]
pub enum Command {
    /// Any servers, or any images, side by side.
    Measure(MeasureOptions),
}

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "what", required = true, multiple = false, args = ["servers", "images"])]
pub struct MeasureOptions {
    /// A server: its command, without a shell; may be repeated. {port} is a free port, which PORT has as well. The
    /// first one is what the ratios refer to.
    #[arg(long = "server", value_name = "[NAME=]COMMAND")]
    pub servers: Vec<Named>,

    /// An image, and what to run in it instead of its own command; may be repeated. One that is not here is pulled.
    #[arg(long = "image", value_name = "[NAME=]IMAGE [COMMAND]", conflicts_with_all = ["urls", "cold"])]
    pub images: Vec<Named>,

    /// Where a server is asked, on this machine. One that listens on a fixed port has it in its URL.
    #[arg(
        long = "url",
        value_name = "[NAME=]URL",
        default_value = "http://127.0.0.1:{port}/"
    )]
    pub urls: Vec<String>,

    /// The port that images listen on. By default the one that an image exposes.
    #[arg(long, value_name = "PORT", conflicts_with = "servers")]
    pub container_port: Option<u16>,

    /// What images are asked for.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/",
        conflicts_with = "servers"
    )]
    pub path: String,

    /// The engine, docker or podman. By default the first of them that answers.
    #[arg(long, value_name = "COMMAND", conflicts_with = "servers")]
    pub engine: Option<String>,

    /// A variable for all of them, {port} in it too; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,

    /// The statuses that count as the answer.
    #[arg(long, value_name = "STATUS,...", value_delimiter = ',', default_value = "200", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: Vec<u16>,

    /// How long a start may take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,

    /// Rounds: starts of each that are counted.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,

    /// Starts of each that are not counted.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub warmup: u32,

    /// Drop the page cache before each start, which only root may do: files come from the disk.
    #[arg(long)]
    pub cold: bool,

    /// Every sample, for other programs and as a baseline.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The table.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// A plot of the first answers.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// The --json of an earlier run. Where both runs begin with the same row and have others, the ratios to that row are
    /// compared, else the times.
    #[arg(long, value_name = "FILE", requires = "fail_above")]
    pub baseline: Option<PathBuf>,

    /// Exit with 1 if a ratio is above this with its whole 95 % interval: to the baseline, or to the first row.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub fail_above: Option<f64>,

    #[command(flatten)]
    pub cores: CoreOptions,
}

#[derive(Args)]
pub struct CoreOptions {
    /// The core that servers run on.
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,

    /// The core that load comes from.
    #[arg(long, value_name = "CORE")]
    pub load_core: Option<usize>,
}

/// Measures scratch-server beside its peers.
#[derive(Args)]
pub struct PartOptions {
    /// What to measure of scratch-server and its peers.
    #[arg(value_enum, required = true)]
    parts: Vec<Part>,

    /// The server, instead of the one that is built from this repository.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,

    /// The probe, instead of the one that is built from this repository.
    #[arg(long, value_name = "PATH")]
    pub healthcheck: Option<PathBuf>,

    /// One more server like it to measure beside it; may be repeated.
    #[arg(long = "variant", value_name = "NAME=PATH", value_parser = named_path)]
    pub variants: Vec<(String, PathBuf)>,

    /// One more probe to measure beside it; may be repeated.
    #[arg(long = "probe-variant", value_name = "NAME=PATH", value_parser = named_path)]
    pub probe_variants: Vec<(String, PathBuf)>,

    /// Only the variants, and the peers that --peers names. The first is what the ratios refer to.
    #[arg(long)]
    pub only: bool,

    /// Peers to measure, all by default; `none` for none.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub peers: Option<Vec<String>>,

    /// A budget of a minute or so a part: for a first look, not for figures to quote.
    #[arg(long)]
    pub quick: bool,

    /// Rounds of every part, instead of its own number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: Option<u32>,

    /// Keep-alive connections of the part `throughput`, each number a column.
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,32,256"
    )]
    pub connections: Vec<usize>,

    /// Seconds of load a sample. What disturbs a machine lasts longer: more rounds say more.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,

    /// Requests a second of the part `latency`.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,

    /// Images of the part `image`.
    #[arg(
        long = "image",
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "scratch-server"
    )]
    pub images: Vec<String>,

    /// Where the JSON and the plots go, instead of bench/target/results.
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    pub cores: CoreOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    All,
    Startup,
    Throughput,
    Latency,
    Workers,
    Memory,
    Shutdown,
    Probe,
    Image,
}

impl PartOptions {
    pub fn is_all(&self) -> bool {
        self.parts.contains(&Part::All)
    }

    pub fn parts(&self) -> Vec<Part> {
        use Part::*;
        match self.is_all() {
            true => vec![
                Startup, Throughput, Latency, Workers, Memory, Shutdown, Probe, Image,
            ],
            false => self.parts.clone(),
        }
    }

    /// Of a part that has a number of its own for each budget.
    pub fn rounds(&self, full: u32, quick: u32) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full }) as usize
    }

    pub fn load_time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// `[NAME=]WORD...`, in which quotes keep words together as in a shell. The name is a word before the first equals
/// sign, by default the file name of the first word.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub words: Vec<String>,
}

impl FromStr for Named {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, command) = split_name(text);
        let words = shell_words::split(command)?;
        let first = words.first().context("the command is empty")?;
        let base = || first.rsplit('/').next().unwrap_or(first);
        Ok(Self {
            name: name.unwrap_or_else(base).to_owned(),
            words,
        })
    }
}

/// `NAME=REST` or `REST`.
pub fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest))
            if !name.is_empty()
                && !name.contains(|char: char| char.is_whitespace() || "/:{\"'".contains(char)) =>
        {
            (Some(name), rest)
        }
        _ => (None, text),
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf)> {
    match split_name(text) {
        (Some(name), path) if !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => bail!("expected NAME=PATH"),
    }
}

fn variable(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("expected NAME=VALUE")?;
    ensure!(!name.is_empty(), "expected NAME=VALUE");
    Ok((name.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<Duration> {
    let duration =
        humantime::parse_duration(text).context("expected a duration such as 500ms or 10s")?;
    let range = Duration::from_millis(1)..=Duration::from_secs(3600);
    ensure!(
        range.contains(&duration),
        "expected a duration from 1ms to 1h"
    );
    Ok(duration)
}

fn ratio(text: &str) -> Result<f64> {
    let ratio: f64 = text.parse().context("expected a ratio such as 1.10")?;
    ensure!(ratio.is_finite() && ratio > 0.0, "expected a ratio above 0");
    Ok(ratio)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn server_has_a_name_or_that_of_its_program() {
        let named = |text: &str| {
            text.parse::<Named>()
                .map(|named| (named.name, named.words.len()))
        };
        assert_eq!(
            named("mine=./app --port {port}").unwrap(),
            ("mine".into(), 3)
        );
        assert_eq!(named("./target/app --x=1").unwrap(), ("app".into(), 2));
        assert_eq!(named("env A=1 'b c'").unwrap(), ("env".into(), 3));
        assert_eq!(named("localhost/a:b").unwrap(), ("a:b".into(), 1));
        assert!(named("").is_err() && named("mine=").is_err() && named("a='b").is_err());
    }

    #[test]
    fn variants_are_named_and_may_hold_an_equals_sign() {
        assert_eq!(
            named_path("a=/x=y").unwrap(),
            ("a".to_owned(), PathBuf::from("/x=y"))
        );
        assert!(named_path("/tmp/server").is_err() && named_path("a/b=/tmp/server").is_err());
    }

    #[test]
    fn all_means_every_part_once() {
        assert_eq!(
            Cli::parse_from(["startup-bench", "all", "startup"])
                .parts
                .parts()
                .len(),
            8
        );
    }

    #[test]
    fn servers_and_images_are_measured_apart() {
        let parses = |args: &[&str]| {
            Cli::try_parse_from([&["startup-bench", "measure"], args].concat()).is_ok()
        };
        assert!(
            parses(&["--server", "a"])
                && parses(&["--image", "a", "--container-port", "80", "--path", "/"])
        );
        assert!(!parses(&[]) && !parses(&["--server", "a", "--image", "b"]));
        assert!(
            !parses(&["--server", "a", "--path", "/x"])
                && !parses(&["--server", "a", "--timeout", "2 hours"])
        );
    }
}
