//! Dynamic registration (RFC 7591): what may register, and how much of it.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::database::Database;
use tests::idp::stub::StubProvider;
use tests::oauth::{Client, LOOPBACK, Reply, WEB, register};

use crate::grants::{assert_error, assert_good, count};
use crate::world::{self, Shared, Trials};

/// The longest registration that is read, in bytes.
const LONGEST: usize = 16 << 10;

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_35_dangerous_redirect_uris_are_not_registered,
        checklist_37_flood_is_limited_and_the_table_bounded,
        checklist_37_unused_clients_are_forgotten,
        checklist_37_registration_can_be_turned_off,
        checklist_61_registrations_that_are_none_are_refused,
        client_becomes_public_whatever_it_asks_for,
        only_allowed_private_schemes_are_registered,
    ]
}

async fn clients(database: &Database<'_>) -> Result<i64> {
    count(database, "SELECT count(*) FROM mcp.clients").await
}

/// A refusal that says which of the two words RFC 7591 §3.2.2 has.
fn assert_not_registered(reply: &Reply, error: &str, what: &str) -> Result<()> {
    ensure!(reply.status == StatusCode::BAD_REQUEST, "{what}: {} {}", reply.status, reply.text);
    assert_error(reply, error).with_context(|| what.to_owned())
}

async fn checklist_35_dangerous_redirect_uris_are_not_registered(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (stub, settings) = (StubProvider::start().await?, world.settings(&database)?);
    let frontend = stub.oidc(settings.set("MCP_LIMIT_REGISTER", "0")).start().await?;
    for uri in [
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:alert(1)",
        "\u{0}javascript:alert(1)",
        "javascript\u{0}:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "Data:text/html,x",
        "file:///etc/passwd",
        "blob:https://client.test/x",
        "filesystem:https://client.test/x",
        "vbscript:x",
        "about:blank",
        "mailto:a@b",
        "tel:1",
        "wss://client.test/",
        "view-source:https://client.test/",
        "ws://client.test/",
        "ftp://client.test/",
        "http://client.test/callback",
        "http://192.168.0.1/callback",
        "http://0.0.0.0/callback",
        "http://127.0.0.2/callback",
        "http://localhost.client.test/callback",
        "http://localhost@client.test/callback",
        "HTTPS://client.test/callback",
        "https://user:password@client.test/callback",
        "https://client.test/callback#fragment",
        "https://client.test/a b",
        "https://client.test\\@evil.test/",
        "https://cl\u{456}ent.test/callback",
        "https://",
        "https:",
        "//client.test/callback",
        "client.test/callback",
        "urn:ietf:wg:oauth:2.0:oob",
        "*",
        "",
        &format!("https://client.test/{}", "a".repeat(2048)),
    ] {
        for uris in [json!([uri]), json!([WEB, uri])] {
            let reply = register(&frontend.url(), &json!({"redirect_uris": uris})).await?;
            assert_not_registered(&reply, "invalid_redirect_uri", uri)?;
        }
    }
    assert_eq!(clients(&database).await?, 0);
    Ok(())
}

async fn checklist_37_flood_is_limited_and_the_table_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let bound = format!("ALTER DATABASE {} SET mcp.max_unused_clients = 20", database.name());
    database.superuser().await?.batch_execute(&bound).await?;
    let (stub, settings) = (StubProvider::start().await?, world.settings(&database)?);
    let settings = stub.oidc(settings.set("MCP_LIMIT_REGISTER", "0").set("MCP_LIMIT_TOKEN", "0"));
    let frontend = settings.start().await?;
    let used = Client::register(&frontend.url(), LOOPBACK).await?;
    let tokens = used.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    let known = "SELECT mcp.register_client('Editor', ARRAY['https://client.test/'], 'editor')";
    database.superuser().await?.query_one(known, &[]).await?;
    // Ten at a time, as a flood comes; all are answered, and none of them lasts.
    let floods = (0..10).map(|_| {
        let url = frontend.url();
        async move {
            for _ in 0..20 {
                let reply = register(&url, &json!({"redirect_uris": [WEB]})).await?;
                ensure!(reply.status == StatusCode::CREATED, "{} {}", reply.status, reply.text);
            }
            Ok::<_, anyhow::Error>(())
        }
    });
    try_join_all(floods).await?;
    // Whoever registers next sweeps what the parallel ones did not see of each other.
    let last = Client::register(&frontend.url(), LOOPBACK).await?;
    let unused = "SELECT count(*) FROM mcp.clients WHERE used_at IS NULL AND expires_at IS NOT NULL";
    assert_eq!(count(&database, unused).await?, 20);
    // Those in use are still there, and so are the newest.
    let tokens = used.refresh(&tokens.refresh).await?;
    assert_good(&frontend.url(), &tokens, "alice@example.com").await?;
    last.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.clients WHERE client_id = 'editor'").await?, 1);

    let limited = settings.replica()?.set("MCP_LIMIT_REGISTER", "5").start().await?;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let reply = register(&limited.url(), &json!({"redirect_uris": [WEB]})).await?;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            let seconds: u32 = reply.headers["retry-after"].to_str()?.parse()?;
            ensure!((1..=60).contains(&seconds), "{seconds}");
        }
        statuses.push(reply.status.as_u16());
    }
    assert_eq!(statuses[..5], [201; 5]);
    ensure!(statuses[5..].iter().filter(|&&status| status == 429).count() >= 4, "{statuses:?}");
    Ok(())
}

