//! Arguments of any shape: whatever JSON a client makes up, a call ends in an answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tests::database::Database;
use tests::mcp::{Door, Era, text_blocks};
use tests::process_table;
use tests::session::NewSession;
use tests::tools::{Tools, validator};
use tests::wait::wait_until;
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_48_arguments_of_any_shape_end_in_an_answer,
        checklist_48_arguments_leave_no_memory_behind,
        checklist_48_arguments_over_http_are_never_a_500,
    ]
}

/// Tools over every kind of type, a table that none of them touches, and a function that none of them calls.
const TOOLS: &str = r#"
CREATE SCHEMA shapes AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA shapes TO mcp_user;
GRANT EXECUTE ON FUNCTION mcp.expose_tool TO app_owner;
SET ROLE app_owner;
CREATE TYPE shapes.mood AS ENUM ('sad', 'happy');
CREATE DOMAIN shapes.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN shapes.code AS varchar(8) CHECK (VALUE ~ '^[a-z]+$');
CREATE DOMAIN shapes.odd AS integer CHECK (VALUE % 2 = 1);
CREATE DOMAIN shapes.matrix AS integer[][];
CREATE TYPE shapes.point AS (x shapes.percent, y numeric(5, 2), tags text[]);
CREATE DOMAIN shapes.corner AS shapes.point CHECK ((VALUE).x > 0);
CREATE TABLE shapes.canary (id integer PRIMARY KEY, body text);
INSERT INTO shapes.canary VALUES (1, 'sings');
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON shapes.canary TO mcp_user;
CREATE FUNCTION shapes.must_not_run() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM shapes.canary; END $$;
CREATE FUNCTION shapes.scalars(
    a boolean DEFAULT NULL, b integer DEFAULT NULL, c bigint DEFAULT NULL, d numeric DEFAULT NULL, e double precision DEFAULT NULL,
    f text DEFAULT NULL, g varchar DEFAULT NULL, h uuid DEFAULT NULL, i date DEFAULT NULL, j timestamptz DEFAULT NULL, k interval DEFAULT NULL,
    l bytea DEFAULT NULL, m shapes.mood DEFAULT NULL, n shapes.percent DEFAULT NULL, o shapes.code DEFAULT NULL, p inet DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('f', f, 'd', d, 'l', l, 'm', m); END $$;
CREATE FUNCTION shapes.documents(
    a jsonb DEFAULT NULL, b json DEFAULT NULL, c integer[] DEFAULT NULL, d text[] DEFAULT NULL, e shapes.point DEFAULT NULL,
    f shapes.point[] DEFAULT NULL, g shapes.corner DEFAULT NULL, h shapes.matrix DEFAULT NULL, i int4range DEFAULT NULL,
    j shapes.odd DEFAULT NULL, k bit varying DEFAULT NULL, l time DEFAULT NULL, m timestamp DEFAULT NULL, n real DEFAULT NULL,
    o oid DEFAULT NULL, p tstzmultirange DEFAULT NULL
) RETURNS TABLE (aa jsonb, cc integer[], ee shapes.point, ff shapes.point[], hh shapes.matrix)
LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT documents.a, documents.c, documents.e, documents.f, documents.h; END $$;
CREATE FUNCTION shapes.spread(VARIADIC a numeric[]) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN cardinality(a); END $$;
SELECT mcp.expose_tool(p.oid) FROM pg_proc AS p
 WHERE p.pronamespace = 'shapes'::regnamespace AND p.proname IN ('scalars', 'documents', 'spread');
RESET ROLE;
"#;

const NAMES: [&str; 3] = ["scalars", "documents", "spread"];

/// JSON as text: what `serde_json` would not write is of interest too.
fn json_text() -> impl Strategy<Value = String> {
    let quoted = |text: String| Value::from(text).to_string();
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-200..200_i32).prop_map(|number| number.to_string()),
        (-100_000..100_000_i32).prop_map(|number| format!("{}e-2", number)),
        (0..400_u16).prop_map(|exponent| format!("7e{exponent}")),
        prop::sample::select(vec![
            "-0",
            "1e131071",
            "-1e-16383",
            "0.1",
            "1E+3",
            "99999999999999999999999999",
            "1e99999",
            "1.50"
        ])
        .prop_map(str::to_owned),
        any::<String>().prop_map(quoted),
        prop::sample::select(vec![
            "'; DELETE FROM shapes.canary; --",
            "$1",
            "\\",
            "{}",
            "{1,2}",
            "[1,3)",
            "empty",
            "(1,2)",
            "NaN",
            "Infinity",
            "infinity",
            "now",
            "2026-02-29",
            "2026-02-28",
            "2026-01-31T12:00:00Z",
            "2026-01-31T25:00:00Z",
            "P1D",
            "PT0.5S",
            r"\x00ff",
            r"\x0",
            "happy",
            "abc",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "192.0.2.1",
            "shapes.must_not_run()",
            "{{1},{2,3}}",
            "1e400",
            "12:00:00",
            "101",
            "16384",
        ])
        .prop_map(move |text| quoted(text.to_owned())),
        prop::sample::select(vec![r#""\u0000""#, r#""\ud800""#, r#""\ud83d\ude00""#, r#""a\u0000b""#])
            .prop_map(str::to_owned),
        (0..20_000_usize).prop_map(|length| format!("\"{}\"", "x".repeat(length))),
    ];
    leaf.prop_recursive(5, 48, 8, |inner| {
        let name = prop_oneof![
            3 => "[a-p]".prop_map(|name| name),
            1 => prop::sample::select(vec!["x", "y", "tags", "", "\"", "a b", "$ref", "__proto__"]).prop_map(str::to_owned),
        ];
        let member = (name, inner.clone()).prop_map(|(name, value)| format!("{}:{value}", Value::from(name)));
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
            (inner, 0..40_usize).prop_map(|(value, depth)| format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth))),
        ]
    })
}

