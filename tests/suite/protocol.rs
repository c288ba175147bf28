//! What the specification asks of a server, requirement by requirement, in both eras: each row of the table is a test.
//!
//! The numbers T1 to T23 count the requirements of revision 2026-07-28 on a server of the Streamable HTTP transport, in
//! the order of its sections; those with a story of their own have a file of their own, and the number in the test's
//! name: T6 `cancellation`, T18 `progress`, T19 `changes`, T20 `rounds`. L1 and on are those of the revisions before it,
//! and E1 and on the rules that tell the eras apart.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};
use tests::frontend::Frontend;
use tests::mcp::{Answer, LEGACY, MODERN};
use tests::session::NewSession;
use tokio::sync::OnceCell;

use crate::world::{Shared, Trials};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const HEADER_MISMATCH: i64 = -32020;
const MISSING_CAPABILITY: i64 = -32021;
const UNSUPPORTED_VERSION: i64 = -32022;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_KEY: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// A requirement, and what is sent to see whether it is met.
struct Row {
    name: &'static str,
    cases: fn() -> Vec<Case>,
}

const ROWS: &[Row] = &[
    Row { name: "t01_one_message_a_post_and_no_responses", cases: t01 },
    Row { name: "t02_foreign_origins_and_hosts_are_refused", cases: t02 },
    Row { name: "t03_requests_are_answered_and_notifications_accepted", cases: t03 },
    Row { name: "t04_a_stream_has_notifications_then_the_answer", cases: t04 },
    Row { name: "t05_streams_are_not_buffered_and_not_resumed", cases: t05 },
    Row { name: "t07_headers_say_what_the_body_says", cases: t07 },
    Row { name: "t08_header_values_are_decoded_before_they_are_compared", cases: t08 },
    Row { name: "t09_parameter_headers_say_what_the_arguments_say", cases: t09 },
    Row { name: "t10_unsupported_versions_are_named", cases: t10 },
    Row { name: "t11_unknown_and_removed_methods_are_404", cases: t11 },
    Row { name: "t12_meta_is_required_but_for_the_name_of_the_client", cases: t12 },
    Row { name: "t13_missing_capabilities_are_named", cases: t13 },
    Row { name: "t14_every_result_has_its_type_and_its_server", cases: t14 },
    Row { name: "t15_discovery_tells_versions_capabilities_and_caching", cases: t15 },
    Row { name: "t16_lists_say_who_may_keep_them", cases: t16 },
    Row { name: "t17_no_request_depends_on_another", cases: t17 },
    Row { name: "t21_errors_of_tools_are_results", cases: t21 },
    Row { name: "t22_codes_and_ids_of_errors", cases: t22 },
    Row { name: "t23_nothing_is_left_of_transport_sessions", cases: t23 },
    Row { name: "l1_initialize_negotiates", cases: l1 },
    Row { name: "l2_versions_in_the_header_are_checked", cases: l2 },
    Row { name: "l3_errors_are_answers", cases: l3 },
    Row { name: "l4_results_have_nothing_of_the_newest_revision", cases: l4 },
    Row { name: "l5_batches_belong_to_2025_03_26", cases: l5 },
    Row { name: "l6_transport_sessions_are_never_asked_for", cases: l6 },
    Row { name: "e1_preflight_and_credentials_come_first", cases: e1 },
    Row { name: "e2_a_claim_or_a_header_makes_a_request_modern", cases: e2 },
    Row { name: "e3_the_first_fault_wins", cases: e3 },
    Row { name: "e4_codes_of_the_newest_revision_stay_there", cases: e4 },
];

pub fn tests(world: &Shared) -> Trials {
    let stage: Arc<OnceCell<Stage>> = Arc::default();
    let trial = |row: &'static Row| {
        let (world, stage) = (world.clone(), stage.clone());
        Trial::test(format!("protocol::{}", row.name), move || {
            world.run(async {
                let stage = stage.get_or_try_init(|| Stage::set(&world)).await?;
                stage.check(row).await
            })
        })
    };
    ROWS.iter().map(trial).collect()
}

/// A frontend with something of everything to call, for all rows.
struct Stage {
    frontend: Frontend,
    token: String,
}

impl Stage {
    async fn set(world: &Shared) -> Result<Self> {
        let database = world.database().await?;
        database
            .superuser()
            .await?
            .batch_execute(
                r#"CREATE FUNCTION app.followed() RETURNS text LANGUAGE plpgsql AS
                       $$ BEGIN PERFORM mcp.progress(1, 2); RAISE INFO 'half way'; PERFORM mcp.progress(2, 2);
                          RETURN 'done'; END $$;
                   CREATE FUNCTION app.routed(region text DEFAULT NULL, zone bigint DEFAULT NULL, urgent boolean DEFAULT NULL)
                       RETURNS text LANGUAGE sql AS $$ SELECT concat_ws('/', region, zone, urgent) $$;
                   CREATE FUNCTION app.ask_model() RETURNS text LANGUAGE sql AS $$ SELECT mcp.sample('m', '[]')::text $$;
                   CREATE FUNCTION app.page(id text) RETURNS text LANGUAGE sql AS $$ SELECT 'page ' || id $$;
                   CREATE FUNCTION app.greet(whom text) RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || whom $$;
                   CREATE FUNCTION app.known(typed text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT 'alice' $$;
                   SELECT mcp.expose_tool('app.followed()', name => 'followed'),
                          mcp.expose_tool('app.ask_model()', name => 'ask_model'),
                          mcp.expose_tool('app.routed(text, bigint, boolean)', name => 'routed', input_schema =>
                              '{"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"},
                                "zone": {"type": "integer", "x-mcp-header": "Zone"},
                                "urgent": {"type": "boolean", "x-mcp-header": "Urgent"}}}'),
                          mcp.expose_resource('app.whoami()', 'test://me', name => 'me'),
                          mcp.expose_resource('app.page(text)', 'test://page/{id}', name => 'page'),
                          mcp.expose_prompt('app.greet(text)', name => 'greet', completions => '{"whom": "app.known(text)"}')"#,
            )
            .await?;
        // It serves every row, and so outlives the one that sets it up.
        let frontend = world.lasting_frontend(&database).await?;
        let resource = frontend.resource();
        let session = NewSession::of("alice").at(&resource).create(&database.auth().await?).await?;
        Ok(Self { frontend, token: session.token })
    }

