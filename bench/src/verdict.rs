//! What the figures must reach, and whether they do.

use comfy_table::{LineStyle, Table, presets};
use serde::Serialize;

use crate::{
    image,
    peers::{MUSL_GCC, Role, Target, c_compiler},
    probe,
    report::{Measured, Metric, figure},
    session::{PRODUCT, Session},
    stats::Summary,
};

const FLOOR: &str = "c-epoll";

#[derive(Serialize)]
pub struct Verdict {
    what: &'static str,
    must: String,
    /// `None` if the run did not measure it.
    reached: Option<String>,
    pass: Option<bool>,
}

/// The figures that have a target, in the order of the parts. Ratios are medians of paired ratios.
pub fn judge<'a>(session: &'a Session, parts: &[Measured], unmeasured_too: bool) -> Vec<Verdict> {
    let ours = |part, name| find(parts, part, name)?.summary(PRODUCT);
    let ratio = |part, name, to| find(parts, part, name)?.ratio(PRODUCT, to);
    let by_floor = |ratio: Option<Summary>| ratio.filter(|_| c_compiler() == MUSL_GCC);
    let probe_ratio = |ours, to| by_floor(find(parts, "probe", "exec to exit")?.ratio(ours, to));
    let ratios = |part, name, of: &[&'a str]| -> Vec<(&'a str, Summary)> {
        of.iter()
            .filter_map(|&peer| Some((peer, ratio(part, name, peer)?)))
            .collect()
    };
    let is_peer = |target: &&Target| target.role == Role::Peer;
    let peers: Vec<&str> = session
        .targets
        .iter()
        .filter(is_peer)
        .map(|target| target.name.as_str())
        .collect();
    let actix = ["actix-web", "actix-web-glibc"];
    let rivals = ["nginx", "actix-web", "actix-web-glibc"];

    let mut verdicts = vec![
        at_most(
            "image, both binaries",
            700_000.0,
            " bytes",
            ours("image", image::BINARIES),
        ),
        at_most(
            "exec to first 200, beside the C epoll floor",
            1.75,
            "×",
            by_floor(ratio("startup", "first 200", FLOOR)),
        ),
        worst_at_most(
            "exec to first 200, beside every peer",
            1.0,
            ratios("startup", "first 200", &peers),
        ),
        at_most(
            "CPU a request at 32, beside nginx",
            1.0,
            "×",
            ratio("throughput", "CPU/req, 32", "nginx"),
        ),
        worst_at_most(
            "CPU a request at 32, beside actix-web",
            1.0,
            ratios("throughput", "CPU/req, 32", &actix),
        ),
        at_most(
            "CPU a request at 32, beside the C epoll floor",
            1.15,
            "×",
            by_floor(ratio("throughput", "CPU/req, 32", FLOOR)),
        ),
        worst_at_least(
            "requests a second at 32, beside nginx and actix-web",
            0.97,
            ratios("throughput", "req/s, 32", &rivals),
        ),
        at_least(
            "gain of WORKERS=2 at 256, beside axum's",
            1.0,
            ratio("workers", "gain", "axum"),
        ),
        at_most("PSS idle", 1024.0, " KiB", ours("memory", "PSS idle")),
        at_most(
            "idle connection, silent",
            1280.0,
            " bytes",
            ours("memory", "connection, silent"),
        ),
        at_most(
            "idle connection, after a request",
            2048.0,
            " bytes",
            ours("memory", "connection, after a request"),
        ),
        at_most(
            "SIGTERM to exit, 1,000 connections more than idle",
            20.0,
            " ms",
            shutdown_cost(parts),
        ),
        at_most(
            "probe, beside a static program that connects and exits",
            1.3,
            "×",
            probe_ratio(probe::OURS, probe::FLOOR),
        ),
        at_most(
            "the same, connecting alone",
            1.3,
            "×",
            probe_ratio(probe::OURS_CONNECT, probe::FLOOR),
        ),
        at_most(
            "the same, beside one that asks as well",
            1.3,
            "×",
            probe_ratio(probe::OURS, probe::FLOOR_REQUEST),
        ),
    ];
    verdicts.retain(|verdict| unmeasured_too || verdict.pass.is_some());
    verdicts
}

