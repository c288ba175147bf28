//! Why a function is not exposed, and why no tool runs.

use super::schema::Misfit;
use crate::token::shown;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("function {0} does not exist")]
    NoSuchFunction(u32),
    #[error("must be owner of function {0} to expose it")]
    NotOwner(String),
    #[error("must be a member of role {owner} to withdraw {what}")]
    NotWithdrawer { what: String, owner: String },
    #[error("{0} is not a plain function")]
    NotAFunction(String),
    #[error("{:?} cannot be the name of a tool or prompt", shown(.0))]
    Name(String),
    #[error("{uri:?} cannot be the URI of a resource: {1}", uri = shown(.0))]
    Uri(String, &'static str),
    #[error("variable {variable:?} of the URI is not an argument of {function}")]
    Variable { variable: String, function: String },
    #[error("argument {argument:?} of {function} has no default and is not in the URI")]
    NotInUri { argument: String, function: String },
    #[error("{what} names {name:?}, which is not an argument of {function}")]
    NoSuchArgument { what: &'static str, name: String, function: String },
    #[error("what {what} says of {name:?} must be a text")]
    Text { what: &'static str, name: String },
    #[error(
        "{0:?} is not a function that completes: it must take a text, or a text and a jsonb, and return SETOF text"
    )]
    Completer(String),
    #[error("{ty} is not what is expected here: {function} would have to return mcp.{expected}")]
    WrongResult { ty: String, expected: String, function: String },
    #[error("argument {position} of {function} has no name")]
    Unnamed { position: usize, function: String },
    #[error("a tool cannot take an argument of type {ty}: {argument:?} of {function}")]
    ArgumentType { ty: String, argument: String, function: String },
    #[error("a tool cannot return {ty}, as {function} does")]
    ResultType { ty: String, function: String },
    #[error("role mcp_user may not execute {0}")]
    NotExecutable(String),
    #[error("role mcp_user may not use schema {0}")]
    NoUsage(String),
    #[error("timeout must be between 1 millisecond and 1 day")]
    Timeout,
    #[error("{which} does not fit: {misfit}")]
    Schema { which: &'static str, misfit: Misfit },
    #[error("output_schema does not fit: {0} returns text")]
    OutputSchema(String),
    #[error("annotation {name:?} must be {expected}")]
    Annotation { name: &'static str, expected: &'static str },
    #[error("{0} is VOLATILE, which contradicts readOnlyHint")]
    NotReadOnly(String),
    #[error("{0} exists, of a function with another owner")]
    Taken(String),
    #[error("a tool must not create temporary objects")]
    Temporary,
    #[error("role mcp_user is too powerful for running tools: {}", power(.0))]
    TooPowerful(String),
}

impl Refusal {
    fn sql_state(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Refusal::NoSuchFunction(_) => ERRCODE_UNDEFINED_FUNCTION,
            Refusal::NotOwner(_)
            | Refusal::NotWithdrawer { .. }
            | Refusal::NotExecutable(_)
            | Refusal::NoUsage(_)
            | Refusal::Temporary => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Refusal::NotAFunction(_) => ERRCODE_WRONG_OBJECT_TYPE,
            Refusal::Unnamed { .. } => ERRCODE_INVALID_FUNCTION_DEFINITION,
            Refusal::ArgumentType { .. } | Refusal::ResultType { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
            Refusal::Name(_)
            | Refusal::Uri(..)
            | Refusal::Variable { .. }
            | Refusal::NotInUri { .. }
            | Refusal::NoSuchArgument { .. }
            | Refusal::Completer(_)
            | Refusal::Text { .. }
            | Refusal::WrongResult { .. }
            | Refusal::Timeout
            | Refusal::Schema { .. }
            | Refusal::OutputSchema(_)
            | Refusal::Annotation { .. }
            | Refusal::NotReadOnly(_) => ERRCODE_INVALID_PARAMETER_VALUE,
            Refusal::Taken(_) => ERRCODE_DUPLICATE_OBJECT,
            Refusal::TooPowerful(_) => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Refusal::NotAFunction(_) => {
                "Procedures, aggregates and window functions cannot be tools; wrap one in a function."
                    .to_owned()
            }
            Refusal::Name(_) => {
                "Pass a name of 1 to 64 ASCII letters, digits, underscores, hyphens and dots.".to_owned()
            }
            Refusal::Unnamed { .. } => {
                "Clients pass arguments by name. CREATE OR REPLACE FUNCTION can add names.".to_owned()
            }
            Refusal::ArgumentType { .. } => "Declare it with a type that values have.".to_owned(),
            Refusal::ResultType { .. } => {
                "Return a scalar, a composite, a table of declared columns, or mcp.tool_result.".to_owned()
            }
            Refusal::NotExecutable(function) => format!("GRANT EXECUTE ON FUNCTION {function} TO mcp_user;"),
            Refusal::NoUsage(schema) => format!("GRANT USAGE ON SCHEMA {schema} TO mcp_user;"),
            Refusal::Timeout => "Leave it NULL for mcp.tool_timeout.".to_owned(),
            Refusal::OutputSchema(_) => {
                "Only rows, tables, JSON and mcp.tool_result have structured content to describe.".to_owned()
            }
            Refusal::NotReadOnly(function) => {
                format!("A function that writes nothing may say so: ALTER FUNCTION {function} STABLE;")
            }
            Refusal::Taken(_) => "Choose another name or URI, or withdraw that one first.".to_owned(),
            Refusal::TooPowerful(role) if role == "mcp_user" => {
                "ALTER ROLE mcp_user NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION;".to_owned()
            }
            Refusal::TooPowerful(role) => {
                format!("REVOKE {role} FROM mcp_user, or from the role it has it by.")
            }
            _ => return None,
        })
    }
}

impl From<Refusal> for ErrorReport {
    #[track_caller]
    fn from(refusal: Refusal) -> Self {
        let report = ErrorReport::new(refusal.sql_state(), refusal.to_string(), "");
        match refusal.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

/// What is too much in mcp_user, told by the role that it is too much in.
fn power(role: &str) -> String {
    match role {
        "mcp_user" => {
            "it is a superuser, exempt from row level security, or allowed to create roles or to replicate"
                .to_owned()
        }
        role => format!("it is a member of role {role}"),
    }
}