    /// Sends every case of a row, over one connection after the other, and names all that went wrong.
    async fn check(&self, row: &Row) -> Result<()> {
        let http = reqwest::Client::builder().http1_title_case_headers().build()?;
        let mut faults = Vec::new();
        for case in (row.cases)() {
            let what = case.what.clone();
            if let Err(error) = self.send(&http, case).await {
                faults.push(format!("{what}: {error:#}"));
            }
        }
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    }

    async fn send(&self, http: &reqwest::Client, case: Case) -> Result<()> {
        let mut request = http.request(case.method, self.frontend.resource());
        for (name, value) in &case.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        if case.authorized {
            request = request.bearer_auth(&self.token);
        }
        let id = case.message["id"].clone();
        let body = case.raw.unwrap_or_else(|| case.message.to_string());
        let answer = Answer::read(request.body(body).send().await?).await?;
        case.expected.check(&answer, &id).with_context(|| format!("{} {}", answer.status, answer.text))?;
        for (what, holds) in case.checks {
            ensure!(holds(&answer), "{what}: {} {:?} {}", answer.status, answer.headers, answer.text);
        }
        Ok(())
    }
}

/// What comes back.
enum Expected {
    Result,
    Error(u16, i64),
    /// An error of the request as a whole, with no id to answer to.
    Anonymous(u16, i64),
    /// An empty body.
    Empty(u16),
    Status(u16),
}

impl Expected {
    fn check(&self, answer: &Answer, id: &Value) -> Result<()> {
        let (status, code, id) = match self {
            Expected::Result => (200, None, Some(id)),
            Expected::Error(status, code) => (*status, Some(*code), Some(id)),
            Expected::Anonymous(status, code) => (*status, Some(*code), None),
            Expected::Empty(status) => {
                assert_eq!(answer.text, "");
                (*status, None, None)
            }
            Expected::Status(status) => (*status, None, None),
        };
        ensure!(answer.status.as_u16() == status, "expected {status}");
        if matches!(self, Expected::Empty(_) | Expected::Status(_)) {
            return Ok(());
        }
        let message = answer.json()?;
        ensure!(message["jsonrpc"] == "2.0", "no JSON-RPC");
        // Of the same JSON type; absent, and never null, where there is none to answer to.
        ensure!(message.get("id") == id, "expected the id {id:?}");
        match code {
            None => {
                ensure!(message["result"].is_object() && message.get("error").is_none(), "expected a result")
            }
            Some(code) => {
                ensure!(
                    message["error"]["code"] == code && message.get("result").is_none(),
                    "expected {code}"
                );
                ensure!(message["error"]["message"].is_string(), "an error without a message");
                ensure!(
                    answer.header("content-type") == Some("application/json"),
                    "an error that is no JSON"
                );
                // Some programs read the body line by line.
                ensure!(!answer.text.trim_end().contains('\n'), "an error of several lines");
            }
        }
        Ok(())
    }
}

