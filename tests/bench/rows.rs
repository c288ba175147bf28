//! One function a row of the table of speeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::frontend::Settings;
use tests::session::Session;

use crate::data::Data;
use crate::fastmcp::FastMcp;
use crate::http::{self, Requests};
use crate::pgbench::{self, Load, Side, Variables};

/// The sides take turns, so that what else the machine does falls on both.
const ROUNDS: usize = 5;
/// So many different sessions are hit in a round; pgbench takes 128 scripts.
const SESSIONS_A_ROUND: i64 = 100;

/// A promise and what it came to.
pub struct Row {
    name: &'static str,
    value: f64,
    bar: Bar,
}

enum Bar {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Row {
    /// Prints the line, and says whether the promise is kept.
    pub fn print(&self) -> bool {
        let (sign, bar, met) = match self.bar {
            Bar::AtLeast(bar) => (">=", bar, self.value >= bar),
            Bar::AtMost(bar) => ("<=", bar, self.value <= bar),
            Bar::Below(bar) => ("<", bar, self.value < bar),
        };
        println!("{} {:.2} {sign} {bar} {}", self.name, self.value, if met { "ok" } else { "short" });
        met
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn variables(sessions: &[Session]) -> Vec<Variables> {
    sessions
        .iter()
        .map(|session| Variables {
            session: session.id.to_string(),
            user: session.user_id.to_string(),
            token: session.token.clone(),
        })
        .collect()
}

/// Runs two sides in turns and prints what each came to. Answers with the median of the rounds' ratios, ours to theirs.
async fn side_by_side(data: &Data<'_>, ours: &Side, theirs: &Side, load: Load) -> Result<f64> {
    let (mut ratios, mut of_ours, mut of_theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let sessions = variables(&data.sample(SESSIONS_A_ROUND).await?);
        let run = |side| tokio::task::block_in_place(|| pgbench::run(&data.database, side, &sessions, load));
        // Who begins takes turns too.
        let (ours, theirs) = if round % 2 == 0 {
            let ours = run(ours)?;
            (ours, run(theirs)?)
        } else {
            let theirs = run(theirs)?;
            (run(ours)?, theirs)
        };
        ratios.push(ours.tps / theirs.tps);
        of_ours.push(ours.tps);
        of_theirs.push(theirs.tps);
    }
    println!(
        "  {}: {:.0} tps; {}: {:.0} tps; ratios {}",
        ours.name,
        median(of_ours),
        theirs.name,
        median(of_theirs),
        ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" ")
    );
    Ok(median(ratios))
}

/// P1: `mcp.enter` against reading the same columns of the same row by its primary key.
pub async fn enter_against_primary_key(data: &Data<'_>) -> Result<Row> {
    println!("P1 mcp.enter against a primary-key SELECT of the same row, 8 clients");
    let ours = Side {
        name: "enter",
        user: "mcp_frontend_auth",
        script: "SELECT status, session_id, user_id, issuer, subject, client_id, resource, scopes, claims, state, \
                 state_version, created_at, updated_at, expires_at, absolute_expires_at FROM mcp.enter(:token);\n",
    };
    let theirs = Side {
        name: "select",
        user: "postgres",
        script: "SELECT 'active' AS status, session_id, user_id, issuer, subject, client_id, resource, scopes, claims, \
                 state, state_version, created_at, updated_at, expires_at, absolute_expires_at \
                 FROM mcp.sessions WHERE session_id = :session;\n",
    };
    let load = Load { clients: 8, seconds: 5, rate: None };
    let value = side_by_side(data, &ours, &theirs, load).await?;
    Ok(Row { name: "P1", value, bar: Bar::AtLeast(0.75) })
}

/// P2: one authenticated request against the flow that is replaced, in the shortest form it could have had: one
/// transaction, where it was three requests over HTTP.
pub async fn request_against_replaced_flow(data: &Data<'_>) -> Result<Row> {
    println!(
        "P2 enter + indexed query under RLS against SELECT session, UPDATE expires_at, query with auth.uid(), 8 clients"
    );
    let ours = Side {
        name: "enter and query",
        user: "app_login",
        script: "\\startpipeline\nBEGIN;\nSELECT status FROM mcp.enter(:token);\n\
                 SELECT id, body FROM bench.notes ORDER BY id LIMIT 10;\nCOMMIT;\n\\endpipeline\n",
    };
    let theirs = Side {
        name: "replaced flow",
        user: "replaced_login",
        script: "BEGIN;\n\
                 SELECT set_config('role', 'authenticated', true), \
                        set_config('request.jwt.claims', jsonb_build_object('sub', :user::text)::text, true);\n\
                 SELECT session_id, user_id, oauth_data, mcp_state, expires_at FROM replaced.mcp_sessions WHERE session_id = :session;\n\
                 UPDATE replaced.mcp_sessions SET expires_at = now() + interval '24 hours', updated_at = now() WHERE session_id = :session;\n\
                 SELECT id, body FROM replaced.notes ORDER BY id LIMIT 10;\n\
                 COMMIT;\n",
    };
    let load = Load { clients: 8, seconds: 5, rate: None };
    let value = side_by_side(data, &ours, &theirs, load).await?;
    Ok(Row { name: "P2", value, bar: Bar::AtLeast(5.0) })
}

/// P3: the reader called for each row against a constant, both without parallel workers: a reader of backend memory may
/// not run in one.
pub async fn reader_against_constant(data: &Data<'_>) -> Result<Row> {
    println!("P3 count(*) over all rows with owner = mcp.user_id(), no index, against a constant");
    let session = data.sample(1).await?.remove(0);
    let client = data.database.superuser().await?;
    client.batch_execute("SET max_parallel_workers_per_gather = 0; SET jit = off").await?;
    let claims = serde_json::json!({"sub": session.user_id}).to_string();
    client.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await?;
    client.batch_execute("BEGIN").await?;
    client.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
    let constant = format!("SELECT count(*) FROM bench.rows WHERE owner = '{}'", session.user_id);
    let time = async |statement: &str| {
        let start = Instant::now();
        let count: i64 = client.query_one(statement, &[]).await?.get(0);
        ensure!(count == 1, "{statement} counted {count}");
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    let reader = "SELECT count(*) FROM bench.rows WHERE owner = mcp.user_id()";
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    // The first scan sets hint bits and fills the cache.
    time(&constant).await?;
    for _ in 0..ROUNDS * 2 + 1 {
        let (ours_now, theirs_now) = (time(reader).await?, time(&constant).await?);
        ratios.push(ours_now / theirs_now);
        ours.push(ours_now);
        theirs.push(theirs_now);
    }
    let replaced = time("SELECT count(*) FROM bench.rows WHERE owner = auth.uid()").await?;
    client.batch_execute("COMMIT").await?;
    let theirs = median(theirs);
    println!(
        "  mcp.user_id(): {:.1} ms; constant: {theirs:.1} ms; auth.uid(): {replaced:.1} ms, {:.1} times the constant",
        median(ours),
        replaced / theirs
    );
    Ok(Row { name: "P3", value: median(ratios), bar: Bar::AtMost(1.25) })
}

/// P4: tool calls over HTTP against pgbench running the same SQL, and against FastMCP's tool in memory.
pub async fn http_against_pgbench_and_fastmcp(data: &Data<'_>) -> Result<Vec<Row>> {
    println!("P4 authenticated tools/call over HTTP, tool under RLS, 8 connections");
    let logs = tempfile::tempdir()?;
    let settings = Settings::new(&data.database, logs.path())?
        .set("MCP_LOG", "warn")
        .set("MCP_POOL_SIZE", "8")
        .set("MCP_IDP", "oidc")
        .set("OIDC_ISSUER", "http://127.0.0.1:1")
        .set("OIDC_CLIENT_ID", "bench")
        .set("OIDC_CLIENT_SECRET", "nobody signs in while this is measured");
    let frontend = settings.start().await?;
    let fastmcp = FastMcp::start().await?;

    let sql = Side {
        name: "pgbench",
        user: "mcp_frontend_exec",
        script: "SELECT mcp.call_tool(:token, 'bench_notes', '{}');\n",
    };
    let load = Load { clients: 8, seconds: 5, rate: None };
    let (mut over_sql, mut over_fastmcp) = (Vec::new(), Vec::new());
    let (mut ours, mut of_sql, mut of_fastmcp) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let sessions = data.sample(SESSIONS_A_ROUND).await?;
        let tokens = sessions.iter().map(|session| Some(session.token.clone())).collect();
        let requests = Requests { url: format!("{}/mcp/v1", frontend.url()), tool: "bench_notes", tokens };
        let http =
            http::throughput(&requests, load.clients, Duration::from_secs(load.seconds.into())).await?;
        let sessions = variables(&sessions);
        let tps = tokio::task::block_in_place(|| pgbench::run(&data.database, &sql, &sessions, load))?.tps;
        over_sql.push(http / tps);
        ours.push(http);
        of_sql.push(tps);
        if let Some(fastmcp) = &fastmcp {
            let requests = Requests { url: fastmcp.url().to_owned(), tool: "list_notes", tokens: vec![None] };
            let theirs =
                http::throughput(&requests, load.clients, Duration::from_secs(load.seconds.into())).await?;
            over_fastmcp.push(http / theirs);
            of_fastmcp.push(theirs);
        }
    }
    println!("  over HTTP: {:.0} calls/s; pgbench: {:.0} tps", median(ours), median(of_sql));
    let mut rows = vec![Row { name: "P4", value: median(over_sql), bar: Bar::AtLeast(0.6) }];
    if of_fastmcp.is_empty() {
        println!("  FastMCP could not be installed: no comparison with it");
    } else {
        println!("  FastMCP {}: {:.0} calls/s", crate::fastmcp::VERSION, median(of_fastmcp));
        rows.push(Row { name: "P4", value: median(over_fastmcp), bar: Bar::AtLeast(15.0) });
    }
    Ok(rows)
}

/// P5: the 99th percentile of `mcp.enter` at a fixed rate, while all other sessions are cleaned up, against the same
/// without.
pub async fn enter_during_clean_up(data: &Data<'_>) -> Result<Vec<Row>> {
    println!("P5 p99 of mcp.enter at 1000 a second while {} expired sessions are cleaned up", data.sessions);
    const RATE: u32 = 1000;
    let superuser = data.database.superuser().await?;
    let living = data.sample(SESSIONS_A_ROUND).await?;
    let ids: Vec<_> = living.iter().map(|session| session.id).collect();
    superuser
        .execute(
            "UPDATE mcp.sessions SET created_at = created_at - interval '3 days', expires_at = expires_at - interval '3 days'
              WHERE session_id <> ALL ($1)",
            &[&ids],
        )
        .await?;
    superuser.batch_execute("VACUUM mcp.sessions").await?;
    superuser.batch_execute("CHECKPOINT").await?;

    let side =
        Side { name: "enter", user: "mcp_frontend_auth", script: "SELECT status FROM mcp.enter(:token);\n" };
    let sessions = variables(&living);
    let load = |seconds| Load { clients: 8, seconds, rate: Some(RATE) };
    let measure = |seconds| {
        tokio::task::block_in_place(|| pgbench::run(&data.database, &side, &sessions, load(seconds)))
    };
    measure(3)?;
    let before = measure(15)?.p99.context("a rate was asked for")?;

    // In small batches, as the worker does it, by a connection of its own; meanwhile somebody looks for locks waited for.
    let cleaner = data.database.auth().await?;
    let watcher = data.database.superuser().await?;
    let start = Instant::now();
    let cleaning = tokio::spawn(async move {
        let mut deleted = 0;
        loop {
            let batch: i64 = cleaner.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?.get(0);
            deleted += batch;
            if batch == 0 {
                return Ok::<(i64, Duration), anyhow::Error>((deleted, start.elapsed()));
            }
        }
    });
    let waits = Arc::new(AtomicI64::new(0));
    let seen = waits.clone();
    let watching = tokio::spawn(async move {
        let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                        WHERE NOT l.granted AND a.usename = 'mcp_frontend_auth'
                          AND l.locktype IN ('tuple', 'transactionid', 'relation')";
        while let Ok(row) = watcher.query_one(waiting, &[]).await {
            seen.fetch_add(row.get(0), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut during = Vec::new();
    while !cleaning.is_finished() {
        during.push(measure(5)?.p99.context("a rate was asked for")?);
    }
    let (deleted, took) = cleaning.await??;
    watching.abort();
    ensure!(deleted == data.sessions - SESSIONS_A_ROUND, "deleted {deleted}");
    let worst = during.iter().copied().fold(0.0, f64::max);
    println!(
        "  {deleted} deleted in {:.0} s, {:.0} a second; p99 before: {before:.2} ms; during: median {:.2} ms, worst {worst:.2} ms",
        took.as_secs_f64(),
        deleted as f64 / took.as_secs_f64(),
        median(during.clone())
    );
    Ok(vec![
        Row { name: "P5", value: median(during) / before, bar: Bar::Below(1.5) },
        Row { name: "P5", value: waits.load(Ordering::Relaxed) as f64, bar: Bar::AtMost(0.0) },
    ])
}

/// P6: from start to the first answer; memory with a thousand idle connections.
pub async fn frontend_start_and_memory(data: &Data<'_>) -> Result<Vec<Row>> {
    println!("P6 the frontend: milliseconds from start to first answer; MB with 1000 idle connections");
    let logs = tempfile::tempdir()?;
    let settings = Settings::new(&data.database, logs.path())?
        .set("MCP_LOG", "warn")
        .set("MCP_IDP", "oidc")
        .set("OIDC_ISSUER", "http://127.0.0.1:1")
        .set("OIDC_CLIENT_ID", "bench")
        .set("OIDC_CLIENT_SECRET", "nobody signs in while this is measured");
    let mut starts = Vec::new();
    for _ in 0..ROUNDS * 2 + 1 {
        let start = Instant::now();
        let frontend = settings.start().await?;
        starts.push(start.elapsed().as_secs_f64() * 1000.0);
        frontend.kill()?;
    }
    let frontend = settings.start().await?;
    let held = http::idle_connections(&frontend.url(), 1000).await?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", frontend.pid()))?;
    let resident: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    drop(held);
    Ok(vec![
        Row { name: "P6", value: median(starts), bar: Bar::Below(50.0) },
        Row { name: "P6", value: resident / 1024.0, bar: Bar::Below(40.0) },
    ])
}
