//! Random statements and random arguments, for as long as `FUZZ_SECONDS` says: no crash, no internal error, and not a
//! byte of another user's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options};
use tests::database::Database;
use tests::hygiene;
use tests::session::{NewSession, Session, call_tool_unwatched};
use tests::sqlsmith::Statements;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::bad_input::functions;
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        random_statements_find_nothing_of_another_user,
        random_arguments_to_every_function,
    ]
}

/// So many statements are tried however slow the machine is.
const LEAST: usize = 100;

/// How long each test goes on; `make fuzz` says more.
pub fn duration() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// Where the random numbers begin: another place each time, said where something was found, and `FUZZ_SEED` goes back
/// there.
fn seed() -> u64 {
    let given = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    // Read as an int by sqlsmith.
    given.unwrap_or_else(|| u64::from(Uuid::new_v4().as_fields().0 >> 1))
}

/// A cluster that nobody else's tests fall with.
async fn cluster() -> Result<Cluster> {
    // Statements of a page each would fill the disk.
    let options = Options { log_everything: false, ..Options::default() };
    Cluster::start(&options.set("log_min_error_statement", "panic").set("jit", "off")).await
}

/// What became of the statements, by SQLSTATE class; 00 is success.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn count(&mut self, state: &str) {
        *self.0.entry(state.get(..2).unwrap_or("00").to_owned()).or_default() += 1;
    }

    fn report(&self, what: &str, seed: u64) {
        let total: u64 = self.0.values().sum();
        let classes: Vec<_> = self.0.iter().map(|(class, count)| format!("{class}: {count}")).collect();
        eprintln!("{what}: {total} statements from seed {seed}; {}", classes.join(", "));
    }
}

/// Alice, and Bob with whatever she must not see of his.
struct Stage<'a> {
    database: Database<'a>,
    alice: Session,
    /// Bob's texts: none of them may turn up, in a row or in an error.
    canaries: Vec<String>,
}

