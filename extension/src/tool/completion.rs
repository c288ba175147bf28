//! Completing the arguments of prompts and the variables of resource templates.
//!
//! Enums and booleans complete by themselves; for any other argument its owner names a function that takes what was
//! typed, as text, and perhaps the arguments that are already filled in, as jsonb, and returns the values.

use super::catalog::{Argument, Function, Returns};
use super::refusal::Refusal;
use super::registry::{self, Exposed};
use super::request::Request;
use super::result::{self, Output};
use super::run::{self, Call, Denied, Outcome};
use super::types::Kind;
use super::{answer, denied_verdict, failed, prompt, resource};
use crate::error::Error;
use crate::jsonb::Jsonb;
use crate::statement::Row;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::ffi::CString;

/// As many values as the protocol lets an answer have.
const MOST_VALUES: usize = 100;

/// What completes the arguments of something exposed: functions by argument, each by its signature.
pub(super) struct Completers {
    exposed: Exposed,
    functions: Map<String, Value>,
}

impl Completers {
    /// Reads what [`Exposed::read`] reads, and the functions behind it.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Error> {
        let functions = row.get::<String>(6)?.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Completers {
            exposed: Exposed::read(row)?,
            functions: functions.map_err(Error::Catalog)?.unwrap_or_default(),
        })
    }
}

/// An object of texts by argument.
pub(super) fn texts_by_argument(
    what: &'static str,
    given: Jsonb,
    function: &Function,
) -> Result<Map<String, Value>, Error> {
    let given = registry::document(what, given.object(what)?)?;
    let given = given.as_object().cloned().unwrap_or_default();
    for (name, text) in &given {
        if !function.arguments.iter().any(|argument| &argument.name == name) {
            let (name, function) = (name.clone(), function.signature.clone());
            return Err(Refusal::NoSuchArgument { what, name, function }.into());
        }
        if !text.is_string() {
            return Err(Refusal::Text { what, name: name.clone() }.into());
        }
    }
    Ok(given)
}

/// The functions that complete arguments, as they are stored: by signature. The caller names them as it likes, and must
/// own them.
pub(super) fn resolve(given: Option<Jsonb>, function: &Function) -> Result<Option<String>, Error> {
    let Some(given) = given else { return Ok(None) };
    let mut functions = texts_by_argument("completions", given, function)?;
    for text in functions.values_mut() {
        let name = text.as_str().unwrap_or_default().to_owned();
        // As the caller, who may leave out the schema.
        let oid = Spi::get_one_with_args::<pg_sys::Oid>(
            "SELECT pg_catalog.to_regprocedure($1)::pg_catalog.oid",
            &[name.as_str().into()],
        )?;
        let oid = oid.ok_or_else(|| Refusal::Completer(name.clone()))?;
        let completer = registry::admit(oid, None, None, "")?.function;
        let takes = match completer.arguments.as_slice() {
            [typed] => is_text(typed),
            [typed, filled_in] => is_text(typed) && matches!(filled_in.ty.kind, Kind::Json),
            _ => false,
        };
        if !takes || !matches!(completer.returns, Returns::Rows { scalar: true, .. }) {
            return Err(Refusal::Completer(name).into());
        }
        *text = completer.signature.into();
    }
    Ok(Some(Value::from(functions).to_string()))
}

fn is_text(argument: &Argument) -> bool {
    matches!(argument.ty.kind, Kind::Text)
}

#[derive(Deserialize)]
struct Reference {
    r#type: String,
    name: Option<String>,
    uri: Option<String>,
}

#[derive(Deserialize)]
struct Typed {
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    arguments: Map<String, Value>,
}

