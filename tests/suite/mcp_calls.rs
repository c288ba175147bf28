//! Tools over MCP: both eras, both doors, scopes, and what the wire must and must not carry.

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::mcp::{Door, Era, LEGACY, MODERN, McpClient};
use tests::session::NewSession;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        both_eras_list_and_call,
        legacy_initialize_needs_no_transport_session,
        no_credential_is_challenged,
        checklist_25_two_credentials_that_differ_are_refused,
        checklist_25_cookie_door_is_shut_unless_opened,
        checklist_40_missing_scope_is_a_403_that_names_it,
        prompts_and_resources_name_the_scope_they_miss,
        prompts_and_resources_that_fail_say_why,
        tools_say_what_they_are,
        results_have_the_shape_of_their_type,
        tool_errors_carry_the_message_alone,
        checklist_49_read_only_tools_cannot_write,
        checklist_21_foreign_origin_and_host_are_refused,
        checklist_58_preflight_is_answered_before_authentication,
        metadata_of_the_protected_resource_is_served,
        checklist_59_other_methods_are_refused,
        unknown_paths_are_404,
        an_entry_that_cannot_be_read_hides_no_other,
        completion_knows_what_is_filled_in,
        what_ran_in_a_batch_is_answered,
        a_request_that_cannot_be_read_is_answered_by_its_id,
    ]
}

async fn signed_in(world: &Shared, scopes: &[&str]) -> Result<(tests::frontend::Frontend, String)> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).scoped(scopes).create(&auth).await?;
    Ok((frontend, session.token))
}

async fn both_eras_list_and_call(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    for era in [Era::Modern, Era::Legacy] {
        for door in [Door::Bearer, Door::Header] {
            let client = frontend.mcp(era).with(door, &token);
            let list = client.request("tools/list", json!({})).await?.result()?;
            let names: Vec<_> = list["tools"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tool| tool["name"].as_str())
                .collect();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            assert_eq!(names, sorted, "ordered by name");
            ensure!(names.contains(&"add_note") && names.contains(&"privileged"), "{names:?}");
            let result = client.call("echo", json!({"number": 7})).await?.result()?;
            assert_eq!(result["structuredContent"], json!({"number": 7}), "{result}");
            if era == Era::Modern {
                assert_eq!(result["resultType"], "complete");
                assert_eq!(list["resultType"], "complete");
                assert_eq!(list["cacheScope"], "private", "what a caller may call is nobody else's");
                ensure!(list["ttlMs"].is_u64());
            } else {
                ensure!(
                    result.get("resultType").is_none(),
                    "the older revision knows no resultType: {result}"
                );
            }
        }
    }
    let discover = frontend
        .mcp(Era::Modern)
        .with(Door::Bearer, &token)
        .request("server/discover", json!({}))
        .await?
        .result()?;
    ensure!(
        discover["supportedVersions"].as_array().is_some_and(|versions| versions.contains(&json!(MODERN))),
        "{discover}"
    );
    ensure!(discover["capabilities"]["tools"].is_object());
    Ok(())
}

async fn legacy_initialize_needs_no_transport_session(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &token);
    for version in [LEGACY, "2025-06-18", "2025-03-26"] {
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}});
        let answer = client.request("initialize", params).await?;
        assert_eq!(answer.result()?["protocolVersion"], version);
        // It tells clients apart that share a token, and is asked for nowhere.
        ensure!(
            answer.header("mcp-session-id").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_graphic()))
        );
    }
    let initialized =
        client.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await?;
    assert_eq!((initialized.status, initialized.text.as_str()), (StatusCode::ACCEPTED, ""));
    assert_eq!(client.request("ping", json!({})).await?.result()?, json!({}));
    // One that an older server minted is nothing to us: ignored, not refused.
    let stale = client.header("mcp-session-id", "0123456789abcdef").call("whoami", json!({})).await?;
    stale.tool_text()?;
    Ok(())
}

