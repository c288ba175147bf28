//! What an anonymous caller can make the server do, and how often: by the address it comes from, which it cannot choose.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tests::database::Database;
use tests::frontend::{Frontend, Settings};
use tests::idp::stub::StubProvider;
use tests::mcp::{Door, Era};
use tests::oauth::{unheard_of, with_another_secret};
use tests::session::NewSession;
use tests::wait::wait_until;
use tokio::task::JoinSet;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_28_forwarding_headers_of_anybody_are_ignored,
        checklist_28_a_trusted_proxy_says_who_is_counted,
        checklist_28_forwarding_headers_build_no_address,
        checklist_37_a_flood_of_registrations_is_told_to_wait,
        checklist_37_the_table_of_clients_is_bounded,
        checklist_19_guessing_is_slowed_down,
        guessing_in_batches_is_slowed_down,
        guessing_at_the_page_of_sessions_is_slowed_down,
    ]
}

/// Requests a minute of each kind, few enough to be used up.
const FEW: usize = 3;

/// One more is allowed every 20 seconds.
const REFILL: Duration = Duration::from_secs(15);

/// Every header by which proxies say, and clients lie, who they are.
const FORWARDING: [&str; 6] =
    ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "cf-connecting-ip", "x-client-ip"];

/// What anybody may ask for, and costs a row or a look-up.
const ANONYMOUS: [(&str, Method); 6] = [
    ("/auth/init", Method::GET),
    ("/authorize", Method::GET),
    ("/authorize", Method::POST),
    ("/register", Method::POST),
    ("/token", Method::POST),
    ("/revoke", Method::POST),
];

struct Limited {
    frontend: Frontend,
    // Ends when dropped.
    _provider: StubProvider,
}

async fn limited(
    world: &Shared,
    database: &Database<'_>,
    change: impl Fn(Settings) -> Settings,
) -> Result<Limited> {
    let provider = StubProvider::start().await?;
    let few = FEW.to_string();
    let mut settings = world.settings(database)?;
    for name in ["MCP_LIMIT_SIGN_IN", "MCP_LIMIT_TOKEN", "MCP_LIMIT_REGISTER", "MCP_LIMIT_REFUSED"] {
        settings = settings.set(name, &few);
    }
    let frontend = change(provider.oidc(settings)).start().await?;
    Ok(Limited { frontend, _provider: provider })
}

