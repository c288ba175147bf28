//! A provider that is down, slow, or says what is not so: nobody is signed in, the answer comes in time, and
//! when the provider mends its ways so does sign-in.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::cluster::free_port;
use tests::database::Database;
use tests::frontend::Frontend;
use tests::idp::stub::{Endpoint, Fault, Signing, StubProvider};
use tests::mcp::{Door, Era};
use tests::session::note_provider_tokens;

use crate::world::{self, Shared, Trials};

/// The frontend's deadline for the provider is ten seconds; whoever asked hears by then.
const DEADLINE: Duration = Duration::from_secs(15);
/// Of the key set, the token endpoint and the profile, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        provider_that_is_down_is_a_503,
        provider_that_comes_back_signs_in_again,
        token_endpoint_that_fails_is_a_503,
        token_endpoint_that_never_answers_is_a_503_in_time,
        token_endpoint_that_drips_is_a_503_in_time,
        token_endpoint_that_floods_is_a_503_in_time,
        token_endpoint_that_answers_garbage_signs_nobody_in,
        error_with_status_200_signs_nobody_in,
        discovery_that_fails_is_a_503,
        checklist_33_discovery_of_another_issuer_is_refused,
        key_set_that_fails_is_a_503,
        checklist_13_forged_signatures_sign_nobody_in,
        checklist_13_forged_claims_sign_nobody_in,
        checklist_13_missing_claims_sign_nobody_in,
        workos_faults_sign_nobody_in,
        checklist_13_workos_forged_access_tokens_sign_nobody_in,
        redirects_of_the_token_endpoint_are_not_followed,
        checklist_15_redirects_of_the_provider_are_not_followed,
        liveness_does_not_depend_on_the_provider,
        discovery_document_that_is_too_long_is_not_read,
        answers_that_are_too_long_are_not_read,
        profile_that_is_too_long_is_not_read,
        lifetimes_beyond_reason_are_none,
        profile_contradicts_the_id_token_in_nothing,
        secret_goes_where_the_provider_takes_it,
        credentials_that_the_provider_refuses_are_the_operators_to_mend,
        what_workos_says_beside_the_person_is_not_kept,
    ]
}

/// Signs in up to the callback with everything in order, lets `set` break the provider, and goes on.
async fn callback_with(
    frontend: &Frontend,
    stub: &StubProvider,
    set: impl FnOnce(&StubProvider),
) -> Result<Page> {
    stub.behave();
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    set(stub);
    let start = Instant::now();
    let page = browser.step(callback.as_str()).await?;
    ensure!(start.elapsed() < DEADLINE, "answered after {:?}", start.elapsed());
    ensure!(
        !page.text.contains("secret-internal-detail"),
        "what the provider said is not passed on: {}",
        page.text
    );
    ensure!(!page.text.contains("mcps_"), "a session in {}", page.text);
    Ok(page)
}

async fn assert_nobody(database: &Database<'_>, what: &str) -> Result<()> {
    let sessions: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0);
    ensure!(sessions == 0, "{what}: {sessions} sessions");
    Ok(())
}

async fn assert_unavailable(world: &Shared, fault: Fault) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let what = format!("{fault:?}");
    let page = callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, fault)).await?;
    ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{what}: {} {}", page.status, page.text);
    assert_nobody(&database, &what).await?;
    // I7: when the fault ends, errors end.
    stub.behave();
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn provider_that_is_down_is_a_503(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let settings = world
        .settings(&database)?
        .set("MCP_IDP", "oidc")
        .set("OIDC_ISSUER", &nobody)
        .set("OIDC_CLIENT_ID", "client")
        .set("OIDC_CLIENT_SECRET", "a secret of no provider");
    let frontend = settings.start().await?;
    let page = Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text);
    Ok(())
}