type Check = (&'static str, fn(&Answer) -> bool);

/// A request, and what is expected of it.
struct Case {
    what: String,
    method: Method,
    headers: Vec<(String, String)>,
    authorized: bool,
    message: Value,
    /// The body, where it is not the message.
    raw: Option<String>,
    expected: Expected,
    checks: Vec<Check>,
}

impl Case {
    fn new(method: Method, message: Value, expected: Expected) -> Self {
        let headers =
            [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        Self {
            what: message["method"].as_str().unwrap_or(method.as_str()).to_owned(),
            method,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            authorized: true,
            message,
            raw: None,
            expected,
            checks: Vec::new(),
        }
    }

    fn named(mut self, what: &str) -> Self {
        self.what = format!("{}, {what}", self.what);
        self
    }

    /// With this header instead of the one of that name.
    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    fn meta(mut self, key: &str, value: Value) -> Self {
        self.message["params"]["_meta"][key] = value;
        self
    }

    fn without_meta(mut self, key: &str) -> Self {
        if let Some(meta) = self.message["params"]["_meta"].as_object_mut() {
            meta.remove(key);
        }
        self
    }

    fn id(mut self, id: Value) -> Self {
        self.message["id"] = id;
        self
    }

    fn raw(mut self, body: impl Into<String>) -> Self {
        self.raw = Some(body.into());
        self
    }

    fn anonymous(mut self) -> Self {
        self.authorized = false;
        self
    }

    fn gives(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    fn fails(self, status: u16, code: i64) -> Self {
        self.gives(Expected::Error(status, code))
    }

    fn holds(mut self, what: &'static str, check: fn(&Answer) -> bool) -> Self {
        self.checks.push((what, check));
        self
    }
}

/// A request of 2026-07-28 as it should be.
fn modern(method: &str, params: Value) -> Case {
    let mut params = params;
    let name = params
        .get(if method == "resources/read" { "uri" } else { "name" })
        .and_then(Value::as_str)
        .map(str::to_owned);
    params["_meta"] =
        json!({VERSION_KEY: MODERN, CLIENT_KEY: {"name": "suite", "version": "1"}, CAPABILITIES_KEY: {}});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let case = Case::new(Method::POST, message, Expected::Result)
        .header("mcp-protocol-version", MODERN)
        .header("mcp-method", method);
    match name {
        Some(name) if ["tools/call", "prompts/get", "resources/read"].contains(&method) => {
            case.header("mcp-name", name)
        }
        _ => case,
    }
}

/// A request of 2025-11-25 as it should be.
fn legacy(method: &str, params: Value) -> Case {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    Case::new(Method::POST, message, Expected::Result).header("mcp-protocol-version", LEGACY)
}

fn initialize(version: &str) -> Case {
    let client = json!({"name": "suite", "version": "1"});
    legacy("initialize", json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client}))
        .without("mcp-protocol-version")
        .named(version)
}

fn call(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

fn bare(method: Method) -> Case {
    Case::new(method, Value::Null, Expected::Status(405)).raw("")
}

fn response() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": {}})
}

fn result(answer: &Answer) -> Value {
    answer.result().unwrap_or_default()
}

fn error(answer: &Answer) -> Value {
    answer.json().map(|mut message| message["error"].take()).unwrap_or_default()
}

/// The messages of an answer that is a stream of events; none where it is not.
fn events(answer: &Answer) -> Vec<Value> {
    let data = answer.text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// Everything that has a result, in either era.
fn everything() -> Vec<(&'static str, Value)> {
    vec![
        ("tools/list", json!({})),
        ("tools/call", call("whoami", json!({}))),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({"uri": "test://me"})),
        ("resources/read", json!({"uri": "test://page/7"})),
        ("prompts/list", json!({})),
        ("prompts/get", call("greet", json!({"whom": "you"}))),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "whom", "value": "a"}}),
        ),
    ]
}

const CACHEABLE: [&str; 5] =
    ["tools/list", "resources/list", "resources/templates/list", "resources/read", "prompts/list"];

fn t01() -> Vec<Case> {
    let request = modern("tools/list", json!({}));
    let batch = json!([request.message]).to_string();
    vec![
        request.raw(batch).gives(Expected::Anonymous(400, INVALID_REQUEST)).named("in a batch"),
        modern("tools/list", json!({}))
            .raw("[]")
            .gives(Expected::Anonymous(400, INVALID_REQUEST))
            .named("an empty batch"),
        Case::new(Method::POST, response(), Expected::Anonymous(400, INVALID_REQUEST))
            .header("mcp-protocol-version", MODERN)
            .named("a response"),
        bare(Method::PUT),
        bare(Method::PATCH),
        modern("tools/list", json!({}))
            .header("content-type", "text/plain")
            .gives(Expected::Anonymous(415, INVALID_REQUEST)),
    ]
}

fn t02() -> Vec<Case> {
    let mut cases = Vec::new();
    for request in [|| modern("tools/list", json!({})), || legacy("tools/list", json!({}))] {
        for origin in ["https://evil.example", "null", "", "garbage", "http://127.0.0.1.evil.example"] {
            let case = request().header("origin", origin).named(&format!("of origin {origin:?}"));
            cases.push(case.gives(Expected::Anonymous(403, INVALID_REQUEST)));
        }
        for host in ["evil.example", "169.254.169.254"] {
            let case = request().header("host", host).named(&format!("to host {host}"));
            cases.push(case.gives(Expected::Anonymous(403, INVALID_REQUEST)));
        }
        cases.push(request().named("without an origin"));
    }
    cases
}

fn t03() -> Vec<Case> {
    let notice = || {
        Case::new(Method::POST, notification("notifications/x"), Expected::Empty(202))
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", "notifications/x")
    };
    let mut cases: Vec<_> = everything()
        .into_iter()
        .map(|(method, params)| {
            modern(method, params)
                .holds("one object", |answer| answer.header("content-type") == Some("application/json"))
        })
        .collect();
    // A client may accept less than this revision has it accept, as long as it is enough for the answer.
    for accept in ["application/json", "*/*"] {
        for case in [modern("tools/list", json!({})), legacy("ping", json!({})), initialize(LEGACY)] {
            cases.push(case.header("accept", accept).named(&format!("accepting {accept}")));
        }
    }
    cases.extend([
        notice(),
        notice().header("mcp-method", "notifications/y").gives(Expected::Anonymous(400, HEADER_MISMATCH)),
        Case::new(Method::POST, notification("notifications/initialized"), Expected::Empty(202)),
        Case::new(Method::POST, response(), Expected::Empty(202)).named("a response of the older revisions"),
    ]);
    cases
}

fn followed(case: fn(&str, Value) -> Case) -> Case {
    case("tools/call", call("followed", json!({}))).meta("progressToken", json!("p"))
}

