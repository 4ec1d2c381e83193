//! Whether the figures are within a limit.

use crate::{
    measure::samples::{Measured, Metric},
    statistics::{Ratio, paired_ratios},
};

use super::noise;

/// Why the gate is closed, one line for each name; empty when it is open. Without a baseline each row is compared with
/// the first one of the same run. A ratio is above the limit when its whole interval is, less the noise of the
/// machine.
pub fn failures(measured: &Measured, baseline: Option<&Measured>, limit: f64) -> Vec<String> {
    let Some(lead) = measured.lead() else {
        return Vec::new();
    };
    let noise = baseline.map_or(1.0, noise).max(noise(measured));
    let then = baseline.and_then(|baseline| Some((baseline, baseline.metric(&lead.name)?)));
    let is_control = |name: &String| measured.control.as_ref() == Some(name);
    let mut failures = Vec::new();
    for name in lead.names.iter().filter(|&name| !is_control(name)) {
        let first = &lead.names[0];
        let (ratio, beside) = match then {
            Some((baseline, then)) => (
                beside_baseline(lead, then, name, baseline.control.as_ref()),
                "in the baseline",
            ),
            None if name == first => continue,
            None => (lead.ratio(name, first), first.as_str()),
        };
        let Some(ratio) = ratio else { continue };
        if ratio.low / noise > limit {
            failures.push(format!(
                "{name}: {} is {:.3} times that {beside}, with 95 % confidence above {:.3}, noise of {noise:.3} \
                 taken off: more than {limit}",
                lead.name, ratio.median, ratio.low
            ));
        }
    }
    failures
}

/// Names that the gate has to judge and cannot: neither run may be without them.
pub fn unjudged(measured: &Measured, baseline: &Measured) -> Vec<String> {
    let Some(then) = measured.lead().and_then(|lead| baseline.metric(&lead.name)) else {
        return vec!["every row: the baseline has no such figure".to_owned()];
    };
    let is_control = |name: &&String| baseline.control.as_ref() == Some(*name);
    let now = |name: &&String| {
        measured
            .lead()
            .is_some_and(|lead| lead.summary(name).is_some())
    };
    let missing = then
        .names
        .iter()
        .filter(|name| !is_control(name) && !now(name));
    missing
        .map(|name| format!("{name}: it is in the baseline, and was not measured"))
        .collect()
}

/// Now over then. Where both runs begin with the same row and have others, the figures are ratios to that row, which
/// hardly depend on the machine and its load; the first row has no verdict then.
fn beside_baseline(
    now: &Metric,
    then: &Metric,
    name: &str,
    control: Option<&String>,
) -> Option<Ratio> {
    let first = now.names.first()?;
    let others = then
        .names
        .iter()
        .filter(|&name| name != first && Some(name) != control)
        .count();
    let is_relative = then.names.first() == Some(first) && others > 0;
    if is_relative && name == first {
        return None;
    }
    let figures = |metric: &Metric| match is_relative {
        true => paired_ratios(metric.samples(name), metric.samples(first)),
        false => metric.samples(name).iter().copied().flatten().collect(),
    };
    Ratio::of_medians(&figures(now), &figures(then))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::measured;

    #[test]
    fn row_that_is_slower_than_the_first_fails() {
        let failures = failures(&measured(1.3), None, 1.1);
        assert_eq!(failures.len(), 1);
        assert!(
            failures[0].starts_with("theirs: first 200 is 1.300 times that ours"),
            "{failures:?}"
        );
    }

    #[test]
    fn row_within_the_limit_or_within_the_noise_above_it_passes() {
        assert!(failures(&measured(1.05), None, 1.1).is_empty());
        // Above 1.1, but not by more than 1.02 times, which this machine shows of nothing.
        assert!(failures(&measured(1.115), None, 1.1).is_empty());
    }

    #[test]
    fn ratio_to_the_first_row_is_compared_with_that_of_the_baseline() {
        assert!(failures(&measured(2.0), Some(&measured(2.0)), 1.1).is_empty());
        assert!(failures(&measured(1.5), Some(&measured(2.0)), 1.1).is_empty());
        let failures = failures(&measured(2.6), Some(&measured(2.0)), 1.1);
        assert_eq!(failures.len(), 1);
        assert!(
            failures[0].starts_with("theirs: first 200 is 1.300 times that in the baseline"),
            "{failures:?}"
        );
    }

    #[test]
    fn single_row_is_compared_by_its_own_figures() {
        let alone = |value: f64| {
            let mut lead = Metric::new("first 200", "ms", &["mine".to_owned()]).with_ratio();
            (0..10).for_each(|round| lead.record("mine", round, value));
            Measured {
                tables: vec![vec![lead]],
                ..Measured::default()
            }
        };
        assert!(failures(&alone(1.05), Some(&alone(1.0)), 1.1).is_empty());
        assert_eq!(failures(&alone(1.2), Some(&alone(1.0)), 1.1).len(), 1);
    }

    #[test]
    fn row_of_the_baseline_that_was_not_measured_is_unjudged() {
        let mut now = measured(1.0);
        now.tables[0][0] = Metric::new("first 200", "ms", &["ours".to_owned()]).with_ratio();
        now.tables[0][0].record("ours", 0, 1.0);
        assert_eq!(unjudged(&now, &measured(1.0)).len(), 1);
        assert!(unjudged(&measured(1.0), &measured(1.0)).is_empty());
    }
}
