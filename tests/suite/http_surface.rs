//! The HTTP surface of the sign-in: paths, methods, cookies, headers that proxies write, pages of other origins.

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::cluster::free_port;
use tests::frontend::Frontend;
use tests::idp::stub::StubProvider;
use tests::ledger;
use tests::mcp::{Door, Era, MODERN};
use tests::oauth::{Client, WEB, parameter, register};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::grants::{count, sessions};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_25_token_comes_in_a_header_alone,
        checklist_28_forwarded_headers_of_strangers_are_nothing,
        checklist_28_forwarded_address_is_believed_of_a_trusted_proxy_alone,
        checklist_29_path_tricks_reach_no_exempt_route,
        checklist_57_cookies_are_locked_down,
        checklist_58_foreign_pages_are_told_nothing_and_no_page_gets_cookies_used,
        checklist_58_preflight_needs_no_database,
        checklist_59_what_no_endpoint_takes_does_nothing,
    ]
}

async fn signed_in(frontend: &Frontend) -> Result<(Client, String)> {
    let client = Client::register(&frontend.url(), WEB).await?;
    let tokens = client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    Ok((client, tokens.access))
}

async fn checklist_25_token_comes_in_a_header_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (_, token) = signed_in(&frontend).await?;
    let http = reqwest::Client::new();
    for (method, path) in [
        (Method::POST, "/mcp/v1"),
        (Method::GET, "/auth/session"),
        (Method::GET, "/auth/sessions"),
        (Method::DELETE, "/auth/sessions"),
        (Method::POST, "/auth/logout"),
    ] {
        let url = format!("{}{path}", frontend.url());
        let request = || http.request(method.clone(), &url).header("content-type", "application/json");
        for elsewhere in [
            request().query(&[("access_token", &token)]),
            request().query(&[("session_id", &token)]),
            request().body(json!({"access_token": token}).to_string()),
            http.request(method.clone(), &url).form(&[("access_token", &token)]),
            request().header("cookie", format!("mcp_session_id={token}; access_token={token}")),
            request().header("proxy-authorization", format!("Bearer {token}")),
            request().header("mcp-session-id", &token),
            request().header("authorization", format!("Basic {token}")),
            request().header("authorization", &token),
        ] {
            let answer = elsewhere.send().await?;
            ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.status());
        }
        for twice in [
            request().bearer_auth(&token).bearer_auth(&token),
            request().bearer_auth(&token).header("authorization", "Basic eDp5"),
            request().header("authorization", format!("Bearer {token}, Bearer {token}")),
            request().header("authorization", format!("Bearer {token} {token}")),
            request().header("authorization", format!("Bearer\t{token}")),
            request().header("x-mcp-session-id", format!("{token},{token}")),
        ] {
            let answer = twice.send().await?;
            ensure!(answer.status() == StatusCode::BAD_REQUEST, "{method} {path}: {}", answer.status());
        }
    }
    // Schemes have no case (RFC 9110 §11.1), and nothing above ended the session.
    for scheme in ["bearer", "BEARER", "BeArEr"] {
        let request = http.get(format!("{}/auth/session", frontend.url()));
        let answer = request.header("authorization", format!("{scheme} {token}")).send().await?;
        assert_eq!(answer.status(), StatusCode::OK, "{scheme}");
    }
    Ok(())
}

/// Headers by which a proxy in front would say who asks for what.
const FORWARDED: &[(&str, &str)] = &[
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-uri", "/healthz"),
    ("x-original-url", "/healthz"),
    ("x-rewrite-url", "/healthz"),
    ("x-original-uri", "/healthz"),
    ("x-real-ip", "203.0.113.7"),
    ("x-http-method-override", "GET"),
    ("forwarded", "for=203.0.113.7;host=evil.test;proto=https"),
    ("true-client-ip", "203.0.113.7"),
    ("cf-connecting-ip", "203.0.113.7"),
];