fn t04() -> Vec<Case> {
    [modern, legacy]
        .into_iter()
        .map(|era| {
            followed(era)
                .holds("a stream", |answer| answer.header("content-type") == Some("text/event-stream"))
                .holds("of notifications, then the answer and the end", |answer| {
                    let messages = events(answer);
                    let (last, before) = messages.split_last().map_or((&Value::Null, &[][..]), |split| split);
                    last["result"].is_object()
                        && before.len() >= 2
                        && before
                            .iter()
                            .all(|message| message["method"].is_string() && message.get("id").is_none())
                })
                .holds("that relate to the request", |answer| {
                    let progress = "notifications/progress";
                    let messages = events(answer);
                    messages
                        .iter()
                        .filter(|message| message["method"] == progress)
                        .all(|message| message["params"]["progressToken"] == "p")
                })
        })
        .collect()
}

fn t05() -> Vec<Case> {
    [modern, legacy]
        .into_iter()
        .map(|era| {
            followed(era)
                .header("last-event-id", "7")
                .holds("not buffered", |answer| answer.header("x-accel-buffering") == Some("no"))
                .holds("not kept", |answer| {
                    answer.header("cache-control").is_some_and(|value| value.contains("no-"))
                })
                .holds("without event ids", |answer| !answer.text.lines().any(|line| line.starts_with("id:")))
        })
        .collect()
}

fn t07() -> Vec<Case> {
    let mut cases = Vec::new();
    for (method, params) in everything() {
        let request = || modern(method, params.clone()).fails(400, HEADER_MISMATCH);
        cases.extend([
            request().without("mcp-protocol-version").named("no version"),
            request().without("mcp-method").named("no method"),
            request().header("mcp-method", "ping").named("another method"),
            request().header("mcp-method", method.to_uppercase()).named("the method in capitals"),
            request().header("mcp-protocol-version", LEGACY).named("another version"),
            request().header("mcp-protocol-version", "").named("an empty version"),
        ]);
        if ["tools/call", "prompts/get", "resources/read"].contains(&method) {
            cases.extend([
                request().without("mcp-name").named("no name"),
                request().header("mcp-name", "other").named("another name"),
                request().header("mcp-name", "").named("an empty name"),
            ]);
        }
    }
    let mut twice =
        modern("tools/call", call("whoami", json!({}))).fails(400, HEADER_MISMATCH).named("two names");
    twice.headers.push(("mcp-name".into(), "whoami".into()));
    cases.push(twice);
    cases.push(
        modern("tools/list", json!({})).header("mcp-name", "anything").named("a name that nobody asked for"),
    );
    cases
}

fn t08() -> Vec<Case> {
    let request = || modern("tools/call", call("whoami", json!({})));
    let mut cases: Vec<_> = ["=?base64?d2hvYW1p?=", " whoami", "whoami\t", "\t whoami \t"]
        .into_iter()
        .map(|name| request().header("mcp-name", name).named(&format!("{name:?}")))
        .collect();
    // Padding, alphabet, markers and text have to be right.
    let wrong = [
        "=?base64?d2hvYW1p=?=",
        "=?base64?d2hvYW1?=",
        "=?base64?d2hv YW1p?=",
        "=?BASE64?d2hvYW1p?=",
        "=?base64?d2hvYW1p",
        "d2hvYW1p?=",
        "=?base64?/w==?=",
        "WHOAMI",
    ];
    cases.extend(wrong.into_iter().map(|name| {
        request().header("mcp-name", name).fails(400, HEADER_MISMATCH).named(&format!("{name:?}"))
    }));
    cases.push(request().header("mcp-method", " tools/call\t").named("a method with blanks"));
    cases
}

fn t09() -> Vec<Case> {
    let routed = |arguments: Value, headers: &[(&str, &str)]| {
        let case = modern("tools/call", call("routed", arguments.clone()));
        let case = headers.iter().fold(case, |case, (name, value)| case.header(name, *value));
        case.named(&format!("{arguments} {headers:?}"))
    };
    let (region, zone, urgent) = ("mcp-param-region", "mcp-param-zone", "Mcp-Param-Urgent");
    let right = [
        routed(json!({}), &[]),
        routed(json!({"region": null}), &[]),
        routed(json!({"region": "eu"}), &[(region, "eu")]),
        routed(json!({"region": "é"}), &[(region, "=?base64?w6k=?=")]),
        routed(json!({"region": "eu"}), &[("MCP-PARAM-REGION", " eu ")]),
        routed(json!({"zone": 7}), &[(zone, "7")]),
        routed(json!({"zone": 7}), &[(zone, "7.0")]),
        routed(json!({"urgent": true}), &[(urgent, "true")]),
        routed(
            json!({"region": "eu", "zone": -7, "urgent": false}),
            &[(region, "eu"), (zone, "-7"), (urgent, "false")],
        ),
        // A header that no argument is marked with is nobody's business.
        routed(json!({}), &[("mcp-param-other", "x")]),
    ];
    let wrong = [
        routed(json!({"region": "eu"}), &[]),
        routed(json!({"region": "eu"}), &[(region, "us")]),
        routed(json!({"region": "eu"}), &[(region, "EU")]),
        routed(json!({"region": "eu"}), &[(region, "")]),
        routed(json!({"region": "eu"}), &[(region, "=?base64?!?=")]),
        routed(json!({}), &[(region, "eu")]),
        routed(json!({"region": null}), &[(region, "eu")]),
        routed(json!({"zone": 7}), &[(zone, "8")]),
        routed(json!({"zone": 7}), &[(zone, "seven")]),
        routed(json!({"urgent": true}), &[(urgent, "1")]),
        routed(json!({"region": "eu", "zone": 7}), &[(region, "eu")]),
    ];
    let listed = modern("tools/list", json!({})).holds("the annotations reach clients", |answer| {
        let tools = result(answer)["tools"].take();
        let tools = tools.as_array().map_or(&[][..], Vec::as_slice);
        tools.iter().any(|tool| tool["inputSchema"]["properties"]["region"]["x-mcp-header"] == "Region")
    });
    // The older revisions have no such headers, and none are missed.
    let older = legacy("tools/call", call("routed", json!({"region": "eu"})));
    let wrong = wrong.into_iter().map(|case| case.fails(400, HEADER_MISMATCH));
    right.into_iter().chain(wrong).chain([listed, older]).collect()
}

