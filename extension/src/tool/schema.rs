//! JSON Schema (2020-12) of a tool's input and output.

use super::catalog::{Argument, Function, Returns};
use super::types::{Field, Kind, Type};
use serde_json::{Map, Value, json};

/// Which way the values go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// What a client sends is checked, so it is described as strictly as it is checked.
    In,
    /// What a function returns may be NULL anywhere.
    Out,
}

/// The schema of a tool's arguments.
pub(super) fn input(function: &Function) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for argument in &function.arguments {
        properties.insert(argument.name.clone(), property(argument));
        if !argument.is_optional() {
            required.push(Value::from(argument.name.clone()));
        }
    }
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema.insert("additionalProperties".into(), false.into());
    schema.into()
}

impl Argument {
    /// Whether a call may leave it out.
    pub(super) fn is_optional(&self) -> bool {
        self.default.is_some() || self.variadic
    }
}

fn property(argument: &Argument) -> Value {
    let schema = describe(&argument.ty, Way::In);
    if argument.nullable { or_null(schema) } else { schema }
}

/// The schema of a tool's `structuredContent`; none where a tool returns text, or what only the value tells.
pub(super) fn output(function: &Function) -> Option<Value> {
    match &function.returns {
        Returns::Row(columns) => Some(object(columns, Way::Out)),
        Returns::Rows { columns, .. } => Some(json!({
            "type": "object",
            "properties": {"rows": {"type": "array", "items": object(columns, Way::Out)}},
            "required": ["rows"],
            "additionalProperties": false,
        })),
        _ => None,
    }
}

fn object(fields: &[Field], way: Way) -> Value {
    let property = |field: &Field| {
        let mut schema = nested(&field.ty, way);
        if let (Some(comment), Value::Object(schema)) = (&field.comment, &mut schema) {
            schema.insert("description".into(), comment.clone().into());
        }
        (field.name.clone(), schema)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if way == Way::Out {
        schema["required"] = fields.iter().map(|field| field.name.clone()).collect();
    }
    schema
}

/// What stands inside an array or a composite.
fn nested(ty: &Type, way: Way) -> Value {
    let schema = describe(ty, way);
    if ty.not_null { schema } else { or_null(schema) }
}

fn describe(ty: &Type, way: Way) -> Value {
    let mut schema = match &ty.kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number => json!({"type": "number"}),
        Kind::Text { max_length: None } => json!({"type": "string"}),
        Kind::Text { max_length: Some(length) } => json!({"type": "string", "maxLength": length}),
        Kind::Formatted { format: Some(format), .. } => json!({"type": "string", "format": format}),
        Kind::Formatted { format: None, example } => json!({"type": "string", "examples": [example]}),
        Kind::Bytes => json!({"type": "string", "pattern": r"^\\x([0-9A-Fa-f]{2})*$"}),
        Kind::Enum(labels) => json!({"type": "string", "enum": labels}),
        Kind::Json => json!({}),
        Kind::Array(element) => json!({"type": "array", "items": nested(element, way)}),
        Kind::Object(fields) => object(fields, way),
        // Types of extensions may come with a cast to json of their own.
        Kind::Other if way == Way::Out => json!({}),
        Kind::Other | Kind::Void | Kind::Pseudo(_) => json!({"type": "string"}),
    };
    if let (Some(comment), Value::Object(schema)) = (&ty.comment, &mut schema) {
        schema.insert("description".into(), comment.clone().into());
    }
    schema
}

/// The same, or null.
fn or_null(mut schema: Value) -> Value {
    let Value::Object(map) = &mut schema else { return schema };
    if let Some(name) = map.get("type").cloned() {
        map.insert("type".into(), json!([name, "null"]));
        if let Some(Value::Array(labels)) = map.get_mut("enum") {
            labels.push(Value::Null);
        }
    }
    schema
}

/// What is wrong with a schema that an owner gives instead of the generated one.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Misfit {
    #[error("it must be a JSON object whose \"type\" is \"object\"")]
    NotAnObject,
    #[error("its \"properties\" must be an object of schemas")]
    Properties,
    #[error("it names {0:?}, which is not an argument of the function")]
    NoSuchArgument(String),
    #[error("it leaves out argument {0:?}, which has no default")]
    LeavesOut(String),
    #[error("the x-mcp-header of {0:?} must be the name of a header")]
    HeaderName(String),
    #[error("{0:?} cannot be repeated in a header: its \"type\" must be string, integer or boolean")]
    HeaderType(String),
    #[error("two arguments would be repeated in the header {0:?}")]
    HeaderTwice(String),
}

/// Whether a schema describes an object at all.
pub(super) fn check_object(schema: &Value) -> Result<(), Misfit> {
    let Value::Object(map) = schema else { return Err(Misfit::NotAnObject) };
    if map.get("type") != Some(&Value::from("object")) {
        return Err(Misfit::NotAnObject);
    }
    match map.get("properties") {
        None => Ok(()),
        Some(Value::Object(properties)) => {
            let is_schema = |schema: &Value| schema.is_object() || schema.is_boolean();
            if properties.values().all(is_schema) { Ok(()) } else { Err(Misfit::Properties) }
        }
        Some(_) => Err(Misfit::Properties),
    }
}

/// Whether a schema describes calls that the function can be called with.
pub(super) fn check_input(schema: &Value, function: &Function) -> Result<(), Misfit> {
    check_object(schema)?;
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let takes = |name: &str| function.arguments.iter().any(|argument| argument.name == name);
    if let Some(name) = properties.keys().find(|name| !takes(name)) {
        return Err(Misfit::NoSuchArgument(name.clone()));
    }
    let missing = |argument: &&Argument| !argument.is_optional() && !properties.contains_key(&argument.name);
    match function.arguments.iter().find(missing) {
        Some(argument) => Err(Misfit::LeavesOut(argument.name.clone())),
        None => Ok(()),
    }
}
