//! Tools: SQL functions that their owners expose to MCP.
//!
//! [`registry`] has what was exposed, [`catalog`] what the functions look like, [`schema`] says that in JSON Schema. A
//! call is checked against it ([`arguments`]), then the values are bound by type ([`binding`]), and one planned
//! statement ([`callable`]) calls the function, sealed ([`sandbox`]); nothing of the call is ever put into SQL text.

mod arguments;
mod binding;
mod callable;
mod catalog;
mod json;
mod raised;
mod raw;
mod refusal;
mod registry;
mod result;
mod sandbox;
mod schema;
pub(crate) mod temporary;
mod timer;
mod types;
mod user;

pub(crate) use refusal::Refusal;

use crate::error::Error;
use crate::identity;
use crate::jsonb::Jsonb;
use crate::session::{Status, authenticate, touch_armed};
use crate::settings;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};
use raised::Raised;
use registry::{Exposure, Tool};
use sandbox::Seal;
use std::time::Duration;

/// Why a tool that was called has no result.
#[derive(Debug)]
enum Failure {
    /// Its time was over.
    TimedOut,
    /// It returned more than a result may have.
    TooLarge {
        limit: usize,
    },
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
    Ok(registry::withdraw(name.ok_or(Error::Null("name"))?)?)
}

/// The tools, as MCP `Tool` objects ordered by name; for a token that does not hold, one row that says why.
#[pg_extern(schema = "mcp")]
fn list_tools(
    token: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    let tools = match authenticate(token, resource)? {
        Status::Active => {
            let tools = registry::list()?;
            touch_armed()?;
            tools
        }
        status => vec![serde_json::json!({ "status": status.as_str() })],
    };
    Ok(SetOfIterator::new(tools.into_iter().map(JsonB)))
}

/// Calls a tool as the user of the session. Returns an MCP `CallToolResult`, or, where it did not come to a call, an
/// object whose `status` says why not.
#[pg_extern(schema = "mcp")]
fn call_tool(
    token: Option<&str>,
    name: Option<&str>,
    arguments: default!(Option<Jsonb>, "'{}'"),
    resource: default!(Option<&str>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    let status = authenticate(token, resource)?;
    if status != Status::Active {
        return Ok(result::verdict(status.as_str()));
    }
    let answer = call(name, arguments)?;
    // After the tool: until the transaction ends, the session's row stays locked.
    touch_armed()?;
    Ok(answer)
}

fn call(name: &str, arguments: Option<Jsonb>) -> Result<Jsonb, Error> {
    let Some(tool) = registry::find(name)? else { return Ok(result::verdict("unknown_tool")) };
    let Some(callable) = callable::find(&tool.function)? else { return Ok(result::verdict("unknown_tool")) };
    if callable.function.owner != tool.owner {
        log_changed_owner(name, &tool, &callable.function.owner);
        return Ok(result::verdict("unknown_tool"));
    }
    if let Some(scope) = &tool.scope {
        let held = identity::scopes()?;
        if !scope.split(' ').all(|scope| held.iter().any(|held| held == scope)) {
            return Ok(result::insufficient_scope(scope));
        }
    }
    let arguments = match checked(&callable.function.arguments, arguments) {
        Ok(arguments) => arguments,
        Err(message) => return Ok(result::error(&message)),
    };
    let seal = Seal {
        user: user::checked()?,
        search_path: callable.search_path.clone(),
        read_only: callable.function.read_only,
        restricted: tool.restricted,
        timeout: tool.timeout.or_else(settings::tool_timeout),
    };
    let result = sandbox::run(&seal, |sealed| {
        let values = binding::bind(sealed, &callable, arguments)?;
        let plan = callable.call_plan(sealed)?;
        result::call(sealed, &callable.function.returns, plan, &values)
    });
    Ok(result.unwrap_or_else(|failure| answer(failure, seal.timeout)))
}

/// The arguments, if they are what the function takes; otherwise what is wrong with them.
fn checked(takes: &[catalog::Argument], given: Option<Jsonb>) -> Result<Jsonb, String> {
    let given = given.ok_or("the arguments must be a JSON object, not null")?;
    let (size, limit) = (given.size(), settings::max_argument_bytes());
    if size > limit {
        return Err(format!("the arguments are too large: {size} bytes, the limit is {limit}"));
    }
    if !given.is_object() {
        return Err("the arguments must be a JSON object".to_owned());
    }
    arguments::check(takes, &json::read(given))?;
    Ok(given)
}

/// What the client is told of a call that failed; faults of the server and of the request as a whole are raised again.
fn answer(failure: Failure, timeout: Option<Duration>) -> Jsonb {
    let message = match failure {
        Failure::Raised(raised) | Failure::Argument(_, raised) if raised.is_fault() => raised.raise(),
        Failure::Raised(raised) => raised.message(),
        Failure::Argument(name, raised) => format!("argument {name:?}: {}", raised.message()),
        Failure::TimedOut => {
            let limit = timeout.unwrap_or_default();
            format!("the tool timed out after {limit:?}")
        }
        Failure::TooLarge { limit } => {
            format!("the result is too large: it is over the limit of {limit} bytes; ask for less")
        }
        Failure::Changed => "the tool was changed during the call; try again".to_owned(),
    };
    result::error(&message)
}

fn log_changed_owner(name: &str, tool: &Tool, owner: &str) {
    let message = format!(
        "tool {name:?} is disabled: function {} belonged to {} when it was exposed and belongs to {owner} now",
        tool.function, tool.owner
    );
    ErrorReport::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, "")
        .set_hint("Withdraw the tool, and have the new owner expose the function again.")
        .report(PgLogLevel::LOG);
}
