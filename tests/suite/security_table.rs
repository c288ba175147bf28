//! The table in SECURITY.md: every row of the threat model, and the tests that stand for it.
//!
//! A test stands for the row whose number its name carries: `attack_a03_…`, `checklist_27_…`. The words are in
//! `rows.toml`; which tests there are is asked of the suite and of the sources, so that the table cannot name one that is
//! not there, nor leave one out. `make security-table` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use tests::checkout;

/// Between these lines it stands.
const BEGIN: &str =
    "<!-- The table of attacks: make security-table writes it from tests/suite/rows.toml. -->";
const END: &str = "<!-- The end of the table of attacks. -->";

/// What the environment holds where the table is to be written.
const ACCEPT: &str = "MCP_ACCEPT";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// `A01` to `A25` or `1` to `64`.
    number: String,
    attack: String,
    result: String,
    /// Files with tests that carry no row's number in their names: specs of the isolation tester, SQL of pg_regress.
    #[serde(default)]
    files: Vec<String>,
    /// Rows whose tests stand for this one too.
    #[serde(default)]
    see: Vec<String>,
    /// Why it does not apply, where it does not.
    not_applicable: Option<String>,
}

/// How many rows there are, how many of them apply and how many of those have tests, and how many tests there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    rows: usize,
    apply: usize,
    tested: usize,
    tests: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, apply, tested, tests } = self;
        write!(f, "{rows} rows, {apply} of them apply, {tested} have tests: {tests} tests")
    }
}

/// The test of the table, given the names of all others.
pub fn trial(names: Vec<String>) -> Trial {
    Trial::test("security_table::every_row_names_its_tests", move || {
        check(&names).map_err(|error| format!("{error:#}").into())
    })
}

/// What the table counts.
pub fn counts(names: &[String]) -> Result<Counts> {
    Ok(table(names)?.1)
}

fn check(names: &[String]) -> Result<()> {
    let path = checkout::root().join("SECURITY.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no line {BEGIN:?}"))?;
    let (is, after) = rest.split_once(END).with_context(|| format!("no line {END:?}"))?;
    let (table, _) = table(names)?;
    let ought = format!("\n{table}\n");
    if is == ought {
        return Ok(());
    }
    if std::env::var_os(ACCEPT).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{ought}{END}{after}"))?;
        return Ok(());
    }
    let (is, ought): (Vec<_>, Vec<_>) = (is.lines().collect(), ought.lines().collect());
    let differs =
        ought.iter().find(|line| !is.contains(line)).or_else(|| is.iter().find(|line| !ought.contains(line)));
    bail!(
        "the table in SECURITY.md is out of date: make security-table, and review the difference; first: {differs:?}"
    )
}

/// The table and its counts.
fn table(names: &[String]) -> Result<(String, Counts)> {
    let rows: Rows = toml::from_str(include_str!("rows.toml"))?;
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names.iter().map(|name| name.rsplit("::").next().unwrap_or(name)) {
        if let Some(number) = number_of(name) {
            tests.entry(number).or_default().push(name.to_owned());
        }
    }
    for package in ["extension", "frontend", "dev-idp"] {
        in_sources(&checkout::root().join(package).join("src"), &mut tests)?;
    }
    for (number, names) in &mut tests {
        ensure!(rows.row.iter().any(|row| row.number == *number), "{names:?} carry the number of no row");
        names.sort();
        names.dedup();
    }
    let mut counts = Counts { rows: rows.row.len(), apply: 0, tested: 0, tests: 0 };
    let mut lines = String::new();
    for row in &rows.row {
        let own = tests.get(&row.number).map(Vec::as_slice).unwrap_or_default();
        let mut cell: Vec<String> = own.iter().map(|name| format!("`{name}`")).collect();
        for file in &row.files {
            ensure!(checkout::root().join(file).is_file(), "row {}: there is no {file}", row.number);
            cell.push(format!("[{}]({file})", file.rsplit('/').next().unwrap_or(file)));
        }
        for other in &row.see {
            let there = tests.contains_key(other) && rows.row.iter().any(|row| row.number == *other);
            ensure!(there, "row {} points to row {other}, which has no test", row.number);
            cell.push(format!("as {other}"));
        }
        counts.tests += own.len() + row.files.len();
        let result = match &row.not_applicable {
            Some(reason) => {
                ensure!(cell.is_empty(), "row {} does not apply and has tests", row.number);
                format!("does not apply: {reason}")
            }
            None => {
                counts.apply += 1;
                counts.tested += usize::from(!cell.is_empty());
                row.result.clone()
            }
        };
        let cell = match (&row.not_applicable, cell.is_empty()) {
            (Some(_), _) => "—".to_owned(),
            (None, true) => "**no test yet**".to_owned(),
            (None, false) => cell.join("<br>"),
        };
        let text = |text: &str| text.replace('|', "\\|");
        writeln!(lines, "| {} | {} | {} | {cell} |", row.number, text(&row.attack), text(&result))?;
    }
    Ok((format!("{counts}.\n\n| row | attack | result | tests |\n|---|---|---|---|\n{lines}"), counts))
}

/// The number that a test's name carries, as rows write it.
fn number_of(test: &str) -> Option<String> {
    let digits = |text: &str| {
        let (digits, rest) = (text.get(..2)?, text.get(2..)?);
        (rest.starts_with('_') && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.to_owned())
    };
    if let Some(rest) = test.strip_prefix("attack_a") {
        return Some(format!("A{}", digits(rest)?));
    }
    Some(digits(test.strip_prefix("checklist_")?)?.trim_start_matches('0').to_owned())
}

/// The tests beside the code.
fn in_sources(directory: &Path, tests: &mut BTreeMap<String, Vec<String>>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            in_sources(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in std::fs::read_to_string(&path)?.lines() {
                let line = line.trim_start().trim_start_matches("async ");
                let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) else {
                    continue;
                };
                if let Some(number) = number_of(name) {
                    tests.entry(number).or_default().push(name.to_owned());
                }
            }
        }
    }
    Ok(())
}
