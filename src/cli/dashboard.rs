//! Arguments of `everstep dashboard`.

use std::net::SocketAddr;

/// Serve a page that shows the run, live; nothing can be changed through it
///
/// On a loopback address everybody on this machine may look. On any other address, or with `--token`, a random token is required: the
/// address with it is printed once. The page is plain HTTP: across a network put it behind a proxy with TLS, or use `ssh -L 9494:127.0.0.1:9494`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    everstep dashboard --run runs/mine\n  \
    everstep dashboard --run runs/mine --listen 0.0.0.0:9494\n  \
    curl -s http://127.0.0.1:9494/metrics\n  \
    curl -s 'http://127.0.0.1:9494/v1/view?kinds=actor&filter=depth>=10&sort=-depth&limit=20'")]
pub struct DashboardArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9494")]
    pub listen: SocketAddr,
    /// Require a token on a loopback address too, for machines that strangers share
    #[arg(long)]
    pub token: bool,
}
