//! rmcp's handler: the handshakes, the lists and the subscriptions.

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use http::request::Parts;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, DiscoverResult, Implementation, InitializeRequestParams, InitializeResult,
        ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, MetaObject,
        PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, SubscriptionFilter,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use tokio_util::sync::CancellationToken;

use crate::{
    changes::{List, Subscriber},
    error::Fault,
    mcp::{
        era::{self, Era, LEGACY, MODERN},
        result,
    },
    sessions::{Listing, Sessions, Verdict},
    token::SessionToken,
};

/// Entries of a list in one answer: about what a model's context stands.
const PAGE_SIZE: i32 = 100;
/// How often an open subscription's session is looked at: that long, a session that was ended may still hear that lists
/// have changed, and nothing else.
const RECHECK: Duration = Duration::from_secs(15);

/// What travels with a request through rmcp, beside what rmcp reads itself.
#[derive(Clone)]
pub struct Caller {
    pub token: SessionToken,
    pub era: Era,
    /// What the part of a list comes after that is asked for.
    after: Option<String>,
    /// What a subscription hears of, until it is taken.
    subscriber: Arc<Mutex<Option<Subscriber>>>,
    /// Where the handler leaves a fault that is no JSON-RPC error but an answer of HTTP: 401, 403, 503.
    pub fault: Arc<OnceLock<Fault>>,
}

impl Caller {
    pub fn new(token: SessionToken, era: Era) -> Self {
        Self { token, era, after: None, subscriber: Arc::default(), fault: Arc::default() }
    }

    /// The same, whose request is for a part of a list.
    pub fn listing_after(self, after: Option<String>) -> Self {
        Self { after, ..self }
    }

    /// The same, whose request is a subscription.
    pub fn subscribing(self, subscriber: Subscriber) -> Self {
        Self { subscriber: Arc::new(Mutex::new(Some(subscriber))), ..self }
    }

    fn take_subscriber(&self) -> Option<Subscriber> {
        self.subscriber.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The MCP server: stateless, one instance for all requests.
#[derive(Clone)]
pub struct Handler {
    sessions: Arc<Sessions>,
    drain: CancellationToken,
}

impl Handler {
    /// `drain` ends subscriptions, with a last word to their clients.
    pub fn new(sessions: Arc<Sessions>, drain: CancellationToken) -> Self {
        Self { sessions, drain }
    }

    /// A part of a list, its entries as rmcp has them, and the cursor of the next part.
    async fn page<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        listing: Listing,
    ) -> Result<(Vec<T>, Option<String>), Fault> {
        let page = self.sessions.list(&caller.token, listing, caller.after.as_deref(), PAGE_SIZE).await?;
        let page = held(page)?;
        // One that rmcp cannot read hides no other.
        let read = |entry: &RawValue| match serde_json::from_str(entry.get()) {
            Ok(entry) => Some(entry),
            Err(error) => {
                let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
                let name = ["uri", "uriTemplate", "name"].iter().find_map(|key| entry.get(key));
                tracing::warn!(%error, name = name.map(tracing::field::display), "left out of a list: {listing:?}");
                None
            }
        };
        Ok((
            page.entries.iter().filter_map(|entry| read(entry)).collect(),
            page.next.as_deref().map(era::cursor),
        ))
    }

    /// Waits until a session has ended.
    async fn end_of_session(&self, token: &SessionToken) {
        loop {
            tokio::time::sleep(RECHECK).await;
            // A database that is away for a while ends nothing.
            if let Ok(Err(_)) = self.sessions.lookup(token).await {
                return;
            }
        }
    }

    /// Tells a subscriber of changes until it goes, its session ends, or the server stops.
    async fn tell_of_changes(&self, caller: &Caller, subscription: &SubscriptionContext) {
        let Some(mut changes) = caller.take_subscriber() else { return };
        let ended = self.end_of_session(&caller.token);
        tokio::pin!(ended);
        loop {
            let list = tokio::select! {
                list = changes.next() => list,
                () = &mut ended => return,
                () = subscription.cancelled() => return,
                () = self.drain.cancelled() => return,
            };
            let (sink, accepted) = (subscription.sink(), subscription.accepted());
            let told = match list {
                List::Tools if accepted.tools_list_changed == Some(true) => {
                    sink.notify_tool_list_changed().await
                }
                List::Prompts if accepted.prompts_list_changed == Some(true) => {
                    sink.notify_prompt_list_changed().await
                }
                List::Resources if accepted.resources_list_changed == Some(true) => {
                    sink.notify_resource_list_changed().await
                }
                _ => Ok(()),
            };
            if told.is_err() {
                return;
            }
        }
    }
}

/// The hints of a part of a list: it depends on who asks.
macro_rules! private {
    ($caller:expr, $result:ident) => {
        if $caller.era == Era::Modern {
            $result.cache_scope = Some(CacheScope::Private);
            $result.ttl_ms = Some(0);
            $result.meta = Some(server_meta());
        }
    };
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_completions()
            .build();
        set_logging(&mut capabilities);
        ServerConfig::new(capabilities).with_server_info(implementation())
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

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        // These revisions hear of changes on a GET stream, which there is none of.
        let capabilities = &mut result.capabilities;
        if let Some(tools) = &mut capabilities.tools {
            tools.list_changed = None;
        }
        if let Some(resources) = &mut capabilities.resources {
            resources.list_changed = None;
        }
        if let Some(prompts) = &mut capabilities.prompts {
            prompts.list_changed = None;
        }
        Ok(result)
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
        let (entries, next) = guard(&caller, &context, self.page(&caller, Listing::Tools)).await?;
        let mut result = ListToolsResult::with_all_items(entries);
        result.next_cursor = next;
        private!(caller, result);
        Ok(result)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let caller = caller(&context)?;
        let (entries, next) = guard(&caller, &context, self.page(&caller, Listing::Resources)).await?;
        let mut result = ListResourcesResult::with_all_items(entries);
        result.next_cursor = next;
        private!(caller, result);
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let caller = caller(&context)?;
        let (entries, next) =
            guard(&caller, &context, self.page(&caller, Listing::ResourceTemplates)).await?;
        let mut result = ListResourceTemplatesResult::with_all_items(entries);
        result.next_cursor = next;
        private!(caller, result);
        Ok(result)
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let caller = caller(&context)?;
        let (entries, next) = guard(&caller, &context, self.page(&caller, Listing::Prompts)).await?;
        let mut result = ListPromptsResult::with_all_items(entries);
        result.next_cursor = next;
        private!(caller, result);
        Ok(result)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // rmcp leaves of it what the capabilities name.
        Some(requested.clone())
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = caller(subscription.request_context())?;
        self.tell_of_changes(&caller, &subscription).await;
        Ok(())
    }
}

/// Log messages go to whoever asks for them in a request.
fn set_logging(capabilities: &mut ServerCapabilities) {
    #[allow(deprecated, reason = "deprecated in the protocol, and part of every revision of it")]
    {
        capabilities.logging = Some(Default::default());
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

fn implementation() -> Implementation {
    Implementation::new(result::NAME, result::VERSION)
}

/// `serverInfo` goes with every result of the revisions that have no `initialize` to say it in.
fn server_meta() -> MetaObject {
    MetaObject(result::server_meta())
}
