//! Client metadata documents: what the server asks for, what it refuses, and what it keeps.
//!
//! Whoever comes to `/authorize` names the address, so each of these is something that a stranger can try.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::{Browser, Page as Shown};
use tests::cluster::free_port;
use tests::database::Database;
use tests::documents::{DocumentServer, Page};
use tests::frontend::Frontend;
use tests::idp::stub::Fault;
use tests::oauth::{Client, parameter};

use crate::world::{self, Shared, Trials};

const CALLBACK: &str = "http://localhost/callback";
const USER: &str = "alice@example.com";
/// What the specification recommends as the largest document.
const LARGEST: usize = 5 << 10;

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_15_addresses_inside_are_not_connected_to,
        checklist_15_redirects_of_a_document_are_not_followed,
        checklist_15_a_document_is_asked_for_without_credentials,
        what_a_document_says_of_its_client_is_shown_harmlessly,
        checklist_38_documents_with_faults_are_refused_and_not_kept,
        checklist_38_documents_that_come_slowly_are_refused,
        checklist_38_a_certificate_of_an_unknown_authority_is_refused,
        checklist_38_a_document_is_kept_as_long_as_it_says,
        checklist_38_documents_replace_what_was_kept,
        loopback_redirect_of_a_document_has_any_port_and_nothing_wider,
    ]
}

/// A frontend of `database` that reads the documents of `documents`.
async fn reader(world: &Shared, database: &Database<'_>, documents: &DocumentServer) -> Result<Frontend> {
    let settings = documents.trusted_by(world.settings(database)?);
    world.oidc().await?.register(settings).await?.start().await
}

/// What a fresh browser is shown that comes from the client `id`.
async fn open(frontend: &Frontend, id: &str) -> Result<Shown> {
    Client::known(&frontend.url(), id, CALLBACK).request("mcp").open(&Browser::new()).await
}

/// A page that says why, and no way on.
fn assert_refused(shown: &Shown, what: &str, reason: &str) -> Result<()> {
    ensure!(shown.status == StatusCode::BAD_REQUEST, "{what}: {} {}", shown.status, shown.text);
    ensure!(!shown.headers.contains_key("location"), "{what}: it redirects");
    ensure!(!shown.text.contains("<form"), "{what}: {}", shown.text);
    ensure!(shown.text.contains(reason), "{what}: expected {reason:?} in {}", shown.text);
    Ok(())
}

fn assert_asked(shown: &Shown, what: &str) -> Result<()> {
    ensure!(shown.status == StatusCode::OK, "{what}: {} {}", shown.status, shown.text);
    shown.form().map(drop)
}

/// Every way to write this computer, at a port where somebody listens and counts, and addresses of other insides.
async fn checklist_15_addresses_inside_are_not_connected_to(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let id = documents.publish_client("/client.json", &[CALLBACK]);
    let permitted = reader(world, &database, &documents).await?;
    // The same in every respect, the certificate's authority among them, but for the permission.
    let settings = permitted.settings().replica()?.unset("MCP_CIMD_ALLOW_LOOPBACK");
    let frontend = settings.start().await?;

    let port = documents.port();
    let here = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "127.0.0.2",
        "0.0.0.0",
        "[::]",
        "127.0.0.1.",
        "localhost.",
        "LOCALHOST",
    ];
    let elsewhere = [
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/latest/meta-data/",
        "https://100.64.0.1/client.json",
        "https://10.0.0.1/client.json",
        "https://[fd00::1]/client.json",
        "https://localhost/client.json",
        "https://intranet/client.json",
        "https://8.8.8.8/client.json",
        "https://client.example.com:8443/client.json",
        "https://client.example.com:80/client.json",
        "https://client.example.com:443/client.json",
        "https://user@client.example.com/client.json",
        "https://client.example.com/",
        "https://client.example.com/a/../client.json",
        "https://client.example.com/client.json#fragment",
    ];
    let ids = here.map(|host| format!("https://{host}:{port}/client.json"));
    for id in ids.iter().map(String::as_str).chain(elsewhere) {
        assert_refused(&open(&frontend, id).await?, id, "its address must be https")?;
    }
    // Not https: nothing that could be an address of a document, and no client of that name.
    for id in [format!("http://127.0.0.1:{port}/client.json"), "file:///etc/passwd".to_owned()] {
        assert_refused(&open(&frontend, &id).await?, &id, "not registered")?;
    }
    assert_eq!(documents.connections(), 0, "somebody was connected to");

    // The counter counts, and permission does not reach further than this computer.
    assert_asked(&open(&permitted, &id).await?, "the permitted frontend")?;
    assert_eq!(documents.connections(), 1);
    for id in elsewhere.iter().filter(|id| !id.starts_with("https://localhost")) {
        assert_refused(&open(&permitted, id).await?, id, "its address must be https")?;
    }
    Ok(())
}

