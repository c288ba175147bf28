//! Resources: what clients read at a URI, or at any URI of a template.

use super::completion::{self, Completers};
use super::page::{Page, stored};
use super::refusal::Refusal;
use super::registry::{self, Admitted, Exposed, exposed};
use super::request::Request;
use super::result::{self, Output, quote};
use super::run::{self, Call, Outcome};
use super::uri_template::UriTemplate;
use super::{Regprocedure, answer, catalog, denied_verdict, failed, list, texts};
use crate::error::Error;
use crate::jsonb::Jsonb;
use crate::owner::as_owner;
use crate::statement::{all, first, required, run, sql};
use base64::prelude::{BASE64_STANDARD, Engine};
use pgrx::JsonB;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

/// Exposes a function as the resource at a URI, or as all those of a URI template, whose variables are its arguments. For
/// its owner and superusers.
#[pg_extern(schema = "mcp")]
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is an SQL function's, called with named arguments"
)]
fn expose_resource(
    function: Option<Regprocedure>,
    uri: Option<&str>,
    name: default!(Option<&str>, "NULL"),
    title: default!(Option<&str>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    mime_type: default!(Option<&str>, "NULL"),
    scope: default!(Option<&str>, "NULL"),
    timeout: default!(Option<Interval>, "NULL"),
    annotations: default!(Option<Jsonb>, "NULL"),
    completions: default!(Option<Jsonb>, "NULL"),
    restricted: default!(Option<bool>, "true"),
) -> Result<(), ErrorReport> {
    let function = function.ok_or(Error::Null("function"))?.0;
    let uri = uri.ok_or(Error::Null("uri"))?;
    let restricted = restricted.ok_or(Error::Null("restricted"))?;
    let Admitted { function, timeout, scope } =
        registry::admit(function, scope, timeout.as_ref(), "resource_result")?;
    let template =
        UriTemplate::parse(uri).map_err(|why| Refusal::Uri(uri.to_owned(), why)).map_err(Error::from)?;
    check_variables(&template, &function)?;
    if let Some(annotations) = annotations {
        check_annotations(&registry::document("annotations", annotations.object("annotations")?)?)
            .map_err(Error::from)?;
    }
    let completions = completion::resolve(completions, &function)?;
    let written = as_owner(|| {
        run(
            sql!(
                "INSERT INTO mcp.resources AS r (uri, template, function, owner, name, title, description, mime_type,
                                                 scope, timeout, annotations, completions, restricted)
                 VALUES ($1, $2, $3, $4::name, $5, $6, $7, $8, $9, $10 * interval '1 ms', $11, $12::jsonb, $13)
                 ON CONFLICT (uri) DO UPDATE
                    SET function = excluded.function, name = excluded.name, title = excluded.title,
                        description = excluded.description, mime_type = excluded.mime_type, scope = excluded.scope,
                        timeout = excluded.timeout, annotations = excluded.annotations,
                        completions = excluded.completions, restricted = excluded.restricted
                  WHERE r.owner = excluded.owner"
            ),
            &[
                uri.into(),
                template.variables().next().is_some().into(),
                function.signature.as_str().into(),
                function.owner.as_str().into(),
                name.unwrap_or(&function.name).into(),
                title.into(),
                description.into(),
                mime_type.into(),
                scope.into(),
                timeout.into(),
                annotations.into(),
                completions.into(),
                restricted.into(),
            ],
        )
    })?;
    if written == 0 {
        return Err(Error::from(Refusal::Taken(format!("a resource at {uri:?}"))).into());
    }
    registry::warn_of_bypass(&format!("resource {uri:?}"), &function);
    Ok(registry::changed("resources")?)
}

/// Checks the annotations that MCP defines; others pass.
fn check_annotations(annotations: &Value) -> Result<(), Refusal> {
    let is_role = |role: &Value| matches!(role.as_str(), Some("user" | "assistant"));
    let is_wrong =
        |name: &str, fits: &dyn Fn(&Value) -> bool| annotations.get(name).is_some_and(|value| !fits(value));
    if is_wrong("audience", &|value| value.as_array().is_some_and(|roles| roles.iter().all(is_role))) {
        let expected = "an array of \"user\" and \"assistant\"";
        return Err(Refusal::Annotation { name: "audience", expected });
    }
    if is_wrong("priority", &|value| value.as_f64().is_some_and(|priority| (0.0..=1.0).contains(&priority))) {
        return Err(Refusal::Annotation { name: "priority", expected: "a number from 0 to 1" });
    }
    if is_wrong("lastModified", &Value::is_string) {
        return Err(Refusal::Annotation { name: "lastModified", expected: "a string" });
    }
    Ok(())
}

