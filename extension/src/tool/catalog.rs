//! Functions and types as the catalog has them.

use super::check::{Check, Reading};
use super::default;
use super::format;
use super::limits::{Bound, Limits};
use super::types::{Field, Kind, MAX_DEPTH, MAX_TYPES, Type};
use crate::error::Error;
use crate::owner::{as_owner, reading_catalogs};
use crate::statement::{all, first, required, sql};
use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// A function that may be a tool.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) oid: u32,
    /// Its name with its schema, quoted.
    pub(super) target: String,
    /// Name and argument types, all with their schemas, quoted: what the tool is known by across dump and restore, where
    /// OIDs change.
    pub(super) signature: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) owner: String,
    /// Whether row level security does not hold for its owner.
    pub(super) owner_bypasses_policies: bool,
    /// `f` for a function, `p` a procedure, `a` an aggregate, `w` a window function.
    pub(super) kind: char,
    /// Whether it promises to write nothing.
    pub(super) read_only: bool,
    pub(super) security_definer: bool,
    pub(super) arguments: Vec<Argument>,
    pub(super) returns: Returns,
    /// The expressions of the last arguments' defaults, as the catalog keeps them.
    pub(super) defaults: Option<String>,
    pub(super) comment: Option<String>,
    /// The types it depends on, and the relations of those that are row types.
    pub(super) types: Vec<u32>,
    pub(super) relations: Vec<u32>,
}

/// An input argument.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    /// Empty where it has none.
    pub(super) name: String,
    pub(super) ty: Rc<Type>,
    /// The position of its default among the function's.
    pub(super) default: Option<usize>,
    /// Its default as JSON, where that is a constant.
    pub(super) default_value: Option<Value>,
    pub(super) variadic: bool,
    /// Whether NULL may be passed.
    pub(super) nullable: bool,
}

/// What a function returns.
#[derive(Debug, Clone)]
pub(super) enum Returns {
    Void,
    /// One value.
    Scalar,
    /// One `bytea`.
    Bytes,
    /// `json` or `jsonb`, whose shape only the value tells.
    Json,
    /// One of the domains of complete results; its name.
    Complete(String),
    /// One row.
    Row(Vec<Field>),
    /// Rows; whether they come as values of one column.
    Rows {
        columns: Vec<Field>,
        scalar: bool,
    },
    /// What no tool may return: its name.
    Unsupported(String),
}

#[derive(Deserialize)]
struct Document {
    functions: Vec<FunctionRow>,
    types: Vec<TypeRow>,
    /// Whether the digits of a regular expression are ASCII's alone, where no collation is given.
    ascii_digits: bool,
}

