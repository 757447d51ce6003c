//! The desk at which nodes get their certificates: a socket of its own at whoever holds the authority's key.
//!
//! A guest is asked for its address first, sees the desk's certificate, and only then says its public key (32 bytes) and its
//! token; without a token it shows the certificate that it has and gets the next one. The answer is a byte, 0 for yes, and PEM
//! or a sentence. Everything is bounded: 4 KiB each way, 5 s, few guests at once.

mod tls;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{EndpointConfig, Incoming, TokioRuntime, TransportConfig, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::net::endpoint::{BindError, Socket};
use crate::net::tls::identity::now_ms;
use crate::net::tls::{Applicant, Identity, JoinToken, Peer, Role, TlsError, TokenError, Tokens};
use crate::protocol::ids::NodeId;

/// The most that either side says.
const LONGEST: usize = 4096;
/// Guests that are served at once; others are turned away and may come again.
const GUESTS: usize = 16;
/// The time for one guest, and the silence that ends it.
const PATIENCE: Duration = Duration::from_secs(5);
const YES: u8 = 0;
const NO: u8 = 1;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody answers, or not the desk of the token's run.
    #[error("no desk of this run answers at {address}: {reason}; check the address, that UDP passes, and that the token is of this run")]
    Unreachable {
        /// Who was asked.
        address: SocketAddr,
        /// What was seen.
        reason: String,
    },
    /// The desk said no.
    #[error("the desk at {address} gives no certificate: {reason}")]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// Its sentence.
        reason: String,
    },
    /// The answer or the own key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a guest got: for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Its first certificate, for a token.
    Joined(NodeId),
    /// The next certificate for the same key.
    Renewed(NodeId),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(node) => write!(f, "a token was taken and node {node} got its certificate"),
            Self::Renewed(node) => write!(f, "the certificate of node {node} was renewed"),
        }
    }
}

/// A desk that gives certificates for tokens, and renews those of nodes.
pub struct JoinDesk {
    quic: quinn::Endpoint,
    tokens: Arc<Mutex<Tokens>>,
}

impl fmt::Debug for JoinDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinDesk").field("quic", &self.quic).finish_non_exhaustive()
    }
}

impl JoinDesk {
    /// Opens UDP `address` for guests.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(address: SocketAddr, tokens: Tokens) -> Result<Self, BindError> {
        let socket = Socket::bind(address).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Io { address, error },
        })?;
        let server = tls::server(tokens.authority(), transport())?;
        let quic =
            quinn::Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(server), socket.into_inner(), Arc::new(TokioRuntime))
                .map_err(|error| BindError::Io { address, error })?;
        Ok(Self { quic, tokens: Arc::new(Mutex::new(tokens)) })
    }

    /// The address that the socket has.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Serves guests until the future is dropped; `told` is called for each certificate that was given.
    pub async fn serve(&self, told: impl Fn(Given) + Send + Sync + 'static) {
        let told = Arc::new(told);
        let seats = Arc::new(Semaphore::new(GUESTS));
        let mut renew_at_ms = tls::renew_at_ms(now_ms());
        while let Some(incoming) = self.quic.accept().await {
            if now_ms() >= renew_at_ms {
                renew_at_ms = tls::renew_at_ms(now_ms());
                match tls::server(self.tokens.lock().unwrap_or_else(PoisonError::into_inner).authority(), transport()) {
                    Ok(server) => self.quic.set_server_config(Some(server)),
                    Err(error) => tracing::warn!(%error, "the desk's own certificate could not be renewed"),
                }
            }
            if !incoming.remote_address_validated() {
                // Whoever forges addresses never comes back with the token.
                let _ = incoming.retry();
                continue;
            }
            let Ok(seat) = seats.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (tokens, told) = (self.tokens.clone(), told.clone());
            tokio::spawn(async move {
                let address = incoming.remote_address();
                match timeout(PATIENCE, attend(incoming, tokens)).await {
                    Ok(Ok(given)) => {
                        tracing::info!(%address, "{given}");
                        told(given);
                    }
                    Ok(Err(reason)) => tracing::warn!(%address, %reason, "a guest got no certificate"),
                    Err(_) => tracing::warn!(%address, "a guest got no certificate: it was too slow"),
                }
                drop(seat);
            });
        }
    }
}

