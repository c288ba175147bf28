//! Client ID Metadata Documents: a client whose id is the address of a document that describes it.
//!
//! Whoever comes to the authorization endpoint chooses the address, so fetching it is what an attacker would have this
//! server do (MCP security best practices, SSRF). Only `https`, only port 443, only names, only addresses of the public
//! internet, checked by the resolver whose answer is the one connected to; no redirect, no proxy, no cookie; 5 KB and ten
//! seconds. A document that was found in order is kept as long as its headers say; what failed is never kept.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode, header};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::{
    authorization_server::{
        address,
        client_metadata::{self, Unacceptable},
    },
    body::{self, Unread},
    config::is_loopback,
    media_type,
};

/// What the specification recommends as the largest document.
const LARGEST: usize = 5 << 10;
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a document is kept that says nothing about it.
const KEEP: Duration = Duration::from_secs(300);
/// How long at most: a client that changes its redirect URIs is not made to wait longer.
const KEEP_LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How many are kept; a few megabytes at the most.
const MOST: usize = 1000;
/// How many of one host: whoever has one can publish as many as they like.
const MOST_OF_HOST: usize = 50;

/// The documents that were read, and the way to read more.
pub struct Documents {
    resolver: PublicAddresses,
    client: OnceLock<Client>,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    document: Arc<Document>,
    until: Instant,
}

/// What is used of a document.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Document {
    client_id: String,
    pub client_name: String,
    pub redirect_uris: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
    #[serde(default)]
    grant_types: Option<Vec<String>>,
    #[serde(default)]
    response_types: Option<Vec<String>>,
    #[serde(default)]
    client_secret: Option<Value>,
}

/// Why a document cannot be used. The texts are shown; none of them carries anything from the document or the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    #[error("its address must be https, with a host name and a path, and nothing but a query behind it")]
    Address,
    #[error("it cannot be fetched")]
    Unreachable,
    #[error("fetching it took longer than ten seconds")]
    Timeout,
    #[error("its address must answer with status 200 and nothing else")]
    Status,
    #[error("its Content-Type must be application/json")]
    ContentType,
    #[error("it is longer than 5 KB")]
    TooLong,
    #[error("it is not a JSON object with client_id, client_name and redirect_uris, each once")]
    Malformed,
    #[error("its client_id is not its address")]
    WrongId,
    #[error("one of its redirect_uris is not acceptable")]
    RedirectUri,
    #[error("it asks for more than a public client's authorization code grant")]
    Unsupported,
}

impl Documents {
    /// `loopback`: documents of this computer, at any port. For tests; [`crate::config`] refuses it anywhere else.
    pub fn new(loopback: bool) -> Self {
        Self::resolving(PublicAddresses { loopback, names: Arc::new(SystemNames) })
    }

    fn resolving(resolver: PublicAddresses) -> Self {
        Self { resolver, client: OnceLock::new(), kept: Mutex::default() }
    }

    /// The document at `id`, which is what makes an id this kind of id.
    pub async fn get(&self, id: &str, private_schemes: &[String]) -> Result<Arc<Document>, DocumentFault> {
        let url = self.address(id)?;
        if let Some(document) = self.kept(id) {
            return Ok(document);
        }
        let fetched =
            tokio::time::timeout(DEADLINE, self.fetch(url)).await.map_err(|_| DocumentFault::Timeout)?;
        let (document, keep) = fetched?;
        document.check(id, private_schemes)?;
        let document = Arc::new(document);
        self.keep(id, document.clone(), keep);
        Ok(document)
    }

    /// The address, if it is one that may be asked. The text has to be the one spelling of it.
    fn address(&self, id: &str) -> Result<Url, DocumentFault> {
        let url = Url::parse(id).map_err(|_| DocumentFault::Address)?;
        let local = self.resolver.loopback && is_loopback(&url);
        let named = matches!(url.host(), Some(Host::Domain(name)) if is_public_name(name));
        let fits = url.scheme() == "https"
            && url.as_str() == id
            && url.path().len() > 1
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && (local || (named && url.port().is_none()));
        if fits { Ok(url) } else { Err(DocumentFault::Address) }
    }

