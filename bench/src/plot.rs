//! Bars as SVG, to be shown on a light page and on a dark one: no background, and colours between.

use anyhow::Result;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    peers::Role,
    probe,
    report::{Measured, Metric, figure},
    session::{PRODUCT, Session},
    stats::Summary,
    verdict::find,
};

const TEXT: RGBColor = RGBColor(118, 128, 140);
const OURS: RGBColor = RGBColor(47, 129, 247);
const PEER: RGBColor = RGBColor(139, 148, 158);

const WIDTH: u32 = 760;
const TITLE_HEIGHT: i32 = 34;
const ROW_HEIGHT: i32 = 24;
const BAR_LEFT: i32 = 150;
const BAR_RIGHT: i32 = 640;

/// A peer slower than this many times ours gets a cut bar: the others stay readable.
const CUT_AT: f64 = 6.0;

/// File names and contents, of what this run has measured.
pub fn all(session: &Session, parts: &[Measured]) -> Result<Vec<(&'static str, String)>> {
    let wanted = [
        (
            "startup.svg",
            "Start-up: exec to the first 200, one core",
            "startup",
            "first 200",
            PRODUCT,
        ),
        (
            "throughput.svg",
            "CPU time a request, 32 keep-alive connections, one core",
            "throughput",
            "CPU/req, 32",
            PRODUCT,
        ),
        (
            "memory.svg",
            "Memory of an idle keep-alive connection, after a request",
            "memory",
            "connection, after a request",
            PRODUCT,
        ),
        (
            "probe.svg",
            "Health probe: exec to exit",
            "probe",
            "exec to exit",
            probe::OURS,
        ),
    ];
    let mut plots = Vec::new();
    for (file, title, part, name, ours) in wanted {
        if let Some(metric) = find(parts, part, name) {
            plots.push((
                file,
                bars(title, metric.unit, &rows(session, metric, ours))?,
            ));
        }
    }
    Ok(plots)
}

struct Row {
    name: String,
    ours: bool,
    floor: bool,
    summary: Summary,
}

fn rows(session: &Session, metric: &Metric, ours: &str) -> Vec<Row> {
    let is_floor = |name: &str| {
        name.starts_with("c-")
            || session
                .targets
                .iter()
                .any(|target| target.name == name && target.role == Role::Floor)
    };
    let row = |name: &String| {
        let summary = metric.summary(name)?;
        Some(Row {
            name: name.clone(),
            ours: name == ours,
            floor: is_floor(name),
            summary,
        })
    };
    let mut rows: Vec<Row> = metric.targets().iter().filter_map(row).collect();
    rows.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    rows
}

fn bars(title: &str, unit: &str, rows: &[Row]) -> Result<String> {
    let ours = rows
        .iter()
        .find(|row| row.ours)
        .map(|row| row.summary.median);
    let most = |limit: f64| {
        rows.iter()
            .map(|row| row.summary.median)
            .filter(|&median| median <= limit)
            .reduce(f64::max)
    };
    let longest = most(ours.map_or(f64::INFINITY, |ours| ours * CUT_AT))
        .unwrap_or(1.0)
        .max(f64::MIN_POSITIVE);
    let x = |value: f64| {
        BAR_LEFT + (value.clamp(0.0, longest) / longest * f64::from(BAR_RIGHT - BAR_LEFT)) as i32
    };

    let height = TITLE_HEIGHT + ROW_HEIGHT * rows.len() as i32 + 8;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        let text = |size: i32, bold, color: &RGBColor, anchor| {
            let style = if bold {
                FontStyle::Bold
            } else {
                FontStyle::Normal
            };
            ("sans-serif", size, style)
                .into_font()
                .color(color)
                .pos(Pos::new(anchor, VPos::Center))
        };
        area.draw_text(title, &text(15, true, &TEXT, HPos::Left), (8, 16))?;
        for (index, row) in rows.iter().enumerate() {
            let middle = TITLE_HEIGHT + ROW_HEIGHT * index as i32 + ROW_HEIGHT / 2;
            let color = if row.ours { OURS } else { PEER };
            let text_color = if row.ours { OURS } else { TEXT };
            let label = if row.floor {
                format!("{} (floor)", row.name)
            } else {
                row.name.clone()
            };
            area.draw_text(
                &label,
                &text(13, row.ours, &text_color, HPos::Right),
                (BAR_LEFT - 8, middle),
            )?;

            let Summary {
                median,
                lower_quartile,
                upper_quartile,
                ..
            } = row.summary;
            let opacity = if row.floor { 0.45 } else { 0.9 };
            let bar = [
                (BAR_LEFT, middle - 8),
                (x(median).max(BAR_LEFT + 1), middle + 8),
            ];
            area.draw(&Rectangle::new(bar, color.mix(opacity).filled()))?;
            let cut = median > longest;
            if cut {
                // A gap in the bar, as wide as a letter.
                let end = BAR_RIGHT - 24;
                let gap = [(end, middle + 11), (end + 8, middle - 11)];
                area.draw(&PathElement::new(gap, TEXT.stroke_width(2)))?;
                area.draw(&PathElement::new(
                    gap.map(|(x, y)| (x + 6, y)),
                    TEXT.stroke_width(2),
                ))?;
            } else {
                let whisker = [(x(lower_quartile), middle), (x(upper_quartile), middle)];
                area.draw(&PathElement::new(whisker, TEXT.stroke_width(2)))?;
            }
            let value = format!("{} {unit}", figure(median));
            let right = if cut {
                BAR_RIGHT
            } else {
                x(median).max(x(upper_quartile))
            };
            area.draw_text(
                &value,
                &text(13, row.ours, &text_color, HPos::Left),
                (right + 8, middle),
            )?;
        }
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_slower_peer_is_cut_and_still_labelled() {
        let row = |name: &str, ours, median| Row {
            name: name.to_owned(),
            ours,
            floor: false,
            summary: Summary::of([median]).unwrap(),
        };
        let svg = bars(
            "title",
            "µs",
            &[
                row("ours", true, 100.0),
                row("near", false, 200.0),
                row("far", false, 9000.0),
            ],
        )
        .unwrap();
        assert!(svg.contains("9000 µs") && svg.contains("200 µs"), "{svg}");
        // The scale is that of the rows that are not cut: the second is at its end.
        assert!(
            svg.contains(&format!("width=\"{}\"", BAR_RIGHT - BAR_LEFT)),
            "{svg}"
        );
        assert!(!svg.contains("background"), "{svg}");
    }
}
