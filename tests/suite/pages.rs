//! The pages for people: in a real browser, in both colour schemes, on a phone and on a desk, judged for accessibility; and
//! what their forms refuse.

use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::chromium;
use tests::cluster::free_port;
use tests::frontend::Frontend;
use tests::idp::dev::DevProvider;
use tests::ledger;
use tests::mcp::{Door, Era};
use tests::session::NewSession;

use crate::world::{self, Shared, Trials};

const USER: &str = "alice@example.com";

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        token_page_gives_a_token_that_works,
        checklist_34_36_consent_is_read_refused_and_given_by_keyboard,
        checklist_53_57_sessions_are_seen_and_ended_in_a_browser,
        errors_are_pages_that_say_where_to_go_on,
        everything_works_without_javascript,
        development_provider_asks_who_one_is,
        checklist_34_no_other_page_can_end_a_session,
        checklist_46_57_the_page_is_not_kept_and_its_cookie_opens_nothing_else,
        checklist_53_nobody_ends_the_session_of_somebody_else,
        checklist_53_programs_list_and_end_sessions_as_json,
        when_the_pages_session_ends_the_browser_signs_in_again,
        a_session_that_somebody_planted_ends_with_the_sign_in,
        a_session_presented_in_a_header_opens_the_page_too,
        a_cookie_that_does_not_hold_is_taken_away,
    ]
}

fn browse(scenario: &str, frontend: &Frontend, more: Value) -> Result<Value> {
    let mut input = json!({"frontend": frontend.url()});
    for (name, value) in more.as_object().into_iter().flatten() {
        input[name] = value.clone();
    }
    tokio::task::block_in_place(|| chromium::run(scenario, input))
}

async fn assert_is_alice(frontend: &Frontend, token: &Value) -> Result<()> {
    let token = token.as_str().context("a token")?;
    let answer = frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?;
    let me: Value = serde_json::from_str(&answer.tool_text()?)?;
    assert_eq!(me["subject"], USER);
    Ok(())
}

async fn token_page_gives_a_token_that_works(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let result = browse("token", &frontend, json!({}))?;
    assert_is_alice(&frontend, &result["token"]).await
}

async fn checklist_34_36_consent_is_read_refused_and_given_by_keyboard(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let result = browse("consent", &frontend, json!({}))?;
    assert_is_alice(&frontend, &result["token"]).await
}

async fn checklist_53_57_sessions_are_seen_and_ended_in_a_browser(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    browse("sessions", &frontend, json!({}))?;
    Ok(())
}

async fn errors_are_pages_that_say_where_to_go_on(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let limited = world.settings(&database)?.set("MCP_LIMIT_SIGN_IN", "2");
    let limited = world.oidc().await?.register(limited).await?.start().await?;
    let nowhere = format!("postgres://mcp_frontend_auth@127.0.0.1:{}/nowhere", free_port()?);
    let broken = world.settings(&database)?.set("DATABASE_URL", &nowhere);
    let broken = world.oidc().await?.register(broken).await?.start().await?;
    browse("errors", &frontend, json!({"limited": limited.url(), "broken": broken.url()}))?;
    Ok(())
}

async fn everything_works_without_javascript(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let result = browse("scriptless", &frontend, json!({}))?;
    assert_is_alice(&frontend, &result["token"]).await
}

async fn development_provider_asks_who_one_is(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?;
    let provider = DevProvider::start(&settings.callback()).await?;
    let frontend = provider.configure(settings).start().await?;
    browse("chooser", &frontend, json!({"idp": provider.issuer()}))?;
    Ok(())
}

/// A browser that has the page open: what it sends, and the page.
struct Opened {
    http: reqwest::Client,
    address: String,
    cookie: String,
    page: String,
}

