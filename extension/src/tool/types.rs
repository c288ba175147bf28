//! SQL types as JSON sees them.

use std::rc::Rc;

/// How deep composites are described; below, anything goes. PostgreSQL allows none that contains itself.
pub(super) const MAX_DEPTH: usize = 16;

/// A type, with what a value of it looks like as JSON.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub(super) oid: u32,
    /// Its name with its schema, quoted.
    pub(super) target: String,
    pub(super) kind: Kind,
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
    Text {
        max_length: Option<u32>,
    },
    /// A string of the given format of JSON Schema, or that looks like the example.
    Formatted {
        format: Option<&'static str>,
        example: Option<&'static str>,
    },
    Bytes,
    Enum(Vec<String>),
    /// Any JSON.
    Json,
    Array(Rc<Type>),
    Object(Vec<Field>),
    /// A string that the type's own input function understands; what comes out may be any JSON.
    Other,
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
            Kind::Array(_) => "an array",
            Kind::Object(_) => "an object",
            Kind::Json => "any JSON",
            _ => "a string",
        }
    }
}