#[derive(Deserialize)]
struct FunctionRow {
    oid: u32,
    target: String,
    signature: String,
    schema: String,
    name: String,
    owner: String,
    owner_bypasses_policies: Option<bool>,
    kind: char,
    volatility: char,
    strict: bool,
    security_definer: bool,
    returns_set: bool,
    result: u32,
    types: Vec<u32>,
    modes: Option<Vec<char>>,
    names: Option<Vec<String>>,
    defaults: usize,
    default_values: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct TypeRow {
    oid: u32,
    target: String,
    name: String,
    kind: char,
    complete_result: Option<String>,
    base: u32,
    modifier: i32,
    dimensions: u32,
    not_null: bool,
    checks: Option<Vec<Check>>,
    element: u32,
    range_of: Option<u32>,
    relation: u32,
    labels: Option<Vec<String>>,
    attributes: Option<Vec<AttributeRow>>,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct AttributeRow {
    name: String,
    r#type: u32,
    modifier: i32,
    dimensions: u32,
    comment: Option<String>,
}

/// Reads functions from the catalog, in no particular order; those that do not exist are left out.
pub(super) fn functions(oids: Vec<pg_sys::Oid>) -> Result<Vec<Function>, Error> {
    reading_catalogs(|| {
        let statement = sql!(include_str!("signature.sql"));
        let text = first(statement, &[oids.into()], |row| required::<String>(&row, 1))?;
        let document: Document = serde_json::from_str(&text.unwrap_or_default()).map_err(Error::Catalog)?;
        let rows = document.types.iter().map(|row| (row.oid, row)).collect();
        let types = Types { rows, ascii_digits: document.ascii_digits, described: Cell::new(0) };
        document.functions.into_iter().map(|row| types.function(row)).collect()
    })
}

/// Reads one function from the catalog.
pub(super) fn function(oid: pg_sys::Oid) -> Result<Option<Function>, Error> {
    Ok(functions(vec![oid])?.pop())
}

/// The function with this signature.
pub(super) fn find(signature: &str) -> Result<Option<Function>, Error> {
    Ok(by_signature(std::iter::once(signature))?.remove(signature))
}

/// The functions with these signatures, as far as they exist, by signature.
///
/// Found in the catalog rather than by the input function of `regprocedure`, which asks for rights on the schema.
pub(super) fn by_signature<'a>(
    signatures: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Function>, Error> {
    let signatures: Vec<&str> = signatures.collect();
    let candidates = as_owner(|| {
        let statement = sql!(
            "SELECT DISTINCT p.oid
               FROM unnest($1) AS s (signature)
              CROSS JOIN LATERAL parse_ident(s.signature, false) AS name (parts)
               JOIN pg_namespace AS n ON n.nspname = name.parts[1]::name
               JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = name.parts[2]::name"
        );
        all(statement, &[signatures.into()], |row| required::<pg_sys::Oid>(&row, 1))
    })?;
    // Others of the same names come along.
    Ok(functions(candidates)?.into_iter().map(|function| (function.signature.clone(), function)).collect())
}

struct Types<'a> {
    rows: HashMap<u32, &'a TypeRow>,
    ascii_digits: bool,
    /// How many the one that is being read consists of so far.
    described: Cell<usize>,
}

impl Types<'_> {
    fn function(&self, row: FunctionRow) -> Result<Function, Error> {
        let mode = |at: usize| row.modes.as_ref().and_then(|modes| modes.get(at)).copied().unwrap_or('i');
        let name =
            |at: usize| row.names.as_ref().and_then(|names| names.get(at)).cloned().unwrap_or_default();
        let (mut arguments, mut columns) = (Vec::new(), Vec::new());
        for (at, &oid) in row.types.iter().enumerate() {
            let ty = self.mentioned(oid);
            if matches!(mode(at), 'i' | 'b' | 'v') {
                arguments.push(Argument {
                    name: name(at),
                    ty: Rc::clone(&ty),
                    default: None,
                    default_value: None,
                    variadic: mode(at) == 'v',
                    nullable: false,
                });
            }
            if matches!(mode(at), 'o' | 'b' | 't') {
                columns.push(Field { name: name(at), ty, comment: None });
            }
        }
        let without = arguments.len().saturating_sub(row.defaults);
        let constants = default::constants(row.default_values.as_deref())?;
        let constants = constants.into_iter().chain(std::iter::repeat(None));
        for ((at, argument), constant) in arguments.iter_mut().enumerate().skip(without).zip(constants) {
            argument.default = Some(at - without);
            argument.default_value = constant;
            argument.nullable = !row.strict && !argument.ty.not_null;
        }
        let (types, relations) = self.dependencies();
        Ok(Function {
            returns: self.returns(&row, columns),
            oid: row.oid,
            target: row.target,
            signature: row.signature,
            schema: row.schema,
            name: row.name,
            owner: row.owner,
            owner_bypasses_policies: row.owner_bypasses_policies.unwrap_or(false),
            kind: row.kind,
            read_only: row.volatility != 'v',
            security_definer: row.security_definer,
            arguments,
            defaults: row.default_values,
            comment: row.comment,
            types,
            relations,
        })
    }

    fn dependencies(&self) -> (Vec<u32>, Vec<u32>) {
        let relations = self.rows.values().map(|row| row.relation).filter(|relation| *relation != 0);
        (self.rows.keys().copied().collect(), relations.collect())
    }