async fn provider_that_comes_back_signs_in_again(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    stub.fail(Endpoint::Discovery, Fault::Close);
    let page = Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text);
    stub.behave();
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn token_endpoint_that_fails_is_a_503(world: &Shared) -> Result<()> {
    for fault in
        [Fault::Status(500), Fault::Status(502), Fault::Status(503), Fault::Status(429), Fault::Close]
    {
        assert_unavailable(world, fault).await?;
    }
    Ok(())
}

async fn token_endpoint_that_never_answers_is_a_503_in_time(world: &Shared) -> Result<()> {
    assert_unavailable(world, Fault::Stall).await
}

async fn token_endpoint_that_drips_is_a_503_in_time(world: &Shared) -> Result<()> {
    assert_unavailable(world, Fault::Drip).await
}

async fn token_endpoint_that_floods_is_a_503_in_time(world: &Shared) -> Result<()> {
    assert_unavailable(world, Fault::Flood).await
}

async fn token_endpoint_that_answers_garbage_signs_nobody_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    for (kind, body) in [
        (
            "application/json",
            r#"{"access_token": "a", "id_token": "b", "token_type": "c", "expires_in": "secret-internal-detail"}"#,
        ),
        ("text/html", "<!doctype html><h1>Maintenance</h1>"),
        ("application/json", ""),
        ("application/json", "{"),
        ("application/json", "[]"),
        ("application/json", "null"),
        ("application/json", "{}"),
        ("application/json", r#"{"access_token": 1, "id_token": 2, "token_type": "Bearer"}"#),
        ("application/json", r#"{"access_token": "a", "id_token": "", "token_type": "Bearer"}"#),
        ("application/json", r#"{"access_token": "a", "id_token": "a.b.c", "token_type": "Bearer"}"#),
        ("application/json", r#"{"access_token": "a", "token_type": "Bearer"}"#),
    ] {
        let fault = Fault::Body(kind, body.to_owned());
        let page = callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, fault)).await?;
        let refused = [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&page.status);
        ensure!(refused, "{body:?}: {} {}", page.status, page.text);
        assert_nobody(&database, body).await?;
    }
    // The log tells where it cannot be read, and not what is there.
    frontend.terminate()?;
    tokio::task::block_in_place(|| frontend.wait(DEADLINE))?;
    let log = frontend.log_text();
    ensure!(log.contains("error in JSON") && !log.contains("secret-internal-detail"), "{log}");
    Ok(())
}

async fn error_with_status_200_signs_nobody_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let body = r#"{"error": "server_error", "error_description": "secret-internal-detail"}"#;
    let fault = Fault::Body("application/json", body.to_owned());
    let page = callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, fault)).await?;
    assert!(page.status.as_u16() == 400 || page.status.as_u16() == 503, "{} {}", page.status, page.text);
    assert_nobody(&database, body).await
}

async fn discovery_that_fails_is_a_503(world: &Shared) -> Result<()> {
    for fault in [
        Fault::Status(500),
        Fault::Under(500),
        Fault::Under(203),
        Fault::Body("text/html", "<h1>hello</h1>".to_owned()),
        Fault::Body("application/json", "{}".to_owned()),
        Fault::Stall,
        Fault::Flood,
    ] {
        let database = world.database().await?;
        let stub = StubProvider::start().await?;
        let what = format!("{fault:?}");
        stub.fail(Endpoint::Discovery, fault);
        let frontend = stub.oidc(world.settings(&database)?).start().await?;
        let start = Instant::now();
        let page = Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
        ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{what}: {} {}", page.status, page.text);
        ensure!(start.elapsed() < DEADLINE, "{what}: answered after {:?}", start.elapsed());
        // An error is never kept.
        stub.behave();
        Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    }
    Ok(())
}

