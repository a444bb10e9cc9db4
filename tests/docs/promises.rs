//! Checks that tests exist for what README.md promises.

use std::{fs, path::Path};

use crate::{ROOT, none, quoted, text};

/// The points of a list below a heading, each in one line.
fn points(document: &str, heading: &str) -> Vec<String> {
    let below = document.lines().skip_while(|line| *line != heading).skip(1);
    let mut points: Vec<String> = Vec::new();
    for line in below.take_while(|line| !line.starts_with("## ")) {
        match (line.strip_prefix("- "), line.strip_prefix("  ")) {
            (Some(point), _) => points.push(point.to_owned()),
            (None, Some(more)) => points.last_mut().expect("a point before its second line").extend([" ", more]),
            (None, None) => {}
        }
    }
    points
}

/// Rows of two cells below a heading.
fn rows(document: &str, heading: &str) -> Vec<(String, String)> {
    let below = document.lines().skip_while(|line| *line != heading).skip(1);
    let rows = below.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| ")).skip(1);
    rows.map(|row| row.trim_end_matches(" |").split_once(" | ").expect("two cells"))
        .map(|(promise, tests)| (promise.to_owned(), tests.to_owned()))
        .collect()
}

/// Whether `daemon queue::drafts_wait` is a test that `cargo test` runs.
fn is_a_test(named: &str) -> bool {
    let Some((binary, path)) = named.split_once(' ') else { return false };
    let mut modules: Vec<&str> = path.split("::").collect();
    let name = modules.pop().unwrap_or_default();
    let file = modules.join("/");
    let places = [format!("tests/{binary}/{file}.rs"), format!("tests/{binary}/main.rs"), format!("tests/{binary}.rs")];
    let places = if file.is_empty() { &places[1..] } else { &places[..1] };
    places.iter().filter_map(|place| fs::read_to_string(Path::new(ROOT).join(place)).ok()).any(|source| {
        let before = source.split_once(&format!("fn {name}() {{")).map(|(before, _)| before);
        let attributes = before.and_then(|before| before.rsplit_once("\n\n")).map(|(_, attributes)| attributes);
        attributes.is_some_and(|lines| {
            ["#[test]", "#[tokio::test"].iter().any(|mark| lines.contains(mark)) && !lines.contains("ignore")
        })
    })
}

#[test]
fn every_promise_is_held_by_tests() {
    let promised = points(&text("README.md"), "## What it never does");
    let held = rows(&text("ARCHITECTURE.md"), "### Promises");
    assert!(promised.len() >= 8, "README.md promises {promised:?}");
    assert_eq!(promised, held.iter().map(|(promise, _)| promise.clone()).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (promise, tests) in held {
        let tests = quoted(&tests);
        wrong.extend(tests.is_empty().then(|| format!("{promise}: no test")));
        wrong.extend(tests.iter().filter(|test| !is_a_test(test)).map(|test| format!("{promise}: no test {test}")));
    }
    none(&wrong);
}

#[test]
fn a_missing_test_is_found() {
    assert!(is_a_test("docs promises::a_missing_test_is_found"));
    assert!(!is_a_test("docs promises::a_test_that_nobody_wrote") && !is_a_test("docs promises::points"));
}
