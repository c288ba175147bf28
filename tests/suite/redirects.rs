//! Where browsers are sent back to: exactly where the client registered, and never anywhere else.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tests::browser::Browser;
use tests::oauth::{Client, LOOPBACK, WEB, parameter, register};
use url::Url;

use crate::grants::{count, sessions};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_06_redirect_uri_matches_exactly,
        checklist_32_answers_carry_the_issuer,
        checklist_32_refusal_of_the_provider_reaches_the_client_without_its_words,
        checklist_60_repeated_parameters_are_refused,
        parameters_that_cannot_be_kept_are_refused,
    ]
}

async fn checklist_06_redirect_uri_matches_exactly(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let metadata = json!({"redirect_uris": [WEB, LOOPBACK, "https://client.test/with?query=1"]});
    let answer = register(&frontend.url(), &metadata).await?.json()?;
    let id = answer["client_id"].as_str().context("an id")?;
    let client = Client::known(&frontend.url(), id, WEB);
    let browser = Browser::new();
    let good = client.request("mcp").open(&browser).await?.form()?;
    for uri in [
        "",
        "https://client.test/callback/",
        "https://client.test/Callback",
        "https://CLIENT.test/callback",
        "https://client.test:443/callback",
        "https://client.test:8443/callback",
        "https://client.test/callback?x=1",
        "https://client.test/callback?",
        "https://client.test/callback#",
        "https://client.test/callback#x",
        "https://client.test/callback/../callback",
        "https://client.test/./callback",
        "https://client.test//callback",
        "https://client.test/call%62ack",
        "https://client.test/callback%2f..%2f",
        "https://client.test/callback;x",
        "https://client.test\\callback",
        "https://client.test/callback\\",
        "https://client.test@evil.test/callback",
        "https://user@client.test/callback",
        "https://client.test:x@evil.test/callback",
        "https://evil.test\\@client.test/callback",
        "https://evil.test/https://client.test/callback",
        "https://client.test.evil.test/callback",
        "https://evilclient.test/callback",
        "https://client.test%2eevil.test/callback",
        "https://*/callback",
        "https://client.test/*",
        " https://client.test/callback",
        "https://client.test/callback ",
        "https://client.test/callback\n",
        "https://client.test/callback\u{0}",
        "https://client.test\u{2f}\u{2f}callback",
        "http://client.test/callback",
        "//client.test/callback",
        "/callback",
        "javascript:alert(1)//https://client.test/callback",
        "data:text/html,<script>",
        "https://client.test/with",
        "https://client.test/with?query=2",
        "https://client.test/with?query=1&more=2",
        "http://127.0.0.1:9/other",
        "http://127.0.0.1:9/callback/",
        "http://127.0.0.1:9/callback?x",
        "http://localhost:9/callback",
        "http://[::1]:9/callback",
        "http://127.0.0.1:9@evil.test/callback",
        "http://127.0.0.1.evil.test/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:99999/callback",
        "http://127.1:9/callback",
        "http://0x7f000001:9/callback",
        "https://127.0.0.1:9/callback",
    ] {
        let page = client.request("mcp").set("redirect_uri", uri).open(&browser).await?;
        ensure!(page.status == StatusCode::BAD_REQUEST, "{uri:?}: {} {}", page.status, page.text);
        ensure!(page.location()?.is_none(), "{uri:?} is sent on");
        ensure!(!page.text.contains("evil.test"), "{uri:?} is repeated: {}", page.text);
        // Not even with a consent that was given.
        let mut form = good.clone();
        form.set("redirect_uri", uri);
        form.set("decision", "allow");
        let page = browser.post(&form).await?;
        ensure!(page.status == StatusCode::BAD_REQUEST, "{uri:?} posted: {} {}", page.status, page.text);
        ensure!(page.location()?.is_none(), "{uri:?} is sent on when posted");
    }
    for id in ["", "nobody", &id.to_uppercase(), &format!("{id} "), "%00", "\u{0}", "https://evil.test/x"] {
        let page = client.request("mcp").set("client_id", id).open(&browser).await?;
        ensure!(page.status == StatusCode::BAD_REQUEST, "{id:?}: {} {}", page.status, page.text);
        ensure!(page.location()?.is_none(), "{id:?} is sent on");
    }
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.sign_ins").await?, 0);
    for uri in [WEB, LOOPBACK, "http://127.0.0.1:50000/callback", "https://client.test/with?query=1"] {
        let page = client.request("mcp").set("redirect_uri", uri).open(&browser).await?;
        ensure!(page.status == StatusCode::OK, "{uri}: {} {}", page.status, page.text);
    }
    Ok(())
}