impl<'a> Stage<'a> {
    async fn set(cluster: &'a Cluster) -> Result<Self> {
        let database = cluster.database().await?;
        let superuser = database.superuser().await?;
        superuser.batch_execute(include_str!("fuzz.sql")).await?;
        let auth = database.auth().await?;
        let canary = format!("canary{}", Uuid::new_v4().simple());
        let alice = NewSession::of("alice").refreshable("https://client.example").create(&auth).await?;
        let bob = NewSession::of(&format!("bob-{canary}"))
            .refreshable(&format!("https://{canary}.example"))
            .create(&auth)
            .await?;
        auth.query_one("SELECT mcp.set_session_state($1, $2)", &[&bob.token, &json!({"note": canary})])
            .await?;
        for (session, text) in [(&alice, "a note of alice".to_owned()), (&bob, canary.clone())] {
            superuser
                .execute(
                    "WITH note AS (
                         INSERT INTO app.notes (owner, body) SELECT $1, $2 || n FROM generate_series(1, 20) AS n
                         RETURNING id, body)
                     INSERT INTO app.documents (owner, note, title, content, fields, tags, amount, weight, day, span,
                                                valid, place, address)
                     SELECT $1, id, body, convert_to(body, 'UTF8'), jsonb_build_object('body', body), ARRAY[body, 'tag'],
                            id, id, current_date, '1 day', tstzrange(now(), NULL), point(id, id), '127.0.0.1'
                       FROM note",
                    &[&session.user_id, &text],
                )
                .await?;
            superuser
                .execute(
                    "INSERT INTO app.readings (owner, at, what, value)
                     SELECT $1, now() - n * interval '100 days', $2, n FROM generate_series(1, 10) AS n",
                    &[&session.user_id, &text],
                )
                .await?;
        }
        // Most common values are samples of rows.
        superuser.batch_execute("ANALYZE").await?;
        let hexadecimal: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut canaries = vec![canary, hexadecimal, bob.user_id.to_string(), bob.id.to_string()];
        canaries.extend([bob.token.clone()].into_iter().chain(bob.refresh_token.clone()));
        Ok(Self { database, alice, canaries })
    }

    /// The seeing is the test: would it be noticed?
    async fn canaries_are_seen_by_bob(&self) -> Result<()> {
        let superuser = self.database.superuser().await?;
        let all = rows(&superuser, "SELECT * FROM app.documents").await?;
        ensure!(self.clean(&all).is_err(), "the canaries are not where they should be");
        let by_error =
            superuser.simple_query("SELECT title::integer FROM app.documents ORDER BY id DESC").await;
        let message = by_error.err().and_then(|error| error.as_db_error().map(ToString::to_string));
        ensure!(message.is_some_and(|text| text.contains("invalid input syntax")), "errors show no values");
        Ok(())
    }

    fn clean(&self, text: &str) -> Result<()> {
        match self.canaries.iter().find(|canary| text.contains(*canary)) {
            Some(canary) => bail!("{canary} of Bob's is in {text}"),
            None => Ok(()),
        }
    }

    /// A connection that statements run on as Alice, by [`Stage::as_alice`].
    async fn smith(&self) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.database.cluster().directory())
            .port(self.database.cluster().port())
            .user("smith")
            .dbname(self.database.name())
            .options("-c statement_timeout=500ms -c log_parameter_max_length_on_error=0");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// In a transaction that armed her identity, as an application's own login. What was returned, or the error, whole.
    async fn as_alice(&self, smith: &Client, statement: &str) -> Result<(String, String)> {
        smith.batch_execute("BEGIN").await?;
        let row = smith.query_one("SELECT status FROM mcp.enter($1)", &[&self.alice.token]).await?;
        ensure!(row.get::<_, &str>(0) == "active");
        let outcome = match smith.simple_query(statement).await {
            Ok(messages) => {
                let who = smith.query_one("SELECT mcp.user_id()", &[]).await?.get::<_, Option<Uuid>>(0);
                ensure!(who == Some(self.alice.user_id), "became {who:?}");
                ("00000".to_owned(), text_of(&messages))
            }
            Err(error) => {
                let error = error.as_db_error().with_context(|| format!("no answer: {error}"))?;
                (error.code().code().to_owned(), format!("{error:?}"))
            }
        };
        smith.batch_execute("ROLLBACK").await?;
        Ok(outcome)
    }

    /// In a tool of hers.
    async fn sealed(&self, exec: &Client, tool: &str, statement: &str) -> Result<(String, String)> {
        // What a transaction leaves is seen at its end; until then it may hold locks that end with it.
        let before = hygiene::state_of(exec).await?;
        exec.batch_execute("BEGIN").await?;
        let arguments = json!({"statement": statement});
        let called = call_tool_unwatched(exec, &self.alice.token, tool, arguments).await;
        let held = if called.is_ok() { Some(hygiene::state_of(exec).await?) } else { None };
        exec.batch_execute("ROLLBACK").await?;
        let left = hygiene::state_of(exec).await?;
        ensure!(left == before, "it left {}", hygiene::difference(&before, &left));
        if let Some(mut held) = held {
            held.as_object_mut().context("an object")?.remove("advisory");
            ensure!(held == before, "it left {}", hygiene::difference(&before, &held));
        }
        let result = match called {
            Ok(result) => result,
            // What PostgreSQL itself calls an internal error is not the tool's, and is raised.
            Err(error) => {
                let error = error.as_db_error().with_context(|| format!("no answer: {error}"))?;
                let (state, text) = (error.code().code().to_owned(), format!("{error:?}"));
                ensure!(["XX", "53", "57", "58"].contains(&&state[..2]), "raised: {text}");
                return Ok((state, text));
            }
        };
        let text = result.to_string();
        ensure!(result["content"].is_array(), "no result: {text}");
        if result["isError"] == true {
            return Ok(("P0000".to_owned(), text));
        }
        let who = format!("{} mcp_user ", self.alice.user_id);
        ensure!(text.contains(&who), "ran as somebody else: {text}");
        Ok(("00000".to_owned(), text))
    }
}

fn text_of(messages: &[SimpleQueryMessage]) -> String {
    let mut text = String::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            for column in 0..row.len() {
                text.push_str(row.get(column).unwrap_or_default());
                text.push('\n');
            }
        }
    }
    text
}