/// Small on purpose: a guest says one thing and gets one answer.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(LONGEST as u32))
        .receive_window(VarInt::from_u32(LONGEST as u32))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(PATIENCE.try_into().ok());
    transport
}

/// One guest; says what it got, or why it got nothing.
async fn attend(incoming: Incoming, tokens: Arc<Mutex<Tokens>>) -> Result<Given, String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let connection = incoming.accept().map_err(|error| text(&error))?.await.map_err(|error| text(&error))?;
    let known = connection.peer_identity().is_some().then(|| Peer::of_connection(&connection)).transpose().map_err(|error| text(&error))?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| text(&error))?;
    let said = receive.read_to_end(LONGEST).await.map_err(|error| text(&error))?;
    // Files are written before the answer.
    let answer = tokio::task::spawn_blocking(move || decide(&said, known.as_ref(), &tokens)).await.map_err(|error| text(&error))?;
    let (kind, body) = match &answer {
        Ok((pem, _)) => (YES, pem),
        Err(reason) => (NO, reason),
    };
    let answered = async {
        send.write_all(&[kind]).await?;
        send.write_all(body.as_bytes()).await
    };
    answered.await.map_err(|error| text(&error))?;
    send.finish().map_err(|error| text(&error))?;
    // Until it has arrived; a guest that closes at once has it as well.
    let _ = send.stopped().await;
    answer.map(|(_, given)| given)
}

/// The certificates and what they are, or the sentence for the guest.
fn decide(said: &[u8], known: Option<&Peer>, tokens: &Mutex<Tokens>) -> Result<(String, Given), String> {
    let (key, token) = said.split_first_chunk().ok_or("it said no public key")?;
    let token = std::str::from_utf8(token).map_err(|_| TokenError::Garbage.to_string())?;
    let id = Peer::id_of_public_key(*key);
    let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
    match known {
        None => {
            let pem = tokens.redeem(token, *key, now_ms()).map_err(|error| error.to_string())?;
            Ok((pem, Given::Joined(id)))
        }
        Some(peer) if peer.role == Role::Node && peer.id == id => {
            let pem = tokens.renew(*key, now_ms()).map_err(|error| error.to_string())?;
            Ok((pem, Given::Renewed(id)))
        }
        Some(peer) => Err(format!("the certificate of {} {} cannot be renewed for node {id}", peer.role, peer.id)),
    }
}

/// Gets a node's certificate for a token. The key is made here and does not leave the process.
///
/// # Errors
/// [`JoinError`].
pub async fn join(address: SocketAddr, token: &str) -> Result<Identity, JoinError> {
    let (token, text) = (JoinToken::parse(token)?, token.trim());
    let applicant = Applicant::new()?;
    let pem = ask(address, tls::guest(&token)?, &applicant.public_key(), text).await?;
    Ok(applicant.accept(&token, &pem)?)
}

/// Gets the next certificate for the key of a node whose present one is still good.
///
/// # Errors
/// [`JoinError`].
pub async fn renew(address: SocketAddr, identity: &Identity) -> Result<Identity, JoinError> {
    let pem = ask(address, tls::member(identity)?, &identity.public_key(), "").await?;
    Ok(identity.with_certificates(&pem)?)
}

async fn ask(address: SocketAddr, config: quinn::ClientConfig, key: &[u8; 32], token: &str) -> Result<String, JoinError> {
    let unreachable = |reason: String| JoinError::Unreachable { address, reason };
    let asked = async {
        let here: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let endpoint = quinn::Endpoint::client(here).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(config, address, tls::DESK_NAME).map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let said = async {
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(key).await?;
            send.write_all(token.as_bytes()).await?;
            send.finish()?;
            let answer = receive.read_to_end(LONGEST).await?;
            connection.close(VarInt::from_u32(0), b"thank you");
            endpoint.wait_idle().await;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer)
        };
        said.await.map_err(|error| connection.close_reason().map_or_else(|| error.to_string(), |reason| reason.to_string()))
    };
    let answer = timeout(PATIENCE, asked).await.map_err(|_| unreachable("no answer in time".into()))?.map_err(unreachable)?;
    let body = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match answer.split_first() {
        Some((&YES, pem)) => Ok(body(pem)),
        Some((_, reason)) => Err(JoinError::Refused { address, reason: body(reason) }),
        None => Err(unreachable("it said nothing".into())),
    }
}

#[cfg(test)]
mod tests;