impl Limited {
    /// One request to `path`, with these headers.
    async fn ask(&self, path: &str, method: &Method, headers: &[(&str, &str)]) -> Result<reqwest::Response> {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let mut request = http.request(method.clone(), format!("{}{path}", self.frontend.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(match (path, method.as_str()) {
            ("/register", _) => request.json(&json!({"redirect_uris": ["https://client.example/cb"]})),
            (_, "POST") => request.form(&[("client_id", "nobody"), ("token", "x")]),
            _ => request,
        }
        .send()
        .await?)
    }

    /// The same until it is told to wait; how often it was not.
    async fn use_up(&self, path: &str, method: &Method, headers: &[(&str, &str)]) -> Result<usize> {
        for allowed in 0..10 * FEW {
            let answer = self.ask(path, method, headers).await?;
            if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                ensure!(!answer.status().is_server_error(), "{method} {path}: {}", answer.status());
                continue;
            }
            let seconds: u32 = answer
                .headers()
                .get("retry-after")
                .context("a 429 without Retry-After")?
                .to_str()?
                .parse()?;
            ensure!((1..=60).contains(&seconds), "{method} {path}: Retry-After {seconds}");
            let body: serde_json::Value = answer.json().await?;
            ensure!(body["error"] == "too_many_requests", "{method} {path}: {body}");
            return Ok(allowed);
        }
        bail!("{method} {path} is never told to wait")
    }
}

async fn checklist_28_forwarding_headers_of_anybody_are_ignored(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    for (path, method) in ANONYMOUS {
        let limited = limited(world, &database, |settings| settings).await?;
        ensure!(limited.use_up(path, &method, &[]).await? >= FEW, "{path}");
        for name in FORWARDING {
            let value = if name == "forwarded" { "for=203.0.113.7" } else { "203.0.113.7" };
            let answer = limited.ask(path, &method, &[(name, value)]).await?;
            ensure!(
                answer.status() == StatusCode::TOO_MANY_REQUESTS,
                "{path} by {name}: {}",
                answer.status()
            );
        }
    }
    Ok(())
}

async fn checklist_28_a_trusted_proxy_says_who_is_counted(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let trusting = |settings: Settings| settings.set("MCP_TRUSTED_PROXIES", "127.0.0.0/8");
    let limited = limited(world, &database, trusting).await?;
    for attempt in 0..5 {
        let start = Instant::now();
        let outcome = count_by_forwarded_address(&limited, attempt).await;
        // What took longer may have been allowed one more.
        if outcome.is_ok() || start.elapsed() < REFILL {
            return outcome;
        }
    }
    bail!("the machine is too slow: no attempt took less than {REFILL:?}")
}

fn from(address: &str) -> [(&'static str, &str); 1] {
    [("x-forwarded-for", address)]
}

/// Counts exactly, by addresses that no other attempt has used.
async fn count_by_forwarded_address(limited: &Limited, attempt: u8) -> Result<()> {
    let (path, method) = ("/register", Method::POST);
    let [first, other, forged, liar] = [7, 8, 200, 99].map(|last| format!("203.0.{}.{last}", 113 + attempt));
    ensure!(limited.use_up(path, &method, &from(&first)).await? == FEW);
    // The next one has an allowance of its own, which no other header touches.
    for name in FORWARDING.iter().filter(|name| **name != "x-forwarded-for") {
        let headers = [("x-forwarded-for", first.as_str()), (name, &forged)];
        let answer = limited.ask(path, &method, &headers).await?;
        ensure!(answer.status() == StatusCode::TOO_MANY_REQUESTS, "{name}: {}", answer.status());
    }
    ensure!(limited.use_up(path, &method, &from(&other)).await? == FEW);
    // What the client wrote before the proxy added its address is not reached.
    let lying = limited.ask(path, &method, &from(&format!("{liar}, {first}"))).await?;
    ensure!(lying.status() == StatusCode::TOO_MANY_REQUESTS, "{}", lying.status());
    // Whoever has a /64 is one.
    let network = format!("2001:db8:{attempt}:1");
    ensure!(limited.use_up(path, &method, &from(&format!("{network}::1"))).await? == FEW);
    let neighbour = limited.ask(path, &method, &from(&format!("{network}::2"))).await?;
    ensure!(neighbour.status() == StatusCode::TOO_MANY_REQUESTS, "{}", neighbour.status());
    Ok(())
}

async fn checklist_28_forwarding_headers_build_no_address(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let trusting = |settings: Settings| settings.set("MCP_TRUSTED_PROXIES", "127.0.0.1");
    let limited = limited(world, &database, trusting).await?;
    // Even of a proxy that is trusted: the public URL is configured.
    let headers = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "444"),
        ("x-forwarded-uri", "/evil"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("forwarded", "for=203.0.113.7;host=evil.example;proto=https"),
    ];
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/auth/init",
        "/healthz",
    ] {
        let plain = limited.ask(path, &Method::GET, &[]).await?;
        let forwarded = limited.ask(path, &Method::GET, &headers).await?;
        ensure!(plain.status() == forwarded.status(), "{path}: {}", forwarded.status());
        let location = forwarded.headers().get("location").map(|value| format!("{value:?}"));
        let text = location.unwrap_or_default() + &forwarded.text().await?;
        ensure!(!text.contains("evil") && !text.contains("444"), "{path}: {text}");
    }
    let challenge = limited.ask("/mcp/v1", &Method::POST, &headers).await?;
    assert_eq!(challenge.status(), StatusCode::UNAUTHORIZED);
    let value = format!("{:?}", challenge.headers().get("www-authenticate"));
    ensure!(value.contains(&limited.frontend.url()) && !value.contains("evil"), "{value}");
    Ok(())
}