impl Opened {
    async fn by(world: &Shared, frontend: &Frontend, user: &str) -> Result<Self> {
        let browser = Browser::new();
        let address = format!("{}/auth/sessions", frontend.url());
        let start = browser.html_step(&address).await?;
        assert_eq!(start.status, StatusCode::SEE_OTHER);
        let provider = start.location()?.context("a way to the provider")?;
        assert!(provider.as_str().starts_with(world.oidc().await?.issuer()), "{provider}");
        let callback =
            browser.sign_in_until(provider.as_str(), user, |url| url.path() == "/auth/callback").await?;
        let back = browser.html_step(callback.as_str()).await?;
        assert_eq!(back.location()?.context("the page")?.as_str(), address);
        let cookie = set_cookie(&back.headers, "mcp_account").context("the page's cookie")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let page = browser.html_step(&address).await?;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        assert!(page.text.contains(user), "{}", page.text);
        for answer in [&start, &page] {
            assert_eq!(set_cookie(&answer.headers, "mcp_session_id"), None, "the browser sent none");
        }
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, address, cookie, page: page.text })
    }

    fn form_token(&self) -> Result<&str> {
        let (_, rest) = self.page.split_once("name=\"token\" value=\"").context("a form")?;
        Ok(rest.split_once('"').context("its token")?.0)
    }

    /// Posts a form as the browser does from the page itself, but for `more`.
    async fn post(
        &self,
        form: &[(&str, &str)],
        more: &[(&'static str, &str)],
    ) -> Result<(StatusCode, String)> {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_str(&self.cookie)?);
        headers.insert("accept", HeaderValue::from_static("text/html,*/*;q=0.8"));
        for (name, value) in more {
            headers.insert(*name, HeaderValue::from_str(value)?);
        }
        let answer = self.http.post(&self.address).headers(headers).form(form).send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}

/// The value of the `Set-Cookie` that sets a cookie with `name` in its name.
fn set_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    cookies.filter(|cookie| cookie.contains(name)).map(str::to_owned).next()
}

/// Whether the browser is told to forget the session that came in a cookie.
fn is_taken_away(headers: &HeaderMap) -> bool {
    set_cookie(headers, "mcp_session_id")
        .is_some_and(|cookie| cookie.starts_with("mcp_session_id=; ") && cookie.contains("; Max-Age=0; "))
}

/// A session of Alice's for an MCP client, straight through SQL.
async fn session(world: &Shared, frontend: &Frontend, auth: &tokio_postgres::Client) -> Result<String> {
    let mut session = NewSession::of(USER).at(&frontend.resource());
    session.issuer = world.oidc().await?.issuer().to_owned();
    Ok(session.create(auth).await?.token)
}

async fn status(frontend: &Frontend, token: &str) -> Result<StatusCode> {
    Ok(frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?.status)
}

