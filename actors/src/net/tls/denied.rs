//! Keys whose certificates open nothing any more, although they have not ended.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::{PoisonError, RwLock};

use super::{Peer, Role};
use crate::protocol::ids::NodeId;

/// Keys that are denied in one run at most.
pub const DENIED_MAX: usize = 4096;
/// Digits that tell keys apart: as many as people are shown.
const DIGITS_MIN: usize = 8;
const DIGITS_MAX: usize = 32;
/// Digits of a person's id: the rest of it is the number of a link.
const DIGITS_OF_PERSONS: usize = 16;

/// A key by its id, or by the beginning of it as tables and events show it (`n3f09c2d1`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Reads an id in hexadecimal digits, 8 to 32 of them; `node/` or `n` before it do not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("node/").unwrap_or(text);
        let digits = digits.strip_prefix('n').unwrap_or(digits).to_ascii_lowercase();
        let fits = (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        fits.then_some(Self(digits))
    }

    /// The whole id.
    pub fn of(node: NodeId) -> Self {
        Self(node.0.iter().fold(String::new(), |mut digits, byte| {
            // A string takes all.
            let _ = write!(digits, "{byte:02x}");
            digits
        }))
    }

    /// The digits.
    pub fn digits(&self) -> &str {
        &self.0
    }

    fn names(&self, node: NodeId, role: Role) -> bool {
        let known = if role == Role::Node { DIGITS_MAX } else { DIGITS_OF_PERSONS };
        Self::of(node).0.starts_with(&self.0[..self.0.len().min(known)])
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", &self.0)
    }
}

/// The keys that are denied; nothing is ever taken back from it.
#[derive(Debug, Default)]
pub struct Denied(RwLock<BTreeSet<KeyName>>);

impl Denied {
    /// Denies these as well, as far as there is room; whether any of them is new.
    pub fn add(&self, keys: impl IntoIterator<Item = KeyName>) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        for key in keys {
            if known.len() < DENIED_MAX {
                known.insert(key);
            }
        }
        known.len() > before
    }

    /// Whether this one has to stay outside.
    pub fn denies(&self, node: NodeId, role: Role) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|key| key.names(node, role))
    }

    /// As [`Denied::denies`], of a certificate.
    pub fn denies_peer(&self, peer: &Peer) -> bool {
        self.denies(peer.id, peer.role)
    }

    /// All of them, in order.
    pub fn keys(&self) -> Vec<KeyName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(text: &str) -> Denied {
        let denied = Denied::default();
        assert!(denied.add(KeyName::parse(text)), "{text}");
        denied
    }

    #[test]
    fn a_key_is_denied_by_its_id_or_the_beginning_that_people_are_shown() {
        let node = NodeId([0x3f; 16]);
        for text in ["n3f3f3f3f", "3F3F3F3F", "node/n3f3f3f3f", &KeyName::of(node).to_string(), "3f3f3f3f3f"] {
            assert!(denied(text).denies(node, Role::Node), "{text}");
        }
        let mut other = node;
        other.0[15] ^= 1;
        assert!(denied("n3f3f3f3f").denies(other, Role::Node));
        assert!(!denied(KeyName::of(node).digits()).denies(other, Role::Node), "the whole id is one key's");
        for text in ["", "n", "3f3f3f3", "3f3f3f3g", "r2", &"3".repeat(33)] {
            assert_eq!(KeyName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_person_is_denied_on_every_link() {
        let me = Peer { id: NodeId([0x3f; 16]), role: Role::Viewer, run: "demo".into() };
        let denied = denied(KeyName::of(me.id).digits());
        assert!(denied.denies_peer(&me.on_link(1)) && denied.denies_peer(&me.on_link(2)));
        let node = Peer { role: Role::Node, ..me.on_link(1) };
        assert!(!denied.denies_peer(&node), "a node's id is all of it");
    }

    #[test]
    fn the_list_is_bounded_and_knows_what_is_new() {
        let key = |n: usize| KeyName::parse(&format!("{n:08x}")).unwrap();
        let denied = Denied::default();
        assert!(denied.add((0..DENIED_MAX).map(key)));
        assert!(!denied.add([key(5)]), "known");
        assert!(!denied.add([key(DENIED_MAX)]), "no room");
        assert_eq!(denied.keys().len(), DENIED_MAX);
    }
}