fn t10() -> Vec<Case> {
    let versions = ["2099-01-01", "1900-01-01", "v999", LEGACY];
    let case = |version: &str| {
        modern("tools/list", json!({}))
            .header("mcp-protocol-version", version)
            .meta(VERSION_KEY, json!(version))
            .fails(400, UNSUPPORTED_VERSION)
            .named(version)
            .holds("names what it supports", |answer| error(answer)["data"]["supported"] == json!([MODERN]))
            .holds("and what was asked for", |answer| error(answer)["data"]["requested"].is_string())
    };
    versions.map(case).into()
}

fn t11() -> Vec<Case> {
    let methods = [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "unknown/method",
        "tools/LIST",
        "notifications/initialized",
        "tasks/get",
    ];
    let mut cases: Vec<_> =
        methods.map(|method| modern(method, json!({})).fails(404, METHOD_NOT_FOUND)).into();
    for id in [json!("text"), json!(0), json!(-7), json!(9_007_199_254_740_993_i64)] {
        cases.push(modern("unknown/method", json!({})).id(id).fails(404, METHOD_NOT_FOUND));
    }
    cases
}

fn t12() -> Vec<Case> {
    let request = || modern("tools/list", json!({}));
    let mut bare = request().named("no _meta at all");
    bare.message["params"] = json!({});
    let mut without_params = request().named("no params at all");
    if let Some(message) = without_params.message.as_object_mut() {
        message.remove("params");
    }
    let broken = [
        bare,
        without_params,
        request().without_meta(VERSION_KEY).named("no version"),
        request().without_meta(CAPABILITIES_KEY).named("no capabilities"),
        request().meta(VERSION_KEY, json!(7)).named("a version that is no text"),
        request().meta(CAPABILITIES_KEY, json!([])).named("capabilities that are no object"),
        request().meta(CAPABILITIES_KEY, Value::Null).named("capabilities that are null"),
    ];
    let mut cases: Vec<_> = broken.into_iter().map(|case| case.fails(400, INVALID_PARAMS)).collect();
    cases.push(request().without_meta(CLIENT_KEY).named("no client"));
    cases.push(
        request().meta(CLIENT_KEY, json!({"name": "admin", "version": ""})).named("a client that boasts"),
    );
    cases
}

fn t13() -> Vec<Case> {
    let request = || modern("tools/call", call("ask_model", json!({})));
    vec![
        request().fails(400, MISSING_CAPABILITY).holds("named", |answer| {
            error(answer)["data"]["requiredCapabilities"] == json!({"sampling": {}})
        }),
        request()
            .meta(CAPABILITIES_KEY, json!({"sampling": {}}))
            .holds("asked", |answer| result(answer)["resultType"] == "input_required"),
    ]
}

fn t14() -> Vec<Case> {
    let all = everything().into_iter().chain([
        ("server/discover", json!({})),
        ("tools/call", call("fail", json!({"message": "no"}))),
        ("tools/call", call("echo", json!({"number": "seven"}))),
        ("tools/call", call("echo", json!({"word": "\u{0}"}))),
    ]);
    all.map(|(method, params)| {
        modern(method, params).holds("complete", |answer| result(answer)["resultType"] == "complete").holds(
            "of a server",
            |answer| {
                let server = &result(answer)["_meta"][SERVER_KEY];
                server["name"].is_string() && server["version"].is_string()
            },
        )
    })
    .collect()
}

fn t15() -> Vec<Case> {
    vec![
        modern("server/discover", json!({}))
            .holds("versions", |answer| result(answer)["supportedVersions"] == json!([MODERN]))
            .holds("capabilities", |answer| {
                let capabilities = result(answer)["capabilities"].take();
                ["tools", "resources", "prompts", "completions", "logging"]
                    .iter()
                    .all(|name| capabilities[*name].is_object())
            })
            .holds("changes of lists", |answer| {
                let capabilities = result(answer)["capabilities"].take();
                ["tools", "resources", "prompts"]
                    .iter()
                    .all(|name| capabilities[*name]["listChanged"] == true)
            })
            .holds("caching", |answer| {
                let result = result(answer);
                result["ttlMs"].is_u64()
                    && (result["cacheScope"] == "private" || result["cacheScope"] == "public")
            }),
    ]
}