async fn checklist_34_no_other_page_can_end_a_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let token = session(world, &frontend, &auth).await?;
    let alice = Opened::by(world, &frontend, USER).await?;
    let mallory = Opened::by(world, &frontend, "mallory@example.com").await?;
    let genuine = alice.form_token()?;
    let altered = format!("{}A", &genuine[1..]);
    let cross: &[(&str, &str)] = &[("sec-fetch-site", "cross-site")];
    let null: &[(&str, &str)] = &[("origin", "null")];
    let foreign: &[(&str, &str)] = &[("origin", "https://evil.example")];
    for (form_token, headers) in [
        ("", &[][..]),
        (mallory.form_token()?, &[]),
        (&altered, &[]),
        (genuine, cross),
        (genuine, null),
        (genuine, foreign),
    ] {
        for action in ["end_others", "sign_out"] {
            let (status, text) = alice.post(&[("action", action), ("token", form_token)], headers).await?;
            assert_eq!(status, StatusCode::FORBIDDEN, "{action} {form_token} {headers:?}: {text}");
        }
    }
    assert_eq!(status(&frontend, &token).await?, StatusCode::OK);
    // Nor does a link, however it is written.
    for query in ["action=end_others", &format!("action=end_others&token={genuine}")] {
        let url = format!("{}?{query}", alice.address);
        alice.http.get(&url).header("accept", "text/html").header("cookie", &alice.cookie).send().await?;
    }
    assert_eq!(status(&frontend, &token).await?, StatusCode::OK);
    // A header that is no token is refused, not replaced by the page's cookie.
    let nothing = [("authorization", "Bearer nothing")];
    let (answered, text) = alice.post(&[("action", "end_others"), ("token", genuine)], &nothing).await?;
    assert_eq!(answered, StatusCode::UNAUTHORIZED, "{text}");
    assert_eq!(status(&frontend, &token).await?, StatusCode::OK);
    // What the page itself sends does.
    for bad in [&[("token", genuine)][..], &[("token", genuine), ("action", "end"), ("session", "x")]] {
        assert_eq!(alice.post(bad, &[]).await?.0, StatusCode::BAD_REQUEST);
    }
    let (answered, text) = alice.post(&[("action", "end_others"), ("token", genuine)], &[]).await?;
    assert_eq!(answered, StatusCode::OK, "{text}");
    assert!(text.contains("One other session ended"), "{text}");
    assert_eq!(status(&frontend, &token).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

async fn checklist_46_57_the_page_is_not_kept_and_its_cookie_opens_nothing_else(
    world: &Shared,
) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let alice = Opened::by(world, &frontend, USER).await?;
    let (_, token) = alice.cookie.split_once('=').context("a cookie")?;
    assert!(!alice.page.contains(token), "the page does not repeat the cookie");

    let get = |path: &str, accept: &'static str| {
        let request = alice.http.get(format!("{}{path}", frontend.url()));
        request.header("accept", accept).header("cookie", &alice.cookie).send()
    };
    let page = get("/auth/sessions", "text/html").await?;
    for (name, expected) in
        [("cache-control", "no-store"), ("x-frame-options", "DENY"), ("referrer-policy", "same-origin")]
    {
        assert_eq!(page.headers()[name], expected);
    }
    let policy = page.headers()["content-security-policy"].to_str()?;
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }

    // The cookie authenticates the page: no program, no other path, no MCP.
    for (path, accept) in [
        ("/auth/sessions", "application/json"),
        ("/auth/sessions", "*/*"),
        ("/auth/session", "text/html"),
        ("/auth/session", "application/json"),
    ] {
        assert_eq!(get(path, accept).await?.status(), StatusCode::UNAUTHORIZED, "{path} {accept}");
    }
    let ended = alice.http.delete(&alice.address).header("cookie", &alice.cookie).send().await?;
    assert_eq!(ended.status(), StatusCode::UNAUTHORIZED);
    // Nor does what is in it, wherever else it is presented.
    for door in [Door::Bearer, Door::Header] {
        let answer = frontend.mcp(Era::Modern).with(door, token).call("whoami", json!({})).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json()?["reason"], "wrong_resource", "{}", answer.text);
    }
    let auth = database.auth().await?;
    let row = auth
        .query_one(
            "SELECT resource, scopes, absolute_expires_at - created_at = '1 hour', \
                    expires_at - updated_at = '15 minutes', mcp.session_oauth_data($1) IS NULL, \
                    claims - 'name' - 'email' = '{}' \
             FROM mcp.lookup_session($1)",
            &[&token],
        )
        .await?;
    assert_eq!(row.get::<_, String>(0), alice.address);
    assert_eq!(row.get::<_, Vec<String>>(1), Vec::<String>::new());
    assert!(row.get::<_, bool>(2) && row.get::<_, bool>(3), "short of life");
    assert!(row.get::<_, bool>(4), "without the provider's tokens");
    assert!(row.get::<_, bool>(5), "and what it says beside the name");

    // And no client's token opens the page.
    let client = session(world, &frontend, &auth).await?;
    let cookie = format!("mcp_account={client}");
    let request = alice.http.get(&alice.address).header("accept", "text/html").header("cookie", cookie);
    assert_eq!(request.send().await?.status(), StatusCode::SEE_OTHER);

    // Signing out takes it away, and no cookie beside it.
    let form = [("action", "sign_out"), ("token", alice.form_token()?)];
    let out = alice.http.post(&alice.address).header("cookie", &alice.cookie).form(&form).send().await?;
    assert_eq!(out.status(), StatusCode::OK);
    let cookies: Vec<_> = out.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["mcp_account=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"]);

    // Over https no other host can plant the cookie, and it does not travel without TLS.
    let settings = world.settings(&database)?;
    let behind_tls = settings.set("MCP_PUBLIC_URL", "https://mcp.example.com");
    let behind_tls = world.oidc().await?.register(behind_tls).await?.start().await?;
    let browser = Browser::new();
    let start = browser.html_step(&format!("{}/auth/sessions", behind_tls.url())).await?;
    let sign_in = set_cookie(&start.headers, "__Host-mcp_signin_").context("the sign-in's cookie")?;
    let provider = start.location()?.context("a way to the provider")?;
    let callback =
        browser.sign_in_until(provider.as_str(), USER, |url| url.path() == "/auth/callback").await?;
    assert_eq!(callback.host_str(), Some("mcp.example.com"));
    let back = alice
        .http
        .get(format!("{}{}?{}", behind_tls.url(), callback.path(), callback.query().unwrap_or_default()))
        .header("accept", "text/html")
        .header("cookie", sign_in.split(';').next().unwrap_or_default())
        .send()
        .await?;
    let cookie = set_cookie(back.headers(), "mcp_account")
        .with_context(|| format!("no cookie for the page but {back:?}"))?;
    let (pair, attributes) = cookie.split_once("; ").context("attributes")?;
    assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    let (name, value) = pair.split_once('=').context("a name")?;
    assert_eq!(name, "__Host-mcp_account");
    ledger::record("cookie", value);
    Ok(())
}

