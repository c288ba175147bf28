//! The consent page: nobody is sent to the provider, and no client let in, without the person in that browser.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tests::browser::{Browser, Form, Page};
use tests::database::Database;
use tests::idp::stub::StubProvider;
use tests::oauth::{Client, LOOPBACK, Request, WEB, parameter, register};

use crate::grants::{assert_good, count, sessions};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_05_sign_in_of_an_attacker_ends_in_no_other_browser,
        checklist_05_provider_is_not_involved_before_consent,
        checklist_05_consent_of_one_user_is_not_anothers,
        checklist_31_planted_cookie_opens_nothing,
        checklist_34_consent_page_cannot_be_framed_or_posted_by_others,
        checklist_34_what_a_client_says_of_itself_is_shown_harmlessly,
        checklist_36_loopback_is_any_port_and_said_to_be_so,
        refusal_goes_back_to_the_client,
        consent_is_remembered_until_its_session_is_ended,
        client_that_anybody_could_be_is_asked_for_each_time,
    ]
}

/// How many sign-ins are under way, consents given and codes made.
async fn traces(database: &Database<'_>) -> Result<(i64, i64, i64)> {
    Ok((
        count(database, "SELECT count(*) FROM mcp.sign_ins").await?,
        count(database, "SELECT count(*) FROM mcp.consents").await?,
        count(database, "SELECT count(*) FROM mcp.authorization_codes").await?,
    ))
}

fn is_consent_page(page: &Page) -> bool {
    page.status == StatusCode::OK && page.text.contains("name=\"decision\"")
}

async fn checklist_05_sign_in_of_an_attacker_ends_in_no_other_browser(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let attacker = Browser::new();
    let request = client.request("mcp").set("login_hint", "victim@example.com");
    let provider = request.decide(&attacker, "allow").await?.location()?.context("consented")?;

    // The victim follows the provider's address, with no cookie of ours, and in the midst of a sign-in of their own.
    let busy = Browser::new();
    client.request("mcp").decide(&busy, "allow").await?;
    for victim in [Browser::new(), busy] {
        let callback = victim
            .sign_in_until(provider.as_str(), "victim@example.com", |url| url.path() == "/auth/callback")
            .await?;
        let page = victim.html_step(callback.as_str()).await?;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text);
        ensure!(page.location()?.is_none() && !page.text.contains("mcpc_"), "{}", page.text);
        let (_, consents, codes) = traces(&database).await?;
        assert_eq!((consents, codes, sessions(&database).await?), (0, 0, 0));
    }
    Ok(())
}

async fn checklist_05_provider_is_not_involved_before_consent(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let request = client.request("mcp");
    let browser = Browser::new();
    for time in 0..3 {
        let page = request.open(&browser).await?;
        ensure!(is_consent_page(&page), "{} {}", page.status, page.text);
        // A cookie that is there may hold a consent for longer than a new one would.
        assert_eq!(page.headers.contains_key("set-cookie"), time == 0);
        ensure!(!page.text.contains("<code>mcp</code>"), "a scope that every session has: {}", page.text);
        assert_eq!(traces(&database).await?, (0, 0, 0), "a GET leaves nothing");
    }
    let answered = request.decide(&browser, "allow").await?;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "a form is not posted on");
    let to = answered.location()?.context("a redirect")?;
    ensure!(to.as_str().starts_with(stub.issuer()), "{to}");
    assert_eq!(traces(&database).await?, (1, 0, 0), "consent holds when somebody has signed in");
    Ok(())
}

/// The consent page that a person comes to who signs in as `user` in a browser where `request` passed before.
async fn asked_after_all(browser: &Browser, request: &Request, user: &str) -> Result<Page> {
    let passed = request.open(browser).await?;
    let provider = passed.location()?.with_context(|| format!("not passed: {}", passed.text))?;
    let callback =
        browser.sign_in_until(provider.as_str(), user, |url| url.path() == "/auth/callback").await?;
    let page = browser.html_step(callback.as_str()).await?;
    let mut cookies = page.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let cookie = cookies.find(|cookie| cookie.starts_with("mcp_browser=")).context("a new secret")?;
    ensure!(cookie.contains("; Max-Age=600;"), "not for as long as a sign-in takes");
    let again = page.location()?.with_context(|| format!("no redirect: {} {}", page.status, page.text))?;
    ensure!(again.path() == "/authorize", "a code for somebody who never consented: {again}");
    browser.html_step(again.as_str()).await
}

async fn checklist_05_consent_of_one_user_is_not_anothers(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let browser = Browser::new();
    client.sign_in(&browser, "alice@example.com", "mcp").await?;
    let request = client.request("mcp").set("login_hint", "bob@example.com");
    let page = asked_after_all(&browser, &request, "bob@example.com").await?;
    ensure!(is_consent_page(&page), "{} {}", page.status, page.text);
    assert_eq!(page.form()?.get("state"), request.get("state"), "the client's request is still the same");
    let codes = "SELECT count(*) FROM mcp.authorization_codes WHERE redeemed_at IS NULL";
    assert_eq!(count(&database, codes).await?, 0);
    // Bob says yes, and it is his session.
    let mut form = page.form()?;
    form.set("decision", "allow");
    let provider = browser.post(&form).await?.location()?.context("to the provider")?;
    let answer =
        browser.sign_in_until(provider.as_str(), "bob@example.com", |url| client.is_answer(url)).await?;
    let tokens = client.redeem(&client.code(&request, answer)?).await?;
    assert_good(&frontend.url(), &tokens, "bob@example.com").await
}

