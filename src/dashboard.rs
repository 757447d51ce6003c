//! `everstep dashboard`: one page, its data and Prometheus metrics over HTTP. It only looks: no request changes anything.
//!
//! However many look, the run is asked at most once a second for each part (`sight`), and one message a second is made for all
//! listeners (`live`).

mod curves;
mod guard;
mod live;
mod page;
mod query;
mod routes;
mod serve;
mod sight;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::io::Write as _;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::dashboard::DashboardArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use guard::Guard;
use routes::Desk;
use serve::{Limits, serve};

/// Serves the page until Ctrl-C or SIGTERM.
///
/// # Errors
/// The address cannot be used, or the operating system gives no random bytes.
pub async fn run(args: &DashboardArgs, eye: Arc<dyn Eye>) -> Result<ExitCode, Failure> {
    let failed = |sentence: String| Failure::new(ExitCode::Failed, sentence);
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| failed(format!("cannot listen on {}: {error}; choose another address with --listen", args.listen)))?;
    let address = listener.local_addr().map_err(|error| failed(format!("cannot tell the address that was bound: {error}")))?;
    let guard = Guard::of(address, args.token).map_err(failed)?;
    let mut told = format!("the page is at {}\n", guard.url(address));
    if !address.ip().is_loopback() {
        told.push_str("it is not encrypted: across a network put it behind a proxy with TLS, or use `ssh -L`\n");
    }
    // Who reads stderr may be gone; the page is served all the same.
    std::io::stderr().write_all(told.as_bytes()).ok();
    let limits = Limits::default();
    let desk = Desk::new(eye, guard, limits);
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| failed(format!("cannot wait for the signal to end: {error}")))?;
    tokio::select! {
        () = desk.live.poll(&desk.sight) => {}
        () = serve(listener, Arc::clone(&desk), limits) => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    Ok(ExitCode::Done)
}
