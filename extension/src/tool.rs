//! What MCP clients find: SQL functions that their owners expose as tools, resources and prompts.
//!
//! [`registry`] has what was exposed, [`catalog`] what the functions look like, with what the types in them allow
//! ([`format`], [`limits`], [`check`]), and [`schema`] says that in JSON Schema. A
//! call ([`run`]) is checked against it ([`arguments`]), then the values are bound by type ([`binding`]), and one planned
//! statement ([`callable`]) calls the function, sealed ([`sandbox`]); nothing of the call is ever put into SQL text.
//! While it runs it may report how far it is, and ask for input ([`dialogue`]).

mod arguments;
mod binding;
mod callable;
mod catalog;
mod check;
mod complete;
pub(crate) mod completion;
mod constant;
mod default;
pub(crate) mod dialogue;
mod format;
mod headers;
mod input_state;
mod json;
mod limits;
mod notice;
mod page;
mod pattern;
pub(crate) mod prompt;
mod raised;
mod raw;
mod refusal;
mod registry;
mod request;
pub(crate) mod resource;
mod result;
mod run;
mod sandbox;
mod schema;
pub(crate) mod temporary;
mod texts;
mod timer;
mod types;
mod uri_template;
mod user;

pub(crate) use refusal::Refusal;

use crate::error::Error;
use crate::jsonb::Jsonb;
use crate::session::{Status, authenticate, touch_armed};
use crate::statement::sql;
use page::Page;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use raised::Raised;
use registry::Exposure;
use request::Request;
use run::{Call, Denied, Outcome};
use serde_json::{Value, json};

/// Why a tool that was called has no result.
#[derive(Debug)]
enum Failure {
    /// Its time was over.
    TimedOut,
    /// It returned more than a result may have.
    TooLarge {
        limit: usize,
    },
    /// It returned something that is not what it claims to be, and why.
    Malformed(String),
    /// Its function was changed while the call was being prepared.
    Changed,
    /// A value that its argument's type does not take.
    Argument(String, Raised),
    Raised(Raised),
}

impl From<Raised> for Failure {
    fn from(raised: Raised) -> Self {
        Failure::Raised(raised)
    }
}

impl Failure {
    fn is_cancel(&self) -> bool {
        matches!(self, Failure::Raised(raised) | Failure::Argument(_, raised) if raised.is_cancel())
    }

    /// Whether it is what [`dialogue`] raises to end a call that asked for input.
    fn is_question(&self) -> bool {
        matches!(self, Failure::Raised(raised) if &raised.sql_state() == b"57014" && !raised.is_cancel())
    }
}

/// An argument of type `regprocedure`.
struct Regprocedure(pg_sys::Oid);

impl_sql_translatable!(Regprocedure, "regprocedure");

impl FromDatum for Regprocedure {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: a regprocedure is an OID.
        unsafe { pg_sys::Oid::from_polymorphic_datum(datum, is_null, oid).map(Regprocedure) }
    }
}

// SAFETY: the argument is declared as regprocedure, which is an OID.
unsafe impl<'fcx> ArgAbi<'fcx> for Regprocedure {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the wrapper that calls this has checked for NULL.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("checked for NULL")
    }
}

/// Exposes a function as a tool, or changes how it is exposed. For its owner and superusers.
#[pg_extern(schema = "mcp")]
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is an SQL function's, called with named arguments"
)]
fn expose_tool(
    function: Option<Regprocedure>,
    name: default!(Option<&str>, "NULL"),
    title: default!(Option<&str>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    scope: default!(Option<&str>, "NULL"),
    timeout: default!(Option<Interval>, "NULL"),
    input_schema: default!(Option<Jsonb>, "NULL"),
    output_schema: default!(Option<Jsonb>, "NULL"),
    annotations: default!(Option<Jsonb>, "NULL"),
    restricted: default!(Option<bool>, "true"),
) -> Result<(), ErrorReport> {
    let function = function.ok_or(Error::Null("function"))?.0;
    let restricted = restricted.ok_or(Error::Null("restricted"))?;
    let exposure = Exposure {
        name,
        title,
        description,
        scope,
        timeout,
        input_schema,
        output_schema,
        annotations,
        restricted,
    };
    Ok(registry::expose(function, exposure)?)
}

/// Withdraws a tool. For the owner of its function and superusers. Returns whether there was one.
#[pg_extern(schema = "mcp")]
fn withdraw_tool(name: Option<&str>) -> Result<bool, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    let delete = sql!("DELETE FROM mcp.tools WHERE name = $1 RETURNING owner::text");
    Ok(registry::withdraw("tool", name, "tools", delete)?)
}

