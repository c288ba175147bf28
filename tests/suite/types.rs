//! From SQL types to MCP: each type's schema, what it takes and gives back, and what it refuses in which words.
//!
//! Three tools a type, made from one table: one returns its argument as a row of a table, one as a scalar, one by way of
//! OUT parameters. What a tool takes and returns is held against its schemas by a validator of JSON Schema 2020-12 that
//! others wrote, formats included.

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tests::mcp::{Door, Era, text_blocks};
use tests::session::{NewSession, call_tool, sqlstate};
use tests::tools::{Tools, validator};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        every_type_from_its_schema_to_its_result,
        types_over_http,
        defaults_are_told_and_take_hold,
        nulls_and_variadic,
        checks_of_domains_in_either_order,
        patterns_mean_the_same_to_both,
        what_comes_out_beyond_the_usual,
        no_tool_takes_or_returns_what_has_no_values,
        schemas_follow_their_types,
    ]
}

/// The types of the table that PostgreSQL does not come with.
const TYPES: &str = r#"
CREATE SCHEMA kinds AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA kinds TO mcp_user;
GRANT EXECUTE ON FUNCTION mcp.expose_tool TO app_owner; SET ROLE app_owner;
CREATE TYPE kinds.mood AS ENUM ('sad', 'so so', 'happy');
CREATE TYPE kinds.point AS (x integer, y integer);
COMMENT ON TYPE kinds.point IS 'A point.';
COMMENT ON COLUMN kinds.point.x IS 'To the right.';
CREATE DOMAIN kinds.short AS varchar(3);
CREATE DOMAIN kinds.padded AS char(3);
CREATE DOMAIN kinds.money AS numeric(5, 2);
CREATE DOMAIN kinds.thousands AS numeric(2, -3);
CREATE DOMAIN kinds.huge AS numeric(30, 2);
CREATE DOMAIN kinds.percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN kinds.positive AS bigint CHECK (VALUE > 0);
CREATE DOMAIN kinds.ratio AS numeric CHECK (VALUE >= 0 AND VALUE < 1);
CREATE DOMAIN kinds.even AS integer CHECK (VALUE % 2 = 0) CHECK (VALUE >= 0);
CREATE DOMAIN kinds.dice AS smallint CHECK (VALUE IN (1, 2, 3, 4, 5, 6));
CREATE DOMAIN kinds.grade AS text CHECK (VALUE IN ('A', 'B'));
CREATE DOMAIN kinds.cheerful AS kinds.mood CHECK (VALUE <> 'sad');
CREATE DOMAIN kinds.bright AS kinds.mood CHECK (VALUE IN ('so so', 'happy'));
CREATE DOMAIN kinds.label AS text CHECK (length(VALUE) BETWEEN 2 AND 5);
CREATE DOMAIN kinds.filled AS text CHECK (VALUE <> '');
CREATE DOMAIN kinds.code AS text CHECK (VALUE ~ '^[A-Z]{2}\d+$');
CREATE DOMAIN kinds.prefixed AS varchar(8) CHECK (VALUE LIKE 'x\_%');
CREATE DOMAIN kinds.word AS text CHECK (VALUE ~ '^\w+$');
CREATE DOMAIN kinds.settings AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN kinds.few AS integer[] CHECK (cardinality(VALUE) <= 2);
CREATE DOMAIN kinds.matrix AS integer[][];
CREATE DOMAIN kinds.present AS text NOT NULL;
CREATE DOMAIN kinds.corner AS kinds.point CHECK ((VALUE).x >= 0);
CREATE DOMAIN kinds.flags AS bit(3);
CREATE DOMAIN kinds.bits AS bit varying(3);
CREATE TYPE kinds.line AS (name kinds.present, points kinds.point[], colour varchar(5), mood kinds.mood);
CREATE TYPE kinds.floats AS RANGE (subtype = float8);
"#;

