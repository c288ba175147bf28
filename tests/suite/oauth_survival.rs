//! A frontend killed between any two steps of a sign-in: another replica takes the next one, and the sign-in ends well.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::StatusCode;
use tests::balancer::Balancer;
use tests::browser::Browser;
use tests::database::Database;
use tests::oauth::{Client, LOOPBACK, parameter};
use tests::session::note_provider_tokens;
use tests::site::Site;
use url::Url;

use crate::grants::{assert_refused, events, live_refresh_tokens, session_of, whoami};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        sign_in_survives_a_kill_before_any_step,
        authorization_survives_a_kill_before_any_step,
        refreshing_windows_survive_frontends_that_die,
    ]
}

const USER: &str = "alice@example.com";

/// The steps of a sign-in by hand, before each of which the frontend is killed once.
const SIGN_IN: &[&str] = &["init", "provider", "callback", "call", "session", "logout"];

/// The steps of a client's sign-in. The provider's own pages come between `provider` and `callback`.
const AUTHORIZATION: &[&str] = &[
    "register",
    "authorize",
    "consent",
    "provider",
    "callback",
    "token",
    "call",
    "refresh",
    "call again",
    "revoke",
];

/// A deployment of one replica, which is killed before one step.
struct Doomed {
    site: Site,
    before: &'static str,
    steps: Vec<&'static str>,
}

impl Doomed {
    /// The next step; its name in the table is the point at which the frontend may be killed.
    async fn step(&mut self, name: &'static str) -> Result<()> {
        self.steps.push(name);
        if name == self.before { self.site.replace(0).await } else { Ok(()) }
    }

    fn url(&self) -> &str {
        self.site.url()
    }

    /// That the sign-in had the steps of the table: a step that is not in it is one before which nothing was killed.
    fn assert_steps(&self, table: &[&str]) {
        assert_eq!(self.steps, table);
    }
}

