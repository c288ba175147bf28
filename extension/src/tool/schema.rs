//! JSON Schema (2020-12) of a tool's input and output.

use super::catalog::{Argument, Function, Returns};
use super::format::Format;
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
    let mut schema = describe(&argument.ty, Way::In);
    if argument.nullable {
        schema = or_null(schema);
    }
    if let (Some(default), Value::Object(schema)) = (&argument.default_value, &mut schema)
        && (argument.nullable || !default.is_null())
        && argument.ty.kind.may_be(default)
    {
        schema.insert("default".into(), default.clone());
    }
    schema
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
            schema.insert("description".into(), description(comment, &field.ty).into());
        }
        (field.name.clone(), schema)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    // A field that is left out is NULL.
    let must_be_there = |field: &&Field| way == Way::Out || field.ty.not_null;
    let required: Vec<_> = fields.iter().filter(must_be_there).map(|field| field.name.clone()).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// What stands inside an array or a composite. What a function returns may be NULL even where its domain forbids that: an
/// outer join makes it so.
fn nested(ty: &Type, way: Way) -> Value {
    let schema = describe(ty, way);
    if ty.not_null && way == Way::In { schema } else { or_null(schema) }
}

fn describe(ty: &Type, way: Way) -> Value {
    let mut schema = match &ty.kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer { .. } if ty.limits.integers.is_some() => json!({"type": "integer"}),
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number if way == Way::In => json!({"type": "number"}),
        // What JSON has no numbers for comes as a string.
        Kind::Number => json!({"type": ["number", "string"], "pattern": "^(NaN|-?Infinity)$"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Formatted(format) => formatted(format, way),
        Kind::Enum(labels) => json!({"type": "string", "enum": labels}),
        Kind::Json => json!({}),
        Kind::Array { element, dimensions } => array(element, *dimensions, way),
        Kind::Object(fields) => object(fields, way),
        Kind::Other { foreign: true } if way == Way::Out => json!({}),
        Kind::Other { .. } | Kind::Void | Kind::Pseudo(_) => json!({"type": "string"}),
    };
    if let Value::Object(schema) = &mut schema {
        ty.limits.describe(schema);
        let description = description(ty.comment.as_deref().unwrap_or_default(), ty);
        if !description.is_empty() {
            schema.insert("description".into(), description.into());
        }
    }
    schema
}

/// A comment, and what is checked that the schema cannot say.
fn description(comment: &str, ty: &Type) -> String {
    let note = ty.limits.note().unwrap_or_default();
    [comment, &note].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

fn formatted(format: &Format, way: Way) -> Value {
    let usual = match format.name {
        Some(name) => json!({ "format": name }),
        None => json!({ "pattern": format.pattern }),
    };
    let mut schema = match format.odd {
        Some(odd) if way == Way::Out => json!({"type": "string", "anyOf": [usual, {"pattern": odd}]}),
        _ => usual,
    };
    schema["type"] = "string".into();
    if let (None, Some(example), Way::In) = (format.name, format.example, way) {
        schema["examples"] = json!([example]);
    }
    schema
}

fn array(element: &Type, dimensions: u32, way: Way) -> Value {
    let mut items = nested(element, way);
    if way == Way::Out {
        return json!({"type": "array", "items": or_array(items)});
    }
    for _ in 1..dimensions {
        items = json!({"type": "array", "items": items});
    }
    json!({"type": "array", "items": items})
}

/// The same, or null.
fn or_null(mut schema: Value) -> Value {
    let Value::Object(map) = &mut schema else { return schema };
    if let Some(ty) = map.get_mut("type") {
        also(ty, "null");
        if let Some(Value::Array(labels)) = map.get_mut("enum") {
            labels.push(Value::Null);
        }
    }
    schema
}

/// The same, or an array: PostgreSQL holds no array to the dimensions it was declared with.
fn or_array(mut schema: Value) -> Value {
    let Value::Object(map) = &mut schema else { return schema };
    if map.contains_key("enum") {
        return json!({"anyOf": [schema, {"type": "array"}]});
    }
    if let Some(ty) = map.get_mut("type") {
        let is_array = match &*ty {
            Value::Array(types) => types.iter().any(|ty| ty == "array"),
            ty => ty == "array",
        };
        if !is_array {
            also(ty, "array");
        }
    }
    schema
}

fn also(ty: &mut Value, other: &str) {
    match ty {
        Value::Array(types) => types.push(other.into()),
        one => *one = json!([one.take(), other]),
    }
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
