//! Medians, their spread, and ratios of samples that were taken in the same round.

use serde::Serialize;

/// The middle of the samples and where half of them lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    /// Where the median of endless samples lies with 95 % confidence. Of fewer than six samples no
    /// such interval can be had: it is their range.
    pub low: f64,
    pub high: f64,
    pub samples: usize,
}

impl Summary {
    /// `None` of no samples.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        // By order statistics: the number of samples below the true median is binomial.
        let reach = 0.98 * (sorted.len() as f64).sqrt();
        let below = (sorted.len() as f64 / 2.0 - reach).floor().max(0.0) as usize;
        Some(Self {
            low: *sorted.get(below)?,
            high: *sorted.get(sorted.len().checked_sub(below + 1)?)?,
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            samples: sorted.len(),
        })
    }
}

/// `ours` over `theirs`, round by round. What slows a machine for a while slows both sides of a
/// round, so the ratio of a round says more than the ratio of two medians.
pub fn paired_ratio(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Summary> {
    let pairs = ours
        .iter()
        .zip(theirs)
        .filter_map(|(ours, theirs)| Some(((*ours)?, (*theirs)?)));
    Summary::of(
        pairs
            .filter(|&(_, theirs)| theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs),
    )
}

/// By linear interpolation between the neighbours.
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let position = fraction * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (
        sorted[position.floor() as usize],
        sorted[position.ceil() as usize],
    );
    Some(below + (above - below) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_interpolates_and_ignores_order() {
        let summary = Summary::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (
                summary.lower_quartile,
                summary.median,
                summary.upper_quartile
            ),
            (1.75, 2.5, 3.25)
        );
        assert_eq!(summary.samples, 4);
    }

    #[test]
    fn summary_of_one_is_itself_and_of_none_is_none() {
        assert_eq!(Summary::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn interval_of_the_median_narrows_with_the_samples() {
        let summary = |count: u32| Summary::of((1..=count).map(f64::from)).unwrap();
        assert_eq!((summary(5).low, summary(5).high), (1.0, 5.0));
        // The table of the sign test: of 25 samples the 8th to the 18th.
        assert_eq!((summary(25).low, summary(25).high), (8.0, 18.0));
    }

    #[test]
    fn outlier_moves_the_median_little() {
        assert_eq!(Summary::of([1.0, 2.0, 1000.0]).unwrap().median, 2.0);
    }

    #[test]
    fn ratios_pair_rounds_and_skip_those_with_a_gap() {
        let ours = [Some(10.0), Some(40.0), None, Some(30.0)];
        let theirs = [Some(10.0), Some(20.0), Some(5.0), None];
        let ratio = paired_ratio(&ours, &theirs).unwrap();
        assert_eq!((ratio.median, ratio.samples), (1.5, 2));
        assert_eq!(paired_ratio(&[None], &[Some(1.0)]), None);
    }
}