    fn returns(&self, row: &FunctionRow, mut columns: Vec<Field>) -> Returns {
        let result = self.rows.get(&row.result);
        let ty = self.mentioned(row.result);
        let complete = result.and_then(|result| result.complete_result.clone());
        match (&ty.kind, row.returns_set) {
            (Kind::Pseudo(_), set) if row.result == pg_sys::RECORDOID.to_u32() && columns.len() > 1 => {
                if set { Returns::Rows { columns, scalar: false } } else { Returns::Row(columns) }
            }
            (Kind::Pseudo(name), _) => Returns::Unsupported(name.clone()),
            (Kind::Void, true) => Returns::Unsupported("setof void".to_owned()),
            (Kind::Void, false) => Returns::Void,
            (_, set) if let Some(domain) = complete => {
                if set {
                    Returns::Unsupported(format!("setof mcp.{domain}"))
                } else {
                    Returns::Complete(domain)
                }
            }
            (Kind::Formatted(format), false) if std::ptr::eq(*format, &format::BYTES) => Returns::Bytes,
            (Kind::Object(fields), false) => Returns::Row(fields.clone()),
            (Kind::Object(fields), true) => Returns::Rows { columns: fields.clone(), scalar: false },
            (Kind::Json, false) => Returns::Json,
            (_, false) => Returns::Scalar,
            (_, true) => {
                let name = match columns.pop() {
                    Some(column) if !column.name.is_empty() => column.name,
                    _ => "value".to_owned(),
                };
                Returns::Rows { columns: vec![Field { name, ty, comment: None }], scalar: true }
            }
        }
    }

    /// A type that a signature mentions.
    fn mentioned(&self, oid: u32) -> Rc<Type> {
        self.described.set(0);
        self.describe(oid, -1, 1, 0)
    }

    fn describe(&self, oid: u32, modifier: i32, dimensions: u32, depth: usize) -> Rc<Type> {
        let Some(row) = self.rows.get(&oid) else {
            let kind = Kind::Pseudo(format!("type {oid}"));
            let limits = Limits::default();
            return Rc::new(Type {
                oid,
                target: String::new(),
                kind,
                limits,
                not_null: false,
                comment: None,
            });
        };
        self.described.set(self.described.get() + 1);
        let (mut comment, mut not_null) = (row.comment.clone(), false);
        let mut limits = Limits::default();
        let kind = if let Some(kind) = builtin(oid) {
            // The catalog's own comments say what the type's input looks like, which the schema says better.
            comment = None;
            modify(oid, modifier, &mut limits);
            kind
        } else {
            match row.kind {
                _ if depth >= MAX_DEPTH || self.described.get() > MAX_TYPES => Kind::Json,
                'd' => {
                    let base =
                        self.describe(row.base, row.modifier, row.dimensions.max(dimensions), depth + 1);
                    (not_null, limits) = (row.not_null || base.not_null, base.limits.clone());
                    comment = comment.or_else(|| base.comment.clone());
                    let mut kind = base.kind.clone();
                    let ascii_digits = self.ascii_digits;
                    let mut reading = Reading {
                        kind: &mut kind,
                        limits: &mut limits,
                        not_null: &mut not_null,
                        ascii_digits,
                    };
                    row.checks.iter().flatten().for_each(|check| reading.read(check));
                    narrow(&mut kind, &mut limits);
                    kind
                }
                'e' => Kind::Enum(row.labels.clone().unwrap_or_default()),
                'c' => Kind::Object(self.fields(row, depth)),
                'p' => Kind::Pseudo(row.name.clone()),
                'r' => Kind::Formatted(range(row.range_of)),
                'm' => Kind::Formatted(multirange(row.range_of)),
                _ if row.element != 0 => Kind::Array {
                    element: self.describe(row.element, modifier, 1, depth + 1),
                    dimensions: dimensions.clamp(1, pg_sys::MAXDIM),
                },
                _ => Kind::Other { foreign: oid >= pg_sys::FirstNormalObjectId },
            }
        };
        Rc::new(Type { oid, target: row.target.clone(), kind, limits, not_null, comment })
    }