async fn no_credential_is_challenged(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    for era in [Era::Modern, Era::Legacy] {
        for client in [
            frontend.mcp(era),
            frontend.mcp(era).header("authorization", ""),
            frontend.mcp(era).header("authorization", "Bearer"),
            frontend.mcp(era).header("authorization", "Basic YWxpY2U6c2VjcmV0"),
            frontend.mcp(era).header("mcp-session-id", &token),
        ] {
            let answer = client.call("whoami", json!({})).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            ensure!(
                challenge.starts_with("Bearer ") && challenge.contains("resource_metadata=\""),
                "{challenge}"
            );
            ensure!(
                !challenge.contains("error="),
                "RFC 6750: no error where no credential came: {challenge}"
            );
            // Read by OAuth clients, which know no JSON-RPC.
            ensure!(!answer.text.contains("jsonrpc"), "{}", answer.text);
        }
    }
    // Nowhere else: not in the query, not in the body.
    let http = reqwest::Client::new();
    for name in ["access_token", "session_id", "token"] {
        let answer = http.post(format!("{}/mcp/v1?{name}={token}", frontend.url())).body("{}").send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    Ok(())
}

async fn checklist_25_two_credentials_that_differ_are_refused(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let (_, other) = signed_in(world, &[]).await?;
    let both = frontend.mcp(Era::Modern).with(Door::Bearer, &token).with(Door::Header, &other);
    assert_eq!(both.call("whoami", json!({})).await?.status, StatusCode::BAD_REQUEST);
    let same = frontend.mcp(Era::Modern).with(Door::Bearer, &token).with(Door::Header, &token);
    same.call("whoami", json!({})).await?.tool_text()?;
    // The same header twice is two credentials as well.
    let http = reqwest::Client::new();
    let request = http
        .post(frontend.resource())
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {other}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(request.send().await?.status(), StatusCode::BAD_REQUEST);
    Ok(())
}

async fn checklist_25_cookie_door_is_shut_unless_opened(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let shut = frontend.mcp(Era::Modern).with(Door::Cookie, &token).call("whoami", json!({})).await?;
    assert_eq!(shut.status, StatusCode::UNAUTHORIZED);
    let open = frontend.settings().replica()?.set("MCP_COOKIE_DOOR", "on").start().await?;
    open.mcp(Era::Modern).with(Door::Cookie, &token).call("whoami", json!({})).await?.tool_text()?;
    let mixed = open.mcp(Era::Modern).with(Door::Cookie, "mcps_other").with(Door::Bearer, &token);
    assert_eq!(mixed.call("whoami", json!({})).await?.status, StatusCode::BAD_REQUEST);
    Ok(())
}

async fn checklist_40_missing_scope_is_a_403_that_names_it(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &["mcp"]).await?;
    for era in [Era::Modern, Era::Legacy] {
        let answer = frontend.mcp(era).with(Door::Bearer, &token).call("privileged", json!({})).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        ensure!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
        ensure!(challenge.contains("notes:admin"), "{challenge}");
        ensure!(!answer.text.contains("\"privileged\""), "the tool did not run: {}", answer.text);
    }
    let (frontend, token) = signed_in(world, &["mcp", "notes:admin"]).await?;
    let answer = frontend.mcp(Era::Modern).with(Door::Bearer, &token).call("privileged", json!({})).await?;
    assert_eq!(answer.tool_text()?, "privileged");
    Ok(())
}

async fn prompts_and_resources_name_the_scope_they_miss(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    database
        .superuser()
        .await?
        .batch_execute(
            "CREATE FUNCTION app.page(id text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'page ' || id $$;
             SELECT mcp.expose_prompt('app.page(text)', name => 'page', scope => 'pages books'),
                    mcp.expose_resource('app.page(text)', 'test://page/{id}', scope => 'pages books')",
        )
        .await?;
    let auth = database.auth().await?;
    let of = |scopes: &'static [&str]| NewSession::of("alice").at(&frontend.resource()).scoped(scopes);
    let (less, enough) = (of(&["pages"]).create(&auth).await?, of(&["books", "pages"]).create(&auth).await?);
    let typed = json!({"name": "id", "value": ""});
    for (method, params, found) in [
        ("prompts/get", json!({"name": "page", "arguments": {"id": "7"}}), "page 7"),
        ("resources/read", json!({"uri": "test://page/7"}), "page 7"),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "page"}, "argument": typed}),
            "values",
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "test://page/{id}"}, "argument": typed}),
            "values",
        ),
    ] {
        for era in [Era::Modern, Era::Legacy] {
            let client = |token| frontend.mcp(era).with(Door::Bearer, token);
            let refused = client(&less.token).request(method, params.clone()).await?;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method}: {}", refused.text);
            let challenge = refused.header("www-authenticate").unwrap_or_default();
            ensure!(challenge.contains("error=\"insufficient_scope\""), "{method}: {challenge}");
            ensure!(challenge.contains("pages") && challenge.contains("books"), "{method}: {challenge}");
            ensure!(!refused.text.contains(found), "{method}: {}", refused.text);
            let result = client(&enough.token).request(method, params.clone()).await?.result()?;
            ensure!(result.to_string().contains(found), "{method}: {result}");
        }
    }
    Ok(())
}

