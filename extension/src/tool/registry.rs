//! What was exposed: what may be, and the tools, kept in `mcp.tools`.

use super::catalog::{Argument, Function, Returns};
use super::headers::HeaderParameter;
use super::page::{Page, stored};
use super::refusal::Refusal;
use super::types::{Kind, Type};
use super::{catalog, headers, schema, user};
use crate::error::Error;
use crate::interval;
use crate::jsonb::Jsonb;
use crate::owner::as_owner;
use crate::session::checked_scopes;
use crate::statement::{Row, Statement, first, required, run, sql};
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};
use std::ffi::CString;
use std::thread::LocalKey;
use std::time::Duration;

const MAX_NAME: usize = 64;
/// What a client reads before it calls anything; beyond it, a model's context is the limit.
const MAX_DOCUMENT: usize = 64 * 1024;

/// A tool as its owner describes it.
pub(super) struct Exposure<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) title: Option<&'a str>,
    pub(super) description: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    pub(super) timeout: Option<Interval>,
    pub(super) input_schema: Option<Jsonb>,
    pub(super) output_schema: Option<Jsonb>,
    pub(super) annotations: Option<Jsonb>,
    pub(super) restricted: bool,
}

/// What was exposed, as calls need it.
pub(super) struct Exposed {
    /// The signature of its function.
    pub(super) function: String,
    /// Who owned the function when it was exposed: a function that changed hands is no longer what was approved.
    pub(super) owner: String,
    /// The scopes a session must have, separated by spaces.
    pub(super) scope: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) restricted: bool,
}

/// A function that may be exposed, with what was said of every kind of exposure.
pub(super) struct Admitted {
    pub(super) function: Function,
    /// In milliseconds.
    pub(super) timeout: Option<i32>,
    /// Separated by single spaces.
    pub(super) scope: Option<String>,
}

/// Whether a function may be exposed. The caller must own it, and `mcp_user` may call it. Of the domains of complete
/// results, it returns none but `result`.
pub(super) fn admit(
    function: pg_sys::Oid,
    scope: Option<&str>,
    timeout: Option<&Interval>,
    result: &str,
) -> Result<Admitted, Error> {
    // SAFETY: the role that acts, before this library acts as another.
    let caller = unsafe { pg_sys::GetUserId() };
    let function = catalog::function(function)?.ok_or(Refusal::NoSuchFunction(function.to_u32()))?;
    if !owns(caller, function.oid.into()) {
        return Err(Refusal::NotOwner(function.signature).into());
    }
    check_function(&function)?;
    if let Returns::Complete(domain) = &function.returns
        && domain != result
    {
        let ty = format!("mcp.{domain}");
        return Err(
            Refusal::WrongResult { ty, expected: result.to_owned(), function: function.signature }.into()
        );
    }
    check_privileges(&function)?;
    let timeout = match timeout {
        Some(timeout) => Some(interval::timeout(timeout).ok_or(Refusal::Timeout)?),
        None => None,
    };
    Ok(Admitted { function, timeout, scope: scope.map(check_scope).transpose()?.flatten() })
}

/// Says when row level security does not hold for what was exposed.
pub(super) fn warn_of_bypass(what: &str, function: &Function) {
    if function.security_definer && function.owner_bypasses_policies {
        let message = format!("{what} runs as {}, for whom row level security does not hold", function.owner);
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "")
            .set_hint(format!(
                "ALTER FUNCTION {} SECURITY INVOKER; or give it another owner.",
                function.signature
            ))
            .report(PgLogLevel::WARNING);
    }
}

/// Withdraws what was exposed under a key, whether its function still exists or not. Returns whether there was anything.
/// `delete` returns the owner; whoever is neither a superuser nor acts for them is refused, and so nothing deleted.
pub(super) fn withdraw(
    what: &str,
    key: &str,
    list: &'static str,
    delete: &'static LocalKey<Statement>,
) -> Result<bool, Error> {
    let owner = as_owner(|| first(delete, &[key.into()], |row| required::<String>(&row, 1)))?;
    let Some(owner) = owner else { return Ok(false) };
    // SAFETY: the role that acts, now that this library does not act as another.
    if !acts_for(unsafe { pg_sys::GetUserId() }, &owner) {
        return Err(Refusal::NotWithdrawer { what: format!("{what} {key:?}"), owner }.into());
    }
    changed(list)?;
    Ok(true)
}