/// The arguments of a call: any JSON in place of the object, or as the value of an argument.
fn arguments() -> impl Strategy<Value = String> {
    let one = ("[a-p]", json_text()).prop_map(|(name, value)| format!("{{\"{name}\":{value}}}"));
    // And some that reach the function.
    let text = any::<String>().prop_map(|text| format!("{{\"f\":{}}}", Value::from(text.replace('\0', ""))));
    let document = json_text().prop_map(|value| format!("{{\"a\":{value}}}"));
    let numbers =
        prop::collection::vec(-100..100_i32, 0..9).prop_map(|numbers| json!({ "a": numbers }).to_string());
    let plausible = prop::sample::select(vec![
        r#"{}"#,
        r#"{"b":7,"c":-1,"d":1.50,"e":1e300}"#,
        r#"{"i":"2026-02-28","k":"PT0.5S","m":"happy"}"#,
        r#"{"n":100,"o":"abc"}"#,
        r#"{"l":"\\x00ff","p":"192.0.2.1"}"#,
        r#"{"c":[1,null],"e":{"x":1,"y":2.5,"tags":["a",null]}}"#,
        r#"{"f":[{"x":0},null,{}]}"#,
        r#"{"h":[[1,2],[3,4]],"g":{"x":1}}"#,
        r#"{"i":"[1,3)","j":3,"k":"101","o":"16384"}"#,
        r#"{"i":null,"a":null}"#,
    ])
    .prop_map(str::to_owned);
    prop_oneof![1 => json_text(), 6 => one, 2 => text, 2 => document, 2 => numbers, 3 => plausible]
}

/// Runs as many cases as it is asked for, the same each time.
struct Cases {
    runner: TestRunner,
}

impl Cases {
    fn new(seed: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        Self { runner: TestRunner::new_with_rng(Config::default(), rng) }
    }

    fn next(&mut self) -> Result<String> {
        let tree = arguments().new_tree(&mut self.runner);
        Ok(tree.map_err(|reason| anyhow::anyhow!("no case: {reason}"))?.current())
    }
}