fn t16() -> Vec<Case> {
    let cacheable = everything().into_iter().filter(|(method, _)| CACHEABLE.contains(method));
    cacheable
        .map(|(method, params)| {
            modern(method, params)
                .holds("ttlMs", |answer| result(answer)["ttlMs"].is_u64())
                .holds("for the caller alone", |answer| result(answer)["cacheScope"] == "private")
        })
        .collect()
}

fn t17() -> Vec<Case> {
    // All of them over one connection, in this order: what one request says holds for no other.
    let sampling =
        modern("tools/call", call("ask_model", json!({}))).meta(CAPABILITIES_KEY, json!({"sampling": {}}));
    let list = |era: fn(&str, Value) -> Case| {
        era("tools/list", json!({})).holds("in order", |answer| {
            let tools = result(answer)["tools"].take();
            let names: Vec<_> =
                tools.as_array().into_iter().flatten().map(|tool| tool["name"].to_string()).collect();
            !names.is_empty() && names.is_sorted()
        })
    };
    vec![
        legacy("tools/call", call("whoami", json!({})))
            .without("mcp-protocol-version")
            .named("before initialize"),
        initialize(LEGACY),
        list(modern),
        sampling,
        modern("tools/call", call("ask_model", json!({})))
            .fails(400, MISSING_CAPABILITY)
            .named("not able any more"),
        list(legacy),
        modern("tools/list", json!({}))
            .without_meta(VERSION_KEY)
            .fails(400, INVALID_PARAMS)
            .named("no version any more"),
        modern("tools/list", json!({})).anonymous().gives(Expected::Status(401)).named("nobody any more"),
        list(modern),
    ]
}

fn t21() -> Vec<Case> {
    let mut cases = Vec::new();
    for era in [modern, legacy] {
        let failed = |name: &str, arguments: Value| {
            era("tools/call", call(name, arguments.clone()))
                .named(&format!("{name} {arguments}"))
                .holds("an error of the tool", |answer| result(answer)["isError"] == true)
        };
        cases.extend([
            era("tools/call", call("no_such_tool", json!({}))).fails(200, INVALID_PARAMS),
            era("tools/call", call("app.whoami()", json!({}))).fails(200, INVALID_PARAMS),
            era("prompts/get", call("no_such_prompt", json!({}))).fails(200, INVALID_PARAMS),
            failed("required", json!({})),
            failed("required", json!({"number": 1, "word": "a", "more": true})),
            failed("echo", json!({"number": "seven"})),
            failed("echo", json!({"number": 1.5})),
            failed("echo", json!({"id": "no uuid"})),
            failed("echo", json!({"word": "a\u{0}b"})),
            failed("fail", json!({"message": "no"})),
            era("tools/call", json!({"name": "whoami"})).named("without arguments"),
            era("tools/call", call("echo", json!({"number": 7})))
                .holds("structured", |answer| result(answer)["structuredContent"] == json!({"number": 7}))
                .holds("and as text", |answer| {
                    let text =
                        result(answer)["content"][0]["text"].as_str().map(serde_json::from_str::<Value>);
                    text.is_some_and(|text| text.is_ok_and(|value| value == json!({"number": 7})))
                }),
        ]);
    }
    cases.push(
        modern("resources/read", json!({"uri": "test://none"}))
            .fails(200, INVALID_PARAMS)
            .holds("which", |answer| error(answer)["data"]["uri"] == "test://none"),
    );
    cases
}