async fn checklist_53_nobody_ends_the_session_of_somebody_else(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let token = session(world, &frontend, &auth).await?;
    let id: uuid::Uuid =
        auth.query_one("SELECT session_id FROM mcp.lookup_session($1)", &[&token]).await?.get(0);
    let mallory = Opened::by(world, &frontend, "mallory@example.com").await?;
    assert!(!mallory.page.contains(&id.to_string()), "{}", mallory.page);
    for action in ["end", "end_others"] {
        let form = [("action", action), ("session", &id.to_string()), ("token", mallory.form_token()?)];
        let (answered, text) = mallory.post(&form, &[]).await?;
        assert_eq!(answered, StatusCode::OK, "{text}");
    }
    assert_eq!(status(&frontend, &token).await?, StatusCode::OK);
    Ok(())
}

async fn checklist_53_programs_list_and_end_sessions_as_json(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(session(world, &frontend, &auth).await?);
    }
    let mut stranger = NewSession::of("mallory").at(&frontend.resource());
    stranger.issuer = world.oidc().await?.issuer().to_owned();
    let stranger = stranger.create(&auth).await?;
    let http = reqwest::Client::new();
    let address = format!("{}/auth/sessions", frontend.url());
    let list: Value = http.get(&address).bearer_auth(&tokens[0]).send().await?.json().await?;
    let listed = list["sessions"].as_array().context("a list")?;
    assert_eq!(listed.len(), 4, "{list}");
    assert_eq!(listed.iter().filter(|session| session["current"] == true).count(), 1, "{list}");
    assert_eq!(listed[0]["current"], true, "this one first");
    for column in ["session_id", "client_id", "metadata", "created_at", "last_used_at", "expires_at"] {
        assert!(listed[0].get(column).is_some(), "{column} in {list}");
    }

    let delete = |path: String| http.delete(format!("{address}{path}")).bearer_auth(&tokens[0]).send();
    let foreign = delete(format!("/{}", stranger.id)).await?;
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
    let other = listed[1]["session_id"].as_str().context("an id")?;
    let ended: Value = delete(format!("/{other}")).await?.json().await?;
    assert_eq!(ended, json!({"success": true, "ended": 1}));
    assert_eq!(delete(format!("/{other}")).await?.status(), StatusCode::NOT_FOUND);
    let ended: Value = delete(String::new()).await?.json().await?;
    assert_eq!(ended, json!({"success": true, "ended": 2}));
    assert_eq!(status(&frontend, &tokens[0]).await?, StatusCode::OK);
    for token in &tokens[1..] {
        assert_eq!(status(&frontend, token).await?, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(status(&frontend, &stranger.token).await?, StatusCode::OK);
    Ok(())
}

async fn when_the_pages_session_ends_the_browser_signs_in_again(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let token = session(world, &frontend, &auth).await?;
    let alice = Opened::by(world, &frontend, USER).await?;
    let expired =
        "UPDATE mcp.sessions SET expires_at = clock_timestamp() - interval '1 s' WHERE resource = $1";
    assert_eq!(database.superuser().await?.execute(expired, &[&alice.address]).await?, 1);

    // What was clicked on the page is not done: nobody knows any more who clicked.
    let form = [("action", "end_others"), ("token", alice.form_token()?)];
    let (answered, text) = alice.post(&form, &[]).await?;
    assert_eq!(answered, StatusCode::UNAUTHORIZED, "{text}");
    assert!(text.contains("expired") && text.contains("href=\"/auth/sessions\""), "{text}");
    assert_eq!(status(&frontend, &token).await?, StatusCode::OK);

    let get = alice.http.get(&alice.address).header("accept", "text/html").header("cookie", &alice.cookie);
    let answer = get.send().await?;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let location = answer.headers()["location"].to_str()?;
    assert!(location.starts_with(world.oidc().await?.issuer()), "{location}");
    for (name, value) in url::Url::parse(location)?.query_pairs() {
        if ["state", "nonce"].contains(&&*name) {
            ledger::record(&name, &value);
        }
    }
    Ok(())
}

async fn a_session_that_somebody_planted_ends_with_the_sign_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let mallory = Opened::by(world, &frontend, "mallory@example.com").await?;
    let browser = Browser::new();
    let start = browser.html_step(&mallory.address).await?;
    let provider = start.location()?.context("a way to the provider")?;
    let callback =
        browser.sign_in_until(provider.as_str(), USER, |url| url.path() == "/auth/callback").await?;
    browser.plant(&frontend.url(), &format!("{}; Path=/", mallory.cookie))?;
    browser.html_step(callback.as_str()).await?;
    let page = browser.html_step(&mallory.address).await?;
    assert!(page.text.contains(USER) && !page.text.contains("mallory"), "{}", page.text);
    let form = [("action", "end_others"), ("token", mallory.form_token()?)];
    let (answered, text) = mallory.post(&form, &[]).await?;
    assert_eq!(answered, StatusCode::UNAUTHORIZED, "{text}");
    Ok(())
}

