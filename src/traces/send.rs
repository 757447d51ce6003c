//! Requests to a collector over plain HTTP.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// For how long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a collector's answer that are read.
const ANSWER: usize = 64 * 1024;

/// Posts one request to `<endpoint>/v1/traces`.
///
/// # Errors
/// One sentence: the endpoint is none of plain HTTP, nobody answers, or the answer is no success.
pub async fn post(endpoint: &str, json: Vec<u8>) -> Result<(), String> {
    let address = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let uri: Uri =
        address.parse().map_err(|error| format!("{endpoint} is no address: {error}; write for example http://127.0.0.1:4318"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority().cloned()) else {
        return Err(format!("{endpoint} is no plain HTTP; send to a collector on this machine, and let it pass the traces on over TLS"));
    };
    let sent = tokio::time::timeout(PATIENCE, exchange(&uri, authority.as_str(), json)).await;
    let (status, answer) = sent.map_err(|_| format!("{address} does not answer within {} s", PATIENCE.as_secs()))??;
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("{address} answers {status}: {}", answer.trim())) }
}

async fn exchange(uri: &Uri, authority: &str, json: Vec<u8>) -> Result<(u16, String), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} {authority}: {error}; is a collector listening there?");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.map_err(|error| failed("reach", &error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed("talk to", &error))?;
    let request = Request::post(uri.path()).header(HOST, authority).header(CONTENT_TYPE, "application/json");
    let request = request.body(Full::new(Bytes::from(json))).map_err(|error| failed("ask", &error))?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| failed("send to", &error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| failed("hear", &error))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // The connection is driven here: when the answer is there it may end.
    tokio::select! {
        biased;
        answer = answered => answer,
        ended = async { let ended = connection.await; std::future::pending::<()>().await; ended } => ended.map(|()| (0, String::new())).map_err(|error| failed("talk to", &error)),
    }
}