async fn prompts_and_resources_that_fail_say_why(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let fixture = "CREATE FUNCTION app.page(id text) RETURNS text LANGUAGE plpgsql AS
                       $$ BEGIN RAISE 'page % is torn', id; END $$;
                   SELECT mcp.expose_prompt('app.page(text)', name => 'page'),
                          mcp.expose_resource('app.page(text)', 'test://page/{id}')";
    database.superuser().await?.batch_execute(fixture).await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    for (method, params) in [
        ("prompts/get", json!({"name": "page", "arguments": {"id": "7"}})),
        ("resources/read", json!({"uri": "test://page/7"})),
    ] {
        for era in [Era::Modern, Era::Legacy] {
            let client = frontend.mcp(era).with(Door::Bearer, &session.token);
            let answer = client.request(method, params.clone()).await?;
            assert_eq!((answer.status, answer.error_code()?), (StatusCode::OK, -32603), "{}", answer.text);
            assert_eq!(answer.json()?["error"]["message"], "page 7 is torn", "{method}");
        }
    }
    Ok(())
}

async fn tools_say_what_they_are(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let list = frontend
        .mcp(Era::Modern)
        .with(Door::Bearer, &token)
        .request("tools/list", json!({}))
        .await?
        .result()?;
    let tool = |name: &str| {
        list["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|tool| tool["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    let add = tool("add_note");
    assert_eq!(add["description"], "Adds a note.");
    assert_eq!(add["inputSchema"]["type"], "object");
    assert_eq!(add["inputSchema"]["required"], json!(["body"]));
    assert_eq!(add["inputSchema"]["properties"]["body"]["type"], "string");
    ensure!(add["annotations"]["readOnlyHint"] != true, "{add}");
    assert_eq!(tool("list_notes")["annotations"]["readOnlyHint"], true, "STABLE is announced");
    let echo = tool("echo");
    ensure!(
        echo["inputSchema"]["required"].as_array().is_none_or(Vec::is_empty),
        "defaults are not required: {echo}"
    );
    for (argument, kind) in
        [("number", "integer"), ("flag", "boolean"), ("list", "array"), ("amount", "number")]
    {
        let schema = echo["inputSchema"]["properties"][argument].to_string();
        ensure!(schema.contains(kind), "{argument}: {schema}");
    }
    Ok(())
}

async fn results_have_the_shape_of_their_type(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    // A scalar is one block of text.
    let id: i64 = client.call("add_note", json!({"body": "first"})).await?.tool_text()?.parse()?;
    ensure!(id > 0);
    // A table is rows, structured and as text.
    let listed = client.call("list_notes", json!({})).await?;
    let result = listed.result()?;
    assert_eq!(result["structuredContent"], json!({"rows": [{"id": id, "body": "first"}]}));
    let text: Value = serde_json::from_str(&listed.tool_text()?)?;
    ensure!(text.to_string().contains("first"));
    // Values come back as they went in.
    let arguments = json!({
        "number": -2147483648, "big": 9007199254740991_i64, "amount": 12345.678901, "word": "quote ' \" \\ \u{1F600} \u{202E}",
        "flag": false, "id": "0f8fad5b-d9cb-469f-a165-70867728950e", "at": "2026-01-02T03:04:05+00:00",
        "list": ["", "a,b", "{}", "NULL"], "document": {"a": [1, null, {"b": "c"}]},
    });
    let echoed = client.call("echo", arguments.clone()).await?.result()?["structuredContent"].take();
    assert_eq!(echoed, arguments);
    Ok(())
}

async fn tool_errors_carry_the_message_alone(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = frontend.mcp(era).with(Door::Bearer, &token);
        let answer = client.call("fail", json!({"message": "what the user should know"})).await?;
        assert_eq!(answer.tool_error()?, "what the user should know");
        for inside in [
            "internal-detail",
            "internal-hint",
            "P0077",
            "PL/pgSQL",
            "CONTEXT",
            "SQL statement",
            ".rs:",
            "app.fail",
        ] {
            ensure!(!answer.text.contains(inside), "{inside} reached the client: {}", answer.text);
        }
    }
    // A failed tool leaves nothing written.
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    let failing = "DO $do$ BEGIN INSERT INTO app.notes (body) VALUES ('half'); RAISE 'no'; END $do$";
    client.call("run", json!({"statement": failing})).await?.tool_error()?;
    assert_eq!(client.call("list_notes", json!({})).await?.result()?["structuredContent"]["rows"], json!([]));
    Ok(())
}

async fn checklist_49_read_only_tools_cannot_write(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SEQUENCE app.numbers;
             GRANT ALL ON SEQUENCE app.numbers TO mcp_user;
             GRANT TRUNCATE ON app.notes TO mcp_user;
             CREATE FUNCTION app.sly(statement text) RETURNS text LANGUAGE plpgsql STABLE AS
                 $$ DECLARE result text; BEGIN EXECUTE statement INTO result; RETURN result; END $$;
             CREATE FUNCTION app.slyer(statement text) RETURNS text LANGUAGE plpgsql STABLE AS
                 $$ BEGIN EXECUTE statement; RETURN 'done'; END $$;
             SELECT mcp.expose_tool('app.sly'::regproc), mcp.expose_tool('app.slyer'::regproc)",
        )
        .await?;
    let before = "SELECT jsonb_build_object('next', (SELECT last_value FROM app.numbers), 'called', (SELECT is_called FROM app.numbers),
                      'notes', (SELECT count(*) FROM app.notes), 'relations', (SELECT count(*) FROM pg_class))";
    let before_all: Value = superuser.query_one(before, &[]).await?.get(0);
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    let write = "INSERT INTO app.notes (body) VALUES ('written')";
    let statements = [
        write.to_owned(),
        format!("WITH w AS ({write} RETURNING 1) SELECT count(*) FROM w"),
        "UPDATE app.notes SET body = 'x'".to_owned(),
        "DELETE FROM app.notes".to_owned(),
        "TRUNCATE app.notes".to_owned(),
        "SELECT id FROM app.notes FOR UPDATE".to_owned(),
        "SELECT app.add_note('by a volatile function')".to_owned(),
        "SELECT nextval('app.numbers')".to_owned(),
        "SELECT setval('app.numbers', 100)".to_owned(),
        "COPY app.notes (body) FROM '/dev/null'".to_owned(),
        "COPY app.notes (body) FROM PROGRAM 'echo x'".to_owned(),
        format!("DO $do$ BEGIN {write}; END $do$"),
        format!("DO $do$ BEGIN SET LOCAL transaction_read_only = off; {write}; END $do$"),
        format!("SET TRANSACTION READ WRITE; {write}"),
        format!("DO $do$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); {write}; END $do$"),
        format!("COMMIT; {write}"),
        "CREATE TABLE app.mine ()".to_owned(),
        "CREATE TEMP TABLE mine ()".to_owned(),
        format!("PREPARE p AS {write}; EXECUTE p"),
        format!("EXPLAIN ANALYZE {write}"),
    ];
    for statement in &statements {
        for tool in ["sly", "slyer"] {
            let error = client.call(tool, json!({"statement": statement})).await?.tool_error();
            ensure!(error.is_ok(), "{tool} {statement}: {error:?}");
        }
    }
    let after: Value = superuser.query_one(before, &[]).await?.get(0);
    assert_eq!(after, before_all);
    // And the next call on the same connection can.
    client.call("add_note", json!({"body": "written"})).await?.tool_text()?;
    Ok(())
}

