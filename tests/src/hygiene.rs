//! What a call must leave in a backend for whoever gets the connection next: nothing.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Everything of a backend that outlives a transaction, without what a fresh connection has as well: `{}` where there
/// is nothing. Settings are those that differ from what the connection began with; of the settings that nobody declared,
/// which `pg_settings` does not show, those that the attacks make up. Ours to keep are the statements that a driver
/// prepared, the channel that tells of changed lists, and the client's name that a pooler sets for it.
pub const LOOK: &str = "
    SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'settings', (SELECT pg_catalog.jsonb_object_agg(name, setting) FROM pg_catalog.pg_settings
                      WHERE source = 'session' AND setting IS DISTINCT FROM reset_val
                        AND (name, setting) <> ('application_name', 'mcp-frontend')),
        'made_up', (SELECT pg_catalog.jsonb_object_agg(name, value)
                      FROM pg_catalog.unnest('{app.made_up,request.jwt.claims,request.jwt.claim.sub,mcp.user_id,
                                               mcp.session_id,mcp.subject,mcp.identity}'::text[]) AS name
                     CROSS JOIN LATERAL pg_catalog.current_setting(name, true) AS value
                     WHERE value <> ''),
        'role', CASE WHEN current_user <> session_user THEN current_user END,
        'channels', (SELECT pg_catalog.jsonb_agg(channel) FROM pg_catalog.pg_listening_channels() AS channel
                      WHERE channel <> 'mcp_changes'),
        'statements', (SELECT pg_catalog.jsonb_agg(name ORDER BY name) FROM pg_catalog.pg_prepared_statements
                        WHERE from_sql),
        'cursors', (SELECT pg_catalog.jsonb_agg(name) FROM pg_catalog.pg_cursors WHERE name <> ''),
        'temporary', (SELECT pg_catalog.jsonb_agg(object)
                        FROM (SELECT oid::pg_catalog.regclass::text FROM pg_catalog.pg_class
                               WHERE relnamespace = pg_catalog.pg_my_temp_schema()
                               UNION ALL
                              SELECT oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc
                               WHERE pronamespace = pg_catalog.pg_my_temp_schema()
                               UNION ALL
                              SELECT oid::pg_catalog.regtype::text FROM pg_catalog.pg_type
                               WHERE typnamespace = pg_catalog.pg_my_temp_schema()) AS made (object)),
        'advisory', (SELECT pg_catalog.jsonb_agg(pg_catalog.concat_ws('/', classid, objid, mode)) FROM pg_catalog.pg_locks
                      WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())))";

/// Who the backend takes itself for, outside of any call. It has an answer of its own where the extension is gone.
pub const IDENTITY: &str = "SELECT mcp.user_id()";

/// What [`LOOK`] finds in this connection's backend.
pub async fn state_of(client: &Client) -> Result<Value> {
    // By the simple protocol: the look itself must leave no prepared statement.
    for message in client.simple_query(LOOK).await? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(serde_json::from_str(row.get(0).context("one column")?)?);
        }
    }
    bail!("no row")
}

/// What changed from one look to the next, in words; empty where nothing did.
pub fn difference(before: &Value, after: &Value) -> String {
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes.join(", ")
}

fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<String>) {
    if before == after {
        return;
    }
    let empty = serde_json::Map::new();
    // Of objects that are there or missing, the members tell more than the whole.
    if before.is_object() || after.is_object() {
        let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let missing = Value::Null;
            compare(&path, before.get(key).unwrap_or(&missing), after.get(key).unwrap_or(&missing), changes);
        }
    } else {
        changes.push(format!("{path}: {before} -> {after}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_what_changed() {
        assert_eq!(difference(&json!({}), &json!({})), "");
        assert_eq!(
            difference(
                &json!({"settings": {"a": "1", "b": "1"}}),
                &json!({"settings": {"a": "1", "b": "2"}, "channels": ["c"]})
            ),
            r#"settings.b: "1" -> "2", channels: null -> ["c"]"#
        );
        assert_eq!(difference(&json!({"settings": {"a": "1"}}), &json!({})), r#"settings.a: "1" -> null"#);
    }
}