async fn a_session_presented_in_a_header_opens_the_page_too(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.oidc().await?.register(world.settings(&database)?.set("MCP_COOKIE_DOOR", "on"));
    let frontend = frontend.await?.start().await?;
    let auth = database.auth().await?;
    let (token, other) = (session(world, &frontend, &auth).await?, session(world, &frontend, &auth).await?);
    let address = format!("{}/auth/sessions", frontend.url());
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("x-mcp-session-id", token.clone()),
        ("cookie", format!("mcp_session_id={token}")),
    ] {
        let get = |accept: &'static str| {
            reqwest::Client::new().get(&address).header(name, &value).header("accept", accept).send()
        };
        let page = get("text/html").await?;
        assert_eq!(page.status(), StatusCode::OK);
        let text = page.text().await?;
        assert!(text.contains("This browser") && text.contains("Token copied by hand"), "{text}");
        let list: Value = get("application/json").await?.json().await?;
        assert_eq!(list["sessions"].as_array().map(Vec::len), Some(2), "{list}");
        assert_eq!(list["sessions"][0]["current"], true, "{list}");
    }
    // The door's cookie, and the page's own form.
    let cookie = format!("mcp_session_id={token}");
    let page = reqwest::Client::new().get(&address).header("accept", "text/html").header("cookie", &cookie);
    let opened = Opened {
        http: reqwest::Client::new(),
        address: address.clone(),
        cookie: cookie.clone(),
        page: page.send().await?.text().await?,
    };
    let form = [("action", "sign_out"), ("token", opened.form_token()?)];
    let signed_out = opened.http.post(&address).header("cookie", &cookie).form(&form).send().await?;
    assert_eq!(signed_out.status(), StatusCode::OK);
    assert!(is_taken_away(signed_out.headers()), "{:?}", signed_out.headers());
    assert_eq!(status(&frontend, &token).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&frontend, &other).await?, StatusCode::OK);
    // A credential that does not hold is answered, not replaced by a sign-in.
    let stale = reqwest::Client::new().get(&address).header("accept", "text/html").bearer_auth(&token);
    let stale = stale.send().await?;
    assert_eq!(stale.status(), StatusCode::UNAUTHORIZED);
    assert!(stale.text().await?.contains("revoked"));
    Ok(())
}