/// Each variable must be an argument, and each argument that a call cannot leave out a variable.
fn check_variables(template: &UriTemplate, function: &catalog::Function) -> Result<(), Error> {
    let signature = || function.signature.clone();
    let takes = |name: &str| function.arguments.iter().any(|argument| argument.name == name);
    if let Some(variable) = template.variables().find(|name| !takes(name)) {
        return Err(Refusal::Variable { variable: variable.to_owned(), function: signature() }.into());
    }
    let missing = |argument: &&catalog::Argument| {
        !argument.is_optional() && !template.variables().any(|name| name == argument.name)
    };
    match function.arguments.iter().find(missing) {
        Some(argument) => {
            Err(Refusal::NotInUri { argument: argument.name.clone(), function: signature() }.into())
        }
        None => Ok(()),
    }
}

/// Withdraws the resource at a URI or template. For the owner of its function and superusers. Returns whether there was
/// one.
#[pg_extern(schema = "mcp")]
fn withdraw_resource(uri: Option<&str>) -> Result<bool, ErrorReport> {
    let uri = uri.ok_or(Error::Null("uri"))?;
    let delete = sql!("DELETE FROM mcp.resources WHERE uri = $1 RETURNING owner::text");
    Ok(registry::withdraw("resource", uri, "resources", delete)?)
}

/// The resources at fixed URIs, as MCP `Resource` objects ordered by URI. As `list_tools` in the rest.
#[pg_extern(schema = "mcp")]
fn list_resources(
    token: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    after: default!(Option<&str>, "NULL"),
    page_size: default!(Option<i32>, "NULL"),
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    Ok(list(token, resource, after, page_size, |page| entries(page, false))?)
}

/// The resource templates, as MCP `ResourceTemplate` objects ordered by template. As `list_tools` in the rest.
#[pg_extern(schema = "mcp")]
fn list_resource_templates(
    token: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    after: default!(Option<&str>, "NULL"),
    page_size: default!(Option<i32>, "NULL"),
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    Ok(list(token, resource, after, page_size, |page| entries(page, true))?)
}

fn entries(page: &Page, templates: bool) -> Result<Vec<Value>, Error> {
    let statement = sql!(
        "SELECT uri, function, owner::text, title, description, name, mime_type, annotations::text
           FROM mcp.resources WHERE template = $3 AND ($1 IS NULL OR uri > $1) ORDER BY uri LIMIT $2"
    );
    page.entries(
        if templates { "uriTemplate" } else { "uri" },
        statement,
        [templates.into()],
        |row| Ok((required::<String>(row, 6)?, row.get::<String>(7)?, stored(row, 8)?)),
        |resource, (name, mime_type, annotations), _| {
            resource.insert("name".into(), name.into());
            resource.extend(mime_type.map(|mime_type| ("mimeType".into(), mime_type.into())));
            resource.extend(annotations.map(|annotations| ("annotations".into(), annotations)));
            Ok(())
        },
    )
}

struct Found {
    exposed: Exposed,
    mime_type: Option<String>,
    /// What the URI says of the arguments.
    values: Vec<(String, String)>,
}

/// The resource at a URI: the one of that very URI, or else of the template that fixes most of it.
fn find(uri: &str) -> Result<Option<Found>, Error> {
    let read = |row: crate::statement::Row<'_>| Ok((Exposed::read(&row)?, row.get(6)?, required(&row, 7)?));
    let exact: Option<(Exposed, Option<String>, String)> = as_owner(|| {
        let statement = exposed!("mime_type, uri FROM mcp.resources WHERE uri = $1 AND NOT template");
        first(statement, &[uri.into()], read)
    })?;
    if let Some((exposed, mime_type, _)) = exact {
        return Ok(Some(Found { exposed, mime_type, values: Vec::new() }));
    }
    let templates: Vec<(Exposed, Option<String>, String)> = as_owner(|| {
        let statement = exposed!(
            "mime_type, uri
               FROM mcp.resources WHERE template AND starts_with($1, split_part(uri, '{', 1)) ORDER BY uri"
        );
        all(statement, &[uri.into()], read)
    })?;
    let matching = templates.into_iter().filter_map(|(exposed, mime_type, text)| {
        let template = UriTemplate::parse(&text).ok()?;
        let values = template.matches(uri)?;
        Some((template.fixed(), Found { exposed, mime_type, values }))
    });
    // The first of those that fix equally much.
    let best = matching.reduce(|best, next| if next.0 > best.0 { next } else { best });
    Ok(best.map(|(_, found)| found))
}