async fn checklist_33_discovery_of_another_issuer_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let frontend = stub.oidc(world.settings(&database)?).start().await?;
    let own = stub.issuer().to_owned();
    let init = format!("{}/auth/init", frontend.url());
    for other in [
        json!("https://accounts.other.test"),
        json!(format!("{own}/")),
        json!(format!("{own}/tenant")),
        json!(own.replace("http:", "HTTP:")),
        json!(own.replace("127.0.0.1", "localhost")),
        json!(""),
        json!([own]),
        json!(null),
    ] {
        let issuer = other.clone();
        stub.forge_metadata(move |document| {
            document.insert("issuer".to_owned(), issuer.clone());
        });
        let page = Browser::new().step(&init).await?;
        ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{other}: {} {}", page.status, page.text);
    }
    // None of them was kept.
    stub.behave();
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn key_set_that_fails_is_a_503(world: &Shared) -> Result<()> {
    for fault in [
        Fault::Status(500),
        Fault::Under(500),
        Fault::Body("application/json", r#"{"keys": []}"#.to_owned()),
        Fault::Body("text/html", "<h1>hello</h1>".to_owned()),
        Fault::Stall,
    ] {
        let database = world.database().await?;
        let (frontend, stub) = world.stubbed(&database).await?;
        let what = format!("{fault:?}");
        let page = callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Jwks, fault)).await?;
        let refused = [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&page.status);
        ensure!(refused, "{what}: {} {}", page.status, page.text);
        assert_nobody(&database, &what).await?;
    }
    Ok(())
}

async fn assert_token_refused(world: &Shared, cases: Vec<Case>, workos: bool) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = world.settings(&database)?;
    let frontend = if workos { stub.workos(settings) } else { stub.oidc(settings) }.start().await?;
    for (what, set) in cases {
        let page = callback_with(&frontend, &stub, |stub| set(stub)).await?;
        let refused = [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&page.status);
        ensure!(refused, "{what}: {} {}", page.status, page.text);
        assert_nobody(&database, &what).await?;
    }
    // The stub signs in when it behaves: the refusals above were not for another reason.
    stub.behave();
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

type Case = (String, Box<dyn Fn(&StubProvider) + Send>);

fn signing_cases() -> Vec<Case> {
    [
        Signing::None,
        Signing::Hs256WithPublicKey,
        Signing::ForeignKey,
        Signing::UnknownKid,
        Signing::EmbeddedKey,
    ]
    .into_iter()
    .map(|signing| -> Case { (format!("{signing:?}"), Box::new(move |stub| stub.sign(signing))) })
    .collect()
}

fn claim(name: &'static str, value: serde_json::Value) -> Case {
    let what = format!("{name} = {value}");
    (
        what,
        Box::new(move |stub| {
            let value = value.clone();
            stub.forge(move |claims| {
                claims.insert(name.to_owned(), value.clone());
            });
        }),
    )
}

fn without(name: &'static str) -> Case {
    (format!("no {name}"), Box::new(move |stub| stub.forge(move |claims| drop(claims.remove(name)))))
}

async fn checklist_13_forged_signatures_sign_nobody_in(world: &Shared) -> Result<()> {
    assert_token_refused(world, signing_cases(), false).await
}

async fn checklist_13_forged_claims_sign_nobody_in(world: &Shared) -> Result<()> {
    let issuer_with_slash: Case = (
        "iss with a slash".to_owned(),
        Box::new(|stub| {
            let issuer = format!("{}/", stub.issuer());
            stub.forge(move |claims| {
                claims.insert("iss".to_owned(), json!(issuer));
            });
        }),
    );
    let cases = vec![
        claim("nonce", json!("another sign-in's nonce")),
        claim("nonce", json!("")),
        claim("iss", json!("https://accounts.other.test")),
        claim("iss", json!("")),
        issuer_with_slash,
        claim("aud", json!("another client")),
        claim("aud", json!(["another client"])),
        claim("aud", json!([])),
        claim("exp", json!(1_000_000_000)),
        claim("exp", json!("9999999999")),
        claim("exp", json!(null)),
        claim("iat", json!(32_503_680_000_u64)),
        claim("nbf", json!(32_503_680_000_u64)),
        claim("sub", json!("")),
        claim("sub", json!(12345)),
        claim("sub", json!(null)),
        claim("sub", json!(["alice"])),
        // What the database cannot keep is the provider's fault, and none of the server's.
        claim("name", json!("a\0b")),
        claim("name", json!("x".repeat(20_000))),
    ];
    assert_token_refused(world, cases, false).await
}

