//! Sessions, sign-in and identity for MCP servers, kept in PostgreSQL.
use pgrx::prelude::*;
pg_module_magic!(name = c"mcp_sessions", version = c"0.1.0");
#[pg_schema]
mod mcp {}