/// Runs `sign_in` once for each step of `table`, and once with no kill at all.
async fn at_each_step<F>(world: &Shared, table: &'static [&'static str], sign_in: F) -> Result<()>
where
    F: AsyncFn(&Database<'_>, &mut Doomed) -> Result<()>,
{
    let database = world.database().await?;
    let balancer = Balancer::start().await?;
    // A provider that others wrote, with pages of its own in between.
    let settings = world.settings(&database)?.set("MCP_PUBLIC_URL", balancer.url());
    let settings = world.oidc().await?.register(settings).await?;
    let site = Site::start(balancer, &settings, 1).await?;
    let mut doomed = Doomed { site, before: "", steps: Vec::new() };
    for before in [""].into_iter().chain(table.iter().copied()) {
        doomed.before = before;
        doomed.steps.clear();
        sign_in(&database, &mut doomed).await.with_context(|| format!("killed before {before:?}"))?;
        doomed.assert_steps(table);
    }
    Ok(())
}

async fn sign_in_survives_a_kill_before_any_step(world: &Shared) -> Result<()> {
    at_each_step(world, SIGN_IN, async |database, doomed| {
        let browser = Browser::new();
        doomed.step("init").await?;
        let init = browser.step(&format!("{}/auth/init?login_hint={USER}", doomed.url())).await?;
        ensure!(init.status == StatusCode::FOUND, "{} {}", init.status, init.text);
        doomed.step("provider").await?;
        let provider = init.location()?.context("to the provider")?;
        let callback = to_callback(&browser, &provider).await?;
        doomed.step("callback").await?;
        let token = browser.finish(callback.as_str()).await?.token;
        note_provider_tokens(&database.auth().await?, &token).await?;
        doomed.step("call").await?;
        ensure!(whoami(doomed.url(), &token).await?["subject"] == USER);
        doomed.step("session").await?;
        // Programs of their own: no connection of the step before, whose server has died.
        let get = reqwest::Client::new().get(format!("{}/auth/session", doomed.url()));
        let session = get.bearer_auth(&token).send().await?;
        ensure!(session.status() == StatusCode::OK, "{}", session.status());
        doomed.step("logout").await?;
        let post = reqwest::Client::new().post(format!("{}/auth/logout", doomed.url()));
        let logout = post.bearer_auth(&token).send().await?;
        ensure!(logout.status() == StatusCode::OK, "{}", logout.status());
        assert_refused(doomed.url(), &token, "revoked").await
    })
    .await
}

async fn authorization_survives_a_kill_before_any_step(world: &Shared) -> Result<()> {
    at_each_step(world, AUTHORIZATION, async |database, doomed| {
        let browser = Browser::new();
        doomed.step("register").await?;
        let client = Client::register(doomed.url(), LOOPBACK).await?;
        doomed.step("authorize").await?;
        let request = client.request("mcp").set("login_hint", USER);
        let mut form = request.open(&browser).await?.form()?;
        doomed.step("consent").await?;
        form.set("decision", "allow");
        let page = browser.post(&form).await?;
        doomed.step("provider").await?;
        let provider = page.location()?.with_context(|| format!("{} {}", page.status, page.text))?;
        let callback = to_callback(&browser, &provider).await?;
        doomed.step("callback").await?;
        let page = browser.html_step(callback.as_str()).await?;
        let answer = page.location()?.with_context(|| format!("{} {}", page.status, page.text))?;
        ensure!(parameter(&answer, "iss").as_deref() == Some(doomed.url()), "{answer}");
        let code = client.code(&request, answer)?;
        doomed.step("token").await?;
        let tokens = client.redeem(&code).await?;
        note_provider_tokens(&database.auth().await?, &tokens.access).await?;
        doomed.step("call").await?;
        ensure!(whoami(doomed.url(), &tokens.access).await?["subject"] == USER);
        doomed.step("refresh").await?;
        let next = client.refresh(&tokens.refresh).await?;
        doomed.step("call again").await?;
        ensure!(whoami(doomed.url(), &next.access).await?["subject"] == USER);
        doomed.step("revoke").await?;
        ensure!(client.revoke(&next.refresh).await?.status == StatusCode::OK);
        assert_refused(doomed.url(), &next.access, "revoked").await
    })
    .await
}

/// Signs in at the provider, up to our callback, which is not requested yet.
async fn to_callback(browser: &Browser, provider: &Url) -> Result<Url> {
    browser.sign_in_until(provider.as_str(), USER, |url| url.path() == "/auth/callback").await
}

async fn refreshing_windows_survive_frontends_that_die(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (mut site, _stub) = world.site(&database, 2).await?;
    let client = Client::register(site.url(), LOOPBACK).await?;
    let tokens = client.sign_in(&Browser::new(), USER, "mcp").await?;
    let session = session_of(&tokens.access)?;
    // Windows that share a refresh token, and try again with the one they have when nobody answers, as clients do. An
    // answer that died with its server must not have cost them their session.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let windows = (0..4).map(|_| {
        let (client, stopped, mut tokens) = (client.clone(), stopped.clone(), tokens.clone());
        tokio::spawn(async move {
            let mut refreshed = 0_u32;
            while !*stopped.borrow() {
                let Ok(reply) = client.token(&client.refreshment(&tokens.refresh)).await else { continue };
                if reply.status == StatusCode::SERVICE_UNAVAILABLE {
                    continue;
                }
                tokens = reply.tokens()?;
                refreshed += 1;
            }
            Ok::<_, anyhow::Error>((tokens, refreshed))
        })
    });
    let windows: Vec<_> = windows.collect();
    for round in 0..8 {
        site.replace(round % 2).await?;
    }
    stop.send(true)?;
    for window in try_join_all(windows).await? {
        let (tokens, refreshed) = window?;
        ensure!(refreshed > 0, "a window never came through");
        let next = client.refresh(&tokens.refresh).await?;
        ensure!(whoami(site.url(), &next.access).await?["subject"] == USER);
    }
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    assert_eq!(events(&database, session, "refresh_reuse").await?, 0);
    Ok(())
}
