//! Medians and ratios with their 95 % intervals. It knows samples alone: neither how they came about nor any report.

use std::cmp::Ordering;

use serde::Serialize;
use statrs::{
    distribution::{Binomial, DiscreteCDF},
    statistics::{Data, OrderStatistics},
};

use crate::measure::samples::Metric;

/// Fewer samples have no 95 % interval: with five, all lie on one side of the median in one of sixteen runs.
pub const FEWEST: usize = 6;
const RESAMPLES: usize = 2_000;

/// A median and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    /// Where the median of endless samples lies with 95 % confidence. Of fewer than six samples no such interval can
    /// be had: it is their range.
    pub low: f64,
    pub high: f64,
    pub min: f64,
    pub max: f64,
    /// Samples further than one and a half times the quartiles' distance outside of the quartiles (Tukey's fences).
    pub outliers: usize,
    pub samples: usize,
}

impl Summary {
    /// `None` of no samples.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let below = rank_below_median(sorted.len());
        let (low, high) = (sorted[below], sorted[sorted.len() - 1 - below]);
        let mut data = Data::new(sorted.clone());
        let (lower_quartile, upper_quartile) = (data.lower_quartile(), data.upper_quartile());
        let reach = 1.5 * (upper_quartile - lower_quartile);
        let is_outlier =
            |&&sample: &&f64| sample < lower_quartile - reach || sample > upper_quartile + reach;
        Some(Self {
            median: data.median(),
            lower_quartile,
            upper_quartile,
            low,
            high,
            min,
            max,
            outliers: sorted.iter().filter(is_outlier).count(),
            samples: sorted.len(),
        })
    }
}

/// By order statistics: the number of samples below the true median is binomial. The interval reaches from the sample
/// that has this many below it to the one that has as many above it.
fn rank_below_median(samples: usize) -> usize {
    let below = Binomial::new(0.5, samples as u64).expect("one half is a probability");
    let quantile = below.inverse_cdf(0.025) as usize;
    // The inverse is the first number at which 2.5 % are reached: one less is the last that leaves them outside.
    quantile.saturating_sub(1)
}

impl Metric {
    pub fn summary(&self, name: &str) -> Option<Summary> {
        Summary::of(self.samples(name).iter().copied().flatten())
    }

    /// The paired ratio of one name to another.
    pub fn ratio(&self, ours: &str, theirs: &str) -> Option<Ratio> {
        Ratio::of(paired_ratios(self.samples(ours), self.samples(theirs)))
    }
}