async fn checklist_32_answers_carry_the_issuer(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let document: serde_json::Value =
        reqwest::get(format!("{}/.well-known/oauth-authorization-server", frontend.url()))
            .await?
            .json()
            .await?;
    assert_eq!(document["authorization_response_iss_parameter_supported"], true);
    let issuer = document["issuer"].as_str().map(str::to_owned);
    let code = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_eq!(parameter(&code.answer, "iss"), issuer);
    assert_eq!(parameter(&code.answer, "error"), None);
    let request = client.request("mcp");
    for (request, error) in [
        (request.clone().set("response_type", "token"), "unsupported_response_type"),
        (request.clone().without("response_type"), "invalid_request"),
        (request.clone().set("response_mode", "fragment"), "invalid_request"),
        (request.clone().set("response_mode", "form_post"), "invalid_request"),
        (request.clone().set("scope", "a\"b"), "invalid_scope"),
        (request.clone().set("resource", "https://other.test/"), "invalid_target"),
        (request.clone().set("request", "e30.e30."), "request_not_supported"),
        (request.clone().set("request_uri", "https://evil.test/r"), "request_uri_not_supported"),
    ] {
        let page = request.open(&Browser::new()).await?;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{error}: {}", page.text);
        let answer = page.location()?.context("a redirect")?;
        ensure!(client.is_answer(&answer), "{answer}");
        assert_eq!(parameter(&answer, "error").as_deref(), Some(error));
        assert_eq!(parameter(&answer, "state").as_deref(), request.get("state"), "{error}");
        assert_eq!(parameter(&answer, "iss"), issuer, "{error}");
        assert_eq!(page.headers["cache-control"], "no-store");
    }
    let answer = request.clone().without("response_type").open(&Browser::new()).await?.location()?;
    let description = parameter(&answer.context("a redirect")?, "error_description");
    assert_eq!(description.as_deref(), Some("response_type is missing."));
    // What says the same as leaving it out.
    for (name, value) in [("response_mode", "query"), ("resource", &format!("{}/", frontend.resource()))] {
        let page = request.clone().set(name, value).open(&Browser::new()).await?;
        assert_eq!(page.status, StatusCode::OK, "{name}={value}: {}", page.text);
    }
    Ok(())
}

async fn checklist_32_refusal_of_the_provider_reaches_the_client_without_its_words(
    world: &Shared,
) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    for (said, expected) in [
        ("access_denied", "access_denied"),
        ("login_required", "access_denied"),
        ("<script>", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("invalid_scope", "temporarily_unavailable"),
    ] {
        let browser = Browser::new();
        let request = client.request("mcp");
        let provider = request.decide(&browser, "allow").await?.location()?.context("consented")?;
        let mut callback = Url::parse(&format!("{}/auth/callback", frontend.url()))?;
        callback
            .query_pairs_mut()
            .append_pair("error", said)
            .append_pair("error_description", "call 0900-EVIL now")
            .append_pair("error_uri", "https://evil.test/")
            .append_pair("state", &parameter(&provider, "state").context("a state")?);
        let answer = browser.html_step(callback.as_str()).await?.location()?.context("back to the client")?;
        ensure!(client.is_answer(&answer), "{answer}");
        assert_eq!(parameter(&answer, "error").as_deref(), Some(expected), "{said}");
        assert_eq!(parameter(&answer, "state").as_deref(), request.get("state"));
        assert_eq!(parameter(&answer, "iss"), Some(frontend.url()));
        ensure!(!answer.as_str().contains("EVIL") && !answer.as_str().contains("evil"), "{answer}");
    }
    assert_eq!(stub.token_requests(), Vec::<String>::new());
    assert_eq!(sessions(&database).await?, 0);
    // Why is for the operator.
    let log = frontend.logged("the provider answered").await?;
    ensure!(log.contains("access_denied"), "{log}");
    Ok(())
}

