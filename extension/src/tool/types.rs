//! SQL types as JSON sees them.

use super::format::Format;
use super::limits::Limits;
use serde_json::Value;
use std::rc::Rc;

/// How deep composites are described; below, anything goes. PostgreSQL allows none that contains itself.
pub(super) const MAX_DEPTH: usize = 16;

/// How many types one consists of at most, each counted as often as it occurs. What is beyond is any JSON.
/// Row types that hold row types multiply: without a bound, a few of them would fill the memory of every list.
pub(super) const MAX_TYPES: usize = 1000;

/// A type, with what a value of it looks like as JSON.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub(super) oid: u32,
    /// Its name with its schema, quoted.
    pub(super) target: String,
    pub(super) kind: Kind,
    /// What is allowed of that kind.
    pub(super) limits: Limits,
    /// A domain that forbids NULL.
    pub(super) not_null: bool,
    pub(super) comment: Option<String>,
}

/// What a value looks like as JSON.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    /// Any other number.
    Number,
    Text,
    /// A string that is written in a certain way.
    Formatted(&'static Format),
    Enum(Vec<String>),
    /// Any JSON.
    Json,
    Array {
        element: Rc<Type>,
        /// As declared, at least one. PostgreSQL does not hold values to it, and does not know it of an argument.
        dimensions: u32,
    },
    Object(Vec<Field>),
    /// A string that the type's own input function understands.
    Other {
        /// Of an extension, which may come with a cast to `json` of its own: what comes out may be any JSON.
        foreign: bool,
    },
    /// No value at all: what functions return that return nothing.
    Void,
    /// Not a type that values have; its name.
    Pseudo(String),
}

/// A field of a composite, or a column.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Rc<Type>,
    pub(super) comment: Option<String>,
}

impl Kind {
    /// What a value must be, for messages.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Kind::Boolean => "a boolean",
            Kind::Integer { .. } => "an integer",
            Kind::Number => "a number",
            Kind::Array { .. } => "an array",
            Kind::Object(_) => "an object",
            Kind::Json => "any JSON",
            Kind::Formatted(format) => format.expected,
            _ => "a string",
        }
    }
}

impl Type {
    /// The check of this name, as SQL, of the type or of one inside it.
    pub(super) fn definition_of(&self, constraint: &str) -> Option<&str> {
        let own = self.limits.unsaid.iter().find(|unsaid| unsaid.constraint == constraint);
        own.map(|unsaid| unsaid.definition.as_str()).or_else(|| match &self.kind {
            Kind::Array { element, .. } => element.definition_of(constraint),
            Kind::Object(fields) => fields.iter().find_map(|field| field.ty.definition_of(constraint)),
            _ => None,
        })
    }
}

impl Kind {
    /// Whether a default, as PostgreSQL writes it, is what a call may pass.
    pub(super) fn may_be(&self, default: &Value) -> bool {
        match (self, default) {
            (_, Value::Null) => true,
            (Kind::Formatted(format), Value::String(text)) => format.is_match(text),
            // NaN and its like.
            (Kind::Number, default) => default.is_number(),
            (Kind::Array { element, .. }, Value::Array(values)) => {
                values.iter().all(|value| element.kind.may_be(value))
            }
            _ => true,
        }
    }
}
