//! The life of sessions as a state machine: random histories, run against PostgreSQL and against a model, which
//! must agree on every token ever issued after every step.
//!
//! Time passes by moving the rows' timestamps back. `PROPTEST_CASES` says how many histories are run.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use tests::database::Database;
use tests::ledger;
use tests::session::NewSession;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; lifecycle_agrees_with_its_model]
}

/// Enough to meet every pair of steps; `make fuzz` runs more.
const HISTORIES: u32 = 60;
const USERS: [&str; 2] = ["alice", "bob"];
const CLIENT: &str = "https://client.example";

/// What happens next. An index picks among the sessions or tokens there are at that moment.
#[derive(Debug, Clone)]
enum Step {
    Create {
        user: usize,
        refreshable: bool,
    },
    Enter(Index),
    Touch(Index),
    /// Any refresh token ever issued, live, rotated or long gone.
    Refresh {
        token: Index,
        right_client: bool,
    },
    /// RFC 7009, with an access token or a refresh token.
    Revoke(Index),
    RevokeRefresh(Index),
    RevokeById(Index),
    RevokeUser(usize),
    /// One session ends another, under its own identity.
    End {
        by: Index,
        which: Index,
    },
    EndOthers(Index),
    SetState {
        token: Index,
        right_version: bool,
    },
    SetTokens(Index),
    /// Nobody used the session for its whole TTL.
    Idle(Index),
    /// The access token's hour is over.
    AccessEnds(Index),
    /// The minute in which a rotated token still counts is over.
    GraceEnds(Index),
    CleanUp,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        3 => (0usize..2, any::<bool>()).prop_map(|(user, refreshable)| Step::Create { user, refreshable }),
        2 => index().prop_map(Step::Enter),
        1 => index().prop_map(Step::Touch),
        6 => (index(), prop::bool::weighted(0.9)).prop_map(|(token, right_client)| Step::Refresh { token, right_client }),
        1 => index().prop_map(Step::Revoke),
        1 => index().prop_map(Step::RevokeRefresh),
        1 => index().prop_map(Step::RevokeById),
        1 => (0usize..2).prop_map(Step::RevokeUser),
        1 => (index(), index()).prop_map(|(by, which)| Step::End { by, which }),
        1 => index().prop_map(Step::EndOthers),
        1 => (index(), any::<bool>()).prop_map(|(token, right_version)| Step::SetState { token, right_version }),
        1 => index().prop_map(Step::SetTokens),
        2 => index().prop_map(Step::Idle),
        2 => index().prop_map(Step::AccessEnds),
        2 => index().prop_map(Step::GraceEnds),
        1 => Just(Step::CleanUp),
    ]
}

/// Which of a session's access tokens one is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Generation {
    Current,
    /// Before the last refresh; `true` once its time is over.
    Previous(bool),
    Older,
}

#[derive(Debug)]
struct RefreshToken {
    text: String,
    /// Exchanged; its successor is the next of the list.
    replaced: bool,
    in_grace: bool,
}

/// A session as it ought to be.
#[derive(Debug)]
struct Model {
    id: Uuid,
    user: usize,
    user_id: Uuid,
    access: Vec<(String, Generation)>,
    access_ended: bool,
    refresh: Vec<RefreshToken>,
    revoked: bool,
    expired: bool,
    /// Its row has been cleaned up.
    gone: bool,
    version: i64,
    tokens: serde_json::Value,
}

impl Model {
    fn live(&self) -> bool {
        !self.revoked && !self.expired && !self.gone
    }

    /// What `lookup_session` must say of an access token.
    fn status(&self, generation: Generation) -> &'static str {
        if self.gone || generation == Generation::Older {
            return "unknown";
        }
        let ended = match generation {
            Generation::Current => self.access_ended,
            Generation::Previous(ended) => ended,
            Generation::Older => true,
        };
        match (self.revoked, self.expired || ended) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) => "active",
        }
    }

    fn rotate(&mut self, access: String, refresh: String) {
        let ended = self.access_ended;
        for (_, generation) in &mut self.access {
            *generation = match generation {
                Generation::Current => Generation::Previous(ended),
                _ => Generation::Older,
            };
        }
        self.access.push((access, Generation::Current));
        self.access_ended = false;
        if let Some(last) = self.refresh.last_mut() {
            (last.replaced, last.in_grace) = (true, true);
        }
        self.refresh.push(RefreshToken { text: refresh, replaced: false, in_grace: false });
    }

    fn end(&mut self) -> bool {
        let live = self.live();
        self.revoked |= live;
        live
    }
}