async fn a_cookie_that_does_not_hold_is_taken_away(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_COOKIE_DOOR", "on");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let auth = database.auth().await?;
    let (token, live) = (session(world, &frontend, &auth).await?, session(world, &frontend, &auth).await?);
    let expired = "UPDATE mcp.sessions SET expires_at = clock_timestamp() - interval '1 s' \
                   WHERE session_id = (SELECT session_id FROM mcp.lookup_session($1))";
    assert_eq!(database.superuser().await?.execute(expired, &[&token]).await?, 1);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let (with_cookie, with_header) = (format!("mcp_session_id={token}"), format!("Bearer {token}"));

    for (method, path) in [
        (Method::GET, "/auth/session"),
        (Method::POST, "/auth/logout"),
        (Method::DELETE, "/auth/sessions"),
        (Method::POST, "/mcp/v1"),
    ] {
        let ask = |name: &str, value: &str| {
            let request = http.request(method.clone(), format!("{}{path}", frontend.url()));
            let request = request.header(name, value).header("accept", "application/json, text/event-stream");
            request.json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).send()
        };
        for value in [with_cookie.as_str(), "mcp_session_id=nothing"] {
            let answer = ask("cookie", value).await?;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert!(is_taken_away(answer.headers()), "{method} {path}: {:?}", answer.headers());
        }
        let answer = ask("authorization", &with_header).await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(!answer.headers().contains_key("set-cookie"), "{:?}", answer.headers());
    }

    // The page goes on to the sign-in instead, as without a cookie; a program that presents its token is answered.
    let address = format!("{}/auth/sessions", frontend.url());
    for value in [with_cookie.as_str(), "mcp_session_id=nothing"] {
        let answer = http.get(&address).header("accept", "text/html").header("cookie", value).send().await?;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{answer:?}");
        assert!(is_taken_away(answer.headers()), "{:?}", answer.headers());
        let location = url::Url::parse(answer.headers()["location"].to_str()?)?;
        for (name, value) in location.query_pairs() {
            if ["state", "nonce"].contains(&&*name) {
                ledger::record(&name, &value);
            }
        }
    }
    let presented = http.get(&address).header("accept", "text/html").header("authorization", &with_header);
    assert_eq!(presented.send().await?.status(), StatusCode::UNAUTHORIZED);

    // With both cookies the one that holds shows the page.
    let alice = Opened::by(world, &frontend, USER).await?;
    let both = format!("{with_cookie}; {}", alice.cookie);
    let answer = http.get(&address).header("accept", "text/html").header("cookie", both).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(is_taken_away(answer.headers()), "{:?}", answer.headers());
    let holds = format!("mcp_session_id={live}");
    let answer = http.get(&address).header("accept", "text/html").header("cookie", &holds).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("set-cookie"), "{:?}", answer.headers());
    // One that held until it signed out is taken away as well.
    let answer = http.post(format!("{}/auth/logout", frontend.url())).header("cookie", holds).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(is_taken_away(answer.headers()), "{:?}", answer.headers());
    Ok(())
}