async fn checklist_13_missing_claims_sign_nobody_in(world: &Shared) -> Result<()> {
    let cases = ["iss", "aud", "sub", "exp", "nonce"].map(without).into();
    assert_token_refused(world, cases, false).await
}

async fn workos_faults_sign_nobody_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let frontend = stub.workos(world.settings(&database)?).start().await?;
    for fault in [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Stall,
        Fault::Close,
        Fault::Flood,
        Fault::Body("text/html", "<h1>hello</h1>".to_owned()),
        Fault::Body("application/json", "{}".to_owned()),
        Fault::Body(
            "application/json",
            r#"{"code": "server_error", "message": "secret-internal-detail"}"#.to_owned(),
        ),
        Fault::Body("application/json", r#"{"user": {"id": ""}, "access_token": ""}"#.to_owned()),
    ] {
        let what = format!("{fault:?}");
        let page = callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, fault)).await?;
        let refused = [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&page.status);
        ensure!(refused, "{what}: {} {}", page.status, page.text);
        assert_nobody(&database, &what).await?;
    }
    let empty_user = callback_with(&frontend, &stub, |stub| {
        stub.forge_response(|response| {
            response.insert("user".to_owned(), json!({"id": "", "email": "alice@example.com"}));
        });
    })
    .await?;
    ensure!(!empty_user.status.is_success(), "a user without an id: {}", empty_user.status);
    assert_nobody(&database, "a user without an id").await?;
    // An error that says nothing is the provider's.
    let wordless =
        callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, Fault::Under(400))).await?;
    assert_eq!(wordless.json()?["error"], "provider_error", "{}", wordless.text);
    // A code that does not hold is nobody's fault: the next one may.
    stub.behave();
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let spent = browser.step(&callback.as_str().replace("code_", "code_of_yesterday_")).await?;
    assert_eq!((spent.status, &spent.json()?["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert_nobody(&database, "a code that does not hold").await?;
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn checklist_13_workos_forged_access_tokens_sign_nobody_in(world: &Shared) -> Result<()> {
    let mut cases = signing_cases();
    cases.extend([
        claim("iss", json!("https://accounts.other.test")),
        claim("exp", json!(1_000_000_000)),
        claim("sub", json!("user_01SOMEBODYELSE")),
        without("sub"),
        without("exp"),
        without("iss"),
    ]);
    assert_token_refused(world, cases, true).await
}

async fn redirects_of_the_token_endpoint_are_not_followed(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let elsewhere = StubProvider::start().await?;
    let target = format!("{}/token", elsewhere.issuer());
    let page =
        callback_with(&frontend, &stub, |stub| stub.fail(Endpoint::Token, Fault::Redirect(target))).await?;
    assert!(!page.status.is_success(), "{}", page.status);
    assert_eq!(elsewhere.token_requests(), Vec::<String>::new(), "the code went to another host");
    assert_nobody(&database, "a redirected token request").await
}

async fn checklist_15_redirects_of_the_provider_are_not_followed(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let inside = format!("http://{}/latest/meta-data/", listener.local_addr()?);
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token] {
        let (frontend, stub) = world.stubbed(&database).await?;
        let redirect = Fault::Redirect(inside.clone());
        let page = if endpoint == Endpoint::Discovery {
            stub.fail(endpoint, redirect);
            Browser::new().step(&format!("{}/auth/init", frontend.url())).await?
        } else {
            callback_with(&frontend, &stub, |stub| stub.fail(endpoint, redirect)).await?
        };
        ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{endpoint:?}: {}", page.status);
        // The kernel takes connections before they are accepted, so nothing can be missed here.
        ensure!(listener.accept().is_err(), "{endpoint:?}: the redirect was followed");
    }
    assert_nobody(&database, "a provider that redirects").await
}

async fn liveness_does_not_depend_on_the_provider(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token] {
        stub.fail(endpoint, Fault::Stall);
    }
    // Where it is has been read, and whoever begins goes there.
    let init = Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
    assert_eq!(init.status, StatusCode::FOUND, "{}", init.text);
    // No request of a signed-in user asks the provider anything.
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    client.call("whoami", json!({})).await?.tool_text()?;
    for url in [
        format!("{}/healthz", frontend.url()),
        format!("{}/live", frontend.admin_url()),
        format!("{}/ready", frontend.admin_url()),
    ] {
        let status = reqwest::get(&url).await?.status();
        ensure!(status == StatusCode::OK, "{url}: {status}");
    }
    Ok(())
}

async fn discovery_document_that_is_too_long_is_not_read(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let longest = 64 << 10;
    for (length, status) in [(longest + 1, StatusCode::SERVICE_UNAVAILABLE), (longest, StatusCode::FOUND)] {
        stub.fail(Endpoint::Discovery, Fault::Padded(length));
        let page = Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
        assert_eq!(page.status, status, "{length}: {}", page.text);
    }
    Ok(())
}

async fn answers_that_are_too_long_are_not_read(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    for settings in [stub.oidc(world.settings(&database)?), stub.workos(world.settings(&database)?)] {
        let frontend = settings.start().await?;
        for endpoint in [Endpoint::Jwks, Endpoint::Token] {
            let too_long = Fault::Padded(LONGEST_ANSWER + 1);
            let page = callback_with(&frontend, &stub, |stub| stub.fail(endpoint, too_long)).await?;
            ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{endpoint:?}: {}", page.text);
        }
    }
    assert_nobody(&database, "an answer that is too long").await?;
    for settings in [stub.oidc(world.settings(&database)?), stub.workos(world.settings(&database)?)] {
        let frontend = settings.start().await?;
        stub.behave();
        for endpoint in [Endpoint::Jwks, Endpoint::Token] {
            stub.fail(endpoint, Fault::Padded(LONGEST_ANSWER));
        }
        Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    }
    Ok(())
}

async fn profile_that_is_too_long_is_not_read(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let userinfo = StubProvider::start().await?;
    let endpoint = format!("{}/jwks", userinfo.issuer());
    stub.forge_metadata(move |document| {
        document.insert("userinfo_endpoint".to_owned(), json!(endpoint));
    });
    stub.forge(|claims| drop(claims.remove("email")));
    let profile = json!({"sub": "alice", "email": "alice@example.com"}).to_string();
    let padded = |length: usize| {
        let spaces = " ".repeat(length - profile.len());
        Fault::Body("application/json", format!("{profile}{spaces}"))
    };
    userinfo.fail(Endpoint::Jwks, padded(LONGEST_ANSWER + 1));
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice").await?;
    let page = browser.step(callback.as_str()).await?;
    ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{} {}", page.status, page.text);
    assert_nobody(&database, "a profile that is too long").await?;
    userinfo.fail(Endpoint::Jwks, padded(LONGEST_ANSWER));
    let token = Browser::new().sign_in(&frontend.url(), "alice").await?.token;
    assert_eq!(claims(&frontend, &token).await?["email"], "alice@example.com");
    Ok(())
}

async fn lifetimes_beyond_reason_are_none(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let auth = database.auth().await?;
    for (lifetime, kept) in
        [(json!(1e300), false), (json!(-1), false), (json!(null), false), (json!(60.5), true)]
    {
        let said = lifetime.clone();
        stub.forge_response(move |answer| {
            answer.insert("expires_in".to_owned(), said.clone());
        });
        let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
        let data = note_provider_tokens(&auth, &token).await?;
        ensure!(data["expires_at"].is_string() == kept, "{lifetime}: until {}", data["expires_at"]);
    }
    Ok(())
}

/// The claims of a session, as a tool sees them.
async fn claims(frontend: &Frontend, token: &str) -> Result<Value> {
    let answer = frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?;
    Ok(serde_json::from_str::<Value>(&answer.tool_text()?)?["claims"].take())
}

async fn profile_contradicts_the_id_token_in_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    // The other stub answers what it is told to, which is all that is asked of a userinfo endpoint.
    let userinfo = StubProvider::start().await?;
    let endpoint = format!("{}/jwks", userinfo.issuer());
    let profile = json!({"sub": "alice", "email": "alice@example.com", "name": "of the profile"}).to_string();
    userinfo.fail(Endpoint::Jwks, Fault::Body("application/json", profile));
    stub.forge_metadata(move |document| {
        document.insert("userinfo_endpoint".to_owned(), json!(endpoint));
    });
    stub.forge(|claims| {
        claims.remove("email");
        claims.insert("name".to_owned(), json!("of the token"));
    });
    let token = Browser::new().sign_in(&frontend.url(), "alice").await?.token;
    let claims = claims(&frontend, &token).await?;
    assert_eq!((&claims["name"], &claims["email"]), (&json!("of the token"), &json!("alice@example.com")));
    // Where the token says it all, nothing else is asked.
    userinfo.fail(Endpoint::Jwks, Fault::Status(500));
    stub.forge(|_| ());
    Browser::new().sign_in(&frontend.url(), "alice").await?;
    Ok(())
}