/// A history under way.
struct History<'a> {
    auth: &'a Client,
    superuser: &'a Client,
    sessions: Vec<Model>,
}

impl History<'_> {
    /// An access token ever issued, by the position of its session.
    fn access(&self, at: Index) -> Option<(usize, String, Generation)> {
        let all: Vec<_> = self
            .sessions
            .iter()
            .enumerate()
            .flat_map(|(session, model)| {
                model.access.iter().map(move |(text, generation)| (session, text.clone(), *generation))
            })
            .collect();
        (!all.is_empty()).then(|| at.get(&all).clone())
    }

    fn refresh(&self, at: Index) -> Option<(usize, usize)> {
        let all: Vec<_> = self
            .sessions
            .iter()
            .enumerate()
            .flat_map(|(session, model)| (0..model.refresh.len()).map(move |token| (session, token)))
            .collect();
        (!all.is_empty()).then(|| *at.get(&all))
    }

    fn session(&self, at: Index) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| at.index(self.sessions.len()))
    }

    /// Moves the timestamps of a session's rows.
    async fn pass_time(&self, session: usize, sessions: &str, refresh_tokens: Option<&str>) -> Result<()> {
        let id = self.sessions[session].id;
        self.superuser
            .execute(&format!("UPDATE mcp.sessions SET {sessions} WHERE session_id = $1"), &[&id])
            .await?;
        if let Some(change) = refresh_tokens {
            self.superuser
                .execute(&format!("UPDATE mcp.refresh_tokens SET {change} WHERE session_id = $1"), &[&id])
                .await?;
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Create { user, refreshable } => self.create(*user, *refreshable).await,
            Step::Enter(at) => self.enter(*at).await,
            Step::Touch(at) => {
                let Some((session, token, generation)) = self.access(*at) else { return Ok(()) };
                let touched: bool = self.one("SELECT mcp.touch_session($1) IS NOT NULL", &token).await?;
                self.agree("touch_session", touched, self.sessions[session].status(generation) == "active")
            }
            Step::Refresh { token, right_client } => self.exchange(*token, *right_client).await,
            Step::Revoke(at) => {
                let Some((session, token, generation)) = self.access(*at) else { return Ok(()) };
                let revoked: bool = self.one("SELECT mcp.revoke_session($1)", &token).await?;
                // Whoever proves to hold the secret may end the session, also with a token whose hour is over.
                let expected = generation != Generation::Older && self.sessions[session].end();
                self.agree("revoke_session", revoked, expected)
            }
            Step::RevokeRefresh(at) => {
                let Some((session, token)) = self.refresh(*at) else { return Ok(()) };
                let text = self.sessions[session].refresh[token].text.clone();
                let revoked: bool = self.one("SELECT mcp.revoke_session($1)", &text).await?;
                let expected = self.sessions[session].end();
                self.agree("revoke_session of a refresh token", revoked, expected)
            }
            Step::RevokeById(at) => {
                let Some(session) = self.session(*at) else { return Ok(()) };
                let id = self.sessions[session].id;
                let row = self.auth.query_one("SELECT mcp.revoke_session_by_id($1)", &[&id]).await?;
                let expected = self.sessions[session].end();
                self.agree("revoke_session_by_id", row.get(0), expected)
            }
            Step::RevokeUser(user) => {
                let Some(user_id) =
                    self.sessions.iter().find(|model| model.user == *user).map(|model| model.user_id)
                else {
                    return Ok(());
                };
                let row = self.auth.query_one("SELECT mcp.revoke_user_sessions($1)", &[&user_id]).await?;
                let expected = self.end_where(|model| model.user == *user);
                self.agree("revoke_user_sessions", row.get(0), expected)
            }
            Step::End { by, which } => self.end_under_identity(*by, Some(*which)).await,
            Step::EndOthers(by) => self.end_under_identity(*by, None).await,
            Step::SetState { token, right_version } => self.set_state(*token, *right_version).await,
            Step::SetTokens(at) => self.set_tokens(*at).await,
            Step::Idle(at) => {
                let Some(session) = self.session(*at) else { return Ok(()) };
                self.sessions[session].expired = true;
                self.pass_time(session, "expires_at = clock_timestamp() - interval '1 second'", None).await
            }
            Step::AccessEnds(at) => {
                let Some(session) = self.session(*at) else { return Ok(()) };
                if self.sessions[session].refresh.is_empty() {
                    return Ok(());
                }
                self.sessions[session].access_ended = true;
                self.pass_time(session, "access_expires_at = clock_timestamp() - interval '1 second'", None)
                    .await
            }
            Step::GraceEnds(at) => {
                let Some(session) = self.session(*at) else { return Ok(()) };
                let model = &mut self.sessions[session];
                model.refresh.iter_mut().for_each(|token| token.in_grace = false);
                for (_, generation) in &mut model.access {
                    if let Generation::Previous(ended) = generation {
                        *ended = true;
                    }
                }
                self.pass_time(
                    session,
                    "previous_expires_at = least(previous_expires_at, clock_timestamp() - interval '1 second')",
                    Some("replaced_at = replaced_at - interval '2 minutes'"),
                )
                .await
            }
            Step::CleanUp => {
                let row = self.auth.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
                let mut expected = 0_i64;
                for model in self.sessions.iter_mut().filter(|model| model.expired && !model.gone) {
                    model.gone = true;
                    expected += 1;
                }
                self.agree("cleanup_expired_sessions", row.get(0), expected)
            }
        }
    }

    async fn create(&mut self, user: usize, refreshable: bool) -> Result<()> {
        let mut new = NewSession::of(USERS[user]);
        if refreshable {
            new = new.refreshable(CLIENT);
        }
        let session = new.create(self.auth).await?;
        let refresh = session.refresh_token.into_iter();
        self.sessions.push(Model {
            id: session.id,
            user,
            user_id: session.user_id,
            access: vec![(session.token, Generation::Current)],
            access_ended: false,
            refresh: refresh.map(|text| RefreshToken { text, replaced: false, in_grace: false }).collect(),
            revoked: false,
            expired: false,
            gone: false,
            version: 0,
            tokens: new.oauth_data,
        });
        Ok(())
    }

    async fn enter(&self, at: Index) -> Result<()> {
        let Some((session, token, generation)) = self.access(at) else { return Ok(()) };
        let model = &self.sessions[session];
        self.auth.batch_execute("BEGIN").await?;
        let entered = self.auth.query_one("SELECT status, user_id FROM mcp.enter($1)", &[&token]).await?;
        let armed = self.auth.query_one("SELECT mcp.user_id(), mcp.session_id()", &[]).await?;
        self.auth.batch_execute("COMMIT").await?;
        let expected = model.status(generation);
        self.agree("enter", entered.get::<_, &str>(0), expected)?;
        let who = (expected == "active").then_some((model.user_id, model.id));
        self.agree("the entered user", entered.get::<_, Option<Uuid>>(1), who.map(|who| who.0))?;
        self.agree("the armed user", armed.get::<_, Option<Uuid>>(0), who.map(|who| who.0))?;
        self.agree("the armed session", armed.get::<_, Option<Uuid>>(1), who.map(|who| who.1))
    }

    async fn exchange(&mut self, at: Index, right_client: bool) -> Result<()> {
        let Some((session, token)) = self.refresh(at) else { return Ok(()) };
        let model = &self.sessions[session];
        let presented = &model.refresh[token];
        // Within the grace a rotated token leads to the live one, through every successor between.
        let leads_on = model.refresh[token..].iter().all(|token| !token.replaced || token.in_grace);
        let expected = match () {
            () if model.gone => "unknown",
            () if !right_client => "wrong_client",
            () if model.revoked => "revoked",
            () if model.expired => "expired",
            () if leads_on => "active",
            () => "reused",
        };
        let client = if right_client { CLIENT } else { "https://other.example" };
        let row = self
            .auth
            .query_one(
                "SELECT status, session_id, access_token, refresh_token FROM mcp.refresh_session($1, $2)",
                &[&presented.text, &client],
            )
            .await?;
        self.agree("refresh_session", row.get::<_, &str>(0), expected)?;
        let issued: (Option<String>, Option<String>) = (row.get(2), row.get(3));
        let replaced = presented.replaced;
        let model = &mut self.sessions[session];
        match (expected, issued) {
            ("active", (Some(access), Some(refresh))) => {
                ensure!(row.get::<_, Option<Uuid>>(1) == Some(model.id), "tokens of another session");
                ledger::record("session token", &access);
                ledger::record("refresh token", &refresh);
                if replaced {
                    // The very tokens that the first exchange gave.
                    let live = model.access.iter().find(|(_, generation)| *generation == Generation::Current);
                    ensure!(live.is_some_and(|(text, _)| *text == access), "another access token");
                    ensure!(
                        model.refresh.last().is_some_and(|last| last.text == refresh),
                        "another refresh token"
                    );
                } else {
                    model.rotate(access, refresh);
                }
            }
            ("active", _) => anyhow::bail!("a refresh without tokens"),
            (_, (None, None)) => model.revoked |= expected == "reused",
            (_, _) => anyhow::bail!("tokens beside {expected}"),
        }
        Ok(())
    }

    async fn end_under_identity(&mut self, by: Index, which: Option<Index>) -> Result<()> {
        let Some((session, token, generation)) = self.access(by) else { return Ok(()) };
        let user = self.sessions[session].user;
        let other = which.and_then(|which| self.session(which));
        if self.sessions[session].status(generation) != "active" {
            return Ok(());
        }
        self.auth.batch_execute("BEGIN").await?;
        self.auth.query_one("SELECT status FROM mcp.enter($1)", &[&token]).await?;
        let ended = match other {
            Some(other) => {
                let id = self.sessions[other].id;
                let row = self.auth.query_one("SELECT mcp.end_session($1)", &[&id]).await?;
                i64::from(row.get::<_, bool>(0))
            }
            None => self.auth.query_one("SELECT mcp.end_other_sessions()", &[]).await?.get(0),
        };
        self.auth.batch_execute("COMMIT").await?;
        let this = self.sessions[session].id;
        let expected = match other.map(|other| self.sessions[other].id) {
            Some(id) => self.end_where(|model| model.user == user && model.id == id),
            None => self.end_where(|model| model.user == user && model.id != this),
        };
        self.agree("sessions ended by their user", ended, expected)
    }

    async fn set_state(&mut self, at: Index, right_version: bool) -> Result<()> {
        let Some((session, token, generation)) = self.access(at) else { return Ok(()) };
        let version = self.sessions[session].version;
        let expected_version = if right_version { version } else { version + 7 };
        let row = self
            .auth
            .query_one(
                "SELECT mcp.set_session_state($1, $2, $3)",
                &[&token, &json!({"version": version + 1}), &expected_version],
            )
            .await?;
        let wins = right_version && self.sessions[session].status(generation) == "active";
        if wins {
            self.sessions[session].version += 1;
        }
        self.agree("set_session_state", row.get::<_, Option<i64>>(0), wins.then_some(version + 1))
    }

    async fn set_tokens(&mut self, at: Index) -> Result<()> {
        let Some((session, token, generation)) = self.access(at) else { return Ok(()) };
        // After a refresh only the tokens that are live or in their grace have a wrapped copy of the key; all of
        // those that are active do.
        let tokens = json!({"access_token": format!("at_{}", Uuid::new_v4().simple())});
        ledger::record_fields("provider", &tokens, &["access_token"]);
        let row =
            self.auth.query_one("SELECT mcp.set_session_oauth_data($1, $2)", &[&token, &tokens]).await?;
        let active = self.sessions[session].status(generation) == "active";
        if active {
            self.sessions[session].tokens = tokens;
        }
        self.agree("set_session_oauth_data", row.get(0), active)
    }

    fn end_where(&mut self, mut wanted: impl FnMut(&Model) -> bool) -> i64 {
        let mut ended = 0;
        for model in self.sessions.iter_mut().filter(|model| wanted(model)) {
            ended += i64::from(model.end());
        }
        ended
    }

    async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str, token: &str) -> Result<T> {
        Ok(self.auth.query_one(sql, &[&token]).await?.get(0))
    }

    fn agree<T: PartialEq + std::fmt::Debug>(&self, what: &str, found: T, expected: T) -> Result<()> {
        ensure!(found == expected, "{what}: {found:?}, the model says {expected:?}\n{:#?}", self.sessions);
        Ok(())
    }

    /// What must hold after each step, of every token ever issued and of the rows.
    async fn check(&self) -> Result<()> {
        for model in &self.sessions {
            for (token, generation) in &model.access {
                let row = self
                    .auth
                    .query_one("SELECT status, user_id FROM mcp.lookup_session($1)", &[token])
                    .await?;
                let expected = model.status(*generation);
                self.agree("lookup_session", row.get::<_, &str>(0), expected)?;
                // I3: nobody is anybody else.
                let user = (expected == "active").then_some(model.user_id);
                self.agree("the user found", row.get::<_, Option<Uuid>>(1), user)?;
                let sealed = self.auth.query_one("SELECT mcp.session_oauth_data($1)", &[token]).await?;
                let tokens = (expected == "active").then(|| model.tokens.clone());
                self.agree("session_oauth_data", sealed.get::<_, Option<serde_json::Value>>(0), tokens)?;
            }
            for token in &model.refresh {
                // A refresh token never passes for an access token.
                let row =
                    self.auth.query_one("SELECT status FROM mcp.lookup_session($1)", &[&token.text]).await?;
                self.agree("lookup_session of a refresh token", row.get::<_, &str>(0), "unknown")?;
            }
        }
        self.check_rows().await
    }

    async fn check_rows(&self) -> Result<()> {
        let rows = self
            .superuser
            .query(
                "SELECT s.session_id, s.revoked_at IS NOT NULL, s.expires_at <= clock_timestamp(), s.state_version,
                        (SELECT count(*) FROM mcp.refresh_tokens AS r
                          WHERE r.session_id = s.session_id AND r.replaced_at IS NULL),
                        (SELECT count(*) FROM mcp.wrapped_keys AS w WHERE w.session_id = s.session_id)
                          + (SELECT count(*) FROM mcp.sealed_tokens AS t WHERE t.session_id = s.session_id),
                        s.expires_at <= s.absolute_expires_at
                   FROM mcp.sessions AS s",
                &[],
            )
            .await?;
        let rows: HashMap<Uuid, _> = rows.into_iter().map(|row| (row.get::<_, Uuid>(0), row)).collect();
        self.agree("rows", rows.len(), self.sessions.iter().filter(|model| !model.gone).count())?;
        for model in self.sessions.iter().filter(|model| !model.gone) {
            let row = rows.get(&model.id).context("a session without a row")?;
            self.agree("revoked", row.get(1), model.revoked)?;
            self.agree("expired", row.get(2), model.expired)?;
            self.agree("state_version", row.get(3), model.version)?;
            // I1: at most one live refresh token.
            self.agree("live refresh tokens", row.get(4), i64::from(!model.refresh.is_empty()))?;
            if model.revoked {
                self.agree("keys and tokens of a revoked session", row.get::<_, i64>(5), 0)?;
            }
            self.agree("the expiry is within the lifetime", row.get(6), true)?;
        }
        // I5: what is stored repeats no secret.
        let stored: String = self
            .superuser
            .query_one(
                "SELECT concat((SELECT string_agg(s::text, '') FROM mcp.sessions AS s),
                               (SELECT string_agg(r::text, '') FROM mcp.refresh_tokens AS r),
                               (SELECT string_agg(a::text, '') FROM mcp.audit_log AS a))",
                &[],
            )
            .await?
            .get(0);
        for model in &self.sessions {
            let secrets = model
                .access
                .iter()
                .map(|(text, _)| text)
                .chain(model.refresh.iter().map(|token| &token.text));
            for secret in secrets {
                ensure!(!stored.contains(&secret[28..]), "a secret is stored in clear");
            }
        }
        Ok(())
    }
}

async fn run(database: &Database<'_>, clients: (&Client, &Client), steps: &[Step]) -> Result<()> {
    let (auth, superuser) = clients;
    // What a failed history left open would fail every shorter one too, and hide which is the shortest.
    auth.batch_execute("ROLLBACK").await?;
    superuser.batch_execute("DELETE FROM mcp.sessions; DELETE FROM mcp.audit_log").await?;
    let mut history = History { auth, superuser, sessions: Vec::new() };
    for (number, step) in steps.iter().enumerate() {
        let taken = match history.take(step).await {
            Ok(()) => history.check().await,
            failed => failed,
        };
        taken.with_context(|| format!("step {number}, {step:?}, in {}", database.name()))?;
    }
    Ok(())
}

async fn lifecycle_agrees_with_its_model(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    config.failure_persistence = None;
    config.max_shrink_iters = 400;
    let steps = prop::collection::vec(step(), 1..40);
    let runtime = Handle::current();
    // The runner is synchronous; what it runs is not.
    tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&steps, |steps| {
            runtime
                .block_on(run(&database, (&auth, &superuser), &steps))
                .map_err(|error| TestCaseError::fail(format!("{error:?}")))
        })
    })
    .map_err(|failure| anyhow::anyhow!("{failure}"))
}
