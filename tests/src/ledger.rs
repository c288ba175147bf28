//! Every secret handed out while the suite runs, to be looked for afterwards where none may be.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};

/// Shorter strings would be found by chance.
const SHORTEST: usize = 12;

static LEDGER: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// Where a secret stands that should not.
#[derive(Debug)]
pub struct Leak {
    /// What kind of secret: `session token`, `authorization code`, …
    pub kind: String,
    /// The file it stands in.
    pub file: PathBuf,
    /// The text before it in that file, to show who wrote it; the secret itself is not repeated.
    pub before: String,
}

/// Notes that `secret` was handed out.
pub fn record(kind: &str, secret: &str) {
    if secret.len() >= SHORTEST {
        LEDGER.lock().expect("no panic under this lock").insert(secret.to_owned(), kind.to_owned());
    }
}

/// Notes every string below `keys` of a JSON object, such as a provider's token response.
pub fn record_fields(kind: &str, object: &serde_json::Value, keys: &[&str]) {
    for key in keys {
        if let Some(secret) = object.get(key).and_then(serde_json::Value::as_str) {
            record(&format!("{kind} {key}"), secret);
        }
    }
}

/// How many secrets of each kind were handed out.
pub fn counts() -> Vec<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for kind in LEDGER.lock().expect("no panic under this lock").values() {
        *counts.entry(kind.clone()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort();
    counts
}

/// The leaks in the files below `directory` for which `wanted` holds, and how many bytes were read.
pub fn search(directory: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(Vec<Leak>, u64)> {
    let (secrets, kinds): (Vec<String>, Vec<String>) =
        LEDGER.lock().expect("no panic under this lock").clone().into_iter().unzip();
    let matcher = AhoCorasick::new(&secrets)?;
    let mut leaks = Vec::new();
    let mut read = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| directory.display().to_string()),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
                continue;
            }
            if !entry.file_type()?.is_file() || !wanted(&entry.path()) {
                continue;
            }
            let text = match std::fs::read(entry.path()) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| entry.path().display().to_string()),
            };
            read += text.len() as u64;
            leaks.extend(matcher.find_iter(&text).map(|found| {
                Leak {
                    kind: kinds[found.pattern().as_usize()].clone(),
                    file: entry.path(),
                    before: String::from_utf8_lossy(&text[found.start().saturating_sub(160)..found.start()])
                        .into_owned(),
                }
            }));
        }
    }
    Ok((leaks, read))
}