async fn secret_goes_where_the_provider_takes_it(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (basic, post) = ("client_secret_basic", "client_secret_post");
    // Basic authentication, too, where the provider takes both or does not say.
    for (methods, posted) in [
        (Some(vec![basic]), false),
        (Some(vec![post]), true),
        (Some(vec![post, basic]), false),
        (None, false),
    ] {
        let (frontend, stub) = world.stubbed(&database).await?;
        let said = methods.clone();
        stub.forge_metadata(move |document| {
            let name = "token_endpoint_auth_methods_supported";
            match &said {
                Some(methods) => document.insert(name.to_owned(), json!(methods)),
                None => document.remove(name),
            };
        });
        Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
        let requests = stub.token_requests();
        ensure!(requests.len() == 1 && requests[0].contains("client_secret=") == posted, "{methods:?}");
        ensure!(requests[0].contains("client_id=") == posted, "{methods:?}");
    }
    Ok(())
}

async fn credentials_that_the_provider_refuses_are_the_operators_to_mend(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    for settings in [
        stub.oidc(world.settings(&database)?).set("OIDC_CLIENT_SECRET", "a secret of another client"),
        stub.workos(world.settings(&database)?).set("WORKOS_API_KEY", "a key of another client"),
    ] {
        let page = callback_with(&settings.start().await?, &stub, |_| ()).await?;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text);
        ensure!(page.text.contains("does not accept this server's credentials"), "{}", page.text);
    }
    assert_nobody(&database, "a client that the provider refuses").await
}

async fn what_workos_says_beside_the_person_is_not_kept(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let frontend = stub.workos(world.settings(&database)?).start().await?;
    stub.forge_response(|answer| answer["user"]["metadata"] = json!("of the user"));
    stub.forge(|claims| {
        claims.insert("internal".to_owned(), json!("of the token"));
    });
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let claims = claims(&frontend, &token).await?;
    let kept: Vec<_> = claims.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let known = [
        "email",
        "email_verified",
        "first_name",
        "last_name",
        "name",
        "org_id",
        "permissions",
        "role",
        "sid",
    ];
    assert_eq!(kept, known);
    Ok(())
}