    async fn fetch(&self, url: Url) -> Result<(Document, Duration), DocumentFault> {
        let request = self.client()?.get(url).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(transport)?;
        if response.status() != StatusCode::OK {
            return Err(DocumentFault::Status);
        }
        if !is_json(response.headers()) {
            return Err(DocumentFault::ContentType);
        }
        let keep = freshness(response.headers());
        let body = body::answer(&mut response, LARGEST).await.map_err(|unread| match unread {
            Unread::TooLong => DocumentFault::TooLong,
            Unread::Broken(error) => transport(error),
        })?;
        let Strict(object) = serde_json::from_slice(&body).map_err(|_| DocumentFault::Malformed)?;
        let document = serde_json::from_value(Value::Object(object)).map_err(|_| DocumentFault::Malformed)?;
        Ok((document, keep))
    }

    /// Made at the first document: loading the system's certificates takes longer than starting.
    fn client(&self) -> Result<&Client, DocumentFault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(self.resolver.clone()))
            // A connection is not kept: each document's address is resolved and checked anew.
            .pool_max_idle_per_host(0)
            .timeout(DEADLINE)
            .user_agent(concat!("mcp-frontend/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| DocumentFault::Unreachable)?;
        Ok(self.client.get_or_init(|| client))
    }

    fn kept(&self, id: &str) -> Option<Arc<Document>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(id).filter(|kept| Instant::now() < kept.until).map(|kept| kept.document.clone())
    }

    fn keep(&self, id: &str, document: Arc<Document>, keep: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(id);
        if keep.is_zero() {
            return;
        }
        if kept.keys().filter(|other| host(other) == host(id)).count() >= MOST_OF_HOST {
            drop_soonest(&mut kept, |other| host(other) == host(id));
        }
        if kept.len() >= MOST {
            drop_soonest(&mut kept, |_| true);
        }
        kept.insert(id.to_owned(), Kept { document, until: Instant::now() + keep });
    }
}

/// Drops the entry, of those whose id is meant, that would go first by itself.
fn drop_soonest(kept: &mut HashMap<String, Kept>, meant: impl Fn(&str) -> bool) {
    let of_meant = kept.iter().filter(|(id, _)| meant(id));
    if let Some(id) = of_meant.min_by_key(|(_, kept)| kept.until).map(|(id, _)| id.clone()) {
        kept.remove(&id);
    }
}

/// Whether a host of a URL is written as names in the public DNS are: labels of letters, digits and hyphens, more than one
/// of them (RFC 1123 §2.1). URLs allow more, and what a resolver makes of that is its own affair.
fn is_public_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

/// The host of an id, which is a URL in its one spelling.
fn host(id: &str) -> Option<&str> {
    id.split('/').nth(2)
}

impl Document {
    fn check(&self, id: &str, private_schemes: &[String]) -> Result<(), DocumentFault> {
        if self.client_id != id {
            return Err(DocumentFault::WrongId);
        }
        let public = self.token_endpoint_auth_method.as_deref().is_none_or(|method| method == "none")
            && self.client_secret.is_none();
        if !public {
            return Err(DocumentFault::Unsupported);
        }
        let (grants, responses) = (self.grant_types.as_deref(), self.response_types.as_deref());
        client_metadata::check(grants, responses, &self.redirect_uris, private_schemes).map_err(
            |unacceptable| match unacceptable {
                Unacceptable::Grants | Unacceptable::Responses => DocumentFault::Unsupported,
                Unacceptable::Number | Unacceptable::RedirectUri | Unacceptable::PrivateScheme => {
                    DocumentFault::RedirectUri
                }
            },
        )?;
        if self.client_name.trim().is_empty() { Err(DocumentFault::Malformed) } else { Ok(()) }
    }
}

/// Resolves a name, and gives its addresses only when every one of them is the public internet's. What it gives is what
/// is connected to, so nothing can change between the check and the use.
#[derive(Clone)]
struct PublicAddresses {
    loopback: bool,
    names: Arc<dyn Resolve>,
}