async fn checklist_37_a_flood_of_registrations_is_told_to_wait(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let limited = limited(world, &database, |settings| settings).await?;
    let limited = std::sync::Arc::new(limited);
    let mut flood = JoinSet::new();
    for _ in 0..20 * FEW {
        let limited = limited.clone();
        flood.spawn(async move {
            Ok::<_, anyhow::Error>(limited.ask("/register", &Method::POST, &[]).await?.status())
        });
    }
    let mut registered: i64 = 0;
    while let Some(status) = flood.join_next().await {
        match status??.as_u16() {
            201 => registered += 1,
            429 => {}
            status => bail!("status {status}"),
        }
    }
    let rows: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.clients", &[]).await?.get(0);
    // The allowance comes back by and by: one in twenty seconds.
    ensure!((FEW as i64..=2 * FEW as i64).contains(&registered), "{registered} registered");
    assert_eq!(rows, registered, "who was told to wait left nothing behind");
    Ok(())
}

/// Sets a superuser's setting for one database, so that other tests keep theirs.
async fn set(database: &Database<'_>, name: &str, value: &str) -> Result<()> {
    let statement = format!("ALTER DATABASE {} SET {name} = {value}", database.name());
    Ok(database.superuser().await?.batch_execute(&statement).await?)
}

async fn checklist_37_the_table_of_clients_is_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    set(&database, "mcp.max_unused_clients", "20").await?;
    let unlimited = |settings: Settings| settings.set("MCP_LIMIT_REGISTER", "0");
    let limited = limited(world, &database, unlimited).await?;
    for _ in 0..60 {
        let answer = limited.ask("/register", &Method::POST, &[]).await?;
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    let rows: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.clients", &[]).await?.get(0);
    assert_eq!(rows, 20);
    Ok(())
}

async fn checklist_19_guessing_is_slowed_down(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let trusting = |settings: Settings| settings.set("MCP_TRUSTED_PROXIES", "127.0.0.1");
    let limited = limited(world, &database, trusting).await?;
    let session =
        NewSession::of("alice").at(&limited.frontend.resource()).create(&database.auth().await?).await?;
    let call = |token: String, address: &'static str| {
        let client = limited.frontend.mcp(Era::Modern).with(Door::Bearer, &token);
        async move { client.header("x-forwarded-for", address).call("whoami", json!({})).await }
    };
    // The session's public id with a secret that is made up; a token of no session; and one that is right.
    let (guess, stranger) = (with_another_secret(&session.token), unheard_of("mcps"));
    assert_eq!(call(session.token.clone(), "203.0.113.7").await?.status, StatusCode::OK);
    let mut refused = 0;
    let mut held_back = None;
    for number in 0..10 * FEW {
        let token = if number % 2 == 0 { &guess } else { &stranger };
        let answer = call(token.clone(), "203.0.113.7").await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => refused += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                held_back = Some(answer);
                break;
            }
            status => bail!("{status}: {}", answer.text),
        }
    }
    let answer = held_back.context("guessing goes on for ever")?;
    ensure!(refused > FEW, "held back after {refused}");
    ensure!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    // Nothing is asked of the database for that address now, at any route; others go on.
    let rows = |text: &'static str| {
        let database = &database;
        async move { Ok::<i64, anyhow::Error>(database.superuser().await?.query_one(text, &[]).await?.get(0)) }
    };
    let audited = "SELECT count(*) FROM mcp.audit_log WHERE event = 'enter_refused'";
    let before = rows(audited).await?;
    assert_eq!(call(guess.clone(), "203.0.113.7").await?.status, StatusCode::TOO_MANY_REQUESTS);
    let headers = [("x-forwarded-for", "203.0.113.7"), ("x-mcp-session-id", guess.as_str())];
    let answer = limited.ask("/auth/session", &Method::GET, &headers).await?;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rows(audited).await?, before);
    assert_eq!(call(session.token.clone(), "203.0.113.8").await?.status, StatusCode::OK);
    // What fails for another reason is no guess, nor is what cannot be a token, which costs nothing.
    let bearer = format!("Bearer {}", session.token);
    for (address, path, authorization, status) in [
        ("203.0.113.9", "/nothing", bearer.as_str(), StatusCode::NOT_FOUND),
        ("203.0.113.10", "/auth/session", "Bearer nothing", StatusCode::UNAUTHORIZED),
    ] {
        for _ in 0..4 * FEW {
            let headers = [("x-forwarded-for", address), ("authorization", authorization)];
            assert_eq!(limited.ask(path, &Method::GET, &headers).await?.status(), status, "{path}");
        }
        assert_eq!(call(session.token.clone(), address).await?.status, StatusCode::OK, "{path}");
    }
    // It ends by itself.
    wait_until("the address to be heard again", Duration::from_secs(60), || async {
        Ok(call(session.token.clone(), "203.0.113.7").await?.status == StatusCode::OK)
    })
    .await
}