/// Exposes a function as a tool.
pub(super) fn expose(function: pg_sys::Oid, exposure: Exposure<'_>) -> Result<(), Error> {
    let Admitted { function, timeout, scope } =
        admit(function, exposure.scope, exposure.timeout.as_ref(), "tool_result")?;
    let name = check_name(exposure.name.unwrap_or(&function.name))?;
    if let Some(text) = exposure.input_schema {
        let schema = document("input_schema", text)?;
        schema::check_input(&schema, &function)
            .and_then(|()| headers::parameters(&schema).map(|_| ()))
            .map_err(|misfit| Refusal::Schema { which: "input_schema", misfit })?;
    }
    if let Some(text) = exposure.output_schema {
        let schema = document("output_schema", text)?;
        schema::check_object(&schema).map_err(|misfit| Refusal::Schema { which: "output_schema", misfit })?;
        if matches!(function.returns, Returns::Void | Returns::Scalar | Returns::Bytes) {
            return Err(Refusal::OutputSchema(function.signature).into());
        }
    }
    if let Some(text) = exposure.annotations {
        check_annotations(&document("annotations", text.object("annotations")?)?, &function)?;
    }
    let written = as_owner(|| {
        run(
            sql!(
                "INSERT INTO mcp.tools AS t (name, function, owner, title, description, scope, timeout, input_schema,
                                             output_schema, annotations, restricted)
                 VALUES ($1, $2, $3::name, $4, $5, $6, $7 * interval '1 ms', $8, $9, $10, $11)
                 ON CONFLICT (name) DO UPDATE
                    SET function = excluded.function, title = excluded.title, description = excluded.description,
                        scope = excluded.scope, timeout = excluded.timeout, input_schema = excluded.input_schema,
                        output_schema = excluded.output_schema, annotations = excluded.annotations,
                        restricted = excluded.restricted
                  WHERE t.owner = excluded.owner"
            ),
            &[
                name.into(),
                function.signature.as_str().into(),
                function.owner.as_str().into(),
                exposure.title.into(),
                exposure.description.into(),
                scope.into(),
                timeout.into(),
                exposure.input_schema.into(),
                exposure.output_schema.into(),
                exposure.annotations.into(),
                exposure.restricted.into(),
            ],
        )
    })?;
    if written == 0 {
        return Err(Refusal::Taken(format!("a tool named {name:?}")).into());
    }
    warn_of_bypass(&format!("tool {name:?}"), &function);
    changed("tools")
}

/// Tells whoever listens that one of the lists has changed. `mcp_changes` is the channel, `list` the payload.
pub(super) fn changed(list: &'static str) -> Result<(), Error> {
    as_owner(|| run(sql!("SELECT pg_notify('mcp_changes', $1)"), &[list.into()]))?;
    Ok(())
}

/// The tool of this name, and which of its arguments go in headers too.
pub(super) fn find(name: &str) -> Result<Option<(Exposed, Vec<HeaderParameter>)>, Error> {
    let found = as_owner(|| {
        let statement = exposed!(
            "CASE WHEN strpos(input_schema::text, 'x-mcp-header') > 0 THEN input_schema::text END
               FROM mcp.tools WHERE name = $1"
        );
        first(statement, &[name.into()], |row| Ok((Exposed::read(&row)?, row.get::<String>(6)?)))
    })?;
    let Some((exposed, schema)) = found else { return Ok(None) };
    let schema =
        schema.map(|text| serde_json::from_str::<Value>(&text)).transpose().map_err(Error::Catalog)?;
    let parameters = schema.map(|schema| headers::parameters(&schema)).transpose();
    // What stands in the table was checked when it was exposed.
    Ok(Some((exposed, parameters.ok().flatten().unwrap_or_default())))
}

impl Exposed {
    /// Reads a row of [`exposed!`], which has more from the sixth column on.
    pub(super) fn read(row: &Row<'_>) -> Result<Exposed, Error> {
        Ok(Exposed {
            function: required(row, 1)?,
            owner: required(row, 2)?,
            scope: row.get(3)?,
            timeout: row
                .get::<i64>(4)?
                .map(|milliseconds| Duration::from_millis(milliseconds.unsigned_abs())),
            restricted: required(row, 5)?,
        })
    }
}

/// The statement that reads an [`Exposed`], and then what `$rest` begins with.
macro_rules! exposed {
    ($rest:literal) => {
        $crate::statement::sql!(concat!(
            "SELECT function, owner::text, scope, (extract(epoch FROM timeout) * 1000)::bigint, restricted, ",
            $rest
        ))
    };
}
pub(super) use exposed;

/// A page of the tools as MCP `Tool` objects, ordered by name.
pub(super) fn list(page: &Page) -> Result<Vec<Value>, Error> {
    let statement = sql!(
        "SELECT name, function, owner::text, title, description, input_schema::text,
                output_schema::text, annotations::text
           FROM mcp.tools WHERE $1 IS NULL OR name > $1 ORDER BY name LIMIT $2"
    );
    page.entries(
        "name",
        statement,
        [],
        |row| Ok((stored(row, 6)?, stored(row, 7)?, stored(row, 8)?)),
        |tool, (input_schema, output_schema, annotations), function| {
            tool.insert("inputSchema".into(), input_schema.unwrap_or_else(|| schema::input(function)));
            if let Some(output_schema) = output_schema.or_else(|| schema::output(function)) {
                tool.insert("outputSchema".into(), output_schema);
            }
            let mut annotations = annotations.unwrap_or_else(|| json!({}));
            if let Value::Object(annotations) = &mut annotations {
                if function.read_only {
                    annotations.entry("readOnlyHint").or_insert(true.into());
                }
                if !annotations.is_empty() {
                    tool.insert("annotations".into(), annotations.clone().into());
                }
            }
            Ok(())
        },
    )
}