async fn checklist_60_repeated_parameters_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let browser = Browser::new();
    let request = client.request("mcp").set("resource", &frontend.resource());
    let request = request.set("login_hint", "alice@example.com");
    // Who asks and where the answer goes have to be beyond doubt before anybody is sent anywhere.
    for (name, second) in [
        ("client_id", client.id.as_str()),
        ("client_id", "x"),
        ("redirect_uri", WEB),
        ("redirect_uri", LOOPBACK),
    ] {
        for twice in [
            request.clone().and(name, second),
            request.clone().without(name).and(name, second).and(name, second),
        ] {
            let page = twice.open(&browser).await?;
            assert_eq!((page.status, page.location()?), (StatusCode::BAD_REQUEST, None), "{name} {second}");
        }
    }
    for name in [
        "response_type",
        "code_challenge",
        "code_challenge_method",
        "scope",
        "state",
        "resource",
        "login_hint",
    ] {
        for second in [request.get(name).unwrap_or_default(), "x"] {
            let page = request.clone().and(name, second).open(&browser).await?;
            let answer = page.location()?.with_context(|| format!("{name}={second}: {}", page.text))?;
            ensure!(client.is_answer(&answer), "{answer}");
            assert_eq!(parameter(&answer, "error").as_deref(), Some("invalid_request"), "{name}={second}");
            assert_eq!(parameter(&answer, "iss"), Some(frontend.url()));
        }
    }
    // The answer of the consent page, too.
    let mut good = request.open(&browser).await?.form()?;
    good.set("decision", "allow");
    for name in ["decision", "scope", "client_id"] {
        let mut form = good.clone();
        form.fields.push((name.to_owned(), "deny".to_owned()));
        let page = browser.post(&form).await?;
        let refused = page.status.is_client_error()
            || page.location()?.is_some_and(|answer| parameter(&answer, "error").is_some());
        ensure!(refused, "{name}: {} {}", page.status, page.text);
    }
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.sign_ins").await?, 0);
    Ok(())
}

async fn parameters_that_cannot_be_kept_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let browser = Browser::new();
    let long = "s".repeat(5000);
    for (name, value) in [
        ("state", "a\u{0}b"),
        ("state", &long),
        ("scope", "mcp\u{0}"),
        ("resource", "\u{0}"),
        ("login_hint", "a\nb"),
    ] {
        let page = client.request("mcp").set(name, value).open(&browser).await?;
        let answer = page.location()?.with_context(|| format!("{name}: {} {}", page.status, page.text))?;
        ensure!(client.is_answer(&answer), "{answer}");
        ensure!(parameter(&answer, "error").is_some(), "{name}: {answer}");
    }
    // A hint at who signs in that is longer than any address is not passed on.
    for (length, passed_on) in [(320, Some(320)), (321, None)] {
        let request = client.request("mcp").set("login_hint", &"a".repeat(length));
        let provider = request.decide(&browser, "allow").await?.location()?.context("consented")?;
        assert_eq!(parameter(&provider, "login_hint").map(|hint| hint.len()), passed_on);
    }
    // Whatever of text a client has in its state comes back as it was.
    for state in ["ä\u{1F600} &=+%20\"'<>", "\u{feff}\u{202e}", "{\"a\": [1]}", &"s".repeat(4000)] {
        let request = client.request("mcp").set("state", state).set("login_hint", "alice@example.com");
        let answer =
            browser.sign_in_until(&request.url(), "alice@example.com", |url| client.is_answer(url)).await?;
        assert_eq!(parameter(&answer, "state").as_deref(), Some(state));
    }
    Ok(())
}
