//! The guide, followed to the letter: every snippet of `docs/your-schema-as-an-mcp-server.md`, in its order.
//!
//! `sh` goes to a shell, `sql` to a superuser's connection. In `text`, `>` is a method with its parameters, for the shell's
//! `ask`, and `<` what the answer to the last one has among others.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use serde_json::Value;
use tests::{checkout, ledger};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; every_snippet_of_the_guide_does_what_it_says]
}

/// What differs each time.
const ANY: &str = "…";

struct Snippet {
    language: String,
    text: String,
}

fn snippets(guide: &str) -> Vec<Snippet> {
    let mut snippets = Vec::new();
    let mut open: Option<Snippet> = None;
    for event in Parser::new(guide) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                open = Some(Snippet { language, text: String::new() });
            }
            Event::Text(text) => {
                if let Some(snippet) = &mut open {
                    snippet.text.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => snippets.extend(open.take()),
            _ => {}
        }
    }
    snippets
}

/// A shell that keeps what it is told, as the one in a terminal does.
struct Shell {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(directory: &Path) -> Result<Self> {
        let mut process = Command::new("bash")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start bash")?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no output")?);
        Ok(Self { process, input, output })
    }

    /// Runs some commands and returns what they printed.
    fn run(&mut self, commands: &str) -> Result<String> {
        const END: &str = "-- the end --";
        let input = self.input.as_mut().context("the shell has ended")?;
        writeln!(input, "{commands}\nprintf '\\n%s\\n' '{END}'")?;
        input.flush()?;
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.output.read_line(&mut line)? > 0, "the shell ended in {commands}");
            if line.trim_end() == END {
                return Ok(printed.trim().to_owned());
            }
            printed.push_str(&line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Whether an answer has everything that is expected of it. Of an array, the elements that are expected come in their
/// order; an empty one is empty.
fn has(answer: &Value, expected: &Value) -> bool {
    match (answer, expected) {
        (Value::String(_), Value::String(any)) if any == ANY => true,
        (Value::Object(answer), Value::Object(expected)) => expected
            .iter()
            .all(|(name, expected)| answer.get(name).is_some_and(|answer| has(answer, expected))),
        (Value::Array(answer), Value::Array(expected)) if !expected.is_empty() => {
            let mut rest = answer.iter();
            expected.iter().all(|expected| rest.any(|answer| has(answer, expected)))
        }
        _ => answer == expected,
    }
}

/// Puts what the last answer had in place of what differs each time.
fn fill_in(parameters: &mut Value, last: &Value) {
    for (name, value) in parameters.as_object_mut().into_iter().flatten() {
        if value == ANY {
            *value = last[name].clone();
        }
    }
}

async fn every_snippet_of_the_guide_does_what_it_says(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _provider) = world.stubbed(&database).await?;
    let directory = tempfile::Builder::new().prefix("mcp-guide-").tempdir()?;
    std::fs::create_dir(directory.path().join(".run"))?;
    std::fs::write(directory.path().join(".run/env"), format!("MCP_PUBLIC_URL={}\n", frontend.url()))?;
    let superuser = database.superuser().await?;
    let mut shell = Shell::start(directory.path())?;

    let guide = checkout::root().join("docs/your-schema-as-an-mcp-server.md");
    let (mut asked, mut answered) = (0, 0);
    for Snippet { language, text } in snippets(&std::fs::read_to_string(guide)?) {
        match language.as_str() {
            "sh" => {
                tokio::task::block_in_place(|| shell.run(&text))?;
                let token = tokio::task::block_in_place(|| shell.run("printf %s \"$S\""))?;
                ensure!(token.starts_with("mcps_"), "not signed in: {token:?}");
                ledger::record("session token", &token);
            }
            "sql" => superuser.batch_execute(&text).await.with_context(|| text.clone())?,
            "text" => {
                let mut answer = Value::Null;
                for line in text.lines() {
                    if let Some(request) = line.strip_prefix("> ") {
                        let (method, parameters) =
                            request.split_once(' ').context("a method and parameters")?;
                        let mut parameters: Value =
                            serde_json::from_str(parameters).context(line.to_owned())?;
                        fill_in(&mut parameters, &answer);
                        let quoted = parameters.to_string().replace('\'', r"'\''");
                        let printed =
                            tokio::task::block_in_place(|| shell.run(&format!("ask {method} '{quoted}'")))?;
                        answer =
                            serde_json::from_str(&printed).with_context(|| format!("{line}\n{printed}"))?;
                        asked += 1;
                    } else if let Some(expected) = line.strip_prefix("< ") {
                        let expected: Value = serde_json::from_str(expected).context(line.to_owned())?;
                        ensure!(has(&answer, &expected), "the guide says\n{line}\nand the server\n{answer}");
                        answered += 1;
                    } else {
                        bail!("neither a request nor an answer: {line}");
                    }
                }
            }
            _ => bail!("nobody runs this: ```{language}\n{text}"),
        }
    }
    ensure!(asked > 10 && asked == answered, "{asked} requests, {answered} answers");
    Ok(())
}