async fn checklist_28_forwarded_headers_of_strangers_are_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let headers: HeaderMap =
        FORWARDED.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?))).collect::<Result<_>>()?;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp/v1",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp/v1",
    ] {
        let url = format!("{}{path}", frontend.url());
        let plain: Value = http.get(&url).send().await?.json().await?;
        let forwarded: Value = http.get(&url).headers(headers.clone()).send().await?.json().await?;
        assert_eq!(plain, forwarded, "{path}");
    }
    let init = http.get(format!("{}/auth/init", frontend.url())).headers(headers.clone()).send().await?;
    let location = Url::parse(init.headers()["location"].to_str()?)?;
    ensure!(location.as_str().starts_with(stub.issuer()), "{location}");
    assert_eq!(parameter(&location, "redirect_uri"), Some(frontend.settings().callback()));
    let refused = client.request("mcp").set("response_type", "token").url();
    let answer = http.get(refused).headers(headers.clone()).send().await?;
    let answer = Url::parse(answer.headers()["location"].to_str()?)?;
    assert_eq!(parameter(&answer, "iss"), Some(frontend.url()));
    // No other route, and no way around authentication.
    let mcp = http.post(frontend.resource()).headers(headers.clone()).body("{}").send().await?;
    assert_eq!(mcp.status(), StatusCode::UNAUTHORIZED);
    let challenge = mcp.headers()["www-authenticate"].to_str()?;
    ensure!(challenge.contains(&frontend.url()) && !challenge.contains("evil"), "{challenge}");
    Ok(())
}

/// How many of ten requests to a limit of three pass, each with another address in `X-Forwarded-For`.
async fn passed(frontend: &Frontend) -> Result<usize> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut passed = 0;
    for number in 0..10 {
        let answer = http
            .get(format!("{}/auth/init", frontend.url()))
            .header("x-forwarded-for", format!("198.51.100.1, 203.0.113.{number}"))
            .header("x-real-ip", format!("203.0.113.{number}"))
            .header("forwarded", format!("for=203.0.113.{number}"))
            .send()
            .await?;
        match answer.status() {
            StatusCode::FOUND => passed += 1,
            status => ensure!(status == StatusCode::TOO_MANY_REQUESTS, "{status}"),
        }
    }
    Ok(passed)
}

async fn checklist_28_forwarded_address_is_believed_of_a_trusted_proxy_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).set("MCP_LIMIT_SIGN_IN", "3");
    let strangers = settings.start().await?;
    ensure!(
        passed(&strangers).await? <= 4,
        "an address that anybody can write is counted as another visitor's"
    );
    let elsewhere = settings.replica()?.set("MCP_TRUSTED_PROXIES", "10.0.0.0/8").start().await?;
    ensure!(passed(&elsewhere).await? <= 4);
    let behind = settings.replica()?.set("MCP_TRUSTED_PROXIES", "127.0.0.0/8").start().await?;
    assert_eq!(passed(&behind).await?, 10, "ten visitors behind one proxy");
    Ok(())
}

/// Sends a request as it stands; the status of the answer.
async fn raw(frontend: &Frontend, request: &str) -> Result<u16> {
    let address = frontend.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).await?;
    let host = format!("Host: {address}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(format!("{request}\r\n{host}").as_bytes()).await?;
    let mut answer = Vec::new();
    // A server that closes early resets the connection; what it said before counts.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).with_context(|| format!("{request:?}: no answer"))?;
    Ok(status.parse()?)
}

async fn checklist_29_path_tricks_reach_no_exempt_route(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let query = ["?x=/healthz", "?/healthz", "?healthz", "?token=x", "?.well-known/oauth-protected-resource"];
    for path in ["/mcp/v1", "/mcp/v1/"] {
        for query in query {
            let status = raw(&frontend, &format!("POST {path}{query} HTTP/1.1")).await?;
            assert_eq!(status, 401, "{path}{query}");
        }
        assert_eq!(raw(&frontend, &format!("POST {}{path} HTTP/1.1", frontend.url())).await?, 401);
    }
    for path in [
        "//mcp/v1",
        "/mcp//v1",
        "/mcp/v1//",
        "/mcp/v1;a",
        "/mcp/v1;/healthz",
        "/mcp/v1/healthz",
        "/healthz/../mcp/v1",
        "/healthz/..%2fmcp/v1",
        "/healthz;/mcp/v1",
        "/assets/../mcp/v1",
        "/assets/style.css/../../mcp/v1",
        "/.well-known/../mcp/v1",
        "/./mcp/v1",
        "/mcp/%761",
        "/%6dcp/v1",
        "/MCP/V1",
        "/mcp/v1%00",
        "/mcp/v1%2f",
        "/mcp/v1%3fx",
        "/mcp/v1\\",
        "/mcp\\v1",
        "/mcp/v1.json",
        "/auth/session;x",
        "/auth//session",
        "/auth/session/",
        "/auth/%73ession",
        "/AUTH/session",
        "/auth/init/../session",
        "/auth/callback/../session",
    ] {
        for method in ["GET", "POST"] {
            let status = raw(&frontend, &format!("{method} {path} HTTP/1.1")).await?;
            ensure!([400, 404].contains(&status), "{method} {path}: {status}");
        }
    }
    // What needs nobody's session is exempt by method as well.
    for (method, path) in [("POST", "/healthz"), ("DELETE", "/auth/init"), ("POST", "/assets/style.css")] {
        assert_eq!(raw(&frontend, &format!("{method} {path} HTTP/1.1")).await?, 405, "{method} {path}");
    }
    Ok(())
}