async fn rows(client: &Client, statement: &str) -> Result<String> {
    Ok(text_of(&client.simple_query(statement).await?))
}

/// The server is the one that was there at the beginning, and complains of nothing that is its own fault.
fn unharmed(cluster: &Cluster) -> Result<()> {
    let log = std::fs::read_to_string(cluster.log())?;
    let crash = log.lines().find(|line| {
        ["PANIC:", "terminated by signal", "panicked", "server process", "TRAP:"]
            .iter()
            .any(|word| line.contains(word))
    });
    ensure!(crash.is_none(), "the server's log says: {}", crash.unwrap_or_default());
    Ok(())
}

async fn random_statements_find_nothing_of_another_user(world: &Shared) -> Result<()> {
    let seed = seed();
    let cluster = cluster().await?;
    let stage = Stage::set(&cluster).await?;
    stage.canaries_are_seen_by_bob().await?;
    let (smith, exec) = (stage.smith().await?, stage.database.exec().await?);
    // Half of them over the catalogs too: that is where statistics and the statements of others are.
    let mut sources = [false, true]
        .map(|catalogs| Statements::generate(&cluster, "smith", stage.database.name(), catalogs, seed));
    let mut tallies = [("as an application", Tally::default()), ("in a tool", Tally::default())];
    let begun = Instant::now();
    for number in 0.. {
        if begun.elapsed() > duration() && number >= LEAST {
            break;
        }
        let source = sources[number % 2].as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let statement = source.next().context("sqlsmith has ended")??;
        let told = |what: &str| format!("{what}, statement {number} from seed {seed}: {statement}");
        let (state, text) =
            stage.as_alice(&smith, &statement).await.with_context(|| told("as an application"))?;
        stage.clean(&text).with_context(|| told("as an application"))?;
        tallies[0].1.count(&state);
        let tool = if number % 4 < 2 { "query" } else { "query_free" };
        let (state, text) = stage.sealed(&exec, tool, &statement).await.with_context(|| told("in a tool"))?;
        stage.clean(&text).with_context(|| told("in a tool"))?;
        tallies[1].1.count(&state);
    }
    for (what, tally) in &tallies {
        tally.report(&format!("sqlsmith {what}"), seed);
        let total: u64 = tally.0.values().sum();
        // Where nearly nothing runs, nothing was tried.
        ensure!(
            tally.0.get("00").is_some_and(|fine| fine * 50 > total),
            "{what}: too few succeed: {tally:?}"
        );
    }
    // What went wrong in the server, tools' errors included, is in its log with a backend's number.
    unharmed(&cluster)?;
    world.keep_log(&cluster)?;
    Ok(())
}

/// Values of a type, as texts that PostgreSQL is to read; most are of the type, some hardly.
fn values(kind: &str, token: &str) -> BoxedStrategy<Option<String>> {
    let token = token.to_owned();
    let text = prop_oneof![
        3 => "[^\\x00]{0,40}",
        1 => "[^\\x00]{1000,4000}",
        2 => "[a-z_]{1,12}",
        2 => Just(token.clone()),
        2 => (0..token.len(), "[0-9A-Za-z_]").prop_map(move |(at, with)| {
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            changed
        }),
    ];
    let element = || "[^\\x00]{0,12}".prop_map(|text| text.replace('\\', "\\\\").replace('"', "\\\""));
    let known = match kind {
        "text" | "name" => text.boxed(),
        "jsonb" | "json" => json_values().prop_map(|value| value.to_string()).boxed(),
        "interval" => (any::<i32>(), any::<i32>(), any::<i64>())
            .prop_map(|(months, days, microseconds)| {
                format!("{months} months {days} days {} microseconds", microseconds / 1000)
            })
            .boxed(),
        "uuid" => any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string()).boxed(),
        "integer" => any::<i32>().prop_map(|number| number.to_string()).boxed(),
        "bigint" => any::<i64>().prop_map(|number| number.to_string()).boxed(),
        "double precision" | "numeric" => any::<f64>().prop_map(|number| number.to_string()).boxed(),
        "boolean" => any::<bool>().prop_map(|flag| flag.to_string()).boxed(),
        "bytea" => prop::collection::vec(any::<u8>(), 0..64)
            .prop_map(|bytes| bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")))
            .boxed(),
        "text[]" => prop::collection::vec(element(), 0..6)
            .prop_map(|elements| {
                let quoted: Vec<_> = elements.iter().map(|element| format!("\"{element}\"")).collect();
                format!("{{{}}}", quoted.join(","))
            })
            .boxed(),
        "regprocedure" => prop_oneof![
            Just("app.query(text)".to_owned()),
            Just("pg_catalog.now()".to_owned()),
            Just("mcp.doctor()".to_owned()),
            any::<u32>().prop_map(|oid| oid.to_string()),
        ]
        .boxed(),
        _ => return Just(None).boxed(),
    };
    prop::option::weighted(0.9, known).boxed()
}

