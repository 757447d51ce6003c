//! Why no endpoint, or no link: each with its remedy.

use std::net::SocketAddr;

use quinn::{ConnectionError, TransportErrorCode};

use crate::net::link::LinkDown;
use crate::net::tls::TlsError;
use crate::protocol::ids::NodeId;

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error("UDP port {port} on {ip} is in use by another process; stop that one, or choose another port (0 takes a free one)", port = .0.port(), ip = .0.ip())]
    InUse(SocketAddr),
    /// The system does not allow it or has no such address.
    #[error("cannot listen on UDP {address}: {error}; give an address of this machine and a port above 1023")]
    Io {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Keys or certificates do not work.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a peer could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers: it may come up later.
    #[error("no node answers at {address}: {reason}; check that it runs and that UDP passes in both directions")]
    Unreachable {
        /// Who was dialled.
        address: SocketAddr,
        /// What was seen.
        reason: String,
    },
    /// Somebody answers and the two cannot work together: dialling again will not help.
    #[error("the node at {address} and this one refuse each other: {reason}")]
    Refused {
        /// Who was dialled.
        address: SocketAddr,
        /// Why, with the remedy.
        reason: String,
    },
    /// Another node than the expected one answers.
    #[error("at {address} answers node {found}, not {expected}; the address is out of date")]
    OtherNode {
        /// Who was dialled.
        address: SocketAddr,
        /// Who was meant.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// This endpoint is closed, or cannot dial such an address.
    #[error("cannot dial {address} from this endpoint: {reason}")]
    Local {
        /// Who was to be dialled.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

pub(super) fn not_connected(address: SocketAddr, error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TimedOut => ConnectError::Unreachable { address, reason: "no answer".into() },
        ConnectionError::LocallyClosed => ConnectError::Local { address, reason: "it is closed".into() },
        ConnectionError::ConnectionClosed(ref close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            ConnectError::Unreachable { address, reason: "it has too much to do or takes no links".into() }
        }
        ConnectionError::Reset => ConnectError::Unreachable { address, reason: "it knows nothing of the link".into() },
        error => ConnectError::Refused { address, reason: explain(error) },
    }
}

/// What TLS alerts mean here (RFC 8446 §6.2), whichever end raised them.
pub(super) fn explain(error: ConnectionError) -> String {
    let (code, here) = match &error {
        ConnectionError::TransportError(error) => (error.code, true),
        ConnectionError::ConnectionClosed(close) => (close.error_code, false),
        _ => return LinkDown::from(error).to_string(),
    };
    let alert = u64::from(code).checked_sub(0x100).filter(|alert| *alert < 0x100);
    let whose = if here { "its certificate" } else { "our certificate" };
    match alert {
        Some(48 | 51) => format!("{whose} is of another run; give both nodes the same --run and --secrets"),
        Some(45) => format!("{whose} has expired (or the two clocks differ); restart that node to get a new one"),
        Some(116 | 42) => format!("{whose} is missing or unusable; a node must show one of the run's authority"),
        Some(120) => "the two speak different protocol versions; run the same release on both".into(),
        _ => error.to_string(),
    }
}