async fn checklist_21_foreign_origin_and_host_are_refused(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let client = || frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    for origin in ["https://evil.test", "null", "http://127.0.0.1.evil.test", "http://127.0.0.1:1", "garbage"]
    {
        let answer = client().header("origin", origin).call("whoami", json!({})).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}: {}", answer.text);
    }
    for host in ["evil.test", "127.0.0.1.evil.test", "169.254.169.254", "[::ffff:1.2.3.4]"] {
        let answer = client().header("host", host).call("whoami", json!({})).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{host}: {}", answer.text);
        // Before anything else is looked at: without a credential the answer is the same.
        let anonymous = frontend.mcp(Era::Modern).header("host", host).call("whoami", json!({})).await?;
        assert_eq!(anonymous.status, StatusCode::FORBIDDEN);
    }
    for method in [Method::GET, Method::DELETE, Method::POST] {
        let answer = client().header("origin", "https://evil.test").bare(method.clone()).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method}: {}", answer.text);
        let answer = client().header("host", "evil.test").bare(method.clone()).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method}: {}", answer.text);
    }
    // What a proxy says of the host opens no door that the host itself does not.
    let named = client().header("host", "evil.test").header("x-forwarded-host", "127.0.0.1");
    assert_eq!(named.call("whoami", json!({})).await?.status, StatusCode::FORBIDDEN);
    for headers in
        [("x-forwarded-host", "evil.test"), ("x-forwarded-proto", "https"), ("forwarded", "host=evil.test")]
    {
        let answer = frontend.mcp(Era::Modern).header(headers.0, headers.1).call("whoami", json!({})).await?;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        ensure!(challenge.contains(&frontend.url()) && !challenge.contains("evil"), "{challenge}");
    }
    Ok(())
}