/// Reads a resource as the user of the session. Returns an MCP `ReadResourceResult`, or, where there is nothing to read,
/// an object whose `status` says why.
#[pg_extern(schema = "mcp")]
fn read_resource(
    token: Option<&str>,
    uri: Option<&str>,
    resource: default!(Option<&str>, "NULL"),
    request: default!(Option<Jsonb>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let uri = uri.ok_or(Error::Null("uri"))?;
    Ok(answer(token, resource, |token| {
        let request = Request::read(request)?;
        read(Call { what: "resource", name: uri, token, request })
    })?)
}

fn read(call: Call<'_>) -> Result<Jsonb, Error> {
    let unknown = "unknown_resource";
    let uri = call.name;
    let Some(Found { exposed, mime_type, values }) = find(uri)? else { return Ok(result::verdict(unknown)) };
    let callable = match run::permitted(call.what, uri, &exposed)? {
        Ok(callable) => callable,
        Err(denied) => return Ok(denied_verdict(denied, unknown)),
    };
    let values = values.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let arguments = texts::arguments(&callable.function.arguments, values)
        .and_then(|arguments| run::checked(&callable, Some(arguments)));
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(message) => return Ok(failed("invalid_arguments", &message)),
    };
    Ok(
        match call
            .run(&exposed, &callable, arguments, |output| contents(uri, mime_type.as_deref(), output))?
        {
            Outcome::Done(result) | Outcome::Verdict(result) => result,
            Outcome::Failed(message) => failed("failed", &message),
        },
    )
}

/// What a function returned as an MCP `ReadResourceResult`. NULL: there is no such resource.
fn contents(uri: &str, mime_type: Option<&str>, output: Output) -> String {
    let (key, default, value) = match output {
        Output::Complete { result: Some(complete), .. } => return complete,
        Output::Text(Some(text)) => ("text", "text/plain", text),
        Output::Json(Some(json)) | Output::Row(Some(json)) | Output::Rows(json) => {
            ("text", "application/json", json)
        }
        Output::Bytes(Some(hexadecimal)) => {
            ("blob", "application/octet-stream", BASE64_STANDARD.encode(bytes(&hexadecimal)))
        }
        _ => return r#"{"status":"unknown_resource"}"#.to_owned(),
    };
    let mime_type = quote(mime_type.unwrap_or(default));
    format!(
        "{{\"contents\":[{{\"uri\":{},\"mimeType\":{mime_type},\"{key}\":{}}}]}}",
        quote(uri),
        quote(&value)
    )
}

/// The bytes of a `bytea` in hexadecimal, behind `\x`.
fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.trim_start_matches("\\x").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What completes the variables of a template.
pub(super) fn completers(uri: &str) -> Result<Option<Completers>, Error> {
    as_owner(|| {
        let statement = exposed!("completions::text FROM mcp.resources WHERE uri = $1");
        first(statement, &[uri.into()], |row| Completers::read(&row))
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn contents_are_text_or_bytes() {
        let text = contents("a:b", None, Output::Text(Some("x\"".into())));
        assert_eq!(text, r#"{"contents":[{"uri":"a:b","mimeType":"text/plain","text":"x\""}]}"#);
        let blob = contents("a:b", Some("image/png"), Output::Bytes(Some("\\x00ff10".into())));
        assert_eq!(blob, r#"{"contents":[{"uri":"a:b","mimeType":"image/png","blob":"AP8Q"}]}"#);
        assert_eq!(contents("a:b", None, Output::Row(None)), r#"{"status":"unknown_resource"}"#);
    }
}