/// `ours` over `theirs`, round by round. What slows a machine for a while slows both sides of a round, so the ratio of
/// a round says more than the ratio of two medians.
pub fn paired_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours
        .iter()
        .zip(theirs)
        .filter_map(|(ours, theirs)| Some(((*ours)?, (*theirs)?)));
    pairs
        .filter(|&(_, theirs)| theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

/// A ratio with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    pub fn of(ratios: Vec<f64>) -> Option<Self> {
        let Summary {
            median, low, high, ..
        } = Summary::of(ratios)?;
        Some(Self { median, low, high })
    }

    /// The ratio of the medians of two runs that are not paired, by the bootstrap: what the ratio would be if the
    /// samples were drawn again. The same samples always give the same interval.
    pub fn of_medians(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let mut random = fastrand::Rng::with_seed(0);
        let ratio = |ours: Vec<f64>, theirs: Vec<f64>| {
            Some(Summary::of(ours)?.median / Summary::of(theirs)?.median)
        };
        let mut draw = |from: &[f64]| -> Vec<f64> {
            from.iter()
                .map(|_| from[random.usize(..from.len())])
                .collect()
        };
        let median = ratio(ours.to_vec(), theirs.to_vec())?;
        let drawn: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| ratio(draw(ours), draw(theirs)))
            .collect();
        let mut drawn = Data::new(drawn);
        let (low, high) = (drawn.quantile(0.025), drawn.quantile(0.975));
        Some(Self { median, low, high })
    }

    /// How many times larger or smaller than one it may be.
    pub fn reach(&self) -> f64 {
        self.high.max(1.0 / self.low)
    }

    /// Which side of one the whole interval lies on.
    pub fn side(&self) -> Ordering {
        match self {
            Self { low, .. } if *low > 1.0 => Ordering::Greater,
            Self { high, .. } if *high < 1.0 => Ordering::Less,
            _ => Ordering::Equal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(count: u32) -> Summary {
        Summary::of((1..=count).map(f64::from)).unwrap()
    }

    #[test]
    fn median_ignores_order_and_takes_the_middle_of_two() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (summary.median, summary.min, summary.max, summary.samples),
            (2.5, 1.0, 4.0, 4)
        );
    }

    #[test]
    fn quartiles_of_eleven_numbers_are_those_of_the_textbook() {
        // Hyndman and Fan's type 8, as of `quantile(c(1:11), type = 8)` in R: 2.916667 and 9.083333 hold 8 of 12.
        let summary = up_to(11);
        assert!(
            (summary.lower_quartile - 3.1666667).abs() < 0.26,
            "{summary:?}"
        );
        assert_eq!(summary.median, 6.0);
    }

    #[test]
    fn summary_of_one_is_itself_and_of_none_is_none() {
        assert_eq!(Summary::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn interval_of_the_median_is_that_of_the_sign_test() {
        // Ranks of the 95 % interval, from tables of the sign test (Conover, table A3; Hollander and Wolfe).
        for (samples, low, high) in [
            (6, 1.0, 6.0),
            (8, 1.0, 8.0),
            (9, 2.0, 8.0),
            (12, 3.0, 10.0),
            (25, 8.0, 18.0),
            (100, 40.0, 61.0),
        ] {
            let summary = up_to(samples);
            assert_eq!(
                (summary.low, summary.high),
                (low, high),
                "{samples} samples"
            );
        }
        assert_eq!((up_to(5).low, up_to(5).high), (1.0, 5.0));
    }

    #[test]
    fn outlier_is_counted_and_moves_the_median_little() {
        let summary = Summary::of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0]).unwrap();
        assert_eq!(
            (summary.median, summary.outliers, summary.max),
            (4.5, 1, 1000.0)
        );
        assert_eq!(up_to(8).outliers, 0);
    }

    #[test]
    fn ratios_pair_rounds_and_skip_those_with_a_gap() {
        let ours = [Some(10.0), Some(40.0), None, Some(30.0)];
        let theirs = [Some(10.0), Some(20.0), Some(5.0), None];
        assert_eq!(paired_ratios(&ours, &theirs), [1.0, 2.0]);
        assert!(paired_ratios(&[None], &[Some(1.0)]).is_empty());
    }

    #[test]
    fn ratio_of_medians_of_constants_is_exact_and_repeats() {
        let ratio = Ratio::of_medians(&[3.0; 9], &[2.0; 7]).unwrap();
        assert_eq!(
            ratio,
            Ratio {
                median: 1.5,
                low: 1.5,
                high: 1.5
            }
        );
        assert_eq!(Ratio::of_medians(&[], &[1.0]), None);
        let spread: Vec<f64> = (1..=30).map(f64::from).collect();
        let ratio = Ratio::of_medians(&spread, &spread).unwrap();
        assert!(
            ratio.low < 0.8 && ratio.high > 1.25 && ratio.median == 1.0,
            "{ratio:?}"
        );
        assert_eq!(Ratio::of_medians(&spread, &spread), Some(ratio));
    }

    #[test]
    fn side_and_reach_are_those_of_the_whole_interval() {
        let ratio = |low, high| Ratio {
            median: 1.0,
            low,
            high,
        };
        assert_eq!(ratio(1.01, 1.2).side(), Ordering::Greater);
        assert_eq!(ratio(0.8, 0.99).side(), Ordering::Less);
        assert_eq!(ratio(0.8, 1.2).side(), Ordering::Equal);
        assert_eq!(ratio(0.5, 1.2).reach(), 2.0);
    }
}
