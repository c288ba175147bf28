//! What a call is told of the request behind it, beside its arguments.

use crate::error::Error;
use crate::jsonb::Jsonb;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ffi::CStr;

/// The parameter `request` of `mcp.call_tool` and its like, all of it optional.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    /// What the messages of this call are to be known by. Without it, none are sent but those the settings let pass.
    pub(super) notices: Option<String>,
    /// Whether the client wants to know how far the call is.
    pub(super) progress: bool,
    /// The least level of log messages that the client wants: one of RFC 5424 in lower case.
    pub(super) log_level: Option<String>,
    /// The `Mcp-Param-` headers by the rest of their names, in lower case. Absent where the protocol has none.
    pub(super) headers: Option<HashMap<String, String>>,
    /// What the client can be asked for. Absent where it cannot be asked at all.
    pub(super) capabilities: Option<Map<String, Value>>,
    /// What the client answers to what it was asked for, as it came: the client's fault where it cannot be read.
    pub(super) input_responses: Option<Box<RawValue>>,
    /// What came with the question, likewise.
    pub(super) request_state: Option<Box<RawValue>>,
}

impl Request {
    pub(super) fn read(request: Option<Jsonb>) -> Result<Self, Error> {
        let Some(request) = request else { return Ok(Request::default()) };
        serde_json::from_str(&request.object("request")?.to_text())
            .map_err(|error| Error::Unreadable("request", error))
    }

    /// The setting of `client_min_messages` that lets pass what the client wants, and nothing that nobody reads.
    pub(super) fn message_level(&self) -> Option<&'static CStr> {
        self.notices.as_ref()?;
        Some(match self.log_level.as_deref() {
            Some("debug") => c"debug1",
            Some("info") => c"log",
            Some("notice") => c"notice",
            Some("warning") => c"warning",
            _ => c"error",
        })
    }
}