/// What else is wrong with a batch hides no guess.
async fn guessing_in_batches_is_slowed_down(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let limited = limited(world, &database, |settings| settings).await?;
    let client = limited.frontend.mcp(Era::Legacy).with(Door::Bearer, &unheard_of("mcps"));
    let request = |id: u8, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let batch = json!([1, request(2, "no/such"), request(3, "tools/list")]).to_string();
    for _ in 0..10 * FEW {
        let answer = client.post(batch.clone()).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => {}
            StatusCode::TOO_MANY_REQUESTS => return Ok(()),
            status => bail!("{status}: {}", answer.text),
        }
    }
    bail!("guessing goes on for ever")
}

async fn guessing_at_the_page_of_sessions_is_slowed_down(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings =
        |settings: Settings| settings.set("MCP_TRUSTED_PROXIES", "127.0.0.1").set("MCP_LIMIT_SIGN_IN", "0");
    let limited = limited(world, &database, settings).await?;
    let path = "/auth/sessions";
    // The page reads a cookie of its own, which is as good a place for a guess as any other.
    for (method, address) in [(Method::GET, "203.0.113.7"), (Method::POST, "203.0.113.8")] {
        let cookie = format!("mcp_account={}", unheard_of("mcps"));
        let headers = [("x-forwarded-for", address), ("accept", "text/html"), ("cookie", &cookie)];
        let mut refused = 0;
        while limited.ask(path, &method, &headers).await?.status() != StatusCode::TOO_MANY_REQUESTS {
            refused += 1;
            ensure!(refused < 10 * FEW, "{method}: guessing goes on for ever");
        }
        ensure!(refused > FEW, "{method}: held back after {refused}");
        // That cookie is no guess anywhere else.
        assert_eq!(limited.ask("/healthz", &Method::GET, &headers).await?.status(), StatusCode::OK);
        // Nobody else is, and who guesses nothing may sign in.
        let others = [("x-forwarded-for", "203.0.113.9"), headers[1], headers[2]];
        let others = limited.ask(path, &method, &others).await?.status();
        ensure!(others != StatusCode::TOO_MANY_REQUESTS, "{method}: {others}");
        let start = limited.ask(path, &Method::GET, &headers[..2]).await?;
        assert_eq!(start.status(), StatusCode::SEE_OTHER);
    }
    // But not without end: each time a row is kept.
    let few =
        limited.frontend.settings().replica()?.set("MCP_LIMIT_SIGN_IN", &FEW.to_string()).start().await?;
    let limited = Limited { frontend: few, ..limited };
    let mut begun = 0;
    while limited.ask(path, &Method::GET, &[("accept", "text/html")]).await?.status() == StatusCode::SEE_OTHER
    {
        begun += 1;
        ensure!(begun < 10 * FEW, "sign-ins are begun for ever");
    }
    ensure!(begun >= FEW, "told to wait after {begun}");
    Ok(())
}
