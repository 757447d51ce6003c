//! The page's server as clients find it: friendly, hostile and slow ones, and a browser.

mod browser;
pub(crate) mod fake;
mod http;
mod keyboard;
mod pipe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::guard::Guard;
use super::live::message;
use super::routes::Desk;
use super::serve::{Limits, serve};
use fake::FakeEye;

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    eye: Arc<FakeEye>,
    token: String,
    desk: Arc<Desk>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    async fn start(eye: FakeEye, limits: Limits, with_token: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let guard = if with_token { Guard::with_token(address.port()).unwrap() } else { Guard::loopback(address.port()) };
        let (token, eye) = (guard.token().to_owned(), Arc::new(eye));
        let desk = Desk::new(Arc::clone(&eye) as _, guard, limits);
        let server = Arc::clone(&desk);
        let tasks = vec![tokio::spawn(async move { serve(listener, server, limits).await })];
        Self { address, eye, token, desk, tasks }
    }

    /// Sends messages to listeners as the real one does.
    fn poll(mut self) -> Self {
        let desk = Arc::clone(&self.desk);
        self.tasks.push(tokio::spawn(async move { desk.live.poll(&desk.sight).await }));
        self
    }

    /// Sends three messages to whoever listens and then lets go of them: a browser's virtual time stands still while a stream is open.
    fn poll_briefly(mut self) -> Self {
        let desk = Arc::clone(&self.desk);
        self.tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if desk.live.any() {
                    let message = message(&desk.sight).await;
                    (0..3).for_each(|_| desk.live.send(&message));
                    desk.live.clear();
                }
            }
        }));
        self
    }

    async fn plain() -> Self {
        Self::start(FakeEye::new(4, 1_800_000_000_000), Limits::default(), false).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Status line, headers and body of one request.
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str(&format!("host: {}\r\n", self.address));
        }
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        let mut stream = self.connect().await;
        stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn get(&self, target: &str) -> (u16, String, String) {
        self.ask("GET", target, &[]).await
    }
}

/// Reads until the other end closes; fails if it does not.
async fn closes(stream: &mut TcpStream) -> String {
    let mut told = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut told)).await;
    // A connection that is reset is closed too.
    drop(read.expect("the server keeps the connection"));
    String::from_utf8_lossy(&told).into_owned()
}