#[cfg(feature = "pg15")]
fn owns(role: pg_sys::Oid, function: pg_sys::Oid) -> bool {
    // SAFETY: looks the function up in the catalog.
    unsafe { pg_sys::pg_proc_ownercheck(function, role) }
}

#[cfg(not(feature = "pg15"))]
fn owns(role: pg_sys::Oid, function: pg_sys::Oid) -> bool {
    // SAFETY: looks the function up in the catalog.
    unsafe { pg_sys::object_ownercheck(pg_sys::ProcedureRelationId, function, role) }
}

/// Whether a role may do what another may, or is a superuser.
fn acts_for(role: pg_sys::Oid, owner: &str) -> bool {
    let owner = CString::new(owner).expect("identifiers hold no NUL");
    // SAFETY: looks roles up in the catalog.
    unsafe {
        let owner = pg_sys::get_role_oid(owner.as_ptr(), true);
        pg_sys::superuser_arg(role) || (owner != pg_sys::InvalidOid && pg_sys::has_privs_of_role(role, owner))
    }
}

pub(super) fn check_name(name: &str) -> Result<&str, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(Refusal::Name(name.to_owned()))
    }
}

/// The scopes of a tool, separated by single spaces; none where there are none. Those that a session can hold.
fn check_scope(scope: &str) -> Result<Option<String>, Error> {
    let scopes = scope.split_ascii_whitespace().map(|scope| Some(scope.to_owned())).collect();
    let scopes = checked_scopes(Some(scopes))?;
    Ok((!scopes.is_empty()).then(|| scopes.join(" ")))
}

/// Whether a function can be called with JSON, and what it returns be told in JSON.
fn check_function(function: &Function) -> Result<(), Refusal> {
    let signature = || function.signature.clone();
    if function.kind != 'f' {
        return Err(Refusal::NotAFunction(signature()));
    }
    for (at, argument) in function.arguments.iter().enumerate() {
        if argument.name.is_empty() {
            return Err(Refusal::Unnamed { position: at + 1, function: signature() });
        }
        if let Some(ty) = no_value(&argument.ty) {
            let Argument { name, .. } = argument;
            return Err(Refusal::ArgumentType { ty, argument: name.clone(), function: signature() });
        }
    }
    let columns = match &function.returns {
        Returns::Unsupported(ty) => {
            return Err(Refusal::ResultType { ty: ty.clone(), function: signature() });
        }
        Returns::Row(columns) | Returns::Rows { columns, .. } => columns.as_slice(),
        _ => &[],
    };
    match columns.iter().find_map(|column| no_value(&column.ty)) {
        Some(ty) => Err(Refusal::ResultType { ty, function: signature() }),
        None => Ok(()),
    }
}

/// The pseudo-type that a type is, or has inside.
fn no_value(ty: &Type) -> Option<String> {
    match &ty.kind {
        Kind::Pseudo(name) => Some(name.clone()),
        Kind::Void => Some("void".to_owned()),
        Kind::Array { element, .. } => no_value(element),
        Kind::Object(fields) => fields.iter().find_map(|field| no_value(&field.ty)),
        _ => None,
    }
}

fn check_privileges(function: &Function) -> Result<(), Error> {
    let (execute, usage) = as_owner(|| {
        let statement = sql!(
            "SELECT has_function_privilege($1, p.oid, 'EXECUTE'), has_schema_privilege($1, p.pronamespace, 'USAGE')
               FROM pg_proc AS p WHERE p.oid = $2"
        );
        first(statement, &[user::oid()?.into(), pg_sys::Oid::from(function.oid).into()], |row| {
            Ok((required::<bool>(&row, 1)?, required::<bool>(&row, 2)?))
        })
    })?
    .ok_or(Refusal::NoSuchFunction(function.oid))?;
    if !usage {
        return Err(Refusal::NoUsage(function.schema.clone()).into());
    }
    if !execute {
        return Err(Refusal::NotExecutable(function.signature.clone()).into());
    }
    Ok(())
}

pub(super) fn document(what: &'static str, text: Jsonb) -> Result<Value, Error> {
    let got = text.size();
    if got > MAX_DOCUMENT {
        return Err(Error::TooLong { what, got, limit: MAX_DOCUMENT });
    }
    serde_json::from_str(&text.to_text()).map_err(|_| Error::TooDeep(what))
}

/// Checks the annotations that MCP defines; others pass.
fn check_annotations(annotations: &Value, function: &Function) -> Result<(), Refusal> {
    for name in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
        if annotations.get(name).is_some_and(|value| !value.is_boolean()) {
            return Err(Refusal::Annotation { name, expected: "true or false" });
        }
    }
    if annotations.get("title").is_some_and(|title| !title.is_string()) {
        return Err(Refusal::Annotation { name: "title", expected: "a string" });
    }
    // Clients run tools that say so without asking their user.
    if annotations.get("readOnlyHint") == Some(&Value::Bool(true)) && !function.read_only {
        return Err(Refusal::NotReadOnly(function.signature.clone()));
    }
    Ok(())
}
