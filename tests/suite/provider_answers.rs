//! What comes back from the identity provider, or says that it does: late, twice, from elsewhere, of another issuer.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tests::browser::{Browser, Page};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::idp::stub::StubProvider;
use tests::oauth::{Client, LOOPBACK, parameter};
use url::Url;

use crate::grants::{count, sessions};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_30_sign_in_older_than_ten_minutes_is_refused,
        checklist_30_answer_to_an_authorization_holds_once_and_in_its_browser,
        checklist_32_issuer_of_the_answer_is_compared,
        checklist_32_issuer_may_be_absent_where_it_was_never_promised,
        scope_that_cannot_be_kept_is_refused_at_the_start,
        what_cannot_be_kept_of_a_person_is_the_providers_fault,
    ]
}

/// Both kinds of sign-in under way, up to the callback: by hand, and for a client.
async fn under_way(frontend: &Frontend, client: &Client) -> Result<Vec<(&'static str, Browser, Url)>> {
    let by_hand = Browser::new();
    let callback = by_hand.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let browser = Browser::new();
    let request = client.request("mcp").set("login_hint", "alice@example.com");
    let for_client = browser
        .sign_in_until(&request.url(), "alice@example.com", |url| url.path() == "/auth/callback")
        .await?;
    Ok(vec![("by hand", by_hand, callback), ("for a client", browser, for_client)])
}

/// A page that says no, and nothing that anybody could use.
async fn assert_nothing(database: &Database<'_>, page: &Page) -> Result<()> {
    ensure!(page.status.is_client_error(), "{} {}", page.status, page.text);
    ensure!(page.location()?.is_none(), "a redirect");
    ensure!(!page.text.contains("mcps_") && !page.text.contains("mcpc_"), "{}", page.text);
    assert_eq!(sessions(database).await?, 0);
    assert_eq!(count(database, "SELECT count(*) FROM mcp.authorization_codes").await?, 0);
    Ok(())
}

async fn checklist_30_sign_in_older_than_ten_minutes_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let superuser = database.superuser().await?;
    for (what, browser, callback) in under_way(&frontend, &client).await? {
        let aged = "UPDATE mcp.sign_ins SET expires_at = expires_at - interval '601 seconds'";
        superuser.batch_execute(aged).await?;
        let page = browser.step(callback.as_str()).await?;
        assert_nothing(&database, &page).await.context(what)?;
        assert_eq!(page.json()?["error"], "sign_in_expired", "{what}");
        superuser
            .batch_execute("UPDATE mcp.sign_ins SET expires_at = expires_at + interval '601 seconds'")
            .await?;
    }
    assert_eq!(stub.token_requests(), Vec::<String>::new(), "no code is redeemed before the state holds");
    Ok(())
}

async fn checklist_30_answer_to_an_authorization_holds_once_and_in_its_browser(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let (_, browser, callback) = under_way(&frontend, &client).await?.pop().context("two kinds")?;
    for changed in ["", "x", &"x".repeat(43)] {
        let mut other = callback.clone();
        let pairs: Vec<_> = callback.query_pairs().into_owned().filter(|(key, _)| key != "state").collect();
        other.query_pairs_mut().clear().extend_pairs(pairs);
        if !changed.is_empty() {
            other.query_pairs_mut().append_pair("state", changed);
        }
        assert_nothing(&database, &browser.step(other.as_str()).await?).await?;
    }
    let twice =
        Url::parse(&format!("{callback}&state={}", parameter(&callback, "state").unwrap_or_default()))?;
    assert_nothing(&database, &browser.step(twice.as_str()).await?).await?;
    assert_nothing(&database, &Browser::new().step(callback.as_str()).await?).await?;
    assert_eq!(stub.token_requests(), Vec::<String>::new());
    // None of that spent it; this does.
    let answer = browser.step(callback.as_str()).await?.location()?.context("to the client")?;
    ensure!(parameter(&answer, "code").is_some(), "{answer}");
    let again = browser.step(callback.as_str()).await?;
    ensure!(again.status.is_client_error() && again.location()?.is_none(), "{} {}", again.status, again.text);
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.authorization_codes").await?, 1);
    assert_eq!(stub.token_requests().len(), 1);
    Ok(())
}

/// A provider that promises `iss` in its answers (RFC 9207), and a frontend that signs in there.
async fn promising(world: &Shared, database: &Database<'_>) -> Result<(Frontend, StubProvider)> {
    let stub = StubProvider::start().await?;
    stub.forge_metadata(|document| {
        document.insert("authorization_response_iss_parameter_supported".to_owned(), json!(true));
    });
    let frontend = stub.oidc(world.settings(database)?).start().await?;
    Ok((frontend, stub))
}