async fn checklist_15_redirects_of_a_document_are_not_followed(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (documents, elsewhere) = (DocumentServer::start().await?, DocumentServer::start().await?);
    let frontend = reader(world, &database, &documents).await?;
    documents.publish_client("/moved.json", &[CALLBACK]);
    for (target, path) in [
        (documents.url("/moved.json"), "/here.json"),
        (elsewhere.publish_client("/client.json", &[CALLBACK]), "/there.json"),
        ("https://169.254.169.254/latest/meta-data/".to_owned(), "/metadata.json"),
        ("file:///etc/passwd".to_owned(), "/file.json"),
    ] {
        documents.publish(path, Page::Fault(Fault::Redirect(target)));
        assert_refused(&open(&frontend, &documents.url(path)).await?, path, "answer with status 200")?;
        assert_eq!(documents.requests(path), 1);
    }
    assert_eq!(documents.requests("/moved.json"), 0);
    assert_eq!(elsewhere.connections(), 0);
    Ok(())
}

async fn checklist_15_a_document_is_asked_for_without_credentials(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    // Nor by way of a proxy, which would resolve the name once more.
    let settings = documents.trusted_by(world.settings(&database)?).set("HTTPS_PROXY", "http://127.0.0.1:1");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let id = documents.publish_client("/client.json", &[CALLBACK]);
    let browser = Browser::new();
    browser.sign_in(&frontend.url(), USER).await?;
    assert_asked(
        &Client::known(&frontend.url(), &id, CALLBACK).request("mcp").open(&browser).await?,
        "client",
    )?;
    let headers = documents.last_headers();
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "host", "user-agent"], "the request says nothing of the visitor");
    Ok(())
}

async fn what_a_document_says_of_its_client_is_shown_harmlessly(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    let mut document = documents.document("/client.json", &[CALLBACK]);
    document["client_name"] = format!("<img src=x>\u{202e}\u{200b}{}", "Ω".repeat(1000)).into();
    documents.publish("/client.json", Page::Document(document, Vec::new()));
    let shown = open(&frontend, &documents.url("/client.json")).await?;
    assert_asked(&shown, "client")?;
    for bad in ["<img", "\u{202e}", "\u{200b}", &"Ω".repeat(60)] {
        ensure!(!shown.text.contains(bad), "{bad:?} in {}", shown.text);
    }
    // The name is the client's own word; who publishes it is known.
    let publisher = format!("Published by</dt><dd><code>127.0.0.1:{}</code>", documents.port());
    ensure!(shown.text.contains(&publisher), "{}", shown.text);
    Ok(())
}

