//! A network with one server on it, over pipes in memory: virtual time stands while either side has something to do.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::time::Instant;

use super::super::http::{Dial, Dialling, Stream};

/// A request as the server sees it; names of headers in lower case.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the server answers.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Said {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// What a server makes of a request.
pub(super) trait Cloud: Debug + Send + Sync + 'static {
    fn answer(&self, asked: &Asked) -> impl Future<Output = Said> + Send;
}

/// How the server behaves below its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Proper,
    /// Connections are refused.
    Refuses,
    /// Packets are swallowed.
    Unreachable,
    /// Requests are read and never answered.
    Mute,
    /// The connection closes after the request.
    HangsUp,
    /// The connection closes in the middle of the body.
    CutsOff,
    /// Answers are no HTTP.
    Garbage,
    /// Answers have bodies without end.
    Endless,
    /// Every answer is 200 with a page of text.
    Portal,
    /// Every answer sends the client elsewhere.
    Redirects,
}

/// The network: every address leads to one server.
#[derive(Debug)]
pub(super) struct Net<C> {
    pub(super) cloud: C,
    mood: Mutex<Mood>,
    asked: Mutex<Vec<(Duration, String)>>,
    begun: Instant,
    me: Weak<Self>,
}

impl<C: Cloud> Net<C> {
    pub(super) fn new(cloud: C) -> Arc<Self> {
        let (mood, asked, begun) = (Mutex::new(Mood::Proper), Mutex::default(), Instant::now());
        Arc::new_cyclic(|me| Self { cloud, mood, asked, begun, me: me.clone() })
    }

    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Every request so far, or attempt to connect: when, and what.
    pub(super) fn asked(&self) -> Vec<(Duration, String)> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|(_, asked)| asked == what).count()
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push((self.begun.elapsed(), what));
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let asked = read(&mut stream).await?;
        self.note(format!("{} {}", asked.method, asked.path));
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Mute => std::future::pending().await,
            Mood::HangsUp | Mood::Refuses | Mood::Unreachable => return Ok(()),
            Mood::Garbage => return stream.write_all(b"\x00\x01 these are no headers \xff\n\n").await,
            Mood::CutsOff => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"action\":").await,
            Mood::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b' '; 4096]).await?;
                }
            }
            Mood::Portal => return self.say(&mut stream, Said::new(200, "<html>Please log in.</html>")).await,
            Mood::Redirects => {
                let elsewhere = ("location", format!("http://elsewhere{}", asked.path));
                return self.say(&mut stream, Said { headers: vec![elsewhere], ..Said::new(302, "") }).await;
            }
            Mood::Proper => {}
        }
        let said = self.cloud.answer(&asked).await;
        self.say(&mut stream, said).await
    }

    async fn say(&self, stream: &mut (impl AsyncWrite + Unpin), said: Said) -> io::Result<()> {
        let date = at(0) + TimeDelta::from_std(self.begun.elapsed()).unwrap();
        let mut head = format!("HTTP/1.1 {} Said\r\nDate: {}\r\n", said.status, http_date(date));
        said.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str(&format!("Content-Length: {}\r\n\r\n{}", said.body.len(), said.body));
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// What servers' clocks show this many seconds after their network began.
pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap()
}

pub(super) fn http_date(moment: DateTime<Utc>) -> String {
    moment.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl<C: Cloud> Dial for Net<C> {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialling<'a> {
        Box::pin(async move {
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Refuses => {
                    self.note(format!("refused {host}:{port}"));
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Mood::Unreachable => {
                    self.note(format!("lost {host}:{port}"));
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            let (near, far) = duplex(64 << 10);
            let net = self.me.upgrade().unwrap();
            // What the client does to the connection is its own affair.
            tokio::spawn(async move { net.serve(far).await.unwrap_or_default() });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap());
    assert_eq!(first.next(), Some("HTTP/1.1"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = |text: &str, between: char, inside: &str| -> Vec<(String, String)> {
        let parts = text.split(between).filter_map(|part| part.split_once(inside));
        parts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    let headers: Vec<_> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    let mut asked = Asked { method, path: path.into(), query: pairs(query, '&', "="), headers, body: String::new() };
    assert!(asked.header("host").is_some(), "{head}");
    let mut body = vec![0; asked.header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    asked.body = String::from_utf8(body).unwrap();
    Ok(asked)
}
