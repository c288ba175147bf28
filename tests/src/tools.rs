//! Tools as they are listed, and a validator for their schemas.

use anyhow::{Context, Result, anyhow};
use jsonschema::Validator;
use serde_json::Value;
use tokio_postgres::Client;

/// What `tools/list` says.
#[derive(Debug)]
pub struct Tools(Vec<Value>);

impl Tools {
    /// What `mcp.list_tools` says.
    pub async fn list(exec: &Client, token: &str) -> Result<Self> {
        let rows = exec.query("SELECT * FROM mcp.list_tools($1)", &[&token]).await?;
        Ok(Self(rows.iter().map(|row| row.get(0)).collect()))
    }

    /// These tools.
    pub fn of(tools: Vec<Value>) -> Self {
        Self(tools)
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Result<&Value> {
        self.0.iter().find(|tool| tool["name"] == name).with_context(|| format!("no tool {name} is listed"))
    }

    /// Its input schema.
    pub fn input(&self, name: &str) -> Result<&Value> {
        Ok(&self.tool(name)?["inputSchema"])
    }

    /// Its output schema.
    pub fn output(&self, name: &str) -> Result<&Value> {
        self.tool(name)?.get("outputSchema").with_context(|| format!("tool {name} has no output schema"))
    }
}

/// A validator for a schema that must be valid JSON Schema 2020-12, with formats held to.
pub fn validator(schema: &Value) -> Result<Validator> {
    jsonschema::draft202012::meta::validate(schema)
        .map_err(|error| anyhow!("no valid schema: {error}: {schema}"))?;
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| anyhow!("no usable schema: {error}: {schema}"))
}