/// How a call ended.
enum Ended {
    /// PostgreSQL refused the arguments before the tool was looked for.
    Refused,
    Result(Value),
    /// A result with a number that is none to `serde_json`.
    Huge,
}

/// Calls a tool with arguments that are given as text.
async fn call(client: &Client, token: &str, name: &str, arguments: &str) -> Result<Ended> {
    let called = client
        .query_one("SELECT mcp.call_tool($1, $2, $3::text::jsonb)::text", &[&token, &name, &arguments])
        .await;
    match called {
        Ok(row) => match serde_json::from_str(row.get(0)) {
            Ok(result) => Ok(Ended::Result(result)),
            Err(error) if error.to_string().contains("number out of range") => Ok(Ended::Huge),
            Err(error) => Err(error.into()),
        },
        Err(error) => {
            let state = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
            let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
            // No JSON, a number or a text that PostgreSQL has no room for, or too deep: what the caller did wrong.
            let clean =
                ["22", "54"].iter().any(|class| state.starts_with(class)) && !message.contains("panicked");
            ensure!(clean, "{name} {arguments}: {state} {message} {error}");
            Ok(Ended::Refused)
        }
    }
}

async fn database_with_tools(world: &Shared) -> Result<(Database<'_>, String)> {
    let database = world.database().await?;
    database.superuser().await?.batch_execute(TOOLS).await?;
    let session = NewSession::of("alice").create(&database.auth().await?).await?;
    Ok((database, session.token))
}