async fn checklist_58_preflight_is_answered_before_authentication(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_ALLOWED_ORIGINS", "https://app.test");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let preflight = |origin: &'static str| {
        reqwest::Client::new()
            .request(Method::OPTIONS, frontend.resource())
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization, content-type, mcp-protocol-version, mcp-method, mcp-name",
            )
            .send()
    };
    let allowed = preflight("https://app.test").await?;
    ensure!(allowed.status().is_success());
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.test");
    let headers = allowed.headers()["access-control-allow-headers"].to_str()?.to_lowercase();
    for header in [
        "authorization",
        "content-type",
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "x-mcp-session-id",
    ] {
        ensure!(headers.contains(header), "{header} is not allowed: {headers}");
    }
    let foreign = preflight("https://evil.test").await?;
    ensure!(!foreign.headers().contains_key("access-control-allow-origin"));
    let answer =
        frontend.mcp(Era::Modern).header("origin", "https://app.test").call("whoami", json!({})).await?;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_lowercase();
    ensure!(exposed.contains("www-authenticate"), "{exposed}");
    Ok(())
}

async fn metadata_of_the_protected_resource_is_served(world: &Shared) -> Result<()> {
    let (frontend, _) = signed_in(world, &[]).await?;
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp/v1"] {
        let answer = reqwest::get(format!("{}{path}", frontend.url())).await?;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let document: Value = answer.json().await?;
        assert_eq!(document["resource"], frontend.resource());
        ensure!(document["authorization_servers"].as_array().is_some_and(|servers| !servers.is_empty()));
    }
    Ok(())
}

async fn checklist_59_other_methods_are_refused(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::PATCH, Method::TRACE] {
        let answer = frontend.mcp(Era::Modern).with(Door::Bearer, &token).bare(method.clone()).await?;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    Ok(())
}

async fn unknown_paths_are_404(world: &Shared) -> Result<()> {
    let (frontend, _) = signed_in(world, &[]).await?;
    for path in [
        "/",
        "/nothing",
        "/mcp",
        "/mcp/v2",
        "/auth",
        "/metrics",
        "/live",
        "/ready",
        "/mcp/v1/../../etc/passwd",
        "/%00",
    ] {
        let status = reqwest::get(format!("{}{path}", frontend.url())).await?.status();
        ensure!(status == StatusCode::NOT_FOUND, "{path}: {status}");
    }
    Ok(())
}

