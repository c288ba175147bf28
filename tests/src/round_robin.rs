//! A proxy in front of several replicas: each request goes to the next one, over a connection of its own, and what
//! breaks on the way is noted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The header by which a client names its call.
const CALL: &str = "x-call";

/// A request that reached a replica and has not come back whole.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What the client calls it.
    pub call: String,
    /// Which of the replicas it was on.
    pub replica: usize,
    /// When it reached the replica.
    pub begun: Instant,
    /// When the connection to the replica broke.
    pub broken: Instant,
}

/// What passed through.
#[derive(Debug, Default)]
struct Log {
    served: Vec<usize>,
    unserved: Vec<String>,
    broken: Vec<Broken>,
}

/// A running proxy, ended when dropped.
#[derive(Debug)]
pub struct RoundRobin {
    log: Arc<Mutex<Log>>,
    task: AbortHandle,
}

type Answer = BoxBody<Bytes, hyper::Error>;

impl RoundRobin {
    /// A port for a proxy, and its URL.
    pub async fn bind() -> Result<(TcpListener, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok((listener, url))
    }

    /// Serves what comes in by `listener` from `replicas`.
    pub fn serve(listener: TcpListener, replicas: Vec<SocketAddr>) -> Self {
        let log = Arc::new(Mutex::new(Log { served: vec![0; replicas.len()], ..Log::default() }));
        let shared = Arc::new(Shared { replicas, next: AtomicUsize::new(0), log: log.clone() });
        let task = tokio::spawn(accept(listener, shared)).abort_handle();
        Self { log, task }
    }

    /// How many requests each replica has answered whole.
    pub fn served(&self) -> Vec<usize> {
        lock(&self.log).served.clone()
    }

    /// The calls for which there was no replica at all.
    pub fn unserved(&self) -> Vec<String> {
        lock(&self.log).unserved.clone()
    }

    /// The requests that reached a replica and did not come back whole.
    pub fn broken(&self) -> Vec<Broken> {
        lock(&self.log).broken.clone()
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    replicas: Vec<SocketAddr>,
    next: AtomicUsize,
    log: Arc<Mutex<Log>>,
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("nobody panics under this lock")
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.pass(request).await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

impl Shared {
    async fn pass(&self, request: Request<Incoming>) -> Response<Answer> {
        let call =
            request.headers().get(CALL).and_then(|call| call.to_str().ok()).unwrap_or_default().to_owned();
        let Some((replica, begun, stream)) = self.connect().await else {
            lock(&self.log).unserved.push(call);
            return refuse("no replica takes the connection");
        };
        let mut flight = Flight { call, replica, begun, log: self.log.clone(), inner: None, done: false };
        match forward(stream, request).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                flight.inner = Some(body);
                Response::from_parts(head, flight.boxed())
            }
            Err(_) => {
                flight.breaks();
                refuse("the replica broke the connection")
            }
        }
    }

    /// A connection to the next replica that takes one, and since when it was asked: it may be killed before this hears
    /// that it did.
    async fn connect(&self) -> Option<(usize, Instant, TcpStream)> {
        // Counted on from here, not from whatever comes meanwhile, which could lead to the same dead one each time.
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        for replica in (0..self.replicas.len()).map(|on| (next + on) % self.replicas.len()) {
            let begun = Instant::now();
            if let Ok(stream) = TcpStream::connect(self.replicas[replica]).await {
                return Some((replica, begun, stream));
            }
        }
        None
    }
}

async fn forward(
    stream: TcpStream,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let mut response = sender.send_request(request).await?;
    response.headers_mut().remove(CONNECTION);
    Ok(response)
}

fn refuse(why: &'static str) -> Response<Answer> {
    let body = Full::new(Bytes::from_static(why.as_bytes())).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The way back of an answer.
struct Flight {
    call: String,
    replica: usize,
    begun: Instant,
    log: Arc<Mutex<Log>>,
    inner: Option<Incoming>,
    done: bool,
}

impl Flight {
    fn breaks(&mut self) {
        self.done = true;
        lock(&self.log).broken.push(Broken {
            call: self.call.clone(),
            replica: self.replica,
            begun: self.begun,
            broken: Instant::now(),
        });
    }

    fn arrives(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            lock(&self.log).served[self.replica] += 1;
        }
    }
}

impl Body for Flight {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(context));
        match &frame {
            Some(Ok(_)) if self.inner.as_ref().is_some_and(Body::is_end_stream) => self.arrives(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.breaks(),
            None => self.arrives(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