/// What is found at the address, and what the person is told of it.
fn faulty(documents: &DocumentServer) -> Vec<(&'static str, Page, &'static str)> {
    let document = |path: &str, change: Value| {
        let mut document = documents.document(path, &[CALLBACK]);
        for (name, value) in change.as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        Page::Document(document, Vec::new())
    };
    let json = |body: String| Page::Fault(Fault::Body("application/json", body));
    let good = |path: &str| documents.document(path, &[CALLBACK]).to_string();
    let repeated =
        good("/repeated").replacen('{', &format!("{{\"client_id\":\"{}\",", documents.url("/repeated")), 1);
    let truncated = good("/truncated").trim_end_matches('}').to_owned();
    let padded = |path: &str, length: usize| {
        let body = good(path);
        let padding = " ".repeat(length - body.len());
        format!("{body}{padding}")
    };
    vec![
        ("/other-id", document("/other", json!({})), "its client_id is not its address"),
        ("/no-id", document("/no-id", json!({"client_id": null})), "not a JSON object"),
        ("/upper", document("/upper", json!({"client_id": documents.url("/UPPER")})), "its client_id is not"),
        (
            "/slash",
            document("/slash", json!({"client_id": documents.url("/slash/")})),
            "its client_id is not",
        ),
        ("/repeated", json(repeated), "not a JSON object"),
        ("/truncated", json(truncated), "not a JSON object"),
        ("/array", json("[]".to_owned()), "not a JSON object"),
        ("/nothing", json(String::new()), "not a JSON object"),
        ("/nameless", document("/nameless", json!({"client_name": " "})), "not a JSON object"),
        ("/too-long", json(padded("/too-long", LARGEST + 1)), "longer than 5 KB"),
        ("/flood", Page::Fault(Fault::Flood), "longer than 5 KB"),
        ("/html", Page::Fault(Fault::Body("text/html", good("/html"))), "Content-Type"),
        ("/text", Page::Fault(Fault::Body("text/plain", good("/text"))), "Content-Type"),
        ("/image", Page::Fault(Fault::Body("image/x+json", good("/image"))), "Content-Type"),
        ("/500", Page::Fault(Fault::Status(500)), "status 200"),
        ("/404", Page::Fault(Fault::Status(404)), "status 200"),
        ("/201", Page::Fault(Fault::Status(201)), "status 200"),
        ("/hangs-up", Page::Fault(Fault::Close), "cannot be fetched"),
        ("/script", document("/script", json!({"redirect_uris": ["javascript:alert(1)"]})), "redirect_uris"),
        ("/http", document("/http", json!({"redirect_uris": ["http://client.test/cb"]})), "redirect_uris"),
        ("/no-uris", document("/no-uris", json!({"redirect_uris": []})), "redirect_uris"),
        (
            "/secret",
            document("/secret", json!({"client_secret": "a-secret-of-the-client"})),
            "more than a public",
        ),
        (
            "/key",
            document("/key", json!({"token_endpoint_auth_method": "private_key_jwt"})),
            "more than a public",
        ),
    ]
}

async fn checklist_38_documents_with_faults_are_refused_and_not_kept(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    for (path, page, reason) in faulty(&documents) {
        documents.publish(path, page);
        let shown = open(&frontend, &documents.url(path)).await?;
        assert_refused(&shown, path, reason)?;
        for inside in ["secret-internal-detail", "a-secret-of-the-client", "javascript:"] {
            ensure!(!shown.text.contains(inside), "{path}: it passes on what it found: {}", shown.text);
        }
        // Mended, it is fine at once: what failed was not kept.
        assert_asked(&open(&frontend, &documents.publish_client(path, &[CALLBACK])).await?, path)?;
        assert_eq!(documents.requests(path), 2, "{path}");
    }

    // The largest that is read.
    let body = documents.document("/largest", &[CALLBACK]).to_string();
    let body = format!("{body}{}", " ".repeat(LARGEST - body.len()));
    documents.publish("/largest", Page::Fault(Fault::Body("application/json; charset=utf-8", body)));
    assert_asked(&open(&frontend, &documents.url("/largest")).await?, "/largest")
}

async fn checklist_38_documents_that_come_slowly_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    let slow = [("/drips", Fault::Drip), ("/stalls", Fault::Stall)];
    for (path, fault) in &slow {
        documents.publish(path, Page::Fault(fault.clone()));
    }
    let ids = slow.map(|(path, _)| documents.url(path));
    for (id, shown) in ids.iter().zip(try_join_all(ids.iter().map(|id| open(&frontend, id))).await?) {
        assert_refused(&shown, id, "longer than ten seconds")?;
    }
    Ok(())
}

async fn checklist_38_a_certificate_of_an_unknown_authority_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (known, unknown) = (DocumentServer::start().await?, DocumentServer::start().await?);
    let frontend = reader(world, &database, &known).await?;
    let id = unknown.publish_client("/client.json", &[CALLBACK]);
    assert_refused(&open(&frontend, &id).await?, "an unknown authority", "cannot be fetched")?;
    assert_eq!(unknown.requests("/client.json"), 0, "it was asked all the same");
    Ok(())
}