async fn checklist_37_unused_clients_are_forgotten(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let used = Client::register(&frontend.url(), LOOPBACK).await?;
    let tokens = used.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    let unused = Client::register(&frontend.url(), LOOPBACK).await?;
    let superuser = database.superuser().await?;
    // What an operator registered stays, used or not.
    for id in ["editor", "idle"] {
        superuser.query_one("SELECT mcp.register_client($1, ARRAY[$2], $1)", &[&id, &LOOPBACK]).await?;
    }
    let editor = Client::known(&frontend.url(), "editor", LOOPBACK);
    editor.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    let aged = "UPDATE mcp.clients SET expires_at = expires_at - interval '25 hours'";
    superuser.batch_execute(aged).await?;
    database.auth().await?.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    assert_eq!(clients(&database).await?, 3);
    let for_good = "SELECT count(*) FROM mcp.clients WHERE expires_at IS NULL";
    assert_eq!(count(&database, for_good).await?, 2);
    let page = unused.request("mcp").open(&Browser::new()).await?;
    assert_eq!((page.status, page.location()?), (StatusCode::BAD_REQUEST, None));
    // It is told in the word on which clients register anew.
    assert_error(&unused.token(&unused.refreshment(&tokens.refresh)).await?, "invalid_client")?;
    let tokens = used.refresh(&tokens.refresh).await?;
    assert_good(&frontend.url(), &tokens, "alice@example.com").await
}

async fn checklist_37_registration_can_be_turned_off(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (stub, settings) = (StubProvider::start().await?, world.settings(&database)?);
    let frontend = stub.oidc(settings.set("MCP_DYNAMIC_REGISTRATION", "off")).start().await?;
    let reply = register(&frontend.url(), &json!({"redirect_uris": [WEB]})).await?;
    assert_eq!((reply.status, reply.error()?.as_str()), (StatusCode::FORBIDDEN, "access_denied"));
    let url = format!("{}/.well-known/oauth-authorization-server", frontend.url());
    let document: Value = reqwest::get(url).await?.json().await?;
    ensure!(document.get("registration_endpoint").is_none(), "{document}");
    assert_eq!(document["client_id_metadata_document_supported"], true);
    assert_eq!(clients(&database).await?, 0);
    Ok(())
}

