//! The interleaved order of samples.

use std::collections::BTreeMap;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// One that fails may take its whole time limit each time.
const MAX_FAILURES: usize = 3;

/// Calls `sample` for each item in each round, in another order each time: what disturbs the machine for a while
/// disturbs all alike, and so does what the one before has left in the processor's caches. The orders are the same in
/// each run. Returns why samples are missing, by name.
pub fn interleave<T>(
    what: &str,
    rounds: usize,
    items: &[T],
    name: impl Fn(&T) -> &str,
    mut sample: impl FnMut(usize, &T) -> Result<()>,
) -> BTreeMap<String, String> {
    let progress = ProgressBar::new((rounds * items.len()) as u64).with_prefix(what.to_owned());
    let style = ProgressStyle::with_template("{prefix:32} {bar:30} {pos}/{len} {eta} {msg}");
    progress.set_style(style.expect("the template is valid"));
    let mut failures: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(0);
    let mut order: Vec<&T> = items.iter().collect();
    for round in 0..rounds {
        random.shuffle(&mut order);
        for &item in &order {
            progress.set_message(name(item).to_owned());
            let failed = failures.get(name(item)).map_or(0, Vec::len);
            if failed < MAX_FAILURES
                && let Err(error) = sample(round, item)
            {
                let errors = failures.entry(name(item).to_owned()).or_default();
                errors.push(format!("{error:#}"));
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let explain = |errors: Vec<String>| match errors.len() {
        _ if rounds == 1 => errors[0].clone(),
        MAX_FAILURES => format!("given up: {}", errors[0]),
        count => format!("failed in {count} of {rounds} rounds: {}", errors[0]),
    };
    failures
        .into_iter()
        .map(|(name, errors)| (name, explain(errors)))
        .collect()
}

/// The rows of a table by name, with the first one once more as the second: what differs between the two is the noise of
/// the machine. And that row's name.
pub fn with_control<T>(items: &[T], name: impl Fn(&T) -> &str) -> (Vec<(String, &T)>, String) {
    let mut rows: Vec<_> = items
        .iter()
        .map(|item| (name(item).to_owned(), item))
        .collect();
    let control = format!("{} (A/A)", rows[0].0);
    rows.insert(1, (control.clone(), &items[0]));
    (rows, control)
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn each_is_in_each_round_and_follows_each_other() {
        let mut order = String::new();
        let sample = |_, name: &&str| {
            order.push_str(name);
            Ok(())
        };
        let failed = interleave("test", 100, &["a", "b", "c"], |name| name, sample);
        assert!(failed.is_empty());
        let mut followers: BTreeMap<_, usize> = BTreeMap::new();
        for round in order.as_bytes().chunks(3) {
            let mut names = round.to_vec();
            names.sort_unstable();
            assert_eq!(names, b"abc");
            for pair in round.windows(2) {
                *followers.entry(pair).or_default() += 1;
            }
        }
        // 200 pairs of six kinds.
        assert_eq!(followers.len(), 6);
        assert!(followers.values().all(|&times| times > 20), "{followers:?}");
    }

    #[test]
    fn one_that_keeps_failing_is_given_up_and_the_others_go_on() {
        let mut calls = BTreeMap::new();
        let sample = |_, &name: &&'static str| {
            *calls.entry(name).or_insert(0) += 1;
            ensure!(name == "good", "no answer");
            Ok(())
        };
        let failed = interleave("test", 10, &["good", "bad"], |name| name, sample);
        assert_eq!(calls, BTreeMap::from([("good", 10), ("bad", MAX_FAILURES)]));
        assert_eq!(failed["bad"], "given up: no answer");
    }
}
