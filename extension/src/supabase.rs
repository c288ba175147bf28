//! The mirror of an armed identity in `request.jwt.claims`, for policies written with Supabase's `auth.uid()`.
//!
//! Unlike the identity itself, whoever can run SQL can forge this setting; `mcp.supabase_claims` is therefore off by
//! default.

use crate::error::Error;
use crate::guc;
use crate::session::record::{Column, Record};
use crate::settings;
use serde_json::{Map, Value, json};
use std::ffi::CString;

/// Sets `request.jwt.claims` until the end of the transaction, when `mcp.supabase_claims` is on.
pub(crate) fn mirror(record: &Record) -> Result<(), Error> {
    if !settings::supabase_claims() {
        return Ok(());
    }
    let mut claims: Map<String, Value> = record
        .jsonb(Column::Claims)
        .and_then(|claims| serde_json::from_str(&claims.to_text()).ok())
        .unwrap_or_default();
    let id = |column| record.uuid(column).map(|id| id.to_string());
    // auth.uid() casts `sub` to uuid, which subjects such as `auth0|x` are not.
    claims.insert("sub".into(), json!(id(Column::UserId)));
    claims.insert("iss".into(), json!(record.text(Column::Issuer)));
    claims.insert("session_id".into(), json!(id(Column::SessionId)));
    claims.insert("role".into(), json!("authenticated"));
    let text = CString::new(Value::Object(claims).to_string()).expect("JSON text escapes NUL");
    guc::set_local(c"request.jwt.claims", &text);
    Ok(())
}