async fn checklist_48_arguments_of_any_shape_end_in_an_answer(world: &Shared) -> Result<()> {
    let (database, token) = database_with_tools(world).await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(&format!("ALTER DATABASE {} SET track_functions = 'all'", database.name()))
        .await?;
    let exec = database.exec().await?;
    let tools = Tools::list(&exec, &token).await?;
    let schemas: Vec<_> = NAMES.iter().map(|name| validator(tools.input(name)?)).collect::<Result<_>>()?;
    let returns = validator(tools.output("documents")?)?;
    let mut cases = Cases::new(48);
    let (mut reached, mut refused) = ([0_i64; NAMES.len()], 0);
    for number in 0..3000 {
        let arguments = cases.next()?;
        let which = number % NAMES.len();
        let result = match call(&exec, &token, NAMES[which], &arguments).await? {
            Ended::Result(result) => result,
            Ended::Refused => continue,
            Ended::Huge => {
                reached[which] += 1;
                continue;
            }
        };
        let is_error = result["isError"] == true;
        ensure!(result["content"].is_array(), "{arguments}: {result}");
        if is_error {
            let text = text_blocks(&result);
            refused += 1;
            ensure!(
                !text.is_empty() && !text.contains("panicked") && !text.contains(".rs:"),
                "{arguments}: {text}"
            );
            ensure!(
                text.contains("argument") || text.contains("field"),
                "the answer to {arguments} does not say which argument: {text}"
            );
        } else {
            reached[which] += 1;
        }
        // Where both can read it, the schema and the call agree on what is wrong. That a call refuses more is PostgreSQL's
        // own doing: a day that there is not, a check that no schema says.
        if let Ok(given) = serde_json::from_str::<Value>(&arguments)
            && !schemas[which].is_valid(&given)
        {
            ensure!(is_error, "{} takes {arguments}, which its schema does not", NAMES[which]);
        }
        if which == 1 && !is_error {
            returns
                .validate(&result["structuredContent"])
                .map_err(|error| anyhow::anyhow!("{arguments}: {error}"))?;
        }
    }
    ensure!(
        reached.iter().all(|&calls| calls > 50) && refused > 500,
        "{reached:?} calls, {refused} refused: too one-sided"
    );
    // No statement but the one of each call: every function ran as often as calls came to it, and no other did.
    drop(exec);
    let counts = "SELECT coalesce(jsonb_object_agg(funcname, calls), '{}') FROM pg_stat_user_functions WHERE schemaname = 'shapes'";
    let expected: Value = NAMES
        .iter()
        .zip(reached)
        .map(|(name, calls)| ((*name).to_owned(), json!(calls)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    wait_until("the statistics to be complete", Duration::from_secs(30), || async {
        let counted: Value = superuser.query_one(counts, &[]).await?.get(0);
        ensure!(counted.get("must_not_run").is_none(), "{counted}");
        Ok(counted == expected)
    })
    .await
    .with_context(|| format!("expected {expected}"))?;
    let canary: Value =
        superuser.query_one("SELECT jsonb_agg(to_jsonb(c)) FROM shapes.canary AS c", &[]).await?.get(0);
    assert_eq!(canary, json!([{"id": 1, "body": "sings"}]));
    Ok(())
}

/// Of a backend: of all its contexts, of the one that lives as long as it, of the process.
type Memory = (i64, i64, i64);

async fn checklist_48_arguments_leave_no_memory_behind(world: &Shared) -> Result<()> {
    let (database, token) = database_with_tools(world).await?;
    // Only a superuser sees how much memory there is.
    let client = database.superuser().await?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let statement = client
        .prepare("SELECT sum(total_bytes)::bigint, sum(total_bytes) FILTER (WHERE name = 'TopMemoryContext')::bigint FROM pg_backend_memory_contexts")
        .await?;
    let measure = || async {
        let row = client.query_one(&statement, &[]).await?;
        let private = process_table::private_memory(Pid::from_raw(pid))?;
        Ok::<_, anyhow::Error>((row.get(0), row.get(1), private.cast_signed()))
    };
    // The same arguments again and again: caches are warm after the first rounds.
    let mut cases = Cases::new(7);
    let all: Vec<String> = (0..500).map(|_| cases.next()).collect::<Result<_>>()?;
    let round = || async {
        for (number, arguments) in all.iter().enumerate() {
            call(&client, &token, NAMES[number % NAMES.len()], arguments).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    for _ in 0..2 {
        round().await?;
    }
    // Memory comes in blocks, each twice the one before, and other tests make this backend read catalogs anew: what
    // leaks grows in both halves.
    let mut measured = vec![measure().await?];
    for _ in 0..2 {
        for _ in 0..3 {
            round().await?;
        }
        measured.push(measure().await?);
    }
    let calls = 3 * all.len();
    for (what, of, bound) in [
        ("all memory contexts", |measured: &Memory| measured.0, 128 << 10),
        ("TopMemoryContext", |measured| measured.1, 32 << 10),
        ("the process", |measured| measured.2, 4 << 20),
    ] as [(&str, fn(&Memory) -> i64, i64); 3]
    {
        let grown: Vec<_> = measured.windows(2).map(|pair| of(&pair[1]) - of(&pair[0])).collect();
        ensure!(
            grown.iter().any(|grown| *grown < bound),
            "{what} grew by {grown:?} bytes in {calls} calls each"
        );
    }
    Ok(())
}

async fn checklist_48_arguments_over_http_are_never_a_500(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    database.superuser().await?.batch_execute(TOOLS).await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token);
    let mut cases = Cases::new(100);
    for number in 0..300 {
        let (name, arguments) = (NAMES[number % NAMES.len()], cases.next()?);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
        );
        let answer = client.clone().header("mcp-protocol-version", tests::mcp::LEGACY).post(body).await?;
        ensure!(
            answer.status.is_success() || answer.status.is_client_error(),
            "{arguments}: {} {}",
            answer.status,
            answer.text
        );
        let message = match answer.json() {
            // Valid, but beyond what this end can hold.
            Err(error) if format!("{error:#}").contains("number out of range") => continue,
            message => message?,
        };
        ensure!(message["result"].is_object() || message["error"]["code"].is_i64(), "{arguments}: {message}");
        for inside in ["panicked", ".rs:", "SQLSTATE", "CONTEXT"] {
            ensure!(!answer.text.contains(inside), "{inside} in the answer to {arguments}: {}", answer.text);
        }
    }
    Ok(())
}