fn t22() -> Vec<Case> {
    let mut cases = Vec::new();
    for era in [modern, legacy] {
        let raw = |body: &str, code: i64| {
            era("tools/list", json!({}))
                .raw(body)
                .gives(Expected::Anonymous(400, code))
                .named(&format!("{body:?}"))
        };
        cases.extend([
            raw("", PARSE_ERROR),
            raw("{", PARSE_ERROR),
            raw("nonsense", PARSE_ERROR),
            raw("{}", INVALID_REQUEST),
            raw("7", INVALID_REQUEST),
            raw(r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#, INVALID_REQUEST),
            raw(r#"{"jsonrpc":"2.0","id":[1],"method":"tools/list"}"#, INVALID_REQUEST),
        ]);
        // What has an id that can be read is answered by it.
        cases.extend(
            [
                r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#,
                r#"{"jsonrpc":"2.0","id":1}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}"#,
            ]
            .map(|body| raw(body, INVALID_REQUEST).gives(Expected::Error(400, INVALID_REQUEST))),
        );
    }
    // -32002 is of the older revisions alone.
    cases.push(modern("resources/read", json!({"uri": "test://none"})).fails(200, INVALID_PARAMS));
    cases.push(legacy("resources/read", json!({"uri": "test://none"})).fails(200, -32002));
    cases
}

fn t23() -> Vec<Case> {
    let mut cases: Vec<_> = [Method::GET, Method::DELETE]
        .into_iter()
        .map(|method| bare(method).holds("says what is allowed", |answer| answer.header("allow").is_some()))
        .collect();
    let header = |case: Case| {
        case.header("mcp-session-id", "0123456789abcdef")
            .holds("no session id", |answer| answer.header("mcp-session-id").is_none())
    };
    cases.extend([
        header(modern("tools/list", json!({})).header("last-event-id", "7")),
        header(modern("server/discover", json!({}))),
        header(bare(Method::GET).header("mcp-protocol-version", MODERN)),
    ]);
    cases
}

fn l1() -> Vec<Case> {
    let mut cases: Vec<_> = [
        initialize(LEGACY).holds("the same", |answer| result(answer)["protocolVersion"] == LEGACY),
        initialize("2025-06-18")
            .holds("the same", |answer| result(answer)["protocolVersion"] == "2025-06-18"),
        initialize("2025-03-26")
            .holds("the same", |answer| result(answer)["protocolVersion"] == "2025-03-26"),
        initialize("2024-11-05").holds("the latest", |answer| result(answer)["protocolVersion"] == LEGACY),
        initialize("1999-01-01").holds("the latest", |answer| result(answer)["protocolVersion"] == LEGACY),
        initialize("garbage").holds("the latest", |answer| result(answer)["protocolVersion"] == LEGACY),
        initialize(LEGACY).holds("nothing that GET streams would be needed for", |answer| {
            let capabilities = result(answer)["capabilities"].take();
            ["tools", "resources", "prompts"].iter().all(|name| capabilities[*name]["listChanged"] != true)
        }),
    ]
    .into();
    cases.push(legacy("ping", json!({})).holds("empty", |answer| result(answer) == json!({})));
    cases.push(Case::new(Method::POST, notification("notifications/initialized"), Expected::Empty(202)));
    cases
}

fn l2() -> Vec<Case> {
    let mut cases: Vec<_> = [LEGACY, "2025-06-18", "2025-03-26"]
        .into_iter()
        .map(|version| legacy("tools/list", json!({})).header("mcp-protocol-version", version).named(version))
        .collect();
    cases.push(legacy("tools/list", json!({})).without("mcp-protocol-version").named("none"));
    for version in ["2024-11-05", "1999-01-01", "garbage", ""] {
        let case = legacy("tools/list", json!({})).header("mcp-protocol-version", version).named(version);
        cases.push(case.fails(400, INVALID_REQUEST));
    }
    cases
}

fn l3() -> Vec<Case> {
    let methods =
        ["no/such", "server/discover", "subscriptions/listen", "sampling/createMessage", "TOOLS/LIST"];
    // 404 would say that the session is gone.
    let mut cases: Vec<_> =
        methods.map(|method| legacy(method, json!({})).fails(200, METHOD_NOT_FOUND)).into();
    cases.extend([
        legacy("tools/call", json!({})).fails(200, INVALID_PARAMS),
        legacy("tools/call", call("whoami", json!([]))).fails(200, INVALID_PARAMS),
        legacy("tools/list", json!({"cursor": "none of ours"})).fails(200, INVALID_PARAMS),
        legacy("completion/complete", json!({})).fails(200, INVALID_PARAMS),
        legacy("prompts/get", call("greet", json!({"whom": "\u{0}"}))).fails(200, INVALID_PARAMS),
        // What no number can hold is refused in JSON as well.
        legacy("ping", json!({}))
            .raw(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":1e400}}"#)
            .fails(400, INVALID_REQUEST)
            .holds("in our words", |answer| error(answer)["data"]["error"] == "invalid_request"),
        initialize(LEGACY)
            .header("mcp-protocol-version", "2025-06-18")
            .gives(Expected::Status(400))
            .holds("which of the two is wrong", |answer| {
                error(answer)["message"].as_str().is_some_and(|said| !said.contains("cannot be read"))
            }),
    ]);
    cases
}

fn l4() -> Vec<Case> {
    let failing = ["no", "\u{0}"].map(|message| ("tools/call", call("fail", json!({"message": message}))));
    let all = everything().into_iter().chain(failing);
    all.map(|(method, params)| {
        legacy(method, params).holds("nothing of 2026-07-28", |answer| {
            let result = result(answer);
            ["resultType", "ttlMs", "cacheScope"].iter().all(|name| result.get(*name).is_none())
                && result["_meta"].get(SERVER_KEY).is_none()
        })
    })
    .chain([
        initialize(LEGACY).holds("nor in the handshake", |answer| result(answer).get("resultType").is_none())
    ])
    .collect()
}

fn l5() -> Vec<Case> {
    let two = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {"name": "whoami"}},
        {"jsonrpc": "2.0", "id": 3, "method": "no/such"},
    ]);
    let batch = |version: &str| {
        Case::new(Method::POST, two.clone(), Expected::Status(200)).header("mcp-protocol-version", version)
    };
    vec![
        batch("2025-03-26").holds("each answered once, in order", |answer| {
            let answers = answer.json().unwrap_or_default();
            let ids: Vec<_> = answers.as_array().into_iter().flatten().map(|one| one["id"].clone()).collect();
            ids == [json!(1), json!("two"), json!(3)]
        }),
        batch("2025-03-26")
            .raw(json!([notification("notifications/initialized")]).to_string())
            .gives(Expected::Empty(202)),
        // What its calls say on their way has no place in it.
        batch("2025-03-26")
            .raw(
                json!([{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
                         {"name": "followed", "_meta": {"progressToken": 1}}}])
                .to_string(),
            )
            .holds("one answer", |answer| {
                let answers = answer.json().unwrap_or_default();
                answers.as_array().is_some_and(|all| all.len() == 1) && answers[0]["result"].is_object()
            }),
        // One that cannot be read keeps none of the others from being answered.
        batch("2025-03-26")
            .raw(
                json!([{"jsonrpc": "2.0", "id": 1}, {"jsonrpc": "2.0", "id": 2, "method": "ping"}])
                    .to_string(),
            )
            .holds("an error and an answer", |answer| {
                let answers = answer.json().unwrap_or_default();
                answers[0]["error"]["code"] == INVALID_REQUEST && answers[1]["result"].is_object()
            }),
        batch("2025-03-26").raw("[]").gives(Expected::Anonymous(400, INVALID_REQUEST)),
        batch("2025-06-18").gives(Expected::Anonymous(400, INVALID_REQUEST)),
        batch(LEGACY).gives(Expected::Anonymous(400, INVALID_REQUEST)),
    ]
}