async fn an_entry_that_cannot_be_read_hides_no_other(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE FUNCTION app.page() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'text'::text $$;
             SELECT mcp.expose_resource('app.page()', 'test://annotations/right', annotations => '{\"audience\": [\"user\"],
                                            \"priority\": 0.5, \"lastModified\": \"2026-01-01T00:00:00Z\", \"other\": []}'),
                    mcp.expose_resource('app.page()', 'test://annotations/wrong');
             UPDATE mcp.resources SET annotations = '{\"audience\": \"user\"}' WHERE uri = 'test://annotations/wrong'",
        )
        .await?;
    let session = NewSession::of("alice")
        .at(&format!("{}/mcp/v1", frontend.url()))
        .create(&database.auth().await?)
        .await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = frontend.mcp(era).with(Door::Bearer, &session.token);
        let list = client.request("resources/list", json!({})).await?.result()?;
        let listed: Vec<_> = list["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|resource| resource["uri"].as_str()?.strip_prefix("test://annotations/"))
            .collect();
        assert_eq!(listed, ["right"], "{list}");
    }
    frontend.logged("test://annotations/wrong").await?;
    Ok(())
}

/// The answers to a batch, by their ids.
async fn batch(client: &McpClient, messages: Value) -> Result<(StatusCode, Value)> {
    let answer =
        client.clone().header("mcp-protocol-version", "2025-03-26").post(messages.to_string()).await?;
    Ok((answer.status, answer.json()?))
}

async fn completion_knows_what_is_filled_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    database
        .superuser()
        .await?
        .batch_execute(
            "CREATE FUNCTION app.trip(country text, city text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT country || city $$;
             CREATE FUNCTION app.cities(typed text, filled_in jsonb) RETURNS SETOF text LANGUAGE sql STABLE
                 AS $$ SELECT typed || ' in ' || coalesce(filled_in ->> 'country', 'anywhere') $$;
             SELECT mcp.expose_prompt('app.trip(text, text)', completions => '{\"city\": \"app.cities(text, jsonb)\"}')",
        )
        .await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    let asked =
        json!({"ref": {"type": "ref/prompt", "name": "trip"}, "argument": {"name": "city", "value": "Par"}});
    for (context, expected) in
        [(json!({"arguments": {"country": "France"}}), "Par in France"), (Value::Null, "Par in anywhere")]
    {
        let mut asked = asked.clone();
        if !context.is_null() {
            asked["context"] = context;
        }
        let result = client.request("completion/complete", asked).await?.result()?;
        assert_eq!(result["completion"]["values"], json!([expected]), "{result}");
    }
    Ok(())
}

async fn what_ran_in_a_batch_is_answered(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &token);
    let call = |id: i64, name: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    let writes = call(1, "add_note", json!({"body": "kept"}));
    let refused = call(2, "privileged", json!({}));
    let (status, answers) =
        batch(&client, json!([writes, refused, call(3, "echo", json!({"n": 1}))])).await?;
    assert_eq!(status, StatusCode::OK, "{answers}");
    assert_eq!(answers.as_array().map(Vec::len), Some(3), "{answers}");
    for (at, id) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(answers[at]["id"], id, "{answers}");
    }
    ensure!(answers[0]["result"].is_object() && answers[2]["result"].is_object(), "{answers}");
    assert_eq!(answers[1]["error"]["data"]["error"], "insufficient_scope", "{answers}");
    assert_eq!(answers[1]["error"]["code"], -32600, "{answers}");
    // Where nothing was answered yet, HTTP says it.
    let (status, _) = batch(&client, json!([refused, writes])).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    Ok(())
}

async fn a_request_that_cannot_be_read_is_answered_by_its_id(world: &Shared) -> Result<()> {
    let (frontend, token) = signed_in(world, &[]).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &token);
    for (message, id) in [
        (json!({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": []}), json!(7)),
        (json!({"jsonrpc": "2.0", "id": "x", "method": "ping", "params": null}), json!("x")),
        (json!({"jsonrpc": "2.0", "id": 8}), json!(8)),
        (json!({"jsonrpc": "1.0", "id": 9, "method": "ping"}), json!(9)),
        (json!({"jsonrpc": "2.0", "id": [7], "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": null, "method": "ping"}), Value::Null),
    ] {
        let answer = client.post(message.to_string()).await?;
        assert_eq!((answer.status, answer.error_code()?), (StatusCode::BAD_REQUEST, -32600), "{message}");
        assert_eq!(answer.json()?["id"], id, "{message}");
    }
    Ok(())
}
