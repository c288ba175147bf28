//! Prompts: messages that a user starts a conversation with, made by a function of its arguments.

use super::completion::{self, Completers};
use super::page::{Page, stored};
use super::refusal::Refusal;
use super::registry::{self, Admitted, Exposed, exposed};
use super::request::Request;
use super::result::{self, Output, text_block};
use super::run::{self, Call, Outcome};
use super::{Regprocedure, answer, catalog, denied_verdict, failed, list, texts};
use crate::error::Error;
use crate::jsonb::Jsonb;
use crate::owner::as_owner;
use crate::statement::{first, run, sql};
use pgrx::JsonB;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

/// Exposes a function as a prompt, or changes how it is exposed. For its owner and superusers. `arguments` describes them:
/// an object of texts by name; `completions` names the functions that complete them, likewise.
#[pg_extern(schema = "mcp")]
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is an SQL function's, called with named arguments"
)]
fn expose_prompt(
    function: Option<Regprocedure>,
    name: default!(Option<&str>, "NULL"),
    title: default!(Option<&str>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    arguments: default!(Option<Jsonb>, "NULL"),
    scope: default!(Option<&str>, "NULL"),
    timeout: default!(Option<Interval>, "NULL"),
    completions: default!(Option<Jsonb>, "NULL"),
    restricted: default!(Option<bool>, "true"),
) -> Result<(), ErrorReport> {
    let function = function.ok_or(Error::Null("function"))?.0;
    let restricted = restricted.ok_or(Error::Null("restricted"))?;
    let Admitted { function, timeout, scope } =
        registry::admit(function, scope, timeout.as_ref(), "prompt_result")?;
    let name = registry::check_name(name.unwrap_or(&function.name)).map_err(Error::from)?;
    if let Some(arguments) = arguments {
        completion::texts_by_argument("arguments", arguments, &function)?;
    }
    let completions = completion::resolve(completions, &function)?;
    let written = as_owner(|| {
        run(
            sql!(
                "INSERT INTO mcp.prompts AS p (name, function, owner, title, description, arguments, scope, timeout,
                                               completions, restricted)
                 VALUES ($1, $2, $3::name, $4, $5, $6, $7, $8 * interval '1 ms', $9::jsonb, $10)
                 ON CONFLICT (name) DO UPDATE
                    SET function = excluded.function, title = excluded.title, description = excluded.description,
                        arguments = excluded.arguments, scope = excluded.scope, timeout = excluded.timeout,
                        completions = excluded.completions, restricted = excluded.restricted
                  WHERE p.owner = excluded.owner"
            ),
            &[
                name.into(),
                function.signature.as_str().into(),
                function.owner.as_str().into(),
                title.into(),
                description.into(),
                arguments.into(),
                scope.into(),
                timeout.into(),
                completions.into(),
                restricted.into(),
            ],
        )
    })?;
    if written == 0 {
        return Err(Error::from(Refusal::Taken(format!("a prompt named {name:?}"))).into());
    }
    registry::warn_of_bypass(&format!("prompt {name:?}"), &function);
    Ok(registry::changed("prompts")?)
}

/// Withdraws a prompt. For the owner of its function and superusers. Returns whether there was one.
#[pg_extern(schema = "mcp")]
fn withdraw_prompt(name: Option<&str>) -> Result<bool, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    let delete = sql!("DELETE FROM mcp.prompts WHERE name = $1 RETURNING owner::text");
    Ok(registry::withdraw("prompt", name, "prompts", delete)?)
}

/// The prompts, as MCP `Prompt` objects ordered by name. As `list_tools` in the rest.
#[pg_extern(schema = "mcp")]
fn list_prompts(
    token: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    after: default!(Option<&str>, "NULL"),
    page_size: default!(Option<i32>, "NULL"),
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    Ok(list(token, resource, after, page_size, entries)?)
}

fn entries(page: &Page) -> Result<Vec<Value>, Error> {
    let statement = sql!(
        "SELECT name, function, owner::text, title, description, arguments::text
           FROM mcp.prompts WHERE $1 IS NULL OR name > $1 ORDER BY name LIMIT $2"
    );
    page.entries(
        "name",
        statement,
        [],
        |row| stored(row, 6),
        |prompt, descriptions, function| {
            let argument = |argument: &catalog::Argument| {
                let mut object = json!({"name": argument.name, "required": !argument.is_optional()});
                let given = descriptions.as_ref().and_then(|texts| texts.get(&argument.name)).cloned();
                if let Some(description) = given.or_else(|| argument.ty.comment.clone().map(Value::from)) {
                    object["description"] = description;
                }
                object
            };
            prompt.insert("arguments".into(), function.arguments.iter().map(argument).collect());
            Ok(())
        },
    )
}

