//! Bars as SVG, to be shown on a light page and on a dark one: no background, and colours between.

use anyhow::Result;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::measure::samples::Metric;

use super::figure;

const TEXT: RGBColor = RGBColor(118, 128, 140);
const OURS: RGBColor = RGBColor(47, 129, 247);
const PEER: RGBColor = RGBColor(139, 148, 158);

const WIDTH: u32 = 760;
const TITLE_HEIGHT: i32 = 34;
const ROW_HEIGHT: i32 = 24;
const BAR_LEFT: i32 = 170;
const BAR_RIGHT: i32 = 640;

/// A row this many times slower than the emphasised one gets a cut bar: the others stay readable.
const CUT_AT: f64 = 6.0;

/// A bar for each name, the shortest first, with every sample as a dot on it.
pub fn bars(title: &str, metric: &Metric, emphasised: &str) -> Result<String> {
    let mut rows: Vec<_> = metric
        .names
        .iter()
        .filter_map(|name| Some((name, metric.summary(name)?.median)))
        .collect();
    rows.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let limit = metric
        .summary(emphasised)
        .map_or(f64::INFINITY, |ours| ours.median * CUT_AT);
    let scaled = rows
        .iter()
        .map(|&(_, median)| median)
        .filter(|&median| median <= limit);
    let longest = scaled.fold(f64::MIN_POSITIVE, f64::max);
    let scale = f64::from(BAR_RIGHT - BAR_LEFT) / longest;
    let x = |value: f64| BAR_LEFT + (value.clamp(0.0, longest * 1.08) * scale) as i32;

    let mut svg = String::new();
    let height = TITLE_HEIGHT + ROW_HEIGHT * rows.len() as i32 + 8;
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
    let text = |size: i32, bold, anchor| {
        let (style, color) = if bold {
            (FontStyle::Bold, OURS)
        } else {
            (FontStyle::Normal, TEXT)
        };
        ("sans-serif", size, style)
            .into_font()
            .color(&color)
            .pos(Pos::new(anchor, VPos::Center))
    };
    area.draw_text(title, &text(15, false, HPos::Left), (8, 16))?;
    for (index, &(name, median)) in rows.iter().enumerate() {
        let middle = TITLE_HEIGHT + ROW_HEIGHT * index as i32 + ROW_HEIGHT / 2;
        let is_ours = name == emphasised;
        let color = if is_ours { OURS } else { PEER };
        area.draw_text(
            name,
            &text(13, is_ours, HPos::Right),
            (BAR_LEFT - 8, middle),
        )?;
        let end = x(median.min(longest)).max(BAR_LEFT + 1);
        area.draw(&Rectangle::new(
            [(BAR_LEFT, middle - 8), (end, middle + 8)],
            color.mix(0.8).filled(),
        ))?;
        let mut right = end;
        if median > longest {
            // A gap in the bar, as wide as a letter.
            for shift in [0, 6] {
                let gap = [
                    (end - 24 + shift, middle + 11),
                    (end - 16 + shift, middle - 11),
                ];
                area.draw(&PathElement::new(gap, TEXT.stroke_width(2)))?;
            }
        } else {
            for &sample in metric.samples(name).iter().flatten() {
                area.draw(&Circle::new(
                    (x(sample), middle),
                    2,
                    TEXT.mix(0.35).filled(),
                ))?;
                right = right.max(x(sample));
            }
        }
        let value = format!("{} {}", figure(median), metric.unit);
        area.draw_text(&value, &text(13, is_ours, HPos::Left), (right + 8, middle))?;
    }
    area.present()?;
    drop(area);
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_slower_row_is_cut_and_still_labelled_and_each_sample_is_a_dot() {
        let names = ["ours", "near", "far"].map(str::to_owned);
        let mut metric = Metric::new("time", "ms", &names);
        for (name, value) in [("ours", 100.0), ("near", 200.0), ("far", 9000.0)] {
            (0..3).for_each(|round| metric.record(name, round, value));
        }
        let svg = bars("title", &metric, "ours").unwrap();
        assert!(svg.contains("9000 ms") && svg.contains("200 ms"), "{svg}");
        // The scale is that of the rows that are not cut: the second is at its end.
        assert!(
            svg.contains(&format!("width=\"{}\"", BAR_RIGHT - BAR_LEFT)),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(!svg.contains("background"), "{svg}");
    }
}
