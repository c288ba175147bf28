//! What is measured on: a million sessions with a kilobyte of tokens each, and tables under row level security, ours
//! and those of the system this one replaces.

use std::time::Instant;

use anyhow::{Result, ensure};
use tests::checkout;
use tests::cluster::Cluster;
use tests::database::Database;
use tests::session::Session;

/// So many sessions are made by one statement.
const BATCH: i64 = 5_000;
/// As many connections as there are cores make them.
const WRITERS: usize = 2;

/// The database that is measured on.
pub struct Data<'a> {
    /// The database.
    pub database: Database<'a>,
    /// How many sessions are in it.
    pub sessions: i64,
}

impl<'a> Data<'a> {
    /// Makes it all; with a million sessions, some minutes.
    pub async fn make(cluster: &'a Cluster, sessions: i64) -> Result<Self> {
        let database = cluster.database().await?;
        let start = Instant::now();
        let superuser = database.superuser().await?;
        let schema = std::fs::read_to_string(checkout::tests().join("bench/schema.sql"))?;
        superuser.batch_execute(&schema).await?;

        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let client = database.superuser().await?;
            writers.spawn(async move {
                // Only here: nobody waits for these commits, and the measurements begin after a checkpoint.
                // The limit of sessions takes a lock a user; each of these thousands has one session.
                client
                    .batch_execute("SET synchronous_commit = off; SET mcp.max_sessions_per_user = 0")
                    .await?;
                let statement = client.prepare("SELECT bench.make_sessions($1, $2)").await?;
                for batch in (0..sessions.div_euclid(BATCH)).filter(|batch| batch % 2 == writer as i64) {
                    client.execute(&statement, &[&(batch * BATCH + 1), &((batch + 1) * BATCH)]).await?;
                }
                Ok::<(), anyhow::Error>(())
            });
        }
        while let Some(done) = writers.join_next().await {
            done??;
        }
        superuser.batch_execute("CALL bench.fill()").await?;
        superuser.batch_execute("VACUUM ANALYZE").await?;
        superuser.batch_execute("CHECKPOINT").await?;

        let row = superuser
            .query_one(
                "SELECT (SELECT count(*) FROM mcp.sessions), pg_size_pretty(pg_database_size(current_database())),
                        (SELECT avg(octet_length(ciphertext))::integer FROM mcp.sealed_tokens)",
                &[],
            )
            .await?;
        let made: i64 = row.get(0);
        ensure!(made == sessions / BATCH * BATCH, "made {made} sessions of {sessions}");
        println!(
            "{made} sessions, {} bytes of sealed tokens each, {} in all, made in {:.0} s",
            row.get::<_, i32>(2),
            row.get::<_, String>(1),
            start.elapsed().as_secs_f64()
        );
        Ok(Self { database, sessions: made })
    }

    /// `count` sessions anywhere among all of them.
    pub async fn sample(&self, count: i64) -> Result<Vec<Session>> {
        let rows = self
            .database
            .superuser()
            .await?
            .query(
                "SELECT session_id, user_id, token FROM bench.tokens WHERE n = ANY (ARRAY(
                     SELECT 1 + floor(random() * $1::bigint)::bigint FROM generate_series(1, $2::bigint * 2))) LIMIT $2",
                &[&self.sessions, &count],
            )
            .await?;
        ensure!(rows.len() as i64 == count, "{} sessions instead of {count}", rows.len());
        Ok(rows
            .iter()
            .map(|row| Session {
                id: row.get(0),
                user_id: row.get(1),
                token: row.get(2),
                refresh_token: None,
            })
            .collect())
    }
}
