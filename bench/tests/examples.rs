//! The examples of --help, as they stand.

mod common;

use common::{Run, bench, directory};

#[test]
#[ignore = "needs python3, node, and an image of the name that the help uses"]
fn every_example_of_the_help_works_as_it_stands() {
    let help = Run::from(bench(["measure", "--help"]).output().unwrap()).stdout;
    let joined = help.replace("\\\n", " ");
    let examples: Vec<&str> = joined
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("startup-bench "))
        .collect();
    assert_eq!(examples.len(), 3, "{help}");
    let directory = directory("examples");
    for example in examples {
        let words = shell_words::split(example).unwrap();
        let run = Run::from(bench(&words[1..]).current_dir(&directory).output().unwrap());
        assert_eq!(run.code, Some(0), "{example}\n{}{}", run.stdout, run.stderr);
    }
    for file in ["startup.md", "startup.svg"] {
        assert!(
            directory.join(file).metadata().unwrap().len() > 100,
            "{file}"
        );
    }
}
