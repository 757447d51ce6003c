//! The questions that go over HTTP: one request a connection, bounded in time and in bytes. No TLS, no proxy, no redirects.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, DATE, HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest body that is read.
const BODY_MAX: usize = 64 << 10;
/// The longest head of an answer.
const HEAD_MAX: usize = 16 << 10;
/// Time for a connection; a link-local address that nobody serves often just swallows packets.
const CONNECT: Duration = Duration::from_secs(1);
/// Time for a whole answer where the server has nothing to wait for.
pub(super) const PROMPT: Duration = Duration::from_secs(2);

/// A connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection under way.
pub(super) type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// How connections are made.
pub(super) trait Dial: fmt::Debug + Send + Sync {
    /// Connects to a host (a name or an address, without brackets) and port.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a>;
}

/// Connections over TCP, straight to the host: what the environment says about proxies does not apply to link-local addresses.
#[derive(Debug)]
pub(super) struct Tcp;

impl Dial for Tcp {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect((host, port)).await?) as Box<dyn Stream>) })
    }
}

/// Sends requests.
#[derive(Debug, Clone)]
pub(super) struct Client {
    dial: Arc<dyn Dial>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: String,
    /// Time for everything after the connection.
    pub(super) within: Duration,
}

impl<'a> Query<'a> {
    pub(super) fn get(url: String, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, url, headers, body: String::new(), within: PROMPT }
    }
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text without the white space around it.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok().map(str::trim)
    }

    /// What the server's clock shows, in whole seconds, cut off.
    pub(super) fn date(&self) -> Option<DateTime<Utc>> {
        let date = self.headers.get(DATE)?.to_str().ok()?;
        DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc())
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    /// The URL names no host that can be asked.
    #[error("{0} is no URL that can be asked")]
    Url(String),
    /// Nobody accepted the connection.
    #[error("no connection: {0}")]
    Connection(io::Error),
    /// Something took too long.
    #[error("no {what} within {within:?}")]
    Slow { what: &'static str, within: Duration },
    /// The answer is no HTTP, or was cut off.
    #[error("{0}")]
    Broken(hyper::Error),
    /// The body cannot be read to its end, or has none that is near.
    #[error("the body cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

impl Client {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial }
    }

    /// One request and its whole answer, whatever the status.
    pub(super) async fn send(&self, query: Query<'_>) -> Result<Reply, Unanswered> {
        let uri: Uri = query.url.parse().map_err(|_| Unanswered::Url(query.url.clone()))?;
        let request = request(&query, &uri).ok_or_else(|| Unanswered::Url(query.url.clone()))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let dialled = timeout(CONNECT, self.dial.dial(host, uri.port_u16().unwrap_or(80))).await;
        let stream = dialled.map_err(|_| Unanswered::Slow { what: "connection", within: CONNECT })?.map_err(Unanswered::Connection)?;
        let answered = timeout(query.within, exchange(stream, request)).await;
        answered.map_err(|_| Unanswered::Slow { what: "answer", within: query.within })?
    }
}

/// The request as it goes over the wire; none where URL or headers hold what cannot.
fn request(query: &Query<'_>, uri: &Uri) -> Option<Request<Full<Bytes>>> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(&query.method).uri(path).header(HOST, uri.authority()?.as_str());
    let request = request.header(CONNECTION, "close").header(USER_AGENT, concat!("everstep/", env!("CARGO_PKG_VERSION")));
    let request = query.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::new(query.body.clone().into())).ok()
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Reply, Unanswered> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await.map_err(Unanswered::Broken)?;
    // Ends with this function, whatever becomes of the answer.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(Unanswered::Broken)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(Unanswered::Body)?;
    Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
}