fn l6() -> Vec<Case> {
    let header = |case: Case| case.holds("no session id", |answer| answer.header("mcp-session-id").is_none());
    vec![
        // What another server minted says nothing here: a client that brings it along is not sent away.
        header(legacy("tools/list", json!({})).header("mcp-session-id", "0123456789abcdef")),
        // Nor is one named but where a client begins.
        header(legacy("ping", json!({}))),
        header(bare(Method::GET)),
        header(bare(Method::DELETE).header("mcp-session-id", "0123456789abcdef")),
    ]
}

fn e1() -> Vec<Case> {
    let mut cases = vec![
        Case::new(Method::OPTIONS, Value::Null, Expected::Status(204)).raw("").anonymous(),
        modern("tools/list", json!({}))
            .anonymous()
            .header("origin", "https://evil.example")
            .gives(Expected::Status(403)),
    ];
    for body in ["{", "[]", "", "{}"] {
        let case =
            legacy("tools/list", json!({})).anonymous().raw(body).named(&format!("{body:?} of nobody"));
        cases.push(case.gives(Expected::Status(401)));
    }
    for method in [Method::GET, Method::DELETE] {
        cases.push(bare(method).anonymous().gives(Expected::Status(401)));
    }
    cases
}

fn e2() -> Vec<Case> {
    let mut unclaimed = modern("tools/list", json!({})).named("a modern header alone");
    unclaimed.message["params"] = json!({});
    let mut handshake =
        initialize(LEGACY).header("mcp-protocol-version", MODERN).named("with a modern header");
    handshake.message["params"]["_meta"] = json!({});
    vec![
        unclaimed.fails(400, INVALID_PARAMS),
        handshake.fails(400, INVALID_PARAMS),
        modern("initialize", json!({"protocolVersion": LEGACY}))
            .fails(404, METHOD_NOT_FOUND)
            .named("with modern _meta"),
        modern("tools/list", json!({}))
            .without("mcp-protocol-version")
            .fails(400, HEADER_MISMATCH)
            .named("a claim alone"),
        modern("tools/list", json!({}))
            .header("mcp-protocol-version", "2026-07-29")
            .fails(400, HEADER_MISMATCH)
            .named("a later header"),
        legacy("tools/list", json!({"_meta": {"progressToken": 1}})).named("a _meta that claims nothing"),
        // Clients that speak both begin with this: it has to be an answer that they can read.
        legacy("server/discover", json!({})).without("mcp-protocol-version").fails(200, METHOD_NOT_FOUND),
    ]
}

fn e3() -> Vec<Case> {
    let version = |header: &str, body: &str| {
        modern("tools/list", json!({}))
            .header("mcp-protocol-version", header)
            .meta(VERSION_KEY, json!(body))
            .named(&format!("{header} and {body}"))
    };
    vec![
        modern("no/such", json!({}))
            .without_meta(CAPABILITIES_KEY)
            .without("mcp-method")
            .fails(400, INVALID_PARAMS)
            .named("_meta before headers"),
        version(MODERN, "v999").fails(400, HEADER_MISMATCH),
        version("v999", "v999").fails(400, UNSUPPORTED_VERSION),
        version("2099-01-01", "v999").fails(400, HEADER_MISMATCH),
        modern("no/such", json!({}))
            .header("mcp-method", "tools/list")
            .fails(400, HEADER_MISMATCH)
            .named("headers before methods"),
        modern("no/such", json!({}))
            .header("mcp-protocol-version", "2099-01-01")
            .meta(VERSION_KEY, json!("2099-01-01"))
            .fails(400, UNSUPPORTED_VERSION)
            .named("versions before methods"),
        modern("tools/call", call("ask_model", json!({})))
            .without("mcp-name")
            .fails(400, HEADER_MISMATCH)
            .named("headers before capabilities"),
    ]
}

fn e4() -> Vec<Case> {
    // Clients of both eras take these codes for a server of the newest one, and do not fall back.
    let none: Check = ("none of the codes", |answer| {
        let code = error(answer)["code"].as_i64().unwrap_or_default();
        !(-32099..=-32020).contains(&code)
    });
    let mut cases = vec![
        legacy("tools/list", json!({}))
            .header("mcp-method", "tools/call")
            .header("mcp-name", "other")
            .named("modern headers"),
        legacy("tools/list", json!({})).header("mcp-protocol-version", "v999").fails(400, INVALID_REQUEST),
        legacy("tools/call", call("ask_model", json!({}))),
        legacy("tools/call", call("routed", json!({"region": "eu"}))).header("mcp-param-region", "us"),
        initialize("v999"),
    ];
    for case in &mut cases {
        case.checks.push(none);
    }
    cases
}