impl PublicAddresses {
    fn permits(&self, address: IpAddr) -> bool {
        address::is_public(address) || (self.loopback && address.is_loopback())
    }
}

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = this.names.resolve(name).await?.collect();
            if found.is_empty() || !found.iter().all(|address| this.permits(address.ip())) {
                return Err("the name leads to an address that may not be asked".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What the operating system says of a name.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn transport(error: reqwest::Error) -> DocumentFault {
    let fault = if error.is_timeout() { DocumentFault::Timeout } else { DocumentFault::Unreachable };
    tracing::debug!(error = %error.without_url(), "a client metadata document cannot be fetched");
    fault
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type::of(headers).is_some_and(|essence| {
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

/// How long the answer may be kept by a cache that serves everybody (RFC 9111 §4.2, §5.2.2).
fn freshness(headers: &HeaderMap) -> Duration {
    let seconds = |text: &str| text.trim_matches('"').parse::<u64>().ok().map(Duration::from_secs);
    let age =
        headers.get(header::AGE).and_then(|value| value.to_str().ok()).and_then(seconds).unwrap_or_default();
    let (mut max_age, mut shared) = (None, None);
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in directives.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" | "private" => return Duration::ZERO,
            "max-age" => max_age = Some(seconds(value).unwrap_or_default()),
            "s-maxage" => shared = Some(seconds(value).unwrap_or_default()),
            _ => {}
        }
    }
    shared.or(max_age).unwrap_or(KEEP).saturating_sub(age).min(KEEP_LONGEST)
}

/// A JSON object none of whose members is named twice: two readers could take it for two different documents.
struct Strict(Map<String, Value>);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Strict;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is repeated"));
                    }
                }
                Ok(Strict(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    const ID: &str = "https://app.example.com/client.json";

    #[test]
    fn checklist_15_only_public_names_are_asked() {
        let documents = Documents::new(false);
        // As long as a name may be, and by a character more.
        let [longest, too_long] = [61, 62].map(|last| {
            let labels = [63, 63, 63, last].map(|length| "a".repeat(length));
            format!("https://{}/a", labels.join("."))
        });
        for id in [ID, "https://app.example.com/a?b=c", "https://xn--bcher-kva.example/a", &longest] {
            assert!(documents.address(id).is_ok(), "{id}");
        }
        for id in [
            "http://app.example.com/client.json",
            "https://app.example.com",
            "https://app.example.com/",
            "https://app.example.com/a#b",
            "https://user@app.example.com/a",
            "https://:password@app.example.com/a",
            "https://app.example.com:8443/a",
            "https://app.example.com:443/a",
            "https://APP.example.com/a",
            "https://app.example.com/a/../b",
            "https://app.example.com./a",
            "https://.example.com/a",
            "https://.!/a",
            "https://app..example.com/a",
            "https://app_1.example.com/a",
            "https://-app.example.com/a",
            "https://app-.example.com/a",
            "https://app.example.com!/a",
            "https://intranet/a",
            "https://localhost/a",
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "https://[::ffff:7f00:1]/a",
            "https://0x7f.1/a",
            "https://2130706433/a",
            "https://169.254.169.254/latest/meta-data",
            "https://8.8.8.8/a",
            "file:///etc/passwd",
            "ftp://app.example.com/a",
            "https:app.example.com/a",
            &format!("https://{}.example.com/a", "a".repeat(64)),
            &format!("https://{}example.com/a", "a.".repeat(130)),
            &too_long,
        ] {
            assert_eq!(documents.address(id), Err(DocumentFault::Address), "{id}");
        }
        assert!(Documents::new(true).address("https://127.0.0.1:4433/client.json").is_ok());
        assert!(Documents::new(true).address("http://127.0.0.1:4433/client.json").is_err());
        assert!(Documents::new(true).address("https://10.0.0.1/client.json").is_err());
    }

    /// Names that lead where a test wants, one answer after the other; and how often they were asked for.
    #[derive(Default)]
    struct Script {
        answers: Mutex<Vec<Vec<SocketAddr>>>,
        asked: AtomicUsize,
    }

    impl Resolve for Script {
        fn resolve(&self, _: Name) -> Resolving {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut answers = self.answers.lock().unwrap();
            let found = if answers.is_empty() { Vec::new() } else { answers.remove(0) };
            Box::pin(async { Ok(Box::new(found.into_iter()) as Addrs) })
        }
    }

    /// Documents whose names lead to these addresses. A port that a resolver gives is the one connected to, so that a
    /// listener of a test can stand in for port 443.
    fn leading_to(loopback: bool, answers: &[&[SocketAddr]]) -> (Documents, Arc<Script>) {
        let answers = Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect());
        let names = Arc::new(Script { answers, ..Script::default() });
        (Documents::resolving(PublicAddresses { loopback, names: names.clone() }), names)
    }

    /// A listener, and the address it listens on.
    fn listener() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Whether anybody has connected: the kernel takes connections before they are accepted.
    fn was_reached(listener: &std::net::TcpListener) -> bool {
        listener.accept().is_ok()
    }

    #[tokio::test]
    async fn checklist_15_a_name_that_leads_inside_is_not_connected_to() {
        let (listener, inside) = listener();
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), inside.port());
        let outside: SocketAddr = "93.184.215.14:443".parse().unwrap();
        let answers: [&[SocketAddr]; 5] = [&[inside], &[mapped], &[outside, inside], &[inside, outside], &[]];
        for answer in answers {
            let (documents, names) = leading_to(false, &[answer]);
            assert_eq!(documents.get(ID, &[]).await.err(), Some(DocumentFault::Unreachable), "{answer:?}");
            assert_eq!(names.asked.load(Ordering::SeqCst), 1);
            assert!(!was_reached(&listener), "{answer:?} was connected to");
        }
        // Where it is permitted, the same name does lead to the listener: the silence above is the check's doing.
        let (documents, _) = leading_to(true, &[&[inside]]);
        let listener = TcpListener::from_std(listener).unwrap();
        let (connection, fetched) =
            tokio::join!(async { listener.accept().await.map(drop) }, documents.get(ID, &[]));
        assert!(connection.is_ok() && fetched.is_err());
    }

    #[tokio::test]
    async fn checklist_15_no_address_inside_is_given_to_connect_to() {
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.168.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
            "64:ff9b::a00:1",
        ] {
            let (documents, _) = leading_to(false, &[&[SocketAddr::new(address.parse().unwrap(), 0)]]);
            let given = documents.resolver.resolve("app.example.com".parse().unwrap()).await;
            assert!(given.is_err(), "{address}");
        }
        let public: SocketAddr = "93.184.215.14:443".parse().unwrap();
        let (documents, _) = leading_to(false, &[&[public]]);
        let given = documents.resolver.resolve("app.example.com".parse().unwrap()).await.unwrap();
        assert_eq!(given.collect::<Vec<_>>(), [public], "any other address is");
        let (documents, _) = leading_to(true, &[&["10.0.0.1:0".parse().unwrap()]]);
        assert!(documents.resolver.resolve("app.example.com".parse().unwrap()).await.is_err());
        // And the system's own idea of names is held to the same.
        let system = |loopback| Documents::new(loopback).resolver.resolve("localhost".parse().unwrap());
        assert!(system(false).await.is_err());
        assert!(system(true).await.is_ok());
    }

    /// A name that leads elsewhere when it is asked for a second time is not asked for a second time: the address that
    /// was checked is the one connected to.
    #[tokio::test]
    async fn checklist_15_a_name_cannot_change_between_check_and_connect() {
        let ((checked, first), (later, second)) = (listener(), listener());
        let (documents, names) = leading_to(true, &[&[first], &[second]]);
        let checked = TcpListener::from_std(checked).unwrap();
        let (connection, fetched) =
            tokio::join!(async { checked.accept().await.map(drop) }, documents.get(ID, &[]));
        assert!(connection.is_ok() && fetched.is_err());
        assert_eq!(names.asked.load(Ordering::SeqCst), 1);
        assert!(!was_reached(&later));
    }

    #[test]
    fn checklist_38_what_a_document_must_say() {
        let check = |change: Value| {
            let mut document = json!({
                "client_id": ID, "client_name": "App", "redirect_uris": ["http://localhost/cb", "https://app.example.com/cb"],
                "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"], "logo_uri": "javascript:alert(1)",
            });
            for (name, value) in change.as_object().unwrap() {
                document[name] = value.clone();
            }
            serde_json::from_value::<Document>(document)
                .map_err(|_| DocumentFault::Malformed)
                .and_then(|document| document.check(ID, &["cursor".to_owned()]))
        };
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"redirect_uris": ["cursor://x/cb"]})), Ok(()));
        assert_eq!(check(json!({"redirect_uris": vec!["https://a.example/"; 32]})), Ok(()));
        for (change, fault) in [
            (json!({"client_id": "https://app.example.com/other.json"}), DocumentFault::WrongId),
            (json!({"client_id": "https://APP.example.com/client.json"}), DocumentFault::WrongId),
            (json!({"client_name": " "}), DocumentFault::Malformed),
            (json!({"client_name": null}), DocumentFault::Malformed),
            (json!({"redirect_uris": "https://app.example.com/cb"}), DocumentFault::Malformed),
            (json!({"redirect_uris": []}), DocumentFault::RedirectUri),
            (json!({"redirect_uris": ["http://app.example.com/cb"]}), DocumentFault::RedirectUri),
            (
                json!({"redirect_uris": ["https://app.example.com/cb", "javascript:x"]}),
                DocumentFault::RedirectUri,
            ),
            (json!({"redirect_uris": ["unknown-app:/cb"]}), DocumentFault::RedirectUri),
            (json!({"redirect_uris": vec!["https://a.example/"; 33]}), DocumentFault::RedirectUri),
            (json!({"token_endpoint_auth_method": "client_secret_basic"}), DocumentFault::Unsupported),
            (json!({"client_secret": "x"}), DocumentFault::Unsupported),
            (json!({"grant_types": ["client_credentials"]}), DocumentFault::Unsupported),
            (json!({"response_types": ["token"]}), DocumentFault::Unsupported),
        ] {
            assert_eq!(check(change.clone()), Err(fault), "{change}");
        }
    }

    #[test]
    fn checklist_38_a_document_is_json_of_an_application() {
        for (media_type, json) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/client-metadata+json", true),
            ("application/xml", false),
            ("application/octet-stream", false),
            ("application/jsonp", false),
            ("text/json", false),
            ("image/x+json", false),
        ] {
            let headers = [(header::CONTENT_TYPE, media_type.parse().unwrap())].into_iter().collect();
            assert_eq!(is_json(&headers), json, "{media_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn checklist_38_no_member_may_be_repeated() {
        assert!(serde_json::from_str::<Strict>(r#"{"a": 1, "b": {"a": 2}}"#).is_ok());
        for bad in [r#"{"a": 1, "a": 1}"#, r#"{"a": 1, "\u0061": 1}"#, "[]", "1", "", r#"{"a": 1} x"#] {
            assert!(serde_json::from_str::<Strict>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn checklist_38_headers_say_how_long_a_document_is_kept() {
        let keep = |pairs: &[(&'static str, &'static str)]| {
            freshness(
                &pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            )
            .as_secs()
        };
        assert_eq!(keep(&[]), 300);
        assert_eq!(keep(&[("cache-control", "max-age=60")]), 60);
        assert_eq!(keep(&[("cache-control", "public, MAX-AGE=60"), ("age", "20")]), 40);
        assert_eq!(keep(&[("cache-control", "max-age=60"), ("age", "70")]), 0);
        assert_eq!(keep(&[("cache-control", "s-maxage=10, max-age=60")]), 10);
        assert_eq!(keep(&[("cache-control", "max-age=31536000")]), 24 * 3600);
        assert_eq!(keep(&[("cache-control", "max-age=soon")]), 0);
        assert_eq!(keep(&[("cache-control", "max-age=60, no-store")]), 0);
        assert_eq!(keep(&[("cache-control", "private")]), 0);
    }

    #[test]
    fn checklist_38_what_is_kept_is_bounded() {
        let documents = Documents::new(false);
        let document = Arc::new(Document {
            client_id: ID.into(),
            client_name: "App".into(),
            redirect_uris: Vec::new(),
            token_endpoint_auth_method: None,
            grant_types: None,
            response_types: None,
            client_secret: None,
        });
        let id = |host: usize, number: usize| format!("https://{host}.example.com/{number}.json");
        let number = || documents.kept.lock().unwrap().len();
        documents.keep(&id(0, 0), document.clone(), KEEP);
        // A host that publishes many for long pushes its own out.
        for number in 0..2 * MOST {
            documents.keep(&id(1, number), document.clone(), KEEP_LONGEST);
        }
        assert_eq!(number(), 1 + MOST_OF_HOST);
        assert!(documents.kept(&id(0, 0)).is_some());
        assert!(documents.kept(&id(1, 0)).is_none() && documents.kept(&id(1, 2 * MOST - 1)).is_some());
        // Where many hosts do, the next one still finds room.
        for host in 2..2 * MOST {
            documents.keep(&id(host, 0), document.clone(), KEEP_LONGEST);
        }
        assert_eq!(number(), MOST);
        documents.keep(&id(0, 1), document.clone(), KEEP);
        assert!(documents.kept(&id(0, 1)).is_some());
        documents.keep(&id(0, 1), document, Duration::ZERO);
        assert!(documents.kept(&id(0, 1)).is_none());
    }
}

#[cfg(test)]
mod property {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::authorization_server::redirect::RedirectUri;

    const ID: &str = "https://app.example.com/client.json";

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("client_id".to_owned()),
            Just("client_name".to_owned()),
            Just("redirect_uris".to_owned()),
            "[a-c]{1,2}",
            any::<String>(),
        ]
    }

    /// Any JSON that has the one or the other thing right.
    fn member() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!(ID)),
            Just(json!("none")),
            Just(json!("code")),
            Just(json!("http://localhost/cb")),
            Just(json!("javascript:alert(1)")),
        ];
        leaf.prop_recursive(2, 12, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Value::from))
    }

    proptest! {
        /// A name that stands twice, however it is written, makes two documents of one.
        #[test]
        fn names_are_read_once(members in prop::collection::vec((name(), 0..9_u8, any::<bool>()), 0..6)) {
            let write = |name: &str, escaped: bool| {
                if escaped {
                    name.encode_utf16().fold(String::new(), |text, unit| text + &format!("\\u{unit:04x}"))
                } else {
                    let quoted = serde_json::to_string(name).unwrap();
                    quoted[1..quoted.len() - 1].to_owned()
                }
            };
            let text: Vec<_> =
                members.iter().map(|(name, value, escaped)| format!("\"{}\": {value}", write(name, *escaped))).collect();
            let read = serde_json::from_str::<Strict>(&format!("{{{}}}", text.join(", ")));
            let names: HashSet<&str> = members.iter().map(|(name, ..)| name.as_str()).collect();
            prop_assert_eq!(read.is_ok(), names.len() == members.len());
        }

        #[test]
        fn what_passes_is_the_clients_own_and_leads_where_it_may(
            members in prop::collection::vec(
                (
                    prop::sample::select(&["client_id", "client_name", "redirect_uris", "token_endpoint_auth_method",
                        "grant_types", "response_types", "client_secret"][..]),
                    member(),
                ),
                0..3,
            ),
        ) {
            let mut document =
                json!({"client_id": ID, "client_name": "App", "redirect_uris": ["https://app.example.com/cb"]});
            for (name, value) in members {
                document[name] = value;
            }
            let Ok(read) = serde_json::from_value::<Document>(document.clone()) else { return Ok(()) };
            if read.check(ID, &[]).is_ok() {
                prop_assert_eq!(&document["client_id"], ID);
                prop_assert!(document.get("client_secret").is_none_or(Value::is_null));
                prop_assert!((1..=32).contains(&read.redirect_uris.len()));
                for uri in &read.redirect_uris {
                    let uri = RedirectUri::parse(uri).unwrap();
                    prop_assert!(uri.private_scheme().is_none(), "{}", uri.text());
                }
            }
        }

        /// However a host is spelt: what is asked has a name with a dot in it, which the resolver is asked for.
        #[test]
        fn only_names_are_asked(
            host in prop_oneof![
                "[0-9a-fx.]{1,16}", "[a-z0-9%.@:\\[\\]-]{1,20}", "([0-9]{1,3}\\.){3}[0-9]{1,3}", "[!-~]{1,12}",
                "[a-z]{1,6}\\.[a-z]{2,3}",
            ],
            path in "/[!-~]{0,12}",
        ) {
            if let Ok(url) = Documents::new(false).address(&format!("https://{host}{path}")) {
                let name = url.host_str().unwrap();
                prop_assert!(name.parse::<IpAddr>().is_err() && name.contains('.'), "{}", url);
                let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
                prop_assert!(name.bytes().all(is_letter), "{}", url);
                // Not an address in one of the ways of inet_aton either: the last label of a name has a letter.
                let last = name.rsplit('.').next().unwrap();
                let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                prop_assert!(last.bytes().any(|byte| byte.is_ascii_alphabetic()) && !hexadecimal, "{}", url);
                prop_assert_eq!(url.port_or_known_default(), Some(443));
            }
        }

        #[test]
        fn no_headers_are_too_odd(cache in "[ -~]{0,40}", age in "[ -~]{0,24}") {
            let headers = [(header::CACHE_CONTROL, &cache), (header::AGE, &age)];
            let headers = headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
            prop_assert!(freshness(&headers) <= KEEP_LONGEST);
        }
    }
}
