//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Measures scratch-server beside the programs that people would run instead.
#[derive(Parser)]
#[command(version)]
pub struct Options {
    /// What to measure.
    #[arg(value_enum, required = true)]
    parts: Vec<Part>,

    /// The server, instead of the one that is built from this repository.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,

    /// The probe, instead of the one that is built from this repository.
    #[arg(long, value_name = "PATH")]
    pub healthcheck: Option<PathBuf>,

    /// One more server to measure beside it; may be repeated.
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

    /// The core that servers run on.
    #[arg(long, value_name = "CORE")]
    pub server_core: Option<usize>,

    /// The core that load comes from.
    #[arg(long, value_name = "CORE")]
    pub load_core: Option<usize>,

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

impl Options {
    pub fn is_all(&self) -> bool {
        self.parts.contains(&Part::All)
    }

    pub fn parts(&self) -> Vec<Part> {
        use Part::*;
        if self.is_all() {
            return vec![
                Startup, Throughput, Latency, Workers, Memory, Shutdown, Probe, Image,
            ];
        }
        self.parts.clone()
    }

    /// Of a part that has a number of its own for each budget.
    pub fn rounds(&self, full: u32, quick: u32) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full }) as usize
    }

    pub fn load_time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("expected NAME=PATH".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_named_and_may_hold_an_equals_sign() {
        assert_eq!(
            named_path("a=/x=y").unwrap(),
            ("a".to_owned(), PathBuf::from("/x=y"))
        );
        assert!(named_path("/tmp/server").is_err());
        assert!(named_path("a/b=/tmp/server").is_err());
    }

    #[test]
    fn all_means_every_part_once() {
        let options = Options::parse_from(["bench", "all", "startup"]);
        assert_eq!(options.parts().len(), 8);
    }
}