    fn fields(&self, row: &TypeRow, depth: usize) -> Vec<Field> {
        let attributes = row.attributes.as_deref().unwrap_or_default();
        let field = |attribute: &AttributeRow| Field {
            name: attribute.name.clone(),
            ty: self.describe(attribute.r#type, attribute.modifier, attribute.dimensions, depth + 1),
            comment: attribute.comment.clone(),
        };
        attributes.iter().map(field).collect()
    }
}

/// The types JSON has something of its own for.
fn builtin(oid: u32) -> Option<Kind> {
    let integer = |min, max| Kind::Integer { min, max };
    Some(match pg_sys::Oid::from(oid) {
        pg_sys::BOOLOID => Kind::Boolean,
        pg_sys::INT2OID => integer(i16::MIN.into(), i16::MAX.into()),
        pg_sys::INT4OID => integer(i32::MIN.into(), i32::MAX.into()),
        pg_sys::INT8OID => integer(i64::MIN, i64::MAX),
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID | pg_sys::NUMERICOID => Kind::Number,
        pg_sys::TEXTOID | pg_sys::NAMEOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Kind::Text,
        pg_sys::OIDOID => Kind::Formatted(&format::OID),
        pg_sys::UUIDOID => Kind::Formatted(&format::UUID),
        pg_sys::DATEOID => Kind::Formatted(&format::DATE),
        pg_sys::TIMESTAMPTZOID => Kind::Formatted(&format::TIMESTAMPTZ),
        pg_sys::TIMESTAMPOID => Kind::Formatted(&format::TIMESTAMP),
        pg_sys::TIMEOID => Kind::Formatted(&format::TIME),
        pg_sys::TIMETZOID => Kind::Formatted(&format::TIMETZ),
        pg_sys::INTERVALOID => Kind::Formatted(&format::INTERVAL),
        pg_sys::BYTEAOID => Kind::Formatted(&format::BYTES),
        pg_sys::BITOID | pg_sys::VARBITOID => Kind::Formatted(&format::BITS),
        pg_sys::JSONOID | pg_sys::JSONBOID => Kind::Json,
        pg_sys::VOIDOID => Kind::Void,
        _ => return None,
    })
}

fn range(of: Option<u32>) -> &'static format::Format {
    match pg_sys::Oid::from(of.unwrap_or_default()) {
        pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::NUMERICOID => &format::RANGE_OF_NUMBERS,
        pg_sys::DATEOID => &format::RANGE_OF_DATES,
        pg_sys::TIMESTAMPOID => &format::RANGE_OF_TIMESTAMPS,
        pg_sys::TIMESTAMPTZOID => &format::RANGE_OF_TIMESTAMPTZ,
        _ => &format::RANGE_OF_OTHERS,
    }
}

fn multirange(of: Option<u32>) -> &'static format::Format {
    match pg_sys::Oid::from(of.unwrap_or_default()) {
        pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::NUMERICOID => &format::MULTIRANGE_OF_NUMBERS,
        pg_sys::DATEOID => &format::MULTIRANGE_OF_DATES,
        _ => &format::MULTIRANGE_OF_OTHERS,
    }
}

/// What a type's modifier says, as in `varchar(20)` and `numeric(8, 2)`.
fn modify(oid: u32, modifier: i32, limits: &mut Limits) {
    let header = pg_sys::VARHDRSZ as i32;
    match pg_sys::Oid::from(oid) {
        // It counts the length word.
        pg_sys::VARCHAROID | pg_sys::BPCHAROID if modifier > header => {
            limits.max_length = u32::try_from(modifier - header).ok();
        }
        // More is cut off without a word.
        pg_sys::NAMEOID => limits.max_length = Some(pg_sys::NAMEDATALEN - 1),
        pg_sys::BITOID if modifier > 0 => {
            limits.min_length = u32::try_from(modifier).ok();
            limits.max_length = limits.min_length;
        }
        pg_sys::VARBITOID if modifier > 0 => limits.max_length = u32::try_from(modifier).ok(),
        pg_sys::NUMERICOID if modifier >= header => {
            let (precision, scale) = (((modifier - header) >> 16) & 0xffff, (modifier - header) & 0x7ff);
            // Eleven bits with a sign.
            let scale = (scale ^ 1024) - 1024;
            // The largest number of that many digits; where doubles cannot tell it, the power of ten behind it.
            let digits = "9".repeat(usize::try_from(precision).unwrap_or_default());
            let bounds = |sign: &str| {
                Bound::read(&format!("{sign}{digits}e{}", -scale), false)
                    .or_else(|| Bound::read(&format!("{sign}1e{}", precision - scale), true))
            };
            (limits.minimum, limits.maximum) = (bounds("-"), bounds(""));
        }
        pg_sys::FLOAT4OID => {
            (limits.minimum, limits.maximum) =
                (Bound::read("-3.4028235e38", false), Bound::read("3.4028235e38", false));
        }
        _ => {}
    }
}

/// Bounds of integers belong to their kind.
fn narrow(kind: &mut Kind, limits: &mut Limits) {
    if let Kind::Integer { min, max } = kind {
        if let Some(bound) = limits.minimum.take() {
            *min = bound.as_integer(true).max(*min);
        }
        if let Some(bound) = limits.maximum.take() {
            *max = bound.as_integer(false).min(*max);
        }
    }
}