/// The cookies of an answer, with their attributes: name, value, all the rest.
fn set_cookies(headers: &HeaderMap) -> Result<Vec<(String, String, Vec<String>)>> {
    headers
        .get_all("set-cookie")
        .iter()
        .map(|value| {
            let mut parts = value.to_str()?.split("; ");
            let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).context("a pair")?;
            ledger::record("cookie", value);
            Ok((name.to_owned(), value.to_owned(), parts.map(str::to_owned).collect()))
        })
        .collect()
}

async fn checklist_57_cookies_are_locked_down(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = world.settings(&database)?.set("MCP_PUBLIC_URL", "https://mcp.test");
    let frontend = stub.oidc(settings).start().await?;
    // Behind a proxy that ends TLS: its host, our port.
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let here = |url: &str| url.replace("https://mcp.test", &frontend.url());
    let get = |url: String, cookies: String| {
        http.get(here(&url))
            .header("host", "mcp.test")
            .header("cookie", cookies)
            .header("accept", "text/html")
            .send()
    };
    let mut jar: Vec<(String, String)> = Vec::new();
    let mut seen = Vec::new();
    let mut take = |headers: &HeaderMap, jar: &mut Vec<(String, String)>| -> Result<()> {
        for (name, value, attributes) in set_cookies(headers)? {
            ensure!(name.starts_with("__Host-mcp_"), "{name}");
            for wanted in ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"] {
                ensure!(attributes.iter().any(|attribute| attribute == wanted), "{name}: {attributes:?}");
            }
            ensure!(
                !attributes.iter().any(|attribute| attribute.starts_with("Domain")),
                "{name}: {attributes:?}"
            );
            let age: u64 = attributes
                .iter()
                .find_map(|attribute| attribute.strip_prefix("Max-Age="))
                .context("a cookie without an end")?
                .parse()?;
            ensure!(!value.contains("mcp"), "a cookie carries a token: {name}");
            jar.retain(|(known, _)| *known != name);
            if age > 0 {
                jar.push((name.clone(), value));
            }
            seen.push((name.contains("signin"), age));
        }
        Ok(())
    };
    let cookies = |jar: &[(String, String)]| {
        jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    };

    let init = get("https://mcp.test/auth/init".into(), String::new()).await?;
    take(init.headers(), &mut jar)?;
    ensure!(init.headers().contains_key("strict-transport-security"));
    let metadata = json!({"redirect_uris": [WEB]});
    let registered: Value = http
        .post(format!("{}/register", frontend.url()))
        .header("host", "mcp.test")
        .json(&metadata)
        .send()
        .await?
        .json()
        .await?;
    let client = Client::known("https://mcp.test", registered["client_id"].as_str().unwrap_or_default(), WEB);
    let request = client.request("mcp").set("login_hint", "alice@example.com");
    let page = get(request.url(), cookies(&jar)).await?;
    take(page.headers(), &mut jar)?;
    let page = tests::browser::Page {
        url: "https://mcp.test/authorize".parse()?,
        status: page.status(),
        headers: page.headers().clone(),
        text: page.text().await?,
    };
    let mut form = page.form()?;
    form.set("decision", "allow");
    let answered = http
        .post(here(form.action.as_str()))
        .header("host", "mcp.test")
        .header("origin", "https://mcp.test")
        .header("cookie", cookies(&jar))
        .form(&form.fields)
        .send()
        .await?;
    take(answered.headers(), &mut jar)?;
    let provider = answered.headers()["location"].to_str()?.to_owned();
    let callback = Browser::new().step(&provider).await?.location()?.context("to the callback")?;
    let before = jar.clone();
    let callback = get(callback.into(), cookies(&jar)).await?;
    take(callback.headers(), &mut jar)?;
    let answer = Url::parse(callback.headers()["location"].to_str()?)?;
    assert_eq!(parameter(&answer, "iss").as_deref(), Some("https://mcp.test"));
    ledger::record("code", &parameter(&answer, "code").context("a code")?);
    // The sign-in's own cookie is gone, and the browser's is a new one.
    let browser = |jar: &[(String, String)]| {
        jar.iter().find(|(name, _)| name == "__Host-mcp_browser").map(|(_, value)| value.clone())
    };
    ensure!(browser(&before).is_some() && browser(&jar) != browser(&before), "the old secret stays");
    let signin = |jar: &[(String, String)]| jar.iter().filter(|(name, _)| name.contains("signin")).count();
    assert_eq!((signin(&before), signin(&jar)), (2, 1), "each sign-in has its own");
    // A sign-in under way for ten minutes; the browser that consented for as long as consent holds.
    let held = |age: u64| (30 * 86_400 - 60..=30 * 86_400).contains(&age);
    let [start, (false, 600), allowed, answered @ ..] = &seen[..] else { bail!("{seen:?}") };
    ensure!(*start == (true, 600) && *allowed == (true, 600), "{seen:?}");
    ensure!(matches!(answered, [(false, age), (true, 0)] if held(*age)), "{seen:?}");
    Ok(())
}