/// Makes the messages of a prompt as the user of the session. Returns an MCP `GetPromptResult`, or, where there are none,
/// an object whose `status` says why.
#[pg_extern(schema = "mcp")]
fn get_prompt(
    token: Option<&str>,
    name: Option<&str>,
    arguments: default!(Option<Jsonb>, "'{}'"),
    resource: default!(Option<&str>, "NULL"),
    request: default!(Option<Jsonb>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    Ok(answer(token, resource, |token| {
        let request = Request::read(request)?;
        get(Call { what: "prompt", name, token, request }, arguments)
    })?)
}

fn get(call: Call<'_>, arguments: Option<Jsonb>) -> Result<Jsonb, Error> {
    let unknown = "unknown_prompt";
    let found = as_owner(|| {
        let statement = exposed!("description FROM mcp.prompts WHERE name = $1");
        first(statement, &[call.name.into()], |row| Ok((Exposed::read(&row)?, row.get::<String>(6)?)))
    })?;
    let Some((exposed, description)) = found else { return Ok(result::verdict(unknown)) };
    let callable = match run::permitted(call.what, call.name, &exposed)? {
        Ok(callable) => callable,
        Err(denied) => return Ok(denied_verdict(denied, unknown)),
    };
    let given = arguments.map(|arguments| serde_json::from_str::<Map<String, Value>>(&arguments.to_text()));
    let Some(Ok(given)) = given else {
        return Ok(failed("invalid_arguments", "the arguments must be a JSON object"));
    };
    if let Some(name) = given.iter().find_map(|(name, value)| (!value.is_string()).then_some(name)) {
        return Ok(failed("invalid_arguments", &format!("argument {name:?} must be a string")));
    }
    let texts = given.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let arguments = texts::arguments(&callable.function.arguments, texts)
        .and_then(|arguments| run::checked(&callable, Some(arguments)));
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(message) => return Ok(failed("invalid_arguments", &message)),
    };
    let description = description.or_else(|| callable.function.comment.clone());
    Ok(match call.run(&exposed, &callable, arguments, |output| messages(description, output))? {
        Outcome::Done(result) | Outcome::Verdict(result) => result,
        Outcome::Failed(message) => failed("failed", &message),
    })
}

/// What a function returned as an MCP `GetPromptResult`: one text is one message of the user; a row is a message where it
/// has a `content`, which is a text or a content block, and perhaps a `role`.
fn messages(description: Option<String>, output: Output) -> String {
    let messages = match output {
        Output::Complete { result: Some(complete), .. } => return complete,
        Output::Rows(rows) => match serde_json::from_str::<Vec<Value>>(&rows) {
            Ok(rows) => rows.iter().map(|row| message(row).to_string()).collect(),
            Err(_) => vec![message(&rows.into()).to_string()],
        },
        Output::Row(Some(row)) | Output::Json(Some(row)) => {
            let row = serde_json::from_str(&row).unwrap_or(Value::String(row));
            let rows = if let Value::Array(rows) = row { rows } else { vec![row] };
            rows.iter().map(|row| message(row).to_string()).collect()
        }
        Output::Text(Some(text)) | Output::Bytes(Some(text)) => {
            vec![format!("{{\"role\":\"user\",\"content\":{}}}", text_block(&text))]
        }
        _ => Vec::new(),
    };
    let description = description.map(|text| format!("\"description\":{},", result::quote(&text)));
    format!("{{{}\"messages\":[{}]}}", description.unwrap_or_default(), messages.join(","))
}

fn message(row: &Value) -> Value {
    let content = row.get("content").or_else(|| row.get("value"));
    let block = match content {
        Some(content) if content.get("type").is_some() => content.clone(),
        Some(Value::String(text)) => json!({"type": "text", "text": text}),
        Some(other) => json!({"type": "text", "text": other.to_string()}),
        None => match row {
            Value::String(text) => json!({"type": "text", "text": text}),
            row => json!({"type": "text", "text": row.to_string()}),
        },
    };
    let role = row.get("role").and_then(Value::as_str).filter(|role| *role == "assistant").unwrap_or("user");
    json!({"role": role, "content": block})
}

/// What completes the arguments of a prompt.
pub(super) fn completers(name: &str) -> Result<Option<Completers>, Error> {
    as_owner(|| {
        let statement = exposed!("completions::text FROM mcp.prompts WHERE name = $1");
        first(statement, &[name.into()], |row| Completers::read(&row))
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_functions_return_becomes_messages() {
        let made =
            |output| serde_json::from_str::<Value>(&messages(None, output)).unwrap()["messages"].take();
        let user = |text: &str| json!({"role": "user", "content": {"type": "text", "text": text}});
        assert_eq!(made(Output::Text(Some("hi".into()))), json!([user("hi")]));
        assert_eq!(made(Output::Text(None)), json!([]));
        let rows = r#"[{"role": "assistant", "content": "a"}, {"content": {"type": "image", "data": ""}}, {"x": 1},
                      {"role": "system", "content": "b"}]"#;
        let expected = json!([
            {"role": "assistant", "content": {"type": "text", "text": "a"}},
            {"role": "user", "content": {"type": "image", "data": ""}},
            user(r#"{"x":1}"#),
            user("b"),
        ]);
        assert_eq!(made(Output::Rows(rows.into())), expected);
        assert_eq!(made(Output::Json(Some(rows.into()))), expected);
        assert_eq!(made(Output::Json(Some("[\"a\",\"b\"]".into()))), json!([user("a"), user("b")]));
    }
}
