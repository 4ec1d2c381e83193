//! What was measured: samples by metric, by name, and by round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The outcome of a part.
#[derive(Default, Deserialize, Serialize)]
pub struct Measured {
    pub part: String,
    pub title: String,
    /// Each inner list is a table.
    pub tables: Vec<Vec<Metric>>,
    /// The row that is the first one once more: it shows what the noise of the machine is.
    pub control: Option<String>,
    /// The command or the version of each row.
    pub sources: BTreeMap<String, String>,
    /// What is to be known to read the figures.
    pub notes: Vec<String>,
    /// What could not be measured, or not in every round, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Measured {
    /// The one that ratios, plots and gates are about first of all.
    pub fn lead(&self) -> Option<&Metric> {
        self.tables.iter().flatten().find(|metric| metric.has_ratio)
    }

    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.tables
            .iter()
            .flatten()
            .find(|metric| metric.name == name)
    }

    pub fn has_samples(&self) -> bool {
        let mut metrics = self.tables.iter().flatten();
        metrics.any(|metric| metric.samples.values().any(|samples| !samples.is_empty()))
    }
}

/// By round; one that failed is a gap.
pub type Samples = Vec<Option<f64>>;

/// One figure, sampled for every name in every round.
#[derive(Clone, Deserialize, Serialize)]
pub struct Metric {
    pub name: String,
    pub unit: String,
    /// Whether ratios to the first name are shown.
    pub has_ratio: bool,
    /// In the order of the rows.
    pub names: Vec<String>,
    samples: BTreeMap<String, Samples>,
}

impl Metric {
    pub fn new(name: &str, unit: &str, names: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            has_ratio: false,
            names: names.to_vec(),
            samples: BTreeMap::new(),
        }
    }

    pub fn with_ratio(self) -> Self {
        Self {
            has_ratio: true,
            ..self
        }
    }

    pub fn record(&mut self, name: &str, round: usize, value: f64) {
        let samples = self.samples.entry(name.to_owned()).or_default();
        samples.resize(samples.len().max(round + 1), None);
        samples[round] = Some(value);
    }

    /// Empty for a name that was never sampled.
    pub fn samples(&self, name: &str) -> &[Option<f64>] {
        self.samples.get(name).map_or(&[], Vec::as_slice)
    }
}