async fn checklist_58_foreign_pages_are_told_nothing_and_no_page_gets_cookies_used(
    world: &Shared,
) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = world.settings(&database)?.set("MCP_ALLOWED_ORIGINS", "https://app.test");
    let frontend = stub.oidc(settings).start().await?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let get = "/auth/session /auth/sessions /auth/init /authorize /.well-known/oauth-authorization-server";
    let post = "/mcp/v1 /token /register /revoke /auth/logout";
    let requests = get.split(' ').map(|path| (Method::GET, path));
    for (method, path) in requests.chain(post.split(' ').map(|path| (Method::POST, path))) {
        for preflight in [true, false] {
            for origin in ["https://app.test", "https://evil.test", "null", "https://app.test.evil.test"] {
                let sent = if preflight { Method::OPTIONS } else { method.clone() };
                let answer = http
                    .request(sent, format!("{}{path}", frontend.url()))
                    .header("origin", origin)
                    .header("access-control-request-method", method.as_str())
                    .header("access-control-request-headers", "authorization, x-evil")
                    .send()
                    .await?;
                let headers = answer.headers();
                let what = format!("{path} {origin} preflight {preflight}");
                ensure!(!headers.contains_key("access-control-allow-credentials"), "{what}");
                let allowed =
                    headers.get("access-control-allow-origin").map(|value| value.to_str()).transpose()?;
                assert_eq!(allowed, (origin == "https://app.test").then_some(origin), "{what}");
                ensure!(headers.get_all("vary").iter().any(|vary| vary == "Origin"), "{what}");
                if !preflight && allowed.is_none() {
                    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{what}");
                }
                if preflight {
                    ensure!(answer.status() == StatusCode::NO_CONTENT, "{what}: {}", answer.status());
                    let named = headers
                        .get("access-control-allow-headers")
                        .map_or("", |value| value.to_str().unwrap_or(""));
                    ensure!(!named.contains("x-evil") && !named.contains('*'), "{what}: {named}");
                }
            }
        }
    }
    Ok(())
}

