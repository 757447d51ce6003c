//! How things travel: quinn with mutual TLS, one link per peer.

pub mod endpoint;
pub mod join;
pub mod link;
pub mod mailbox;
pub mod renewal;
pub mod tls;

use crate::net::link::{Link, LinkDown};
use crate::net::tls::Peer;
use crate::protocol::ids::NodeId;
use crate::wire::frame::Frame;
use crate::wire::message::DataHeader;

/// Where a link delivers what it receives.
///
/// Called on the link's own tasks: none of these may wait. `from` comes from the peer's certificate,
/// so no peer can speak for another. Of who is no node the second half of the id is the number of its link: one certificate
/// may be in use more than once.
pub trait Router: Send + Sync + 'static {
    /// The control messages of this endpoint.
    type Control: Frame;
    /// A link to `peer` is about to begin: called once for each, at both ends, before anything is delivered from it.
    ///
    /// # Errors
    /// [`Reject`] refuses the link; the peer gets the sentence.
    fn up(&self, peer: &Peer) -> Result<(), Reject> {
        let _ = peer;
        Ok(())
    }
    /// A handle on a link that was allowed to begin, before anything is delivered from it: answers may be sent at once.
    fn linked(&self, link: Link<Self::Control>) {
        drop(link);
    }
    /// A control message; those of one link come in the order in which they were sent.
    fn control(&self, from: NodeId, message: Self::Control);
    /// Whether a data frame is wanted, asked before memory is taken for its payload. Only nodes get this
    /// far, viewers and admins do not.
    ///
    /// # Errors
    /// [`Reject`] drops the frame, and only the frame.
    fn admit(&self, from: NodeId, header: &DataHeader) -> Result<(), Reject>;
    /// Memory for a payload of `values` values, which may hold anything and be of any length. A router that uses vectors again
    /// saves the kernel's work of finding fresh pages, where the process does not keep what it frees.
    fn buffer(&self, values: usize) -> Vec<f32> {
        let _ = values;
        Vec::new()
    }
    /// Whether the payload of an admitted frame goes to [`Router::land`] piece by piece instead of whole to [`Router::data`].
    fn lands(&self, from: NodeId, header: &DataHeader, values: usize) -> bool {
        let _ = (from, header, values);
        false
    }
    /// The next piece of such a payload: its bytes from `at` on. Pieces of one frame come in order, and all of them unless its
    /// stream ends before.
    fn land(&self, from: NodeId, header: &DataHeader, at: usize, piece: &[u8]) {
        let _ = (from, header, at, piece);
    }
    /// A data frame. Small ones of one link come in the order in which they were sent.
    fn data(&self, from: NodeId, header: DataHeader, values: Vec<f32>);
    /// The link has ended. Called once for each link that began, after everything else.
    fn down(&self, peer: NodeId, cause: LinkDown);
}

/// Why a data frame is not wanted: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reject(pub String);
