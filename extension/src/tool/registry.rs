//! The exposed functions, kept in `mcp.tools`.

use super::catalog::{Argument, Function, Returns};
use super::refusal::Refusal;
use super::types::{Kind, Type};
use super::{catalog, schema, user};
use crate::error::Error;
use crate::interval;
use crate::jsonb::Jsonb;
use crate::owner::as_owner;
use crate::statement::{all, first, required, run, sql};
use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::ffi::CString;
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

/// A tool as calls need it.
pub(super) struct Tool {
    /// The signature of its function.
    pub(super) function: String,
    /// Who owned the function when it was exposed: a function that changed hands is no longer what was approved.
    pub(super) owner: String,
    /// The scopes a session must have, separated by spaces.
    pub(super) scope: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) restricted: bool,
}

/// Exposes a function. The caller must own it.
pub(super) fn expose(function: pg_sys::Oid, exposure: Exposure<'_>) -> Result<(), Error> {
    // SAFETY: the role that acts, before this library acts as another.
    let caller = unsafe { pg_sys::GetUserId() };
    let function = catalog::function(function)?.ok_or(Refusal::NoSuchFunction(function.to_u32()))?;
    if !owns(caller, function.oid.into()) {
        return Err(Refusal::NotOwner(function.signature).into());
    }
    check_function(&function)?;
    check_privileges(&function)?;
    let name = check_name(exposure.name.unwrap_or(&function.name))?;
    let timeout = match &exposure.timeout {
        Some(timeout) => Some(interval::timeout(timeout).ok_or(Refusal::Timeout)?),
        None => None,
    };
    let scope = exposure.scope.map(check_scope).transpose()?.flatten();
    if let Some(text) = exposure.input_schema {
        let schema = document("input_schema", text)?;
        schema::check_input(&schema, &function)
            .map_err(|misfit| Refusal::Schema { which: "input_schema", misfit })?;
    }
    if let Some(text) = exposure.output_schema {
        let schema = document("output_schema", text)?;
        schema::check_object(&schema).map_err(|misfit| Refusal::Schema { which: "output_schema", misfit })?;
        if matches!(function.returns, Returns::Void | Returns::Scalar) {
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
        return Err(Refusal::Taken(name.to_owned()).into());
    }
    if function.security_definer && function.owner_bypasses_policies {
        let message =
            format!("tool {name:?} runs as {}, for whom row level security does not hold", function.owner);
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "")
            .set_hint(format!(
                "ALTER FUNCTION {} SECURITY INVOKER; or give it another owner.",
                function.signature
            ))
            .report(PgLogLevel::WARNING);
    }
    Ok(())
}

/// Withdraws a tool, whether its function still exists or not. Returns whether there was one.
pub(super) fn withdraw(name: &str) -> Result<bool, Error> {
    // SAFETY: as in `expose`.
    let caller = unsafe { pg_sys::GetUserId() };
    let owner = as_owner(|| {
        let statement = sql!("SELECT owner::text FROM mcp.tools WHERE name = $1 FOR UPDATE");
        first(statement, &[name.into()], |row| required::<String>(&row, 1))
    })?;
    let Some(owner) = owner else { return Ok(false) };
    if !acts_for(caller, &owner) {
        return Err(Refusal::NotWithdrawer { tool: name.to_owned(), owner }.into());
    }
    Ok(as_owner(|| run(sql!("DELETE FROM mcp.tools WHERE name = $1"), &[name.into()]))? > 0)
}

/// The tool of this name.
pub(super) fn find(name: &str) -> Result<Option<Tool>, Error> {
    as_owner(|| {
        let statement = sql!(
            "SELECT function, owner::text, scope, (extract(epoch FROM timeout) * 1000)::bigint, restricted
               FROM mcp.tools WHERE name = $1"
        );
        first(statement, &[name.into()], |row| {
            Ok(Tool {
                function: required(&row, 1)?,
                owner: required(&row, 2)?,
                scope: row.get(3)?,
                timeout: row
                    .get::<i64>(4)?
                    .map(|milliseconds| Duration::from_millis(milliseconds.unsigned_abs())),
                restricted: required(&row, 5)?,
            })
        })
    })
}

