//! The top layer: what was measured as tables, JSON and plots, and whether it passes a gate.

pub mod gate;
pub mod svg;

use std::{cmp::Ordering, fs, iter};

use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde_json::{Map, Value, json};

use crate::{
    measure::samples::{Measured, Metric},
    statistics::{FEWEST, Summary},
};

/// Three digits that count.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// For a terminal.
pub fn text(measured: &Measured) -> String {
    if !measured.has_samples() {
        return remarks(measured).join("\n");
    }
    let mut text = heading(measured, "");
    for metrics in &measured.tables {
        let mut table = table(metrics, "\n");
        table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
        text += &format!("\n{table}");
    }
    remarks(measured)
        .iter()
        .fold(text, |text, remark| text + "\n" + remark)
}

pub fn markdown(measured: &Measured) -> String {
    let mut text = heading(measured, "## ");
    for metrics in &measured.tables {
        let mut table = table(metrics, "<br>");
        table.load_style(presets::ASCII_MARKDOWN);
        text += &format!("\n\n{table}");
    }
    let remarks = remarks(measured);
    let separator = if remarks.is_empty() { "\n" } else { "\n\n" };
    remarks
        .iter()
        .fold(text + separator, |text, remark| text + "- " + remark + "\n")
}

fn heading(measured: &Measured, prefix: &str) -> String {
    let break_line = if prefix.is_empty() { "\n" } else { "\n\n" };
    let legend = "median [95 % interval of the median] min…max (outliers); × the first row: median of the rounds' ratios \
                  [its 95 % interval]";
    format!(
        "{prefix}{}: {}{break_line}{legend}",
        measured.part, measured.title
    )
}

