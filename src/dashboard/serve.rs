//! Connections: how many, how long, how large.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::routes::Desk;
use super::wire::Patient;

/// What clients may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Listeners of server-sent events among them.
    pub(super) listeners: usize,
    /// For how long a client may take to send its head, an answer to be made, or a client to take nothing of it.
    pub(super) patience: Duration,
    /// Bytes of a request's head.
    pub(super) head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, listeners: 32, patience: Duration::from_secs(10), head: 16 * 1024 }
    }
}

/// What a client hears that is one too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: 5\r\n\r\n";

/// Accepts for ever; dropped, it ends all connections.
pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of files, mostly: those that are open end, and then there are some again.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            stream.try_write(FULL).ok();
            continue;
        };
        stream.set_nodelay(true).ok();
        let desk = Arc::clone(&desk);
        connections.spawn(async move {
            let service = service_fn(|request| desk.answer(request, limits.patience));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(limits.patience).max_buf_size(limits.head).max_headers(64);
            // Whatever ends a connection is the client's affair.
            http.serve_connection(TokioIo::new(Patient::new(stream, limits.patience)), service).await.ok();
            drop(place);
        });
    }
}