async fn checklist_38_a_document_is_kept_as_long_as_it_says(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    let mut asked = 0;
    // What it says, and how often it is asked for when it is needed three times.
    for (path, headers, requests) in [
        ("/silent", vec![], 1),
        ("/fresh", vec![("cache-control", "public, max-age=600".to_owned())], 1),
        ("/no-store", vec![("cache-control", "no-store".to_owned())], 3),
        ("/no-cache", vec![("cache-control", "no-cache".to_owned())], 3),
        ("/private", vec![("cache-control", "private, max-age=600".to_owned())], 3),
        ("/stale", vec![("cache-control", "max-age=60".to_owned()), ("age", "60".to_owned())], 3),
    ] {
        documents.publish(path, Page::Document(documents.document(path, &[CALLBACK]), headers));
        for _ in 0..3 {
            assert_asked(&open(&frontend, &documents.url(path)).await?, path)?;
        }
        assert_eq!(documents.requests(path), requests, "{path}");
        asked += requests;
    }
    assert_eq!(documents.connections(), asked, "an address is checked anew for each");
    Ok(())
}

/// A client takes a redirect URI back: from the moment the new document is read, nobody is sent there.
async fn checklist_38_documents_replace_what_was_kept(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    let briefly = |uri: &str| {
        let headers = vec![("cache-control", "max-age=1".to_owned())];
        Page::Document(documents.document("/client.json", &[uri]), headers)
    };
    documents.publish("/client.json", briefly(CALLBACK));
    let id = documents.url("/client.json");
    assert_asked(&open(&frontend, &id).await?, "the first document")?;
    documents.publish("/client.json", briefly("http://localhost/elsewhere"));
    tests::wait::wait_until("the new document to be read", Duration::from_secs(30), || async {
        let shown = open(&frontend, &id).await?;
        Ok(shown.status == StatusCode::BAD_REQUEST && shown.text.contains("has not registered"))
    })
    .await?;
    assert_eq!(documents.requests("/client.json"), 2);
    Ok(())
}

/// Applications choose their port when they start, and a document cannot know it (RFC 8252 §7.3): Claude Code's lists
/// `http://localhost/callback` alone.
async fn loopback_redirect_of_a_document_has_any_port_and_nothing_wider(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = reader(world, &database, &documents).await?;
    let id = documents.publish_client("/client.json", &[CALLBACK]);
    let port = free_port()?;
    let client = |uri: &str| Client::known(&frontend.url(), &id, uri);

    for uri in [
        CALLBACK.to_owned(),
        "http://localhost:1/callback".to_owned(),
        format!("http://localhost:{port}/callback"),
    ] {
        let shown = client(&uri).request("mcp").open(&Browser::new()).await?;
        assert_asked(&shown, &uri)?;
    }
    let wider = [
        "http://127.0.0.1:3118/callback",
        "http://[::1]:3118/callback",
        "http://localhost:3118/callback/",
        "http://localhost:3118/Callback",
        "http://localhost:3118/callback?x=1",
        "http://localhost:3118/callback#x",
        "http://localhost:3118/callback/../callback",
        "http://localhost:3118/call%62ack",
        "http://localhost:3118/",
        "http://localhost:0/callback",
        "http://localhost:65536/callback",
        "http://localhost:/callback",
        "https://localhost:3118/callback",
        "HTTP://localhost:3118/callback",
        "http://LOCALHOST:3118/callback",
        "http://user@localhost:3118/callback",
        "http://localhost:3118@evil.example/callback",
        "http://localhost.evil.example:3118/callback",
        "http://evil.example:3118/callback",
    ];
    for (uri, shown) in wider.iter().zip(
        join_all(wider.map(|uri| async move { client(uri).request("mcp").open(&Browser::new()).await }))
            .await,
    ) {
        assert_refused(&shown?, uri, "has not registered")?;
    }

    // The port that was asked with is part of what the code is bound to.
    let application = client(&format!("http://localhost:{port}/callback"));
    let browser = Browser::new();
    let mut code = application.authorize(&browser, USER, "mcp").await?;
    assert_eq!(code.answer.port(), Some(port));
    assert_eq!(parameter(&code.answer, "iss").context("iss")?, frontend.url());
    code.redirect_uri = CALLBACK.to_owned();
    assert_eq!(application.token(&application.redemption(&code)).await?.error()?, "invalid_grant");
    application.sign_in(&browser, USER, "mcp").await?;
    Ok(())
}