fn json_values() -> impl Strategy<Value = Value> {
    let key = || {
        prop_oneof![
            Just("name".to_owned()),
            Just("properties".to_owned()),
            Just("type".to_owned()),
            Just("x-mcp-header".to_owned()),
            Just("headers".to_owned()),
            Just("capabilities".to_owned()),
            Just("inputResponses".to_owned()),
            Just("requestState".to_owned()),
            Just("logLevel".to_owned()),
            "[^\\x00]{0,8}",
        ]
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[^\\x00]{0,20}".prop_map(Value::from),
        Just(json!("object")),
        Just(json!("debug")),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(key(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

async fn random_arguments_to_every_function(world: &Shared) -> Result<()> {
    let seed = seed();
    let cluster = cluster().await?;
    let stage = Stage::set(&cluster).await?;
    let superuser = stage.database.superuser().await?;
    superuser.batch_execute("SET statement_timeout = '2 s'").await?;
    let functions = functions(&superuser).await?;
    let callers =
        [superuser, stage.database.auth().await?, stage.database.exec().await?, stage.smith().await?];
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let mut tally = Tally::default();
    let begun = Instant::now();
    'all: for round in 0_usize.. {
        for (function, types) in &functions {
            // Each caller calls each function, however slow the machine is.
            if begun.elapsed() > duration() && round >= callers.len() {
                break 'all;
            }
            let mut arguments = Vec::new();
            for kind in types {
                let value = values(kind, &stage.alice.token).new_tree(&mut runner);
                arguments.push(value.map_err(anyhow::Error::msg)?.current());
            }
            let list: Vec<_> =
                types.iter().enumerate().map(|(at, kind)| format!("${}::text::{kind}", at + 1)).collect();
            let statement = format!("SELECT count(*) FROM {function}({})", list.join(", "));
            let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                arguments.iter().map(|argument| argument as _).collect();
            let client = &callers[round % callers.len()];
            client.batch_execute("BEGIN").await?;
            // Every other time as Alice, where the caller may arm her.
            if round / callers.len() % 2 == 0 && client.batch_execute("SAVEPOINT s").await.is_ok() {
                let armed = client.query_one("SELECT status FROM mcp.enter($1)", &[&stage.alice.token]).await;
                if armed.is_err() {
                    client.batch_execute("ROLLBACK TO s").await?;
                }
            }
            let told = || format!("{statement} with {arguments:?} from seed {seed}");
            match client.query(&statement, &parameters).await {
                Ok(_) => tally.count("00000"),
                Err(error) => {
                    let error = error.as_db_error().with_context(|| format!("{}: {error}", told()))?;
                    let state = error.code().code();
                    ensure!(!state.starts_with("XX"), "{}: {state} {}", told(), error.message());
                    ensure!(!error.message().contains("panicked"), "{}: {}", told(), error.message());
                    tally.count(state);
                }
            }
            client.batch_execute("ROLLBACK").await?;
        }
    }
    tally.report("random arguments", seed);
    let fine = tally.0.get("00").copied().unwrap_or_default();
    ensure!(fine > 0, "no call succeeded: {tally:?}");
    unharmed(&cluster)?;
    world.keep_log(&cluster)?;
    Ok(())
}