pub fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(["what", "must", "reached", ""]);
    for verdict in verdicts {
        let outcome = match verdict.pass {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not measured",
        };
        let reached = verdict.reached.as_deref().unwrap_or("-");
        table.add_row([verdict.what, &verdict.must, reached, outcome]);
    }
    table
}

/// A figure by its part and name.
pub fn find<'a>(parts: &'a [Measured], part: &str, name: &str) -> Option<&'a Metric> {
    let part = parts.iter().find(|measured| measured.part == part)?;
    part.tables
        .iter()
        .flatten()
        .find(|metric| metric.name == name)
}

fn shutdown_cost(parts: &[Measured]) -> Option<Summary> {
    let idle = find(parts, "shutdown", "idle")?.summary(PRODUCT)?;
    let busy = find(parts, "shutdown", "1000 keep-alive connections")?.summary(PRODUCT)?;
    // They are not pairs: each half has rounds of its own.
    Summary::of([busy.median - idle.median])
}

fn at_most(what: &'static str, limit: f64, unit: &str, reached: Option<Summary>) -> Verdict {
    Verdict {
        what,
        must: format!("≤ {}{unit}", figure(limit)),
        reached: reached.map(|reached| match unit {
            // Its limits have two decimals.
            "×" => format!("{:.3}×", reached.median),
            _ => format!("{}{unit}", figure(reached.median)),
        }),
        pass: reached.map(|reached| reached.median <= limit),
    }
}

fn at_least(what: &'static str, limit: f64, reached: Option<Summary>) -> Verdict {
    Verdict {
        must: format!("≥ {}×", figure(limit)),
        pass: reached.map(|reached| reached.median >= limit),
        ..at_most(what, limit, "×", reached)
    }
}

/// The worst of several ratios is the one to beat, so it is named.
fn worst_at_most(what: &'static str, limit: f64, ratios: Vec<(&str, Summary)>) -> Verdict {
    let worst = ratios
        .into_iter()
        .max_by(|one, other| one.1.median.total_cmp(&other.1.median));
    named(worst, at_most(what, limit, "×", worst.map(|worst| worst.1)))
}

fn worst_at_least(what: &'static str, limit: f64, ratios: Vec<(&str, Summary)>) -> Verdict {
    let worst = ratios
        .into_iter()
        .min_by(|one, other| one.1.median.total_cmp(&other.1.median));
    named(worst, at_least(what, limit, worst.map(|worst| worst.1)))
}

fn named(worst: Option<(&str, Summary)>, verdict: Verdict) -> Verdict {
    let reached = worst
        .zip(verdict.reached)
        .map(|((name, _), reached)| format!("{reached} ({name})"));
    Verdict { reached, ..verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_at_its_limit_passes_and_one_above_fails() {
        let judge = |value| at_most("x", 1.75, "×", Summary::of([value]));
        assert_eq!(judge(1.75).pass, Some(true));
        assert_eq!(judge(1.76).pass, Some(false));
        assert_eq!(judge(1.76).reached.as_deref(), Some("1.760×"));
        assert_eq!(at_most("x", 1.0, "×", None).pass, None);
    }

    #[test]
    fn worst_peer_is_named() {
        let ratio = |median| Summary::of([median]).unwrap();
        let ratios = vec![("nginx", ratio(0.98)), ("actix-web", ratio(0.9))];
        let verdict = worst_at_least("x", 0.97, ratios.clone());
        assert_eq!(verdict.reached.as_deref(), Some("0.900× (actix-web)"));
        assert_eq!(verdict.pass, Some(false));
        assert_eq!(
            worst_at_most("x", 1.0, ratios).reached.as_deref(),
            Some("0.980× (nginx)")
        );
        assert_eq!(worst_at_most("x", 1.0, vec![]).pass, None);
    }
}
