//! Ids of connections, and nothing said of one that is over.
//!
//! QUIC answers a packet of a connection that it has forgotten with a reset. A peer that is busy finds the reset right behind the close
//! that it has not read yet, and quinn then tells the reset as the reason. All that a reset could say is that the other end has ended
//! the link: the close says that too, and why; where the close was lost, silence says it soon.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::{HashedConnectionIdGenerator, InvalidCid};

/// Makes ids as quinn does, and takes none for one of a connection that was.
pub(super) struct Ids(HashedConnectionIdGenerator);

impl Ids {
    pub(super) fn boxed() -> Box<dyn ConnectionIdGenerator> {
        Box::new(Self(HashedConnectionIdGenerator::new()))
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0.generate_cid()
    }
    /// Asked only of ids that no living connection has.
    fn validate(&self, _: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }
    fn cid_len(&self) -> usize {
        self.0.cid_len()
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        self.0.cid_lifetime()
    }
}
