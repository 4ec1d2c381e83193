//! Whether the figures of the product reach what `bars.toml` says that they must.

use anyhow::Result;
use comfy_table::{LineStyle, Table, presets};
use serde::{Deserialize, Serialize};

use crate::{measure::samples::Measured, report::figure, session::PRODUCT};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bar {
    what: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    /// A part and one of its metrics.
    figure: (String, String),
    #[serde(default = "product")]
    ours: String,
    #[serde(default)]
    beside: Vec<String>,
    /// Another metric, to be taken off. They are not pairs: each has rounds of its own.
    less: Option<String>,
}

fn product() -> String {
    PRODUCT.to_owned()
}

#[derive(Debug, Serialize)]
pub struct Verdict {
    what: String,
    must: String,
    /// `None` if the run did not measure it.
    reached: Option<String>,
    pub pass: Option<bool>,
}

pub fn judge(parts: &[Measured], peers: &[String], floors_count: bool) -> Result<Vec<Verdict>> {
    #[derive(Deserialize)]
    struct Bars {
        bar: Vec<Bar>,
    }
    let bars: Bars = toml::from_str(include_str!("../bars.toml"))?;
    Ok(bars
        .bar
        .iter()
        .map(|bar| bar.judge(parts, peers, floors_count))
        .collect())
}

impl Bar {
    fn judge(&self, parts: &[Measured], peers: &[String], floors_count: bool) -> Verdict {
        let part = parts.iter().find(|measured| measured.part == self.figure.0);
        let metric = part.and_then(|part| part.metric(&self.figure.1));
        let is_worst_first = |one: &(f64, &str), other: &(f64, &str)| match self.at_least {
            Some(_) => one.0.total_cmp(&other.0),
            None => other.0.total_cmp(&one.0),
        };
        let beside = self.beside.iter().flat_map(|name| {
            if name == "peers" {
                peers
            } else {
                std::slice::from_ref(name)
            }
        });
        let beside = beside.filter(|name| floors_count || !name.starts_with("c-"));
        let ratios = beside
            .filter_map(|name| Some((metric?.ratio(&self.ours, name)?.median, name.as_str())));
        let own = || {
            let median = |metric| Some(part?.metric(metric)?.summary(&self.ours)?.median);
            let less = self.less.as_deref().map_or(Some(0.0), median)?;
            Some((median(&self.figure.1)? - less, ""))
        };
        let worst = if self.beside.is_empty() {
            own()
        } else {
            ratios.min_by(is_worst_first)
        };
        let unit = match metric {
            Some(metric) if self.beside.is_empty() => format!(" {}", metric.unit),
            _ => " ×".to_owned(),
        };
        let show = |(value, name): (f64, &str)| match name {
            "" => format!("{}{unit}", figure(value)),
            name => format!("{value:.3}{unit} ({name})"),
        };
        let (sign, limit) = self
            .at_least
            .map_or(("≤", self.at_most.unwrap_or_default()), |limit| {
                ("≥", limit)
            });
        Verdict {
            what: self.what.clone(),
            must: format!("{sign} {limit}{unit}"),
            reached: worst.map(show),
            pass: worst.map(|(value, _)| {
                if sign == "≥" {
                    value >= limit
                } else {
                    value <= limit
                }
            }),
        }
    }
}

pub fn table(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(["what", "must", "reached", ""]);
    for Verdict {
        what,
        must,
        reached,
        pass,
    } in verdicts
    {
        let outcome = pass.map_or("not measured", |pass| if pass { "pass" } else { "FAIL" });
        table.add_row([what, must, reached.as_deref().unwrap_or("-"), outcome]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::samples::Metric;

    fn judged(figures: &[(&str, f64)], what: &str) -> Verdict {
        let names: Vec<String> = figures.iter().map(|(name, _)| (*name).to_owned()).collect();
        let part = |part: &str, metric: &str| {
            let mut metric = Metric::new(metric, "ms", &names);
            figures
                .iter()
                .for_each(|(name, value)| metric.record(name, 0, *value));
            Measured {
                part: part.to_owned(),
                tables: vec![vec![metric]],
                ..Measured::default()
            }
        };
        let parts = [
            part("startup", "first 200"),
            part("throughput", "req/s, 32"),
            part("memory", "PSS idle"),
        ];
        let verdicts = judge(&parts, &["nginx".to_owned(), "go".to_owned()], true).unwrap();
        verdicts
            .into_iter()
            .find(|verdict| verdict.what == what)
            .unwrap()
    }

    #[test]
    fn figure_at_its_limit_passes_and_one_above_fails() {
        let pass = |value| judged(&[(PRODUCT, value)], "PSS idle").pass;
        assert_eq!((pass(720.0), pass(720.1)), (Some(true), Some(false)));
        let floor = "exec to first 200, beside the C epoll floor";
        assert_eq!(
            judged(&[(PRODUCT, 1.76), ("c-epoll", 1.0)], floor)
                .reached
                .unwrap(),
            "1.760 × (c-epoll)"
        );
        assert_eq!(judged(&[("c-epoll", 1.0)], floor).pass, None);
    }

    #[test]
    fn worst_peer_is_named() {
        let figures = [
            (PRODUCT, 0.9),
            ("nginx", 1.0),
            ("go", 0.5),
            ("actix-web", 0.9),
        ];
        let verdict = judged(&figures, "exec to first 200, beside every peer");
        assert_eq!(
            (verdict.reached.as_deref(), verdict.pass),
            (Some("1.800 × (go)"), Some(false))
        );
        let verdict = judged(
            &figures,
            "requests a second at 32, beside nginx and actix-web",
        );
        assert_eq!(
            (verdict.reached.as_deref(), verdict.pass),
            (Some("0.900 × (nginx)"), Some(false))
        );
    }
}