async fn checklist_61_registrations_that_are_none_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::known(&frontend.url(), "", WEB);
    let many: Vec<_> = (0..33).map(|number| format!("https://client.test/{number}")).collect();
    for body in [
        "".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        "{}".to_owned(),
        "\u{feff}{}".to_owned(),
        r#"{"redirect_uris": null}"#.to_owned(),
        r#"{"redirect_uris": "https://client.test/"}"#.to_owned(),
        r#"{"redirect_uris": {"0": "https://client.test/"}}"#.to_owned(),
        r#"{"redirect_uris": [1]}"#.to_owned(),
        r#"{"redirect_uris": [null]}"#.to_owned(),
        r#"{"redirect_uris": [["https://client.test/"]]}"#.to_owned(),
        r#"{"redirect_uris": ["https://client.test/"], "client_name": 7}"#.to_owned(),
        r#"{"redirect_uris": ["https://client.test/"], "redirect_uris": ["https://evil.test/"]}"#.to_owned(),
        r#"{"redirect_uris": ["https://client.test/"], "grant_types": ["implicit"]}"#.to_owned(),
        r#"{"redirect_uris": ["https://client.test/"], "grant_types": ["client_credentials"]}"#.to_owned(),
        r#"{"redirect_uris": ["https://client.test/"], "response_types": ["token"]}"#.to_owned(),
        json!({"redirect_uris": many}).to_string(),
        format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
    ] {
        let request = client.post("/register").header("content-type", "application/json").body(body.clone());
        let reply = client.send(request).await?;
        ensure!(reply.status == StatusCode::BAD_REQUEST, "{body:.80}: {} {}", reply.status, reply.text);
        ensure!(reply.error()?.starts_with("invalid_"), "{body:.80}: {}", reply.text);
    }
    let good = json!({"redirect_uris": [WEB]}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let request = client.post("/register").header("content-type", kind).body(good.clone());
        assert_error(&client.send(request).await?, "invalid_request")?;
    }
    let huge = json!({"redirect_uris": [WEB], "contacts": ["x".repeat(20_000)]});
    let reply = register(&frontend.url(), &huge).await?;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let padded = |length: usize| {
        let request = client.post("/register").header("content-type", "application/json");
        client.send(request.body(format!("{good:length$}")))
    };
    assert_eq!(padded(LONGEST + 1).await?.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(clients(&database).await?, 0);
    assert_eq!(padded(LONGEST).await?.status, StatusCode::CREATED);
    // What cannot be kept is left out, not choked on.
    for (name, value, kept) in [
        ("client_name", json!("a\u{0}b"), Some("ab")),
        ("client_name", json!("\u{0}"), None),
        ("client_uri", json!("https://client.test/\u{0}"), None),
        ("client_uri", json!("https://client.test/\u{202e}"), None),
        ("application_type", json!("<other>"), None),
        ("application_type", json!("web"), Some("web")),
        ("scope", json!("\u{0}"), None),
    ] {
        let mut metadata = json!({"redirect_uris": [WEB]});
        metadata[name] = value.clone();
        let reply = register(&frontend.url(), &metadata).await?;
        ensure!(reply.status == StatusCode::CREATED, "{name} {value}: {} {}", reply.status, reply.text);
        assert_eq!(reply.json()?.get(name).and_then(Value::as_str), kept, "{name} {value}");
    }
    Ok(())
}

async fn client_becomes_public_whatever_it_asks_for(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let metadata = json!({
        "redirect_uris": [LOOPBACK], "client_name": "  Claude\tCode ", "client_uri": "https://client.test/",
        "token_endpoint_auth_method": "client_secret_basic", "grant_types": ["authorization_code", "password"],
        "response_types": ["code"], "application_type": "native", "scope": "openid offline_access",
        "client_id": "chosen", "client_secret": "chosen too", "software_statement": "e30.e30.",
    });
    let reply = register(&frontend.url(), &metadata).await?;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    assert_eq!(reply.headers["cache-control"], "no-store");
    let answer = reply.json()?;
    assert_eq!(answer["token_endpoint_auth_method"], "none");
    assert_eq!(answer["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(answer["client_name"], "Claude Code");
    assert_eq!(answer["client_uri"], "https://client.test/");
    assert_eq!(answer["application_type"], "native");
    assert_eq!(answer["redirect_uris"], json!([LOOPBACK]));
    ensure!(answer.get("client_secret").is_none() && answer["client_id"] != "chosen", "{answer}");
    let kept = "SELECT client_name, client_uri FROM mcp.clients WHERE client_id = $1";
    let kept = database.superuser().await?.query_one(kept, &[&answer["client_id"].as_str()]).await?;
    assert_eq!((kept.get(0), kept.get(1)), (Some("Claude Code"), Some("https://client.test/")));
    let client = Client::known(&frontend.url(), answer["client_id"].as_str().unwrap_or_default(), LOOPBACK);
    let tokens = client.sign_in(&Browser::new(), "alice@example.com", "openid offline_access").await?;
    assert_eq!(tokens.scope, "mcp", "scopes that no tool needs are not granted, and it is said");
    Ok(())
}

async fn only_allowed_private_schemes_are_registered(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (stub, settings) = (StubProvider::start().await?, world.settings(&database)?);
    let frontend = stub.oidc(settings.set("MCP_REDIRECT_SCHEMES", "editor")).start().await?;
    let unknown = register(&frontend.url(), &json!({"redirect_uris": ["other://callback"]})).await?;
    assert_error(&unknown, "invalid_redirect_uri")?;
    let client = Client::register(&frontend.url(), "editor://callback").await?;
    let page = client.request("mcp").open(&Browser::new()).await?;
    ensure!(page.text.contains("class=\"warning\"") && page.text.contains("editor:"), "{}", page.text);
    let tokens = client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_good(&frontend.url(), &tokens, "alice@example.com").await
}