async fn checklist_31_planted_cookie_opens_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, WEB).await?;
    let attacker = Browser::new();
    client.sign_in(&attacker, "mallory@example.com", "mcp").await?;
    let planted = attacker.cookie(&url, "mcp_browser")?.context("the browser is remembered")?;

    let victim = Browser::new();
    victim.plant(&url, &format!("mcp_browser={planted}; Path=/"))?;
    let request = client.request("mcp").set("login_hint", "alice@example.com");
    let page = asked_after_all(&victim, &request, "alice@example.com").await?;
    ensure!(is_consent_page(&page), "{} {}", page.status, page.text);
    let cookie = victim.cookie(&url, "mcp_browser")?.context("a new one")?;
    ensure!(cookie != planted, "the planted secret outlives the sign-in");

    let tokens = client.sign_in(&victim, "alice@example.com", "mcp").await?;
    let after = victim.cookie(&url, "mcp_browser")?.context("a new one")?;
    ensure!(after != cookie && after != planted, "a new secret for each sign-in");
    // The old secrets are worth nothing to whoever knows them: with either of them the person is asked.
    for known in [&planted, &cookie] {
        let spy = Browser::new();
        spy.plant(&url, &format!("mcp_browser={known}; Path=/"))?;
        let page = client.request("mcp").open(&spy).await?;
        let location = page.location()?;
        // Mallory's own consent holds in Mallory's browser still, and for Mallory alone.
        if known == &planted && location.is_some() {
            let request = client.request("mcp").set("login_hint", "alice@example.com");
            ensure!(is_consent_page(&asked_after_all(&spy, &request, "alice@example.com").await?));
        } else {
            ensure!(is_consent_page(&page), "{} {}", page.status, page.text);
        }
    }
    assert_good(&url, &tokens, "alice@example.com").await
}

async fn checklist_34_consent_page_cannot_be_framed_or_posted_by_others(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let request = client.request("mcp");
    let browser = Browser::new();
    let page = request.open(&browser).await?;
    let policy = page.headers["content-security-policy"].to_str()?.to_owned();
    ensure!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(page.headers["x-frame-options"], "DENY");
    assert_eq!(page.headers["cache-control"], "no-store");
    let mut good = page.form()?;
    good.set("decision", "allow");

    let changed = |change: &dyn Fn(&mut Form)| {
        let mut form = good.clone();
        change(&mut form);
        form
    };
    let others = client.request("mcp").open(&Browser::new()).await?.form()?;
    let another = client.request("mcp notes:admin").open(&browser).await?.form()?;
    let token = |form: &Form| form.get("token").unwrap_or_default().to_owned();
    let forms = [
        ("no token", changed(&|form| form.remove("token"))),
        ("an empty token", changed(&|form| form.set("token", ""))),
        ("another browser's token", changed(&|form| form.set("token", &token(&others)))),
        ("another request's token", changed(&|form| form.set("token", &token(&another)))),
        ("more scope", changed(&|form| form.set("scope", "mcp notes:admin"))),
        ("another state", changed(&|form| form.set("state", "x"))),
        ("another challenge", changed(&|form| form.set("code_challenge", &"a".repeat(43)))),
    ];
    for (what, form) in forms {
        let answer = browser.post(&form).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}: {}", answer.text);
        ensure!(answer.text.contains("name=\"decision\""), "{what}: the person decides anew");
        assert_eq!(traces(&database).await?, (0, 0, 0), "{what}");
    }
    // The right form in a browser without the cookie, and from pages of others.
    let answer = Browser::new().post(&good).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
    let cookie = browser.cookie(&frontend.url(), "mcp_browser")?.context("a cookie")?;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("origin", "https://evil.test"),
        ("origin", "null"),
    ] {
        let forged = client.post("/authorize").header("cookie", format!("mcp_browser={cookie}"));
        let answer = client.send(forged.header(name, value).form(&good.fields)).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
        assert_eq!(traces(&database).await?, (0, 0, 0), "{name}: {value}");
    }
    // Neither yes nor no.
    for decision in ["", "maybe", "ALLOW"] {
        let answer = browser.post(&changed(&|form| form.set("decision", decision))).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{decision:?}");
    }
    assert_eq!(traces(&database).await?, (0, 0, 0));
    // None of it spoilt the page.
    assert_eq!(browser.post(&good).await?.status, StatusCode::SEE_OTHER);
    Ok(())
}

