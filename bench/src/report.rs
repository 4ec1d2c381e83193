//! The figures: kept by target and round, shown as a table, written as JSON.

use std::{collections::BTreeMap, fs, iter};

use anyhow::Result;
use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde_json::{Value, json};

use crate::{
    peers::Target,
    plot,
    session::Session,
    stats::{Summary, paired_ratio},
    verdict::Verdict,
};

/// The outcome of a part.
pub struct Measured {
    pub part: &'static str,
    pub title: String,
    /// Each inner list is a table.
    pub tables: Vec<Vec<Metric>>,
    /// What failed or could not be measured.
    pub notes: Vec<String>,
}

/// One figure, sampled for every target in every round.
pub struct Metric {
    pub name: String,
    pub unit: &'static str,
    /// Whether ratios to the first target are shown.
    ratio: bool,
    targets: Vec<String>,
    /// By target, then by round; a round that failed is a gap.
    samples: BTreeMap<String, Vec<Option<f64>>>,
}

impl Metric {
    pub fn new(name: &str, unit: &'static str, targets: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            ratio: false,
            targets,
            samples: BTreeMap::new(),
        }
    }

    pub fn with_ratio(self) -> Self {
        Self {
            ratio: true,
            ..self
        }
    }

    pub fn record(&mut self, target: &Target, round: usize, value: f64) {
        self.record_named(&target.name, round, value);
    }

    pub fn record_named(&mut self, target: &str, round: usize, value: f64) {
        let samples = self.samples.entry(target.to_owned()).or_default();
        samples.resize(samples.len().max(round + 1), None);
        samples[round] = Some(value);
    }

    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    pub fn summary(&self, target: &str) -> Option<Summary> {
        Summary::of(self.samples.get(target)?.iter().copied().flatten())
    }

    /// The paired ratio of one target to another.
    pub fn ratio(&self, ours: &str, theirs: &str) -> Option<Summary> {
        paired_ratio(self.samples.get(ours)?, self.samples.get(theirs)?)
    }

    fn cell(&self, target: &str) -> String {
        let Some(summary) = self.summary(target) else {
            return "-".to_owned();
        };
        let Summary {
            median,
            lower_quartile,
            upper_quartile,
            samples,
            ..
        } = summary;
        let mut cell = figure(median);
        if samples > 1 && lower_quartile != upper_quartile {
            cell += &format!(" [{} {}]", figure(lower_quartile), figure(upper_quartile));
        }
        let reference = &self.targets[0];
        if self.ratio
            && target != reference
            && let Some(ratio) = self.ratio(target, reference)
        {
            cell += &format!(
                "\n×{:.3} [{:.3} {:.3}]",
                ratio.median, ratio.low, ratio.high
            );
        }
        cell
    }
}

/// Three digits that count.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

pub fn show(measured: &Measured) -> String {
    let mut text = format!(
        "{}: {}\nmedian [quartiles]; × the first row: median of the rounds' ratios [its 95% interval]",
        measured.part, measured.title
    );
    for metrics in &measured.tables {
        text += &format!("\n{}", table(metrics));
    }
    for note in &measured.notes {
        text += &format!("\nnote: {note}");
    }
    text
}

fn table(metrics: &[Metric]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    let headers = metrics.iter().map(|metric| match metric.unit {
        "" => metric.name.clone(),
        unit => format!("{}\n{unit}", metric.name),
    });
    table.set_header(iter::once(String::new()).chain(headers));
    for target in metrics.first().map(Metric::targets).unwrap_or_default() {
        if metrics
            .iter()
            .any(|metric| metric.summary(target).is_some())
        {
            let cells = metrics.iter().map(|metric| metric.cell(target));
            table.add_row(iter::once(target.clone()).chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes a JSON file for each part, the verdicts of a whole run, and the plots.
pub fn write(session: &Session, parts: &[Measured], verdicts: &[Verdict]) -> Result<()> {
    let directory = session
        .options
        .out
        .clone()
        .unwrap_or_else(|| session.shop.bench.join("target/results"));
    fs::create_dir_all(&directory)?;
    let pretty =
        |value: &Value| Ok::<_, anyhow::Error>(serde_json::to_string_pretty(value)? + "\n");
    for part in parts {
        fs::write(
            directory.join(part.part).with_extension("json"),
            pretty(&part_json(session, part))?,
        )?;
    }
    if session.options.is_all() {
        fs::write(directory.join("verdict.json"), pretty(&json!(verdicts))?)?;
    }
    for (name, svg) in plot::all(session, parts)? {
        fs::write(directory.join(name), svg)?;
    }
    eprintln!("wrote {}", directory.display());
    Ok(())
}

fn part_json(session: &Session, measured: &Measured) -> Value {
    let metric = |metric: &Metric| {
        let target = |target: &String| {
            let reference = &metric.targets[0];
            let value = json!({
                "summary": metric.summary(target),
                "ratio_to_first": metric.ratio(target, reference),
                "samples": metric.samples.get(target),
            });
            (target.clone(), value)
        };
        json!({
            "name": metric.name,
            "unit": metric.unit,
            "targets": metric.targets.iter().map(target).collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "part": measured.part,
        "title": measured.title,
        "machine": machine(),
        "targets": session.targets.iter().map(target_json).collect::<serde_json::Map<_, _>>(),
        "metrics": measured.tables.iter().flatten().map(metric).collect::<Vec<_>>(),
        "notes": measured.notes,
        "left_out": session.missing,
    })
}

/// What figures depend on beside the programs.
fn machine() -> Value {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map(|(_, name)| name),
        "cpus": std::thread::available_parallelism().ok(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim(),
    })
}

fn target_json(target: &Target) -> (String, Value) {
    (
        target.name.clone(),
        json!({ "role": target.role, "version": target.version }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_shows_median_quartiles_and_paired_ratio() {
        let mut metric =
            Metric::new("time", "µs", vec!["ours".into(), "theirs".into()]).with_ratio();
        for (round, value) in [10.0, 20.0, 30.0].into_iter().enumerate() {
            metric.record_named("ours", round, value);
            metric.record_named("theirs", round, value * 2.0);
        }
        assert_eq!(metric.cell("ours"), "20.0 [15.0 25.0]");
        assert_eq!(
            metric.cell("theirs"),
            "40.0 [30.0 50.0]\n×2.000 [2.000 2.000]"
        );
        assert_eq!(metric.cell("absent"), "-");
    }

    #[test]
    fn figures_keep_three_digits() {
        assert_eq!(
            [
                figure(140_123.4),
                figure(12.345),
                figure(1.2345),
                figure(0.0)
            ],
            ["140123", "12.3", "1.23", "0"]
        );
    }
}
