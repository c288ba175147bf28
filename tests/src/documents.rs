//! A web server on loopback that publishes client metadata documents, well or badly, and counts who comes.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::frontend::Settings;
use crate::idp::stub::{Answer, Fault, Hangup, answer, misbehave};

const NO_PANIC: &str = "no panic under this lock";

/// What is found at an address.
#[derive(Debug, Clone)]
pub enum Page {
    /// A document, with these headers.
    Document(Value, Vec<(&'static str, String)>),
    /// What no document is.
    Fault(Fault),
}

#[derive(Debug, Default)]
struct State {
    pages: Mutex<HashMap<String, Page>>,
    requests: Mutex<Vec<(String, HeaderMap)>>,
    connections: AtomicUsize,
}

/// A running server, with a certificate authority of its own.
#[derive(Debug)]
pub struct DocumentServer {
    port: u16,
    directory: TempDir,
    state: Arc<State>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl DocumentServer {
    /// Starts it on a port of its own, on 127.0.0.1 and, where there is one, on `[::1]`.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mcp-documents-").tempdir()?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&directory)?));
        let state = Arc::new(State::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut tasks = vec![tokio::spawn(serve(listener, acceptor.clone(), state.clone()))];
        if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            tasks.push(tokio::spawn(serve(listener, acceptor, state.clone())));
        }
        Ok(Self { port, directory, state, tasks })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// The document that belongs at `path`, of a client with these redirect URIs.
    pub fn document(&self, path: &str, redirect_uris: &[&str]) -> Value {
        json!({
            "client_id": self.url(path),
            "client_name": "Client with a document",
            "redirect_uris": redirect_uris,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        })
    }

    /// Lets `page` be found at `path` from now on.
    pub fn publish(&self, path: &str, page: Page) {
        self.state.pages.lock().expect(NO_PANIC).insert(path.to_owned(), page);
    }

    /// Publishes a document in order at `path`, and says its address.
    pub fn publish_client(&self, path: &str, redirect_uris: &[&str]) -> String {
        self.publish(path, Page::Document(self.document(path, redirect_uris), Vec::new()));
        self.url(path)
    }

    /// Connections that reached it so far, whatever became of them.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How often `path` was asked for so far.
    pub fn requests(&self, path: &str) -> usize {
        self.state.requests.lock().expect(NO_PANIC).iter().filter(|(asked, _)| asked == path).count()
    }

    /// The headers of the last request.
    pub fn last_headers(&self) -> HeaderMap {
        let requests = self.state.requests.lock().expect(NO_PANIC);
        requests.last().map(|(_, headers)| headers.clone()).unwrap_or_default()
    }

    /// Lets a frontend read documents on loopback, and believe this server's certificate.
    pub fn trusted_by(&self, settings: Settings) -> Settings {
        settings
            .set("MCP_CIMD_ALLOW_LOOPBACK", "test")
            .set("SSL_CERT_FILE", &self.authority().display().to_string())
    }

    fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }
}

impl Drop for DocumentServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A certificate for loopback, by an authority whose own certificate is left in `directory`.
fn server_config(directory: &TempDir) -> Result<ServerConfig> {
    let mut authority = CertificateParams::new([])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    std::fs::write(directory.path().join("authority.pem"), authority.pem())?;
    let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok(ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            // An error here is a client that went away, or does not believe the certificate.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| respond(state.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Hangup> {
    let path = request.uri().path().to_owned();
    let page = state.pages.lock().expect(NO_PANIC).get(&path).cloned();
    state.requests.lock().expect(NO_PANIC).push((path, request.headers().clone()));
    match page {
        None => Ok(answer(404, "text/plain", "There is no such page.".to_owned())),
        Some(Page::Fault(fault)) => misbehave(fault).await,
        Some(Page::Document(document, headers)) => {
            let mut page = answer(200, "application/json", document.to_string());
            for (name, value) in headers {
                page.headers_mut().insert(name, value.parse().expect("a valid header value"));
            }
            Ok(page)
        }
    }
}