async fn checklist_58_preflight_needs_no_database(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let nowhere = format!("postgres://nobody@127.0.0.1:{}/none", free_port()?);
    let settings = world.settings(&database)?.set("MCP_ALLOWED_ORIGINS", "https://app.test");
    let settings = settings.set("DATABASE_URL", &nowhere).set("MCP_EXEC_DATABASE_URL", &nowhere);
    let frontend = StubProvider::start().await?.oidc(settings).start().await?;
    for path in ["/mcp/v1", "/token", "/register", "/auth/session"] {
        let answer = reqwest::Client::new()
            .request(Method::OPTIONS, format!("{}{path}", frontend.url()))
            .header("origin", "https://app.test")
            .header("access-control-request-method", "POST")
            .send()
            .await?;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.test");
    }
    Ok(())
}

async fn checklist_59_what_no_endpoint_takes_does_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (_, token) = signed_in(&frontend).await?;
    let before = (
        sessions(&database).await?,
        count(&database, "SELECT count(*) FROM mcp.clients").await?,
        count(&database, "SELECT count(*) FROM mcp.sign_ins").await?,
    );
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get"];
    for (path, takes) in [
        ("/mcp/v1", &["POST"][..]),
        ("/auth/init", &["GET"]),
        ("/auth/callback", &["GET"]),
        ("/auth/session", &["GET"]),
        ("/auth/sessions", &["GET", "POST", "DELETE"]),
        ("/auth/logout", &["POST"]),
        ("/authorize", &["GET", "POST"]),
        ("/token", &["POST"]),
        ("/register", &["POST"]),
        ("/revoke", &["POST"]),
        ("/healthz", &["GET", "HEAD"]),
        ("/.well-known/oauth-authorization-server", &["GET", "HEAD"]),
        ("/.well-known/oauth-protected-resource/mcp/v1", &["GET", "HEAD"]),
    ] {
        for method in methods.iter().filter(|method| !takes.contains(method)) {
            // CONNECT has a target of its own form, which is no path.
            if *method == "CONNECT" {
                continue;
            }
            let request =
                http.request(method.parse()?, format!("{}{path}", frontend.url())).bearer_auth(&token);
            // Whoever writes a program against it is told as a program is, whatever its library accepts.
            let answer = request.header("accept", "text/html").send().await?;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/json", "{method} {path}");
            let allow = answer.headers()["allow"].to_str()?;
            ensure!(
                takes.iter().all(|method| *method == "HEAD" || allow.contains(method)),
                "{path}: {allow}"
            );
        }
    }
    for path in ["/token", "/register", "/revoke"] {
        let request = http.post(format!("{}{path}", frontend.url())).header("accept", "text/html");
        let answer = request.header("content-type", "text/plain").body("x").send().await?;
        ensure!(answer.status().is_client_error(), "{path}: {}", answer.status());
        ensure!(answer.json::<Value>().await?["error"].is_string(), "{path}");
    }
    ensure!(raw(&frontend, "CONNECT evil.test:443 HTTP/1.1").await? >= 400);
    // Where nothing is, there is nothing to ask beforehand.
    assert_eq!(raw(&frontend, "OPTIONS /nothing HTTP/1.1").await?, 404);
    // What a page can send without asking is no request of ours: a form, or text that is JSON inside.
    let add = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add_note", "arguments": {"body": "x"}}});
    for kind in [
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let mcp = frontend.mcp(Era::Legacy).with(Door::Bearer, &token).header("content-type", kind);
        assert_eq!(mcp.post(add.to_string()).await?.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let batch = frontend.mcp(Era::Modern).with(Door::Bearer, &token).header("mcp-protocol-version", MODERN);
    let batch = batch.post(json!([add, add]).to_string()).await?;
    assert_eq!(batch.status, StatusCode::BAD_REQUEST, "the revision knows no batches: {}", batch.text);
    for method in [Method::GET, Method::DELETE] {
        let mcp = frontend.mcp(Era::Modern).with(Door::Bearer, &token).header("mcp-protocol-version", MODERN);
        assert_eq!(mcp.bare(method.clone()).await?.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert_eq!(count(&database, "SELECT count(*) FROM app.notes").await?, 0);
    let after = (
        sessions(&database).await?,
        count(&database, "SELECT count(*) FROM mcp.clients").await?,
        count(&database, "SELECT count(*) FROM mcp.sign_ins").await?,
    );
    assert_eq!(before, after);
    let reply = register(&frontend.url(), &json!({"redirect_uris": [WEB]})).await?;
    assert_eq!(reply.status, StatusCode::CREATED);
    Ok(())
}