fn table(metrics: &[Metric], break_line: &str) -> Table {
    let mut table = Table::new();
    let headers = metrics.iter().map(|metric| match metric.unit.as_str() {
        "" => metric.name.clone(),
        unit => format!("{}{break_line}{unit}", metric.name),
    });
    table.set_header(iter::once(String::new()).chain(headers));
    for name in metrics
        .first()
        .map(|metric| &metric.names)
        .into_iter()
        .flatten()
    {
        if metrics.iter().any(|metric| metric.summary(name).is_some()) {
            let cells = metrics
                .iter()
                .map(|metric| cell(metric, name).join(break_line));
            table.add_row(iter::once(name.clone()).chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The lines of a cell. All samples are told of: by their range, and by how many of them are outliers.
fn cell(metric: &Metric, name: &str) -> Vec<String> {
    let Some(summary) = metric.summary(name) else {
        return vec!["-".to_owned()];
    };
    let Summary {
        median,
        low,
        high,
        min,
        max,
        outliers,
        ..
    } = summary;
    let mut lines = vec![figure(median)];
    if min != max {
        lines[0] += &format!(" [{} {}]", figure(low), figure(high));
    }
    if metric.has_ratio && min != max {
        let outliers = if outliers > 0 {
            format!(" ({outliers})")
        } else {
            String::new()
        };
        lines.push(format!("{}…{}{outliers}", figure(min), figure(max)));
    }
    if metric.has_ratio
        && *name != metric.names[0]
        && let Some(ratio) = metric.ratio(name, &metric.names[0])
    {
        lines.push(format!(
            "×{:.3} [{:.3} {:.3}]",
            ratio.median, ratio.low, ratio.high
        ));
    }
    lines
}

/// How many times two figures may differ on this machine although nothing differs: 1 without a control.
pub fn noise(measured: &Measured) -> f64 {
    let ratio = || {
        measured
            .lead()?
            .ratio(measured.control.as_ref()?, measured.lead()?.names.first()?)
    };
    ratio().map_or(1.0, |ratio| ratio.reach())
}

/// What is to be known beside the figures, one line each.
fn remarks(measured: &Measured) -> Vec<String> {
    let mut remarks: Vec<String> = measured
        .notes
        .iter()
        .map(|note| format!("note: {note}"))
        .collect();
    let noise = noise(measured);
    if let (true, Some(lead), Some(control)) =
        (measured.has_samples(), measured.lead(), &measured.control)
    {
        let first = &lead.names[0];
        remarks.push(format!(
            "noise: {first} beside itself differs up to {noise:.3} ×"
        ));
        for name in lead
            .names
            .iter()
            .filter(|&name| name != first && name != control)
        {
            let Some(ratio) = lead.ratio(name, first) else {
                continue;
            };
            let difference = ratio.median.max(1.0 / ratio.median);
            if difference <= noise || ratio.side() == Ordering::Equal {
                remarks.push(format!(
                    "warning: the difference between {name} and {first} ({:.3} ×) is not larger than the noise; more \
                     --runs, or an idle machine, would tell more",
                    ratio.median
                ));
            }
        }
        let fewest = lead.summary(first).map_or(0, |summary| summary.samples);
        if fewest < FEWEST {
            remarks.push(format!(
                "warning: {fewest} samples have no 95 % interval: the brackets are their range"
            ));
        }
    }
    remarks.extend(
        measured
            .left_out
            .iter()
            .map(|(name, why)| format!("left out: {name}: {why}")),
    );
    remarks
}

/// Everything, each sample included: what a later run takes as its baseline.
pub fn json(measured: &Measured) -> anyhow::Result<String> {
    let mut value = json!({
        "tool": concat!("startup-bench ", env!("CARGO_PKG_VERSION")),
        "command": std::env::args().collect::<Vec<_>>(),
        "machine": machine(),
        "noise": noise(measured),
        "summaries": measured.tables.iter().flatten().map(summaries).collect::<Map<_, _>>(),
    });
    if let (Value::Object(value), Value::Object(samples)) =
        (&mut value, serde_json::to_value(measured)?)
    {
        value.extend(samples);
    }
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn summaries(metric: &Metric) -> (String, Value) {
    let of_name = |name: &String| {
        let summary = metric.summary(name);
        let ratio = metric.ratio(name, &metric.names[0]);
        (
            name.clone(),
            json!({ "summary": summary, "ratio_to_first": ratio }),
        )
    };
    (
        metric.name.clone(),
        metric
            .names
            .iter()
            .map(of_name)
            .collect::<Map<_, _>>()
            .into(),
    )
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
        "cpus": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim(),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// `theirs` takes `factor` times as long as `ours`, and `ours` beside itself between 0.98 and 1.02 times.
    pub fn measured(factor: f64) -> Measured {
        let names = ["ours", "ours (A/A)", "theirs"].map(str::to_owned);
        let mut lead = Metric::new("first 200", "ms", &names).with_ratio();
        for round in 0..20 {
            let value = 10.0 + round as f64;
            lead.record("ours", round, value);
            lead.record(
                "ours (A/A)",
                round,
                value * if round % 2 == 0 { 0.98 } else { 1.02 },
            );
            lead.record("theirs", round, value * factor);
        }
        let control = Some("ours (A/A)".to_owned());
        Measured {
            part: "measure".into(),
            control,
            tables: vec![vec![lead]],
            ..Measured::default()
        }
    }

    #[test]
    fn cell_shows_median_interval_range_and_paired_ratio() {
        let measured = measured(2.0);
        let lead = measured.lead().unwrap();
        assert_eq!(cell(lead, "ours"), ["19.5 [15 24]", "10…29"]);
        assert_eq!(
            cell(lead, "theirs"),
            ["39 [30 48]", "20…58", "×2.000 [2.000 2.000]"]
        );
        assert_eq!(cell(lead, "absent"), ["-"]);
    }

    #[test]
    fn outliers_are_kept_and_counted() {
        let mut metric = Metric::new("time", "ms", &["ours".to_owned()]).with_ratio();
        for (round, value) in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0]
            .into_iter()
            .enumerate()
        {
            metric.record("ours", round, value);
        }
        assert_eq!(cell(&metric, "ours"), ["4.50 [1 1000]", "1…1000 (1)"]);
    }

    #[test]
    fn difference_within_the_noise_is_warned_of_and_a_larger_one_is_not() {
        let warned = |factor| {
            text(&measured(factor)).contains("warning: the difference between theirs and ours")
        };
        assert!(warned(1.01) && warned(0.99));
        assert!(!warned(1.5) && !warned(0.5));
        assert!((noise(&measured(1.0)) - 1.0204).abs() < 0.001);
    }

    #[test]
    fn markdown_is_one_line_a_row_and_tells_what_was_left_out() {
        let mut measured = measured(2.0);
        measured
            .left_out
            .insert("broken".into(), "exited with code 3".into());
        let text = markdown(&measured);
        assert!(text.contains("| theirs     |"), "{text}");
        assert!(text.contains("×2.000 [2.000 2.000] |"), "{text}");
        assert!(
            text.contains("\n- left out: broken: exited with code 3\n"),
            "{text}"
        );
    }

    #[test]
    fn json_holds_each_sample_and_can_be_read_back() {
        let text = json(&measured(2.0)).unwrap();
        let read: Measured = serde_json::from_str(&text).unwrap();
        assert_eq!(read.lead().unwrap().samples("theirs").len(), 20);
        assert_eq!(read.lead().unwrap().samples("theirs")[1], Some(22.0));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["summaries"]["first 200"]["theirs"]["ratio_to_first"]["median"],
            2.0
        );
    }

    #[test]
    fn figures_keep_three_digits() {
        let shown = [140_123.4, 12.345, 1.2345, 0.2064, 0.0].map(figure);
        assert_eq!(shown, ["140123", "12.3", "1.23", "0.206", "0"]);
    }
}