/// Completes an argument as the user of the session. `reference`, `argument` and `context` are those of MCP's
/// `completion/complete`. Returns an MCP `CompleteResult`, or an object whose `status` says why there is none.
#[pg_extern(schema = "mcp")]
fn complete(
    token: Option<&str>,
    reference: Option<Jsonb>,
    argument: Option<Jsonb>,
    context: default!(Option<Jsonb>, "NULL"),
    resource: default!(Option<&str>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    Ok(answer(token, resource, |token| {
        let (Some(reference), Some(argument)) = (read::<Reference>(reference), read::<Typed>(argument))
        else {
            return Ok(failed("invalid_arguments", "ref and argument must be those of completion/complete"));
        };
        let context = if context.is_some() { read::<Context>(context) } else { Some(Context::default()) };
        let Some(context) = context else {
            return Ok(failed("invalid_arguments", "context.arguments must be an object"));
        };
        completed(token, &reference, &argument, context)
    })?)
}

fn read<T: serde::de::DeserializeOwned>(json: Option<Jsonb>) -> Option<T> {
    serde_json::from_str(&json?.to_text()).ok()
}

fn completed(token: &str, reference: &Reference, typed: &Typed, context: Context) -> Result<Jsonb, Error> {
    let (what, name, unknown, completers) = match (reference.r#type.as_str(), &reference.name, &reference.uri)
    {
        ("ref/prompt", Some(name), _) => ("prompt", name, "unknown_prompt", prompt::completers(name)?),
        ("ref/resource", _, Some(uri)) => ("resource", uri, "unknown_resource", resource::completers(uri)?),
        _ => return Ok(failed("invalid_arguments", "ref must be a ref/prompt or a ref/resource")),
    };
    let Some(Completers { exposed, functions }) = completers else { return Ok(result::verdict(unknown)) };
    let callable = match run::permitted(what, name, &exposed)? {
        Ok(callable) => callable,
        Err(denied) => return Ok(denied_verdict(denied, unknown)),
    };
    let Some(argument) = callable.function.arguments.iter().find(|argument| argument.name == typed.name)
    else {
        return Ok(failed("invalid_arguments", &format!("there is no argument {:?}", typed.name)));
    };
    let Some(signature) = functions.get(&typed.name).and_then(Value::as_str) else {
        return Ok(values(own_values(&argument.ty.kind, &typed.value)));
    };
    let completer = Exposed { function: signature.to_owned(), ..exposed };
    let callable = match run::permitted("completion", signature, &completer)? {
        Ok(callable) => callable,
        Err(Denied::Gone) => return Ok(values(Vec::new())),
        Err(denied) => return Ok(denied_verdict(denied, unknown)),
    };
    let mut arguments = Map::new();
    for (argument, value) in
        callable.function.arguments.iter().zip([typed.value.clone().into(), Value::from(context.arguments)])
    {
        arguments.insert(argument.name.clone(), value);
    }
    let text = Value::from(arguments).to_string();
    let text = CString::new(text).expect("JSON text escapes NUL");
    let arguments = match run::checked(&callable, Some(Jsonb::from_text(&text))) {
        Ok(arguments) => arguments,
        Err(message) => return Ok(failed("invalid_arguments", &message)),
    };
    let call = Call { what: "completion", name: signature, token, request: Request::default() };
    Ok(match call.run(&completer, &callable, arguments, |output| answer_of(returned(output)))? {
        Outcome::Done(result) | Outcome::Verdict(result) => result,
        Outcome::Failed(message) => failed("failed", &message),
    })
}

/// What an argument can be, as its type says.
fn own_values(kind: &Kind, typed: &str) -> Vec<String> {
    let labels = match kind {
        Kind::Enum(labels) => labels.clone(),
        Kind::Boolean => vec!["true".to_owned(), "false".to_owned()],
        _ => Vec::new(),
    };
    let typed = typed.to_lowercase();
    labels.into_iter().filter(|label| label.to_lowercase().starts_with(&typed)).collect()
}

/// The values of the rows' one column.
fn returned(output: Output) -> Vec<String> {
    let Output::Rows(rows) = output else { return Vec::new() };
    let rows: Vec<Map<String, Value>> = serde_json::from_str(&rows).unwrap_or_default();
    let value = |row: Map<String, Value>| match row.into_values().next() {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) => None,
        Some(other) => Some(other.to_string()),
    };
    rows.into_iter().filter_map(value).collect()
}

fn answer_of(mut values: Vec<String>) -> String {
    let total = values.len();
    values.truncate(MOST_VALUES);
    json!({"completion": {"values": values, "total": total, "hasMore": total > MOST_VALUES}}).to_string()
}

fn values(values: Vec<String>) -> Jsonb {
    let text = CString::new(answer_of(values)).expect("JSON text escapes NUL");
    Jsonb::from_text(&text)
}