struct Listed {
    name: String,
    function: String,
    owner: String,
    title: Option<String>,
    description: Option<String>,
    input_schema: Option<String>,
    output_schema: Option<String>,
    annotations: Option<String>,
}

/// The tools as MCP `Tool` objects, ordered by name. Those whose function is gone or has another owner are left out.
pub(super) fn list() -> Result<Vec<Value>, Error> {
    let listed = as_owner(|| {
        let statement = sql!(
            "SELECT name, function, owner::text, title, description, input_schema::text,
                    output_schema::text, annotations::text
               FROM mcp.tools ORDER BY name"
        );
        all(statement, &[], |row| {
            Ok(Listed {
                name: required(&row, 1)?,
                function: required(&row, 2)?,
                owner: required(&row, 3)?,
                title: row.get(4)?,
                description: row.get(5)?,
                input_schema: row.get(6)?,
                output_schema: row.get(7)?,
                annotations: row.get(8)?,
            })
        })
    })?;
    let functions = catalog::functions(candidates()?)?;
    let functions: HashMap<&str, &Function> =
        functions.iter().map(|function| (function.signature.as_str(), function)).collect();
    let mut tools = Vec::with_capacity(listed.len());
    for tool in listed {
        let function = functions.get(tool.function.as_str());
        if let Some(function) = function.filter(|function| function.owner == tool.owner) {
            tools.push(describe(tool, function)?);
        }
    }
    Ok(tools)
}

/// The functions that have the names of exposed ones, whatever they take.
fn candidates() -> Result<Vec<pg_sys::Oid>, Error> {
    as_owner(|| {
        let statement = sql!(
            "SELECT DISTINCT p.oid
               FROM mcp.tools AS t
              CROSS JOIN LATERAL parse_ident(t.function, false) AS name (parts)
               JOIN pg_namespace AS n ON n.nspname = name.parts[1]::name
               JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = name.parts[2]::name"
        );
        all(statement, &[], |row| required::<pg_sys::Oid>(&row, 1))
    })
}

fn describe(tool: Listed, function: &Function) -> Result<Value, Error> {
    let given = |text: Option<String>| {
        text.map(|text| serde_json::from_str::<Value>(&text)).transpose().map_err(Error::Catalog)
    };
    let mut object = Map::new();
    object.insert("name".into(), tool.name.into());
    if let Some(title) = tool.title {
        object.insert("title".into(), title.into());
    }
    if let Some(description) = tool.description.or_else(|| function.comment.clone()) {
        object.insert("description".into(), description.into());
    }
    let input_schema = given(tool.input_schema)?.unwrap_or_else(|| schema::input(function));
    object.insert("inputSchema".into(), input_schema);
    if let Some(output_schema) = given(tool.output_schema)?.or_else(|| schema::output(function)) {
        object.insert("outputSchema".into(), output_schema);
    }
    let mut annotations = given(tool.annotations)?.unwrap_or_else(|| json!({}));
    if let Value::Object(annotations) = &mut annotations {
        if function.read_only {
            annotations.entry("readOnlyHint").or_insert(true.into());
        }
        if !annotations.is_empty() {
            object.insert("annotations".into(), annotations.clone().into());
        }
    }
    Ok(object.into())
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

fn check_name(name: &str) -> Result<&str, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(Refusal::Name(name.to_owned()))
    }
}

/// The scopes of a tool, separated by single spaces; none where there are none.
fn check_scope(scope: &str) -> Result<Option<String>, Error> {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in scope.split_ascii_whitespace() {
        // RFC 6749 §3.3.
        if !scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
            return Err(Error::Scope(scope.to_owned()));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
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
        Kind::Array(element) => no_value(element),
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

fn document(what: &'static str, text: Jsonb) -> Result<Value, Error> {
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