async fn checklist_32_issuer_of_the_answer_is_compared(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = promising(world, &database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let issuer = stub.issuer().to_owned();
    let wrong = [
        None,
        Some(String::new()),
        Some("https://evil.test".to_owned()),
        Some(format!("{issuer}/")),
        Some(issuer.to_uppercase()),
        Some(format!("{issuer}.evil.test")),
    ];
    for iss in wrong {
        for error in [false, true] {
            for (what, browser, mut callback) in under_way(&frontend, &client).await? {
                if error {
                    let state = parameter(&callback, "state").context("a state")?;
                    callback
                        .query_pairs_mut()
                        .clear()
                        .append_pair("error", "access_denied")
                        .append_pair("error_description", "call 0900-EVIL now")
                        .append_pair("state", &state);
                }
                if let Some(iss) = &iss {
                    callback.query_pairs_mut().append_pair("iss", iss);
                }
                let page = browser.html_step(callback.as_str()).await?;
                let what = format!("{what}, error {error}, iss {iss:?}: {} {}", page.status, page.text);
                ensure!(!page.text.contains("EVIL") && !page.text.contains("mcps_"), "{what}");
                match page.location()? {
                    // A client that waits for an answer gets one, in our words and under our name.
                    Some(answer) => {
                        ensure!(client.is_answer(&answer) && parameter(&answer, "code").is_none(), "{what}");
                        // Whoever it was that said no, the provider did not.
                        let told = parameter(&answer, "error");
                        ensure!(told.as_deref() == Some("temporarily_unavailable"), "{what}: {answer}");
                        ensure!(parameter(&answer, "iss") == Some(frontend.url()), "{what}: {answer}");
                        ensure!(!answer.as_str().contains("EVIL"), "{what}: {answer}");
                    }
                    None => ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{what}"),
                }
            }
        }
    }
    assert_eq!(
        stub.token_requests(),
        Vec::<String>::new(),
        "a code of nobody knows whom went to the provider"
    );
    assert_eq!(sessions(&database).await?, 0);
    for (_, browser, mut callback) in under_way(&frontend, &client).await? {
        callback.query_pairs_mut().append_pair("iss", &issuer);
        let page = browser.step(callback.as_str()).await?;
        ensure!(page.status == StatusCode::OK || page.location()?.is_some(), "{} {}", page.status, page.text);
    }
    assert_eq!(sessions(&database).await?, 1);
    Ok(())
}

async fn checklist_32_issuer_may_be_absent_where_it_was_never_promised(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    for (what, browser, callback) in under_way(&frontend, &client).await? {
        let mut wrong = callback.clone();
        wrong.query_pairs_mut().append_pair("iss", "https://evil.test");
        let page = browser.step(wrong.as_str()).await?;
        ensure!(page.status != StatusCode::OK, "{what}: {}", page.text);
        if let Some(answer) = page.location()? {
            ensure!(parameter(&answer, "code").is_none(), "{what}: {answer}");
        }
    }
    assert_eq!(stub.token_requests(), Vec::<String>::new());
    assert_eq!(sessions(&database).await?, 0);
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn scope_that_cannot_be_kept_is_refused_at_the_start(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let many = (0..101).map(|number| number.to_string()).collect::<Vec<_>>().join("+");
    for scope in ["a%22b", "a%00b", "a%0Ab", &"s".repeat(257), &"s".repeat(2000), &many] {
        let page = Browser::new().step(&format!("{}/auth/init?scope={scope}", frontend.url())).await?;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{scope:.40}: {}", page.text);
    }
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.sign_ins").await?, 0);
    Ok(())
}

async fn what_cannot_be_kept_of_a_person_is_the_providers_fault(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    stub.forge(|claims| {
        claims.insert("name".to_owned(), json!("a\u{0}b"));
    });
    for (at_page, at_client) in
        [("provider_error", "temporarily_unavailable"), ("internal_error", "server_error")]
    {
        let mut under_way = under_way(&frontend, &client).await?;
        let browser = Browser::new();
        let start = browser.html_step(&format!("{}/auth/sessions", frontend.url())).await?;
        let provider = start.location()?.context("to the provider")?;
        let callback =
            browser.sign_in_until(provider.as_str(), "nobody", |url| url.path() == "/auth/callback").await?;
        under_way.push(("for the page of sessions", browser, callback));
        for (what, browser, callback) in under_way {
            let page = browser.step(callback.as_str()).await?;
            match page.location()? {
                Some(answer) => {
                    ensure!(client.is_answer(&answer), "{what}: {answer}");
                    assert_eq!(parameter(&answer, "error").as_deref(), Some(at_client), "{what}");
                }
                None => assert_eq!(page.json()?["error"], at_page, "{what}"),
            }
        }
        assert_eq!(sessions(&database).await?, 0);
        // Once more with a person of whom all can be kept, and a database that takes nobody.
        stub.behave();
        let full = "ALTER TABLE mcp.sessions ADD CONSTRAINT takes_nobody CHECK (false) NOT VALID;
                    ALTER TABLE mcp.authorization_codes ADD CONSTRAINT takes_nobody CHECK (false) NOT VALID";
        if at_page == "provider_error" {
            database.superuser().await?.batch_execute(full).await?;
        }
    }
    Ok(())
}
