//! rmcp's handler: each request of a tool is one call of the extension.

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures_util::FutureExt;
use http::request::Parts;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, DiscoverResult, Implementation,
        ListToolsResult, MetaObject, PaginatedRequestParams, ProtocolVersion, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::RequestContext,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    error::Fault,
    mcp::{
        era::{Era, LEGACY, MODERN},
        result,
    },
    sessions::{Sessions, ToolAnswer, Verdict},
    token::SessionToken,
};

/// What travels with a request through rmcp, beside what rmcp reads itself.
#[derive(Clone)]
pub struct Caller {
    pub token: SessionToken,
    pub era: Era,
    /// The arguments as they came; rmcp's own copy has none, so that large ones are not built twice.
    pub arguments: Arc<RawValue>,
    /// Where the handler leaves a fault that is no JSON-RPC error but an answer of HTTP: 401, 403, 503.
    pub fault: Arc<OnceLock<Fault>>,
}

/// The MCP server: stateless, one instance for all requests.
#[derive(Clone)]
pub struct Handler {
    sessions: Arc<Sessions>,
}

impl Handler {
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }

    async fn tools(&self, caller: &Caller) -> Result<ListToolsResult, Fault> {
        let tools = held(self.sessions.list_tools(&caller.token).await?)?;
        let tools = tools
            .iter()
            .map(|tool| serde_json::from_str::<Tool>(tool.get()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Fault::internal)?;
        let mut result = ListToolsResult::with_all_items(tools);
        if caller.era == Era::Modern {
            // Which tools there are, and what they say, depends on who asks.
            result.cache_scope = Some(CacheScope::Private);
            result.ttl_ms = Some(0);
            result.meta = Some(MetaObject(result::server_meta()));
        }
        Ok(result)
    }

    async fn call(&self, caller: &Caller, name: &str) -> Result<Result<CallToolResult, ErrorData>, Fault> {
        match held(self.sessions.call_tool(&caller.token, name, caller.arguments.get()).await?)? {
            ToolAnswer::UnknownTool => {
                Ok(Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None)))
            }
            ToolAnswer::UnusableArguments(why) => typed(&result::unusable(&why, caller.era)).map(Ok),
            ToolAnswer::Result(result) => {
                typed(&result::shape(&result, caller.era).map_err(Fault::internal)?).map(Ok)
            }
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(result::NAME, result::VERSION))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        const VERSIONS: &[ProtocolVersion] = &[
            ProtocolVersion::V_2025_03_26,
            ProtocolVersion::V_2025_06_18,
            ProtocolVersion::V_2025_11_25,
            ProtocolVersion::V_2026_07_28,
        ];
        debug_assert_eq!(VERSIONS.len(), MODERN.len() + LEGACY.len());
        Cow::Borrowed(VERSIONS)
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        // Only the revisions that this request could have been sent in; the others begin with `initialize`.
        let modern = self
            .supported_protocol_versions()
            .iter()
            .filter(|version| MODERN.contains(&version.as_str()))
            .cloned()
            .collect();
        Ok(DiscoverResult::from_server_info(modern, self.get_info()))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = caller(&context)?;
        guard(&caller, &context, self.tools(&caller)).await
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = caller(&context)?;
        guard(&caller, &context, self.call(&caller, &request.name)).await?.map(CallToolResponse::from)
    }
}

/// Runs one operation: a panic becomes a fault, a fault becomes the answer, and in the modern era a client
/// that closes its connection cancels the query (dropping it does). In the others it does not.
async fn guard<T>(
    caller: &Caller,
    context: &RequestContext<RoleServer>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, ErrorData> {
    let gone = async {
        match caller.era {
            Era::Modern => context.ct.cancelled().await,
            Era::Legacy => std::future::pending().await,
        }
    };
    let fault = tokio::select! {
        done = AssertUnwindSafe(work).catch_unwind() => match done {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::internal("the handler panicked"),
        },
        () = gone => Fault::deadline(),
    };
    let answer = ErrorData::internal_error(fault.public.clone(), None);
    // It is empty: a request is handled once.
    let _ = caller.fault.set(fault);
    Err(answer)
}

fn held<T>(verdict: Verdict<T>) -> Result<T, Fault> {
    verdict.map_err(Fault::from)
}

fn caller(context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    parts
        .and_then(|parts| parts.extensions.get::<Caller>())
        .cloned()
        .ok_or_else(|| ErrorData::internal_error("the request lost its caller", None))
}

/// A result as rmcp models it.
fn typed(result: &impl Serialize) -> Result<CallToolResult, Fault> {
    serde_json::to_value(result).and_then(serde_json::from_value).map_err(Fault::internal)
}