/// The tools, as MCP `Tool` objects ordered by name; for a token that does not hold, one row that says why. In pages of
/// `page_size` where that is given: the last row is then an object with the `cursor` to pass as `after`, if there is more.
#[pg_extern(schema = "mcp")]
fn list_tools(
    token: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    after: default!(Option<&str>, "NULL"),
    page_size: default!(Option<i32>, "NULL"),
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    Ok(list(token, resource, after, page_size, registry::list)?)
}

/// Authenticates, lists, and slides the session's expiry.
fn list(
    token: Option<&str>,
    resource: Option<&str>,
    after: Option<&str>,
    page_size: Option<i32>,
    entries: impl FnOnce(&Page) -> Result<Vec<Value>, Error>,
) -> Result<SetOfIterator<'static, JsonB>, Error> {
    let page = Page::new(after, page_size)?;
    let entries = match authenticate(token, resource)? {
        Status::Active => {
            let entries = entries(&page)?;
            touch_armed()?;
            entries
        }
        status => vec![json!({ "status": status.as_str() })],
    };
    Ok(SetOfIterator::new(entries.into_iter().map(JsonB)))
}

/// Calls a tool as the user of the session. Returns an MCP `CallToolResult`, or, where it did not come to a call, an
/// object whose `status` says why not.
#[pg_extern(schema = "mcp")]
fn call_tool(
    token: Option<&str>,
    name: Option<&str>,
    arguments: default!(Option<Jsonb>, "'{}'"),
    resource: default!(Option<&str>, "NULL"),
    request: default!(Option<Jsonb>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    Ok(answer(token, resource, |token| {
        let request = Request::read(request)?;
        call(Call { what: "tool", name, token, request }, arguments)
    })?)
}

/// Authenticates, answers, and slides the session's expiry.
fn answer(
    token: Option<&str>,
    resource: Option<&str>,
    answer: impl FnOnce(&str) -> Result<Jsonb, Error>,
) -> Result<Jsonb, Error> {
    let status = authenticate(token, resource)?;
    if status != Status::Active {
        return Ok(result::verdict(status.as_str()));
    }
    let answer = answer(token.unwrap_or_default())?;
    // After the call: until the transaction ends, the session's row stays locked.
    touch_armed()?;
    Ok(answer)
}

fn call(call: Call<'_>, arguments: Option<Jsonb>) -> Result<Jsonb, Error> {
    let Some((exposed, parameters)) = registry::find(call.name)? else {
        return Ok(result::verdict("unknown_tool"));
    };
    let callable = match run::permitted(call.what, call.name, &exposed)? {
        Ok(callable) => callable,
        Err(denied) => return Ok(denied_verdict(denied, "unknown_tool")),
    };
    if let Some(given) = call.request.headers.as_ref().filter(|_| !parameters.is_empty()) {
        let read = arguments.filter(|arguments| arguments.is_object()).map(json::read);
        let read = read.unwrap_or(json::Json::Object(Vec::new()));
        if let Err(message) = headers::check(&parameters, given, &read) {
            return Ok(failed("header_mismatch", &message));
        }
    }
    let arguments = match run::checked(&callable, arguments) {
        Ok(arguments) => arguments,
        Err(message) => return Ok(result::error(&message)),
    };
    Ok(match call.run(&exposed, &callable, arguments, result::tool)? {
        Outcome::Done(result) | Outcome::Verdict(result) => result,
        Outcome::Failed(message) => result::error(&message),
    })
}

fn denied_verdict(denied: Denied, unknown: &str) -> Jsonb {
    match denied {
        Denied::Gone => result::verdict(unknown),
        Denied::Scope(scope) => result::insufficient_scope(&scope),
    }
}

/// A verdict with what is to be said about it.
fn failed(status: &str, message: &str) -> Jsonb {
    result::object(&json!({ "status": status, "message": message }))
}
