//! Short-lived certificates of processes that live long: a new one in time, for the same key, without dropping links.

use std::fmt::Display;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::sleep;

use crate::net::Router;
use crate::net::endpoint::Endpoint;
use crate::net::tls::Identity;
use crate::net::tls::identity::now_ms;

/// No two attempts are closer together than this.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// Renews the certificate of an endpoint when two thirds of its life are over, for as long as the endpoint is there. `renewed`
/// makes or fetches the next one. When it fails it is asked again after a tenth of what is left: links that are up do not need
/// the certificate, new ones do.
pub async fn keep_renewed<R, F, E>(endpoint: Weak<Endpoint<R>>, mut identity: Identity, mut renewed: impl FnMut(Identity) -> F)
where
    R: Router,
    F: Future<Output = Result<Identity, E>>,
    E: Display,
{
    let mut at_ms = identity.renew_at_ms();
    loop {
        sleep(Duration::from_millis(at_ms.saturating_sub(now_ms())).max(PAUSE)).await;
        // Whoever closes the endpoint need not end this task.
        if endpoint.strong_count() == 0 {
            return;
        }
        let next = renewed(identity.clone()).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        let next = next.map_err(|error| error.to_string());
        match next.and_then(|next| endpoint.renew(&next).map(|()| next).map_err(|error| error.to_string())) {
            Ok(next) => {
                tracing::debug!(until_ms = next.until_ms(), "certificate renewed");
                (at_ms, identity) = (next.renew_at_ms(), next);
            }
            Err(error) => {
                let left_ms = identity.until_ms().saturating_sub(now_ms());
                tracing::warn!(%error, left_s = left_ms / 1000, "the certificate could not be renewed; new links need one");
                at_ms = now_ms() + left_ms / 10;
            }
        }
    }
}