async fn checklist_34_what_a_client_says_of_itself_is_shown_harmlessly(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let name = format!("<script>alert(1)</script>\u{202e}\u{200b}\u{0}<img src=x>\r\n{}", "Ω".repeat(5000));
    let metadata = json!({
        "client_name": name, "redirect_uris": [WEB],
        "logo_uri": "javascript:alert(1)", "client_uri": "javascript:alert(2)", "tos_uri": "data:text/html,x",
    });
    let reply = register(&frontend.url(), &metadata).await?;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let answer = reply.json()?;
    ensure!(answer.get("client_uri").is_none() && answer.get("logo_uri").is_none(), "{answer}");
    let client = Client::known(&frontend.url(), answer["client_id"].as_str().unwrap_or_default(), WEB);
    let state = "\"><script>alert(3)</script>";
    let request = client.request("mcp").set("state", state);
    let page = request.open(&Browser::new()).await?;
    for bad in
        ["<script>", "<img", "javascript:", "data:text", "\u{202e}", "\u{200b}", "\u{0}", &"Ω".repeat(60)]
    {
        ensure!(!page.text.contains(bad), "{bad:?} in {}", page.text);
    }
    ensure!(page.text.contains("<code>client.test</code>"), "it says where it leads: {}", page.text);
    assert_eq!(page.form()?.get("state"), Some(state), "and carries what the client sent, unharmed");
    Ok(())
}

async fn checklist_36_loopback_is_any_port_and_said_to_be_so(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    for (host, others) in [
        ("127.0.0.1", ["localhost", "[::1]"]),
        ("localhost", ["127.0.0.1", "[::1]"]),
        ("[::1]", ["127.0.0.1", "localhost"]),
    ] {
        let registered = Client::register(&url, &format!("http://{host}/callback")).await?;
        let client = Client::known(&url, &registered.id, &format!("http://{host}:4711/callback"));
        let page = client.request("mcp").open(&Browser::new()).await?;
        ensure!(is_consent_page(&page), "{host}: {} {}", page.status, page.text);
        ensure!(page.text.contains("class=\"warning\"") && page.text.contains(host), "{host}: {}", page.text);
        let tokens = client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
        assert_good(&url, &tokens, "alice@example.com").await?;
        for other in others {
            let request = client.request("mcp").set("redirect_uri", &format!("http://{other}:4711/callback"));
            let page = request.open(&Browser::new()).await?;
            assert_eq!((page.status, page.location()?), (StatusCode::BAD_REQUEST, None), "{host} {other}");
        }
    }
    let web = Client::register(&url, WEB).await?;
    let page = web.request("mcp").open(&Browser::new()).await?;
    ensure!(!page.text.contains("class=\"warning\""), "a host of the web is no program here: {}", page.text);
    Ok(())
}

async fn refusal_goes_back_to_the_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let request = client.request("mcp");
    let answer = request.decide(&Browser::new(), "deny").await?.location()?.context("a redirect")?;
    ensure!(client.is_answer(&answer), "{answer}");
    assert_eq!(parameter(&answer, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&answer, "state").as_deref(), request.get("state"));
    assert_eq!(parameter(&answer, "iss"), Some(frontend.url()));
    assert_eq!(traces(&database).await?, (0, 0, 0));
    Ok(())
}

async fn consent_is_remembered_until_its_session_is_ended(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let browser = Browser::new();
    let tokens = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    let passes = |scope: &'static str| {
        let (client, browser) = (&client, &browser);
        async move { Ok::<bool, anyhow::Error>(!is_consent_page(&client.request(scope).open(browser).await?)) }
    };
    ensure!(passes("mcp").await?, "asked twice for the same");
    ensure!(!passes("mcp notes:admin").await?, "not asked for more");
    client.revoke(&tokens.refresh).await?;
    ensure!(!passes("mcp").await?, "consent outlives the session that somebody ended");
    Ok(())
}

/// A frontend where clients may redirect to `editor:` links.
async fn with_private_scheme(
    world: &Shared,
    database: &Database<'_>,
) -> Result<(tests::frontend::Frontend, StubProvider)> {
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(database)?.set("MCP_REDIRECT_SCHEMES", "editor"));
    Ok((settings.start().await?, stub))
}

async fn client_that_anybody_could_be_is_asked_for_each_time(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = with_private_scheme(world, &database).await?;
    // What an operator registered is known to everybody; on the web nobody else is reached, on this device anybody may
    // be (RFC 8252 §8.6).
    let superuser = database.superuser().await?;
    for (uri, asked) in [(WEB, false), (LOOPBACK, true), ("editor://callback", true)] {
        superuser.query_one("SELECT mcp.register_client('Editor', ARRAY[$1], 'editor')", &[&uri]).await?;
        let client = Client::known(&frontend.url(), "editor", uri);
        let browser = Browser::new();
        client.sign_in(&browser, "alice@example.com", "mcp").await?;
        let page = client.request("mcp").open(&browser).await?;
        assert_eq!(is_consent_page(&page), asked, "{uri}: {} {}", page.status, page.text);
        // One that registered itself has an id that nobody else knows.
        let own = Client::register(&frontend.url(), uri).await?;
        own.sign_in(&browser, "alice@example.com", "mcp").await?;
        let page = own.request("mcp").open(&browser).await?;
        ensure!(!is_consent_page(&page), "{uri}: {} {}", page.status, page.text);
    }
    Ok(())
}
