//! What the tests of the authorization server look at: sessions, refresh tokens and the audit log behind a grant.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::database::Database;
use tests::mcp::{Answer, Door, Era, McpClient};
use tests::oauth::{Reply, Tokens};
use uuid::Uuid;

/// Who the bearer of `token` is at `server`.
pub async fn whoami(server: &str, token: &str) -> Result<Value> {
    Ok(serde_json::from_str(&call(server, token).await?.tool_text()?)?)
}

/// A call with `token`.
pub async fn call(server: &str, token: &str) -> Result<Answer> {
    let client = McpClient::new(&format!("{server}/mcp/v1"), Era::Modern);
    client.with(Door::Bearer, token).call("whoami", json!({})).await
}

/// A token that is refused, and for this reason.
pub async fn assert_refused(server: &str, token: &str, reason: &str) -> Result<()> {
    let answer = call(server, token).await?;
    ensure!(answer.status == 401, "{} {}", answer.status, answer.text);
    ensure!(answer.text.contains(&format!("{reason:?}")), "expected {reason}: {}", answer.text);
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    ensure!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    Ok(())
}

/// Tokens that are worth something: the access token calls, and belongs to `user`.
pub async fn assert_good(server: &str, tokens: &Tokens, user: &str) -> Result<()> {
    assert_eq!(whoami(server, &tokens.access).await?["subject"], user);
    Ok(())
}

/// A refusal at an endpoint for programs: this error, as JSON, kept by nobody.
pub fn assert_error(reply: &Reply, error: &str) -> Result<()> {
    ensure!(reply.error()? == error, "expected {error}: {} {}", reply.status, reply.text);
    let expected = if error == "invalid_client" { 401 } else { 400 };
    ensure!(reply.status == expected, "{error} with {}", reply.status);
    ensure!(reply.headers["cache-control"] == "no-store", "{:?}", reply.headers);
    ensure!(!reply.text.contains("mcps_") && !reply.text.contains("mcpr_"), "{}", reply.text);
    Ok(())
}

/// The one number that a query gives.
pub async fn count(database: &Database<'_>, query: &str) -> Result<i64> {
    let row = database.superuser().await?.query_one(query, &[]).await;
    Ok(row.with_context(|| query.to_owned())?.get(0))
}

/// How many sessions there are, ended ones too.
pub async fn sessions(database: &Database<'_>) -> Result<i64> {
    count(database, "SELECT count(*) FROM mcp.sessions").await
}

/// The session that an access token belongs to, by the text of it.
pub fn session_of(access_token: &str) -> Result<Uuid> {
    let selector = access_token.strip_prefix("mcps_").and_then(|rest| rest.get(..22));
    let number = selector.context("no access token")?.bytes().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            _ => byte - b'a' + 36,
        };
        number.checked_mul(62)?.checked_add(digit.into())
    });
    Ok(Uuid::from_u128(number.context("a selector is 128 bits")?))
}

/// How many refresh tokens of a session are not rotated out: at most one, ever (I1).
pub async fn live_refresh_tokens(database: &Database<'_>, session: Uuid) -> Result<i64> {
    let query = format!(
        "SELECT count(*) FROM mcp.refresh_tokens WHERE session_id = '{session}' AND replaced_at IS NULL"
    );
    count(database, &query).await
}

/// How many audit rows say that this happened to a session.
pub async fn events(database: &Database<'_>, session: Uuid, event: &str) -> Result<i64> {
    let query =
        format!("SELECT count(*) FROM mcp.audit_log WHERE session_id = '{session}' AND event = '{event}'");
    count(database, &query).await
}

/// Everything that a refused request might change, as one text: sessions, tokens, codes.
pub async fn state(database: &Database<'_>) -> Result<String> {
    let row = database
        .superuser()
        .await?
        .query_one(
            "SELECT jsonb_build_object(
                 'sessions', (SELECT jsonb_agg(s ORDER BY s.session_id) FROM mcp.sessions AS s),
                 'refresh_tokens', (SELECT jsonb_agg(r ORDER BY r.selector) FROM mcp.refresh_tokens AS r),
                 'codes', (SELECT jsonb_agg(c ORDER BY c.selector) FROM mcp.authorization_codes AS c))::text",
            &[],
        )
        .await?;
    Ok(row.get(0))
}
