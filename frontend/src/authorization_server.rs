//! The frontend as OAuth's authorization server for MCP clients.

pub mod metadata;