/// A type with what is to be said of it, taken, returned and refused.
struct Row {
    ty: &'static str,
    input: Value,
    output: Value,
    /// What a call passes, and what comes back as JSON; as text it comes back as [`scalar_text`] has it.
    good: Vec<(Value, Value)>,
    /// What a call must not pass, and a part of the answer.
    bad: Vec<(Value, &'static str)>,
    /// The same of what the schema lets pass and PostgreSQL does not.
    late: Vec<(Value, &'static str)>,
}

fn row(
    ty: &'static str,
    input: Value,
    output: Value,
    good: Vec<(Value, Value)>,
    bad: Vec<(Value, &'static str)>,
) -> Row {
    Row { ty, input, output, good, bad, late: Vec::new() }
}

/// The same value comes back.
fn same(values: impl IntoIterator<Item = Value>) -> Vec<(Value, Value)> {
    values.into_iter().map(|value| (value.clone(), value)).collect()
}

impl Row {
    fn late(mut self, late: Vec<(Value, &'static str)>) -> Self {
        self.late = late;
        self
    }
}

fn nullable(ty: &str, rest: Value) -> Value {
    let mut schema = rest;
    schema["type"] = json!([ty, "null"]);
    schema
}

fn integer(ty: &'static str, min: i64, max: i64) -> Row {
    let bounds = json!({"minimum": min, "maximum": max});
    let out_of_range: &str = "must be between";
    let mut schema = bounds.clone();
    schema["type"] = "integer".into();
    row(
        ty,
        schema,
        nullable("integer", bounds),
        [same([json!(0), json!(min), json!(max)]), vec![(json!(5.0), json!(5)), (json!(5e0), json!(5))]]
            .concat(),
        vec![
            (json!(1e30), out_of_range),
            (json!(1.5), "must be an integer, not a fraction"),
            (json!("1"), "must be an integer, not a string"),
            (json!(true), "must be an integer, not a boolean"),
            (json!([1]), "must be an integer, not an array"),
            (json!({}), "must be an integer, not an object"),
            (json!(null), "must be an integer, not null"),
        ],
    )
}

fn number(ty: &'static str, limits: Value) -> Row {
    let mut input = limits.clone();
    input["type"] = "number".into();
    let mut output = limits;
    output["type"] = json!(["number", "string", "null"]);
    output["pattern"] = "^(NaN|-?Infinity)$".into();
    row(
        ty,
        input,
        output,
        Vec::new(),
        vec![(json!("1"), "must be a number, not a string"), (json!(null), "not null")],
    )
}

fn formatted(ty: &'static str, format: &str, odd: Option<&str>) -> Row {
    let input = json!({"type": "string", "format": format});
    let output = match odd {
        Some(odd) => json!({"type": ["string", "null"], "anyOf": [{"format": format}, {"pattern": odd}]}),
        None => nullable("string", json!({"format": format})),
    };
    row(ty, input, output, Vec::new(), vec![(json!(7), "not a number"), (json!(null), "not null")])
}

fn written(ty: &'static str, pattern: &str, example: Option<&str>, odd: Option<&str>) -> Row {
    let mut input = json!({"type": "string", "pattern": pattern});
    if let Some(example) = example {
        input["examples"] = json!([example]);
    }
    let output = match odd {
        Some(odd) => json!({"type": ["string", "null"], "anyOf": [{"pattern": pattern}, {"pattern": odd}]}),
        None => nullable("string", json!({"pattern": pattern})),
    };
    row(ty, input, output, Vec::new(), vec![(json!(7), "not a number"), (json!(null), "not null")])
}

fn string(ty: &'static str, limits: Value) -> Row {
    let mut input = limits.clone();
    input["type"] = "string".into();
    row(ty, input, nullable("string", limits), Vec::new(), vec![(json!(7), "must be a string, not a number")])
}

impl Row {
    fn takes(mut self, good: Vec<(Value, Value)>) -> Self {
        self.good.extend(good);
        self
    }

    fn described(mut self, text: &str) -> Self {
        for schema in [&mut self.input, &mut self.output] {
            schema["description"] = text.into();
        }
        self
    }

    fn refuses(mut self, bad: Vec<(Value, &'static str)>) -> Self {
        self.bad.extend(bad);
        self
    }
}

const DATES: &str = "^-?infinity$| BC$|^[0-9]{5,}-";
const RANGE: &str = r"^(empty|[\[(][\s\S]*,[\s\S]*[\])])$";

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let point = |ty: Value, x: Value, y: Value| json!({
        "type": ty, "properties": {"x": x, "y": y}, "additionalProperties": false, "description": "A point.",
    });
    let int4 = || json!({"type": ["integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX});
    let coordinate = || { let mut x = int4(); x["description"] = "To the right.".into(); x };
    let mut point_out = point(json!(["object", "null"]), coordinate(), int4());
    point_out["required"] = json!(["x", "y"]);
    let mut point_or_array = point_out.clone();
    point_or_array["type"] = json!(["object", "null", "array"]);
    vec![
        row("boolean", json!({"type": "boolean"}), json!({"type": ["boolean", "null"]}),
            same([json!(true), json!(false)]),
            vec![(json!("true"), "must be a boolean, not a string"), (json!(0), "not a number"), (json!(null), "not null")]),
        integer("smallint", i16::MIN.into(), i16::MAX.into()).refuses(vec![(json!(32768), "must be between -32768 and 32767")]),
        integer("integer", i32::MIN.into(), i32::MAX.into()).refuses(vec![(json!(2147483648_i64), "must be between")]),
        integer("bigint", i64::MIN, i64::MAX),
        // JSON has them as strings, PostgreSQL says.
        written("oid", "^[0-9]{1,10}$", Some("16384"), None).takes(same([json!("0"), json!("4294967295")]))
            .refuses(vec![(json!("-1"), "must be an object identifier like \"16384\", not \"-1\"")])
            .late(vec![(json!("4294967296"), "out of range for type oid")]),
        number("real", json!({"minimum": -3.4028235e38, "maximum": 3.4028235e38}))
            .takes(same([json!(1.5), json!(-2)])).refuses(vec![(json!(1e39), "must be at most")]),
        number("double precision", json!({})).takes(same([json!(1e300), json!(0.1), json!(-7)])),
        number("numeric", json!({})).takes(same([json!(12345.678901), json!(0)])),
        number("kinds.money", json!({"minimum": -999.99, "maximum": 999.99}))
            .takes(vec![(json!(999.99), json!(999.99)), (json!(1.234), json!(1.23)), (json!(-999.99), json!(-999.99))])
            .refuses(vec![(json!(999.995), "must be at most 999.99"), (json!(-1000), "must be at least -999.99")]),
        number("kinds.thousands", json!({"minimum": -99000.0, "maximum": 99000.0}))
            .takes(vec![(json!(99000), json!(99000)), (json!(1499), json!(1000))])
            .refuses(vec![(json!(99001), "must be at most")]),
        number("kinds.huge", json!({"exclusiveMinimum": -1e28, "exclusiveMaximum": 1e28}))
            .takes(same([json!(1234567.25)])).refuses(vec![(json!(1e28), "must be less than"), (json!(-1e30), "must be greater than")]),
        string("text", json!({})).takes(same([json!(""), json!("quote ' \" \\ \u{1F600}")])),
        string("character varying", json!({})).takes(same([json!("any length")])),
        string("name", json!({"maxLength": 63})).takes(same([json!("a name")])),
        string("kinds.short", json!({"maxLength": 3})).takes(same([json!("äöü"), json!("")]))
            .refuses(vec![(json!("abcd"), "must have at most 3 characters, not 4"), (json!("ab  "), "must have at most 3")]),
        string("kinds.padded", json!({"maxLength": 3})).takes(vec![(json!("ab"), json!("ab "))])
            .refuses(vec![(json!("abcd"), "must have at most 3 characters")]),
        formatted("uuid", "uuid", None).takes(same([json!("0f8fad5b-d9cb-469f-a165-70867728950e")]))
            .refuses(vec![(json!("0f8fad5bd9cb469fa16570867728950e"), "must be a UUID like"), (json!("x"), "not \"x\"")]),
        formatted("date", "date", Some(DATES)).takes(same([json!("2026-02-28")]))
            .refuses(vec![(json!("tomorrow"), "must be a date like \"2026-01-31\", not \"tomorrow\""), (json!("31.01.2026"), "must be a date"),
                (json!("2026-02-30"), "out of range")]),
        written("time", r"^(([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)(\.[0-9]+)?)?|24:00:00)$", Some("12:00:00"), None)
            .takes(vec![(json!("12:34"), json!("12:34:00")), (json!("24:00:00"), json!("24:00:00")), (json!("01:02:03.5"), json!("01:02:03.5"))])
            .refuses(vec![(json!("25:00"), "must be a time of day like \"12:00:00\""), (json!("noon"), "must be a time of day")]),
        formatted("time with time zone", "time", Some("[+-][0-9]{2}(:[0-9]{2}:[0-9]{2})?$|^24:"))
            .takes(vec![(json!("12:00:00Z"), json!("12:00:00+00")), (json!("12:00:00+05:30"), json!("12:00:00+05:30"))])
            .refuses(vec![(json!("12:00:00"), "must be a time of day with its zone")]),
        written("timestamp", r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?$",
                Some("2026-01-31T12:00:00"), Some(DATES))
            .takes(same([json!("2026-01-31T12:00:00"), json!("2026-01-31T12:00:00.25")]))
            // PostgreSQL would drop the zone without a word.
            .refuses(vec![(json!("2026-01-31T12:00:00+05:00"), "must be a date and time without a zone"), (json!("now"), "must be a date and time")])
            .late(vec![(json!("2026-02-30T00:00:00"), "out of range")]),
        formatted("timestamptz", "date-time", Some("^-?infinity$| BC$|^[0-9]{5,}-|[+-][0-9]{2}:[0-9]{2}:[0-9]{2}( BC)?$"))
            .takes(vec![(json!("2026-01-31T12:00:00Z"), json!("2026-01-31T12:00:00+00:00")),
                        (json!("2026-01-31T12:00:00.5+05:30"), json!("2026-01-31T06:30:00.5+00:00"))])
            // Whose zone would it be?
            .refuses(vec![(json!("2026-01-31T12:00:00"), "must be a date and time with its zone like \"2026-01-31T12:00:00Z\""),
                (json!("2026-01-31"), "must be a date and time"), (json!("now"), "must be a date and time")]),
        written("interval", r"^P((-?[0-9]+(\.[0-9]+)?[YMWD])+(T(-?[0-9]+(\.[0-9]+)?[HMS])+)?|T(-?[0-9]+(\.[0-9]+)?[HMS])+)$",
                Some("P1DT2H30M"), Some("^-?infinity$"))
            .takes(vec![(json!("P1DT2H30M"), json!("P1DT2H30M")), (json!("PT-0.5S"), json!("PT-0.5S")), (json!("P2W"), json!("P14D"))])
            .refuses(vec![(json!("1 day"), "must be an ISO 8601 duration like \"P1DT2H30M\", not \"1 day\""), (json!("P"), "duration")]),
        written("bytea", r"^\\x([0-9A-Fa-f]{2})*$", Some(r"\x48656c6c6f"), None)
            .takes(vec![(json!(r"\x48656c"), json!(r"\x48656c")), (json!(r"\x"), json!(r"\x")), (json!(r"\xFF"), json!(r"\xff"))])
            .refuses(vec![(json!("hello"), "must be bytes in hexadecimal"), (json!(r"\x4"), "must be bytes in hexadecimal")]),
        row("json", json!({}), json!({}), same([json!({"b": [1, null]}), json!("text"), json!(null), json!([]), json!(1.50)]), vec![]),
        row("jsonb", json!({}), json!({}), same([json!({"b": [1, null]}), json!("text"), json!(null), json!([])]), vec![]),
        row("kinds.settings", json!({"type": "object"}), json!({"type": ["object", "null"]}), same([json!({}), json!({"a": 1})]),
            vec![(json!([]), "must be an object, not an array"), (json!(null), "must be an object, not null")]),
        row("kinds.mood", json!({"type": "string", "enum": ["sad", "so so", "happy"]}),
            json!({"type": ["string", "null"], "enum": ["sad", "so so", "happy", null]}), same([json!("so so")]),
            vec![(json!("angry"), r#"must be one of "sad", "so so", "happy", not "angry""#), (json!(1), "not a number"), (json!(""), "must be one of")]),
        row("kinds.bright", json!({"type": "string", "enum": ["so so", "happy"]}),
            json!({"type": ["string", "null"], "enum": ["so so", "happy", null]}), same([json!("happy")]),
            vec![(json!("sad"), r#"must be one of "so so", "happy", not "sad""#)]),
        row("kinds.cheerful",
            json!({"type": "string", "enum": ["sad", "so so", "happy"], "description": "Must fulfil CHECK ((VALUE <> 'sad'::kinds.mood))."}),
            json!({"type": ["string", "null"], "enum": ["sad", "so so", "happy", null], "description": "Must fulfil CHECK ((VALUE <> 'sad'::kinds.mood))."}),
            same([json!("happy")]), vec![]).late(vec![(json!("sad"), "cheerful_check\": CHECK ((VALUE <> 'sad'::kinds.mood))")]),
        row("kinds.percent", json!({"type": "integer", "minimum": 0, "maximum": 100}), json!({"type": ["integer", "null"], "minimum": 0, "maximum": 100}),
            same([json!(0), json!(100)]), vec![(json!(101), "must be between 0 and 100"), (json!(-1), "must be between 0 and 100")]),
        row("kinds.positive", json!({"type": "integer", "minimum": 1, "maximum": i64::MAX}), json!({"type": ["integer", "null"], "minimum": 1, "maximum": i64::MAX}),
            same([json!(1)]), vec![(json!(0), "must be between 1 and")]),
        number("kinds.ratio", json!({"minimum": 0, "exclusiveMaximum": 1})).takes(same([json!(0), json!(0.999)]))
            .refuses(vec![(json!(1), "must be less than 1"), (json!(-0.001), "must be at least 0")]),
        row("kinds.even",
            json!({"type": "integer", "minimum": 0, "maximum": i32::MAX, "description": "Must fulfil CHECK (((VALUE % 2) = 0))."}),
            json!({"type": ["integer", "null"], "minimum": 0, "maximum": i32::MAX, "description": "Must fulfil CHECK (((VALUE % 2) = 0))."}),
            same([json!(2)]), vec![(json!(-2), "must be between 0 and")])
            .late(vec![(json!(3), "value for domain even violates check constraint \"even_check\": CHECK (((VALUE % 2) = 0))")]),
        row("kinds.dice", json!({"type": "integer", "enum": [1, 2, 3, 4, 5, 6]}), json!({"type": ["integer", "null"], "enum": [1, 2, 3, 4, 5, 6, null]}),
            same([json!(6)]), vec![(json!(7), "must be one of 1, 2, 3, 4, 5, 6, not 7"), (json!(99999), "must be between")]),
        row("kinds.grade", json!({"type": "string", "enum": ["A", "B"]}), json!({"type": ["string", "null"], "enum": ["A", "B", null]}),
            same([json!("A")]), vec![(json!("a"), r#"must be one of "A", "B", not "a""#)]),
        string("kinds.label", json!({"minLength": 2, "maxLength": 5})).takes(same([json!("äö"), json!("fünf.")]))
            .refuses(vec![(json!("a"), "must have at least 2 characters, not 1"), (json!("sechs."), "must have at most 5 characters, not 6")]),
        string("kinds.filled", json!({"minLength": 1})).takes(same([json!(" ")])).refuses(vec![(json!(""), "must have at least 1 character")]),
        string("kinds.code", json!({"pattern": "^[A-Z]{2}[0-9]+$"})).takes(same([json!("AB1")]))
            .refuses(vec![(json!("ab1"), "must match ^[A-Z]{2}[0-9]+$"), (json!("AB١"), "must match"), (json!("AB1\n"), "must match")]),
        string("kinds.prefixed", json!({"maxLength": 8, "pattern": r"^x_[\s\S]*$"})).takes(same([json!("x_"), json!("x_1\n2")]))
            .refuses(vec![(json!("xy"), r"must match ^x_[\s\S]*$")]),
        // What \w is, the locale says.
        string("kinds.word", json!({"description": r"Must fulfil CHECK ((VALUE ~ '^\w+$'::text))."})).takes(same([json!("wört")]))
            .late(vec![(json!("a b"), r"violates check constraint")]),
        row("integer[]", json!({"type": "array", "items": int4()}),
            json!({"type": ["array", "null"], "items": {"type": ["integer", "null", "array"], "minimum": i32::MIN, "maximum": i32::MAX}}),
            same([json!([]), json!([1, null, 3])]),
            vec![(json!([1, "2"]), "argument \"v[1]\" must be an integer, not a string"), (json!("{1}"), "must be an array, not a string"),
                 (json!([[1]]), "argument \"v[0]\" must be an integer, not an array"), (json!([2147483648_i64]), "argument \"v[0]\" must be between")]),
        row("kinds.mood[]", json!({"type": "array", "items": {"type": ["string", "null"], "enum": ["sad", "so so", "happy", null]}}),
            json!({"type": ["array", "null"], "items": {"anyOf": [{"type": ["string", "null"], "enum": ["sad", "so so", "happy", null]}, {"type": "array"}]}}),
            same([json!(["sad", null])]), vec![(json!(["mad"]), "argument \"v[0]\" must be one of")]),
        row("kinds.few", json!({"type": "array", "items": int4(), "maxItems": 2}),
            json!({"type": ["array", "null"], "items": {"type": ["integer", "null", "array"], "minimum": i32::MIN, "maximum": i32::MAX}, "maxItems": 2}),
            same([json!([1, 2])]), vec![(json!([1, 2, 3]), "must have at most 2 elements, not 3")]),
        row("kinds.matrix", json!({"type": "array", "items": {"type": "array", "items": int4()}}),
            json!({"type": ["array", "null"], "items": {"type": ["integer", "null", "array"], "minimum": i32::MIN, "maximum": i32::MAX}}),
            same([json!([[1, 2], [3, null]]), json!([])]),
            vec![(json!([1]), "argument \"v[0]\" must be an array, not a number"), (json!([[[1]]]), "argument \"v[0][0]\" must be an integer")])
            .late(vec![(json!([[1], [2, 3]]), "argument \"v[1]\" must have 1 elements like the first, not 2")]),
        row("kinds.point", point(json!("object"), coordinate(), int4()), point_out.clone(),
            vec![(json!({"x": 1, "y": 2}), json!({"x": 1, "y": 2})), (json!({"x": 1}), json!({"x": 1, "y": null}))],
            vec![(json!({"z": 1}), r#"argument "v": unknown field "z"; known: "x", "y""#), (json!({"x": "1"}), r#"argument "v.x" must be an integer"#),
                 (json!([1, 2]), "must be an object, not an array")]),
        row("kinds.corner",
            { let mut schema = point(json!("object"), coordinate(), int4()); schema["description"] = "A point. Must fulfil CHECK (((VALUE).x >= 0)).".into(); schema },
            { let mut schema = point_out.clone(); schema["description"] = "A point. Must fulfil CHECK (((VALUE).x >= 0)).".into(); schema },
            same([json!({"x": 0, "y": -1})]), vec![]).late(vec![(json!({"x": -1}), "violates check constraint \"corner_check\": CHECK (((VALUE).x >= 0))")]),
        row("kinds.line",
            json!({"type": "object", "properties": {
                "name": {"type": "string"}, "points": {"type": ["array", "null"], "items": point(json!(["object", "null"]), coordinate(), int4())},
                "colour": {"type": ["string", "null"], "maxLength": 5}, "mood": {"type": ["string", "null"], "enum": ["sad", "so so", "happy", null]}},
                "required": ["name"], "additionalProperties": false}),
            json!({"type": ["object", "null"], "properties": {
                "name": {"type": ["string", "null"]}, "points": {"type": ["array", "null"], "items": point_or_array},
                "colour": {"type": ["string", "null"], "maxLength": 5}, "mood": {"type": ["string", "null"], "enum": ["sad", "so so", "happy", null]}},
                "required": ["name", "points", "colour", "mood"], "additionalProperties": false}),
            vec![(json!({"name": "l", "points": [{"x": 1, "y": 2}, null], "colour": "red", "mood": "sad"}),
                  json!({"name": "l", "points": [{"x": 1, "y": 2}, null], "colour": "red", "mood": "sad"})),
                 (json!({"name": "l"}), json!({"name": "l", "points": null, "colour": null, "mood": null}))],
            vec![(json!({}), r#"argument "v": missing field "name""#), (json!({"name": null}), r#"argument "v.name" must be a string, not null"#),
                 (json!({"name": "l", "points": [{"x": 1.5}]}), r#"argument "v.points[0].x" must be an integer, not a fraction"#),
                 (json!({"name": "l", "colour": "orange"}), r#"argument "v.colour" must have at most 5 characters"#)]),
        written("int4range", RANGE, Some("[1,10)"), None).described("range of integers").takes(vec![(json!("[1,10]"), json!("[1,11)")), (json!("empty"), json!("empty"))])
            .refuses(vec![(json!("1-10"), "must be a range like \"[1,10)\"")]).late(vec![(json!("[a,b]"), "invalid input syntax for type integer")]),
        written("numrange", RANGE, Some("[1,10)"), None).described("range of numerics").takes(same([json!("[1.5,)")])),
        written("daterange", RANGE, Some("[2026-01-01,2026-02-01)"), None).described("range of dates").takes(same([json!("[2026-01-01,2026-02-01)")])),
        written("tstzrange", RANGE, Some("[2026-01-01T00:00:00Z,2026-02-01T00:00:00Z)"), None).described("range of timestamps with time zone")
            .takes(vec![(json!("[2026-01-01T00:00:00Z,)"), json!("[\"2026-01-01 00:00:00+00\",)"))]),
        written("kinds.floats", RANGE, None, None).takes(same([json!("[0.5,1]")])),
        written("int8multirange", r"^\{[\s\S]*\}$", Some("{[1,3),[7,10)}"), None).described("multirange of bigints").takes(same([json!("{[1,3),[7,10)}"), json!("{}")]))
            .refuses(vec![(json!("[1,3)"), "must be a multirange")]),
        written("bit varying", "^[01]*$", Some("101"), None).takes(same([json!(""), json!("0110")])).refuses(vec![(json!("x1F"), "must be a string of bits")]),
        { let mut bits = written("kinds.flags", "^[01]*$", Some("101"), None).takes(same([json!("101")]))
            .refuses(vec![(json!("1011"), "must have at most 3 characters"), (json!("10"), "must have at least 3 characters")]);
          for schema in [&mut bits.input, &mut bits.output] { schema["minLength"] = 3.into(); schema["maxLength"] = 3.into(); }
          bits },
        { let mut bits = written("kinds.bits", "^[01]*$", Some("101"), None).takes(same([json!("")])).refuses(vec![(json!("1011"), "at most 3")]);
          for schema in [&mut bits.input, &mut bits.output] { schema["maxLength"] = 3.into(); }
          bits },
        string("inet", json!({"description": "IP address/netmask, host address, netmask optional"}))
            .takes(same([json!("192.0.2.1"), json!("2001:db8::/32")])).late(vec![(json!("999.0.0.1"), "invalid input syntax for type inet")]),
        string("tsvector", json!({"description": "text representation for text search"})).takes(vec![(json!("b a"), json!("'a' 'b'"))]),
    ]
}

/// The text a scalar comes back as.
fn scalar_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Makes the tools of the table, `rows_N`, `scalar_N` and `out_N`.
async fn make_tools(database: &tests::database::Database<'_>, rows: &[Row]) -> Result<()> {
    let superuser = database.superuser().await?;
    superuser.batch_execute(TYPES).await?;
    for (at, Row { ty, .. }) in rows.iter().enumerate() {
        superuser
            .batch_execute(&format!(
                "CREATE FUNCTION kinds.rows_{at}(v {ty}) RETURNS TABLE (value {ty}, n integer) LANGUAGE sql STABLE AS 'SELECT $1, 1';
                 CREATE FUNCTION kinds.scalar_{at}(v {ty}) RETURNS {ty} LANGUAGE sql STABLE AS 'SELECT $1';
                 CREATE FUNCTION kinds.out_{at}(v {ty}, OUT given {ty}, OUT missing {ty}) LANGUAGE sql STABLE AS 'SELECT $1, NULL::{ty}';
                 SELECT mcp.expose_tool(f) FROM unnest(ARRAY['kinds.rows_{at}', 'kinds.scalar_{at}', 'kinds.out_{at}']::regproc[]) AS f"
            ))
            .await
            .with_context(|| format!("the tools of {ty}"))?;
    }
    Ok(())
}

async fn every_type_from_its_schema_to_its_result(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let rows = rows();
    make_tools(&database, &rows).await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    let mut faults = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let mut fault = |what: String| faults.push(format!("{}: {what}", row.ty));
        let (table, scalar, out) = (format!("rows_{at}"), format!("scalar_{at}"), format!("out_{at}"));
        let (input, output) = (tools.input(&table)?, tools.output(&table)?);
        if input["properties"]["v"] != row.input {
            fault(format!("the input schema is {}", input["properties"]["v"]));
        }
        let property = &output["properties"]["rows"]["items"]["properties"]["value"];
        if *property != row.output {
            fault(format!("the output schema is {property}"));
        }
        if tools.output(&out)?["properties"]["given"] != row.output {
            fault(format!("the output schema of OUT is {}", tools.output(&out)?));
        }
        let (takes, returns, returns_out) =
            (validator(input)?, validator(output)?, validator(tools.output(&out)?)?);
        for (given, expected) in &row.good {
            let arguments = json!({"v": given});
            if let Err(error) = takes.validate(&arguments) {
                fault(format!("the schema refuses {given}: {error}"));
            }
            let result = call_tool(&exec, &session.token, &table, arguments.clone()).await?;
            let content = &result["structuredContent"];
            if content["rows"][0]["value"] != *expected || result["isError"] == true {
                fault(format!("{given} came back as {result}"));
            }
            if let Err(error) = returns.validate(content) {
                fault(format!("the output schema refuses {content}: {error}"));
            }
            let result = call_tool(&exec, &session.token, &out, arguments.clone()).await?;
            let content = &result["structuredContent"];
            if *content != json!({"given": expected, "missing": null}) {
                fault(format!("{given} came back by OUT as {result}"));
            }
            if let Err(error) = returns_out.validate(content) {
                fault(format!("the output schema of OUT refuses {content}: {error}"));
            }
            let result = call_tool(&exec, &session.token, &scalar, arguments).await?;
            // Objects are structured, whoever returns them.
            let matches = if expected.is_object() {
                result["structuredContent"] == *expected
            } else {
                let text = text_blocks(&result);
                text == scalar_text(expected)
                    || serde_json::from_str::<Value>(&text).ok().as_ref() == Some(expected)
            };
            if !matches || result["isError"] == true {
                fault(format!("{given} came back as the scalar {result}"));
            }
        }
        for (late, cases) in [(false, &row.bad), (true, &row.late)] {
            for (given, words) in cases {
                let arguments = json!({"v": given});
                if takes.is_valid(&arguments) != late {
                    fault(format!("the schema says {late} of {given}"));
                }
                let result = call_tool(&exec, &session.token, &table, arguments).await?;
                let text = text_blocks(&result);
                if result["isError"] != true || !text.contains(words) || !text.starts_with("argument \"v") {
                    fault(format!("of {given} is said {result}"));
                }
            }
        }
    }
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

async fn types_over_http(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let rows: Vec<Row> = rows()
        .into_iter()
        .filter(|row| {
            ["integer", "kinds.money", "date", "kinds.code", "kinds.line", "jsonb", "integer[]"]
                .contains(&row.ty)
        })
        .collect();
    make_tools(&database, &rows).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = frontend.mcp(era).with(Door::Bearer, &session.token);
        let listed = client.request("tools/list", json!({})).await?.result()?;
        let tools = Tools::of(listed["tools"].as_array().cloned().unwrap_or_default());
        for (at, row) in rows.iter().enumerate() {
            let name = format!("rows_{at}");
            assert_eq!(tools.input(&name)?["properties"]["v"], row.input, "{}", row.ty);
            let returns = validator(tools.output(&name)?)?;
            for (given, expected) in &row.good {
                let result = client.call(&name, json!({"v": given})).await?.result()?;
                let content = &result["structuredContent"];
                assert_eq!(content["rows"], json!([{"value": expected, "n": 1}]), "{}", row.ty);
                returns.validate(content).map_err(|error| anyhow::anyhow!("{}: {error}", row.ty))?;
            }
            for (given, words) in row.bad.iter().chain(&row.late) {
                let error = client.call(&name, json!({"v": given})).await?.tool_error()?;
                ensure!(error.contains(words), "{} {given}: {error}", row.ty);
            }
        }
    }
    Ok(())
}

async fn defaults_are_told_and_take_hold(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute(TYPES).await?;
    superuser
        .batch_execute(
            r#"CREATE FUNCTION kinds.twice(integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT 2 * $1';
               CREATE FUNCTION kinds.unfit(a smallint DEFAULT 70000, b kinds.short DEFAULT 'long') RETURNS text LANGUAGE sql STABLE AS $$ SELECT a || b $$;
               CREATE FUNCTION kinds.defaults(
                   flag boolean DEFAULT true, small smallint DEFAULT -3, big bigint DEFAULT 9007199254740993, amount numeric DEFAULT 0.10,
                   word text DEFAULT 'it''s', short kinds.short DEFAULT 'abc', on_day date DEFAULT '2026-01-31',
                   at timestamptz DEFAULT '2026-01-31 12:00:00+00', every interval DEFAULT '1 day', bytes bytea DEFAULT '\x00ff',
                   document jsonb DEFAULT '{"a": [1]}', mood kinds.mood DEFAULT 'so so', tags text[] DEFAULT '{a,b}', made integer[] DEFAULT ARRAY[1, 2],
                   id uuid DEFAULT '0f8fad5b-d9cb-469f-a165-70867728950e', missing text DEFAULT NULL, percent kinds.percent DEFAULT 50,
                   forever date DEFAULT 'infinity', nan numeric DEFAULT 'NaN',
                   enormous numeric DEFAULT 1e400, document_too jsonb DEFAULT '{"a": 1e400}',
                   today date DEFAULT current_date, total integer DEFAULT 1 + 1, place kinds.point DEFAULT ROW(1, 2),
                   twice integer DEFAULT kinds.twice(4), span kinds.floats DEFAULT '[1,2)'
               ) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT to_jsonb(r) FROM (SELECT flag, small, big, amount, word, short, on_day, at, every,
                   bytes, document, mood, tags, made, id, missing, percent, forever, nan, total, place, twice, span) AS r $$;
               CREATE FUNCTION kinds.strict(a text DEFAULT NULL, b integer DEFAULT 7) RETURNS text LANGUAGE sql STABLE STRICT AS $$ SELECT a || b $$;
               SELECT mcp.expose_tool('kinds.defaults'::regproc), mcp.expose_tool('kinds.strict'::regproc), mcp.expose_tool('kinds.unfit'::regproc)"#,
        )
        .await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    // Whatever whoever lists has set.
    exec.batch_execute(
        "SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'; SET datestyle = 'German'",
    )
    .await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    let schema = tools.input("defaults")?;
    ensure!(schema.get("required").is_none(), "{schema}");
    let defaults = json!({
        "flag": true, "small": -3, "big": 9007199254740993_i64, "amount": 0.10, "word": "it's", "short": "abc", "on_day": "2026-01-31",
        "at": "2026-01-31T12:00:00+00:00", "every": "P1D", "bytes": r"\x00ff", "document": {"a": [1]}, "mood": "so so", "tags": ["a", "b"],
        "made": [1, 2], "id": "0f8fad5b-d9cb-469f-a165-70867728950e", "missing": null, "percent": 50,
    });
    let properties = schema["properties"].as_object().context("properties")?;
    let told: serde_json::Map<_, _> = properties
        .iter()
        .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
        .collect();
    // The rest is no constant, or none that a client may pass.
    assert_eq!(Value::from(told.clone()), defaults);
    validator(schema)?.validate(&Value::from(told)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut expected = defaults;
    (expected["forever"], expected["nan"], expected["total"]) = (json!("infinity"), json!("NaN"), json!(2));
    (expected["place"], expected["twice"], expected["span"]) =
        (json!({"x": 1, "y": 2}), json!(8), json!("[1,2)"));
    let result = call_tool(&exec, &session.token, "defaults", json!({})).await?;
    assert_eq!(result["structuredContent"], expected, "{result}");
    // What its own type does not hold is no default to pass.
    let unfit = tools.input("unfit")?["properties"].to_string();
    ensure!(!unfit.contains("default"), "{unfit}");
    // NULL is not for a function that is never called with it.
    assert_eq!(
        tools.input("strict")?["properties"],
        json!({"a": {"type": "string"}, "b": {"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX, "default": 7}})
    );
    Ok(())
}

async fn nulls_and_variadic(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SCHEMA kinds AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA kinds TO mcp_user; GRANT EXECUTE ON FUNCTION mcp.expose_tool TO app_owner; SET ROLE app_owner;
             CREATE FUNCTION kinds.sum(VARIADIC numbers integer[]) RETURNS bigint LANGUAGE sql STABLE AS
                 'SELECT sum(n) FROM unnest(numbers) AS n';
             CREATE FUNCTION kinds.optional(a integer, b text DEFAULT 'b') RETURNS text LANGUAGE sql STABLE AS
                 $$ SELECT concat(a, '/', coalesce(b, 'NULL')) $$;
             CREATE FUNCTION kinds.inout(INOUT a integer, INOUT b text DEFAULT 'b') LANGUAGE sql STABLE AS 'SELECT a + 1, b';
             CREATE FUNCTION kinds.one_out(a integer, OUT b integer) LANGUAGE sql STABLE AS 'SELECT a + 1';
             CREATE FUNCTION kinds.nothing() RETURNS void LANGUAGE sql AS '';
             CREATE FUNCTION kinds.series(n integer) RETURNS SETOF integer LANGUAGE sql STABLE AS 'SELECT generate_series(1, n)';
             SELECT mcp.expose_tool(p.oid) FROM pg_proc AS p WHERE p.pronamespace = 'kinds'::regnamespace",
        )
        .await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    let call = |name: &'static str, arguments: Value| call_tool(&exec, &session.token, name, arguments);
    let sum = tools.input("sum")?;
    ensure!(sum.get("required").is_none(), "{sum}");
    assert_eq!(sum["properties"]["numbers"]["type"], "array");
    assert_eq!(text_blocks(&call("sum", json!({"numbers": [1, 2, 3]})).await?), "6");
    assert_eq!(text_blocks(&call("sum", json!({})).await?), "null", "no numbers at all");
    let error = text_blocks(&call("sum", json!({"numbers": 1})).await?);
    assert_eq!(error, "argument \"numbers\" must be an array, not a number");
    let optional = tools.input("optional")?;
    assert_eq!(optional["required"], json!(["a"]));
    assert_eq!(optional["properties"]["b"], json!({"type": ["string", "null"], "default": "b"}));
    for (arguments, expected) in [
        (json!({"a": 1}), "1/b"),
        (json!({"a": 1, "b": null}), "1/NULL"),
        (json!({"a": 1, "b": ""}), "1/"),
        (json!({"a": null}), "argument \"a\" must be an integer, not null"),
        (json!({}), "missing argument \"a\""),
        (json!({"a": 1, "c": 1}), "unknown argument \"c\"; known: \"a\", \"b\""),
    ] {
        assert_eq!(text_blocks(&call("optional", arguments).await?), expected);
    }
    let inout = call("inout", json!({"a": 1})).await?;
    assert_eq!(inout["structuredContent"], json!({"a": 2, "b": "b"}));
    assert_eq!(tools.output("inout")?["required"], json!(["a", "b"]));
    assert_eq!(text_blocks(&call("one_out", json!({"a": 1})).await?), "2", "one OUT parameter is a scalar");
    assert_eq!(call("nothing", json!({})).await?, json!({"content": []}));
    let series = call("series", json!({"n": 2})).await?;
    assert_eq!(series["structuredContent"], json!({"rows": [{"value": 1}, {"value": 2}]}));
    validator(tools.output("series")?)?
        .validate(&series["structuredContent"])
        .map_err(|error| anyhow::anyhow!("{error}"))
}

async fn checks_of_domains_in_either_order(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("CREATE SCHEMA kinds; GRANT USAGE ON SCHEMA kinds TO mcp_user; CREATE COLLATION kinds.insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE FUNCTION kinds.length(text) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9'").await?;
    let unsaid = "Must fulfil";
    for (at, (base, check, schema)) in [
        ("integer", "100 >= VALUE AND 0 < VALUE", json!({"type": "integer", "minimum": 1, "maximum": 100})),
        ("integer", "VALUE IS NULL OR VALUE = 5", json!({"type": "integer", "minimum": 5, "maximum": 5})),
        ("integer", "VALUE > 0.5", json!({"type": "integer", "minimum": 1, "maximum": i32::MAX})),
        ("integer", "VALUE = ANY (ARRAY[1, 2])", json!({"type": "integer", "enum": [1, 2]})),
        ("smallint", "VALUE < 100000", json!({"type": "integer", "minimum": i16::MIN, "maximum": i16::MAX})),
        ("float8", "VALUE > -90 AND VALUE <= 90.5", json!({"type": "number", "exclusiveMinimum": -90, "maximum": 90.5})),
        ("numeric(4,1)", "VALUE > 0", json!({"type": "number", "exclusiveMinimum": 0, "maximum": 999.9})),
        ("text", "char_length(VALUE) = 2", json!({"type": "string", "minLength": 2, "maxLength": 2})),
        ("text", "length(VALUE) > 2 AND 9 > length(VALUE)", json!({"type": "string", "minLength": 3, "maxLength": 8})),
        ("varchar(9)", "length(VALUE) < 20", json!({"type": "string", "maxLength": 9})),
        ("varchar", "VALUE IN ('a', 'b')", json!({"type": "string", "enum": ["a", "b"]})),
        ("text", "VALUE = 'a'", json!({"type": "string", "enum": ["a"]})),
        ("text", "VALUE ~ '^a' AND VALUE ~ 'z$'", json!({"type": "string", "pattern": "^a", "allOf": [{"pattern": "z$"}]})),
        ("integer[]", "array_length(VALUE, 1) <= 3", json!({"type": "array", "items": {"type": ["integer", "null"], "minimum": i32::MIN, "maximum": i32::MAX}, "maxItems": 3})),
        ("jsonb", "jsonb_typeof(VALUE) = 'array'", json!({"type": "array"})),
        // What only PostgreSQL can tell is left to it.
        ("integer", "VALUE > 0 OR VALUE < -10", json!(unsaid)),
        ("integer", "NOT VALUE > 0", json!(unsaid)),
        ("integer", "VALUE <> 0", json!(unsaid)),
        // Compared as what has no sign, or no numbers at all.
        ("integer", "VALUE::oid < '7'::oid", json!(unsaid)),
        ("integer", "VALUE::regtype > '7'::regtype", json!(unsaid)),
        ("numeric", "VALUE < 0.12345678901234567890", json!(unsaid)),
        ("numeric", "VALUE <> 'NaN'", json!(unsaid)),
        ("numeric", "VALUE::integer < 5", json!(unsaid)),
        ("real", "VALUE < 0.1", json!(unsaid)),
        ("date", "VALUE > '2000-01-01'", json!(unsaid)),
        ("text", "VALUE ~* 'a'", json!(unsaid)),
        ("text", "VALUE !~ 'a'", json!(unsaid)),
        ("text", "VALUE >= 'a'", json!(unsaid)),
        ("text", "VALUE ~ '(?i)a'", json!(unsaid)),
        ("text", "VALUE ~ '[[:alpha:]]'", json!(unsaid)),
        ("text", "lower(VALUE) = 'a'", json!(unsaid)),
        ("text", "octet_length(VALUE) < 5", json!(unsaid)),
        ("text", "VALUE = 'a' COLLATE kinds.insensitive", json!(unsaid)),
        ("text", "VALUE = ALL (ARRAY['a', 'b'])", json!(unsaid)),
        ("text", "VALUE <> ANY (ARRAY['a', 'b'])", json!(unsaid)),
        ("text", "kinds.length(VALUE) > 5", json!(unsaid)),
        ("char(3)", "VALUE = 'a'", json!(unsaid)),
        ("integer[]", "array_length(VALUE, 1) >= 1", json!(unsaid)),
        ("integer[]", "array_length(VALUE, 2) <= 3", json!(unsaid)),
        ("integer[][]", "cardinality(VALUE) < 5", json!(unsaid)),
        ("text", "length(VALUE) < (SELECT 5)", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let made = superuser
            .batch_execute(&format!(
                "CREATE DOMAIN kinds.d{at} AS {base} CHECK ({check});
                 CREATE FUNCTION kinds.f{at}(v kinds.d{at}) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
                 SELECT mcp.expose_tool('kinds.f{at}'::regproc)"
            ))
            .await;
        if schema.is_null() {
            assert_eq!(sqlstate(made)?, "0A000", "{check}");
            continue;
        }
        made.with_context(|| format!("{base} CHECK ({check})"))?;
        let (auth, exec) = (database.auth().await?, database.exec().await?);
        let session = NewSession::of("alice").create(&auth).await?;
        let tools = Tools::list(&exec, &session.token).await?;
        let property = &tools.input(&format!("f{at}"))?["properties"]["v"];
        if schema == unsaid {
            let description = property["description"].as_str().unwrap_or_default();
            ensure!(description.starts_with("Must fulfil CHECK ("), "{base} CHECK ({check}): {property}");
            for keyword in ["minItems", "maxItems", "minLength", "pattern", "enum", "exclusiveMaximum"] {
                ensure!(property.get(keyword).is_none(), "{base} CHECK ({check}): {property}");
            }
        } else {
            assert_eq!(*property, schema, "{base} CHECK ({check})");
        }
    }
    // A constraint that older values may not fulfil is enforced and told in words; an operator that only looks like the
    // server's own is left to whoever made it.
    superuser
        .batch_execute(
            "CREATE DOMAIN kinds.late AS integer;
             ALTER DOMAIN kinds.late ADD CONSTRAINT late_check CHECK (VALUE > 0) NOT VALID;
             CREATE FUNCTION kinds.never(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
             CREATE OPERATOR kinds.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = kinds.never);
             CREATE DOMAIN kinds.odd AS integer CHECK (VALUE OPERATOR(kinds.>) 0);
             CREATE FUNCTION kinds.late(v kinds.late, w kinds.odd DEFAULT NULL) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
             SELECT mcp.expose_tool('kinds.late'::regproc)",
        )
        .await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    for argument in ["v", "w"] {
        let property = &tools.input("late")?["properties"][argument];
        assert_eq!(property["minimum"], i32::MIN, "{property}");
        ensure!(property["description"].as_str().is_some_and(|text| text.contains("CHECK")), "{property}");
    }
    let error = text_blocks(&call_tool(&exec, &session.token, "late", json!({"v": 0})).await?);
    ensure!(error.starts_with("argument \"v\": value for domain late violates"), "{error}");
    Ok(())
}

/// Regular expressions at random: where the schema has one, it holds of the same texts as PostgreSQL's does.
async fn patterns_mean_the_same_to_both(world: &Shared) -> Result<()> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", "[ab]", "[^a]", "[a-c]", "[]a]", "[a-]", r"[\d.]", r"[^\]]", ".", r"\d", r"\.", r"\-",
        "(", "(?:", ")", "|", "*", "+", "?", "*?", "{2}", "{1,3}", "{0,}", "^", "$", "-", "]", "}", "{",
        r"\n", "é", r"\w", "/", "'",
    ]);
    let regex = prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat());
    let text = prop::collection::vec(
        prop::sample::select(vec!["a", "b", "c", "1", ".", "-", "]", "{", "}", "\n", "é", "/", "'"]),
        0..6,
    )
    .prop_map(|pieces| pieces.concat());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let regexes = prop::collection::vec(regex, 600)
        .new_tree(&mut runner)
        .map_err(|reason| anyhow::anyhow!("{reason}"))?
        .current();
    let texts = prop::collection::vec(text, 80)
        .new_tree(&mut runner)
        .map_err(|reason| anyhow::anyhow!("{reason}"))?
        .current();

    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("CREATE SCHEMA kinds; GRANT USAGE ON SCHEMA kinds TO mcp_user").await?;
    let mut making = String::new();
    for (at, regex) in regexes.iter().enumerate() {
        let quoted = regex.replace('\'', "''");
        making.push_str(&format!("CREATE DOMAIN kinds.d{at} AS text CHECK (VALUE ~ '{quoted}');"));
    }
    let arguments: Vec<_> = (0..regexes.len()).map(|at| format!("d{at} kinds.d{at}")).collect();
    for (number, part) in arguments.chunks(100).enumerate() {
        making.push_str(&format!(
            "CREATE FUNCTION kinds.f{number}({}) RETURNS text LANGUAGE sql STABLE AS 'SELECT 1';
             SELECT mcp.expose_tool('kinds.f{number}'::regproc);",
            part.join(", ")
        ));
    }
    superuser.batch_execute(&making).await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    let (mut told, mut compared) = (0, 0);
    for (at, regex) in regexes.iter().enumerate() {
        let property = &tools.input(&format!("f{}", at / 100))?["properties"][format!("d{at}")];
        if property.get("pattern").is_none() {
            continue;
        }
        told += 1;
        let schema = validator(property)?;
        let matched = superuser
            .query(
                "SELECT t ~ $2 FROM unnest($1::text[]) WITH ORDINALITY AS t (t, n) ORDER BY n",
                &[&texts, regex],
            )
            .await;
        let matched = matched.with_context(|| format!("{regex} is told as {property}"))?;
        for (text, matches) in texts.iter().zip(matched) {
            let matches: bool = matches.get(0);
            ensure!(
                schema.is_valid(&json!(text)) == matches,
                "{regex} of {text:?}: {matches}, told as {property}"
            );
            compared += usize::from(matches);
        }
    }
    ensure!(told > 60 && compared > 300, "{told} patterns, {compared} matches: too few");
    Ok(())
}

async fn what_comes_out_beyond_the_usual(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SCHEMA kinds AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA kinds TO mcp_user; GRANT EXECUTE ON FUNCTION mcp.expose_tool TO app_owner; SET ROLE app_owner;
             CREATE DOMAIN kinds.present AS integer NOT NULL CHECK (VALUE > 0);
             CREATE FUNCTION kinds.odd() RETURNS TABLE (d date, t timestamp, z timestamptz, f float8, r real, n numeric, zone timetz,
                                                        i interval, a integer[], tags text[], p kinds.present)
             LANGUAGE sql STABLE AS $$
                 SELECT o.*, x.p
                   FROM (VALUES ('infinity'::date, '-infinity'::timestamp, 'infinity'::timestamptz, 'NaN'::float8, '-Infinity'::real, 'NaN'::numeric,
                                 '12:00+00'::timetz, '-1 mons 2 days -00:00:00.5'::interval, '{{1,2},{3,4}}'::integer[], '{{a},{b}}'::text[]),
                                ('0044-03-15 BC', '12026-01-01 00:00:00', '0044-03-15 12:00:00 BC', 'Infinity', 'NaN', 'Infinity',
                                 '12:00:00+01:02:03', '-7 days', '[0:1]={5,6}', '{}')) AS o
                   LEFT JOIN (SELECT 1::kinds.present AS p) AS x ON false
             $$;
             SELECT mcp.expose_tool('kinds.odd'::regproc)",
        )
        .await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    exec.batch_execute("SET timezone = 'Europe/Amsterdam'").await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let tools = Tools::list(&exec, &session.token).await?;
    let result = call_tool(&exec, &session.token, "odd", json!({})).await?;
    let content = &result["structuredContent"];
    assert_eq!(content["rows"][0]["d"], "infinity", "{result}");
    assert_eq!(content["rows"][0]["a"], json!([[1, 2], [3, 4]]));
    assert_eq!(
        content["rows"][0]["p"],
        Value::Null,
        "a domain's NOT NULL does not hold for what is not there"
    );
    validator(tools.output("odd")?)?.validate(content).map_err(|error| anyhow::anyhow!("{error}: {content}"))
}

async fn no_tool_takes_or_returns_what_has_no_values(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("CREATE SCHEMA kinds; GRANT USAGE ON SCHEMA kinds TO mcp_user").await?;
    for (at, (signature, words)) in [
        ("a anyelement) RETURNS text", "cannot take an argument of type anyelement: \"a\""),
        ("a anyarray) RETURNS text", "cannot take an argument of type anyarray: \"a\""),
        (
            "VARIADIC a anycompatiblearray) RETURNS text",
            "cannot take an argument of type anycompatiblearray: \"a\"",
        ),
        ("integer) RETURNS text", "argument 1 of"),
        (") RETURNS SETOF record", "cannot return record"),
        (") RETURNS trigger", "cannot return trigger"),
    ]
    .into_iter()
    .enumerate()
    {
        let language = if signature.contains("trigger") {
            "plpgsql AS 'BEGIN RETURN NEW; END'"
        } else {
            "sql AS 'SELECT NULL'"
        };
        let language = if signature.contains("record") { "sql AS 'SELECT 1, 2'" } else { language };
        let refused = superuser
            .batch_execute(&format!(
                "CREATE FUNCTION kinds.no{at}({signature} LANGUAGE {language}; SELECT mcp.expose_tool('kinds.no{at}'::regproc)"
            ))
            .await;
        let error = refused.err().with_context(|| format!("{signature} was exposed"))?;
        let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
        ensure!(message.contains(words), "{signature}: {message}");
    }
    Ok(())
}

async fn schemas_follow_their_types(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SCHEMA kinds AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA kinds TO mcp_user; GRANT EXECUTE ON FUNCTION mcp.expose_tool TO app_owner; SET ROLE app_owner;
             CREATE TYPE kinds.mood AS ENUM ('sad'); CREATE DOMAIN kinds.small AS integer; CREATE TYPE kinds.pair AS (a kinds.small);
             CREATE FUNCTION kinds.f(m kinds.mood, s kinds.small, p kinds.pair) RETURNS text LANGUAGE sql STABLE AS
                 $$ SELECT concat(m, s, p) $$;
             SELECT mcp.expose_tool('kinds.f'::regproc)",
        )
        .await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let call = |arguments: Value| call_tool(&exec, &session.token, "f", arguments);
    let happy = json!({"m": "happy", "s": 100, "p": {"a": 1, "b": "x"}});
    ensure!(call(happy.clone()).await?["isError"] == true);
    // In another session, as always.
    superuser
        .batch_execute("ALTER TYPE kinds.mood ADD VALUE 'happy'; ALTER TYPE kinds.pair ADD ATTRIBUTE b text")
        .await?;
    let result = call(happy.clone()).await?;
    assert_eq!(text_blocks(&result), "happy100(1,x)", "{result}");
    superuser
        .batch_execute(
            "ALTER TYPE kinds.pair DROP ATTRIBUTE a; ALTER DOMAIN kinds.small ADD CHECK (VALUE < 10)",
        )
        .await?;
    let error = text_blocks(&call(json!({"m": "sad", "s": 100, "p": {"b": "x"}})).await?);
    assert_eq!(error, "argument \"s\" must be between -2147483648 and 9");
    let error = text_blocks(&call(happy).await?);
    assert_eq!(error, "argument \"s\" must be between -2147483648 and 9");
    let tools = Tools::list(&exec, &session.token).await?;
    assert_eq!(tools.input("f")?["properties"]["s"]["maximum"], 9);
    assert_eq!(tools.input("f")?["properties"]["m"]["enum"], json!(["sad", "happy"]));
    Ok(())
}
