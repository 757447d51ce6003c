//! Tokens that let one node in, once: for machines that must not have the authority's key.
//!
//! A token is `evst1.` and 90 letters and digits: a random id, its end, the fingerprint of the authority's certificate and a
//! code that only the authority's key can make. Who holds that key gives one certificate for it, to one public key.

mod base32;
mod spent;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;

use base32::{base32, base32_back};
use spent::{MAX_SPENT, Spent};

use super::identity::{SKEW, certify, now, provider};
use super::pem::certificates_to_pem;
use super::{Denied, Identity, Role, RunCa, TlsError};
use crate::protocol::ids::NodeId;

const PREFIX: &str = "evst1.";
/// Id, end in seconds, fingerprint, code.
const BYTES: usize = 16 + 8 + 16 + 16;
/// Why a token gives no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not one.
    #[error("this is no join token; one begins with `{PREFIX}` and is a single word, copy all of it")]
    Garbage,
    /// It is of another run.
    #[error("the join token is of another run")]
    OtherRun,
    /// Nobody who holds the run's key has made it.
    #[error("the join token was not made by the authority of this run")]
    Forged,
    /// Too late.
    #[error("the join token expired {ago_s} s ago; ask for a new one")]
    Expired {
        /// Seconds since its end.
        ago_s: u64,
    },
    /// Somebody else had it first.
    #[error("the join token has been used by another node; ask for a new one, and find out who had this one")]
    Spent,
    /// The key is that of a node that was put out.
    #[error("this node was put out of the run and gets no certificate")]
    Denied,
    /// More tokens were used of late than are remembered.
    #[error("{MAX_SPENT} join tokens were used of late; wait until some of them expire")]
    Busy,
    /// The desk could not do its part.
    #[error("a certificate could not be given: {0}")]
    Failed(String),
}

/// A token as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: [u8; 16],
    until_s: u64,
    authority: [u8; 16],
    code: [u8; 16],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("until_s", &self.until_s).finish_non_exhaustive()
    }
}

impl JoinToken {
    /// A new token, good for `ttl`.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library has no randomness.
    pub fn mint(ca: &RunCa, ttl: Duration) -> Result<String, TlsError> {
        Self::mint_until(ca, (now() + ttl).as_secs())
    }

    fn mint_until(ca: &RunCa, until_s: u64) -> Result<String, TlsError> {
        let mut id = [0; 16];
        provider().secure_random.fill(&mut id).map_err(|_| TlsError::Make("there is no randomness".into()))?;
        let mut token = Self { id, until_s, authority: fingerprint(&ca.certificate), code: [0; 16] };
        token.code = token.code_by(ca);
        Ok(token.to_text())
    }

    /// Reads a token; space around it and the size of its letters do not matter.
    ///
    /// # Errors
    /// [`TokenError::Garbage`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (prefix, digits) = text.split_at_checked(PREFIX.len()).ok_or(TokenError::Garbage)?;
        let bytes = if prefix.eq_ignore_ascii_case(PREFIX) { base32_back(digits) } else { None };
        let bytes: [u8; BYTES] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError::Garbage)?;
        let part = |at: usize| -> [u8; 16] { std::array::from_fn(|n| bytes[at + n]) };
        let until_s = u64::from_be_bytes(std::array::from_fn(|n| bytes[16 + n]));
        Ok(Self { id: part(0), until_s, authority: part(24), code: part(40) })
    }

    /// Whether a certificate is that of the authority that made the token.
    pub(crate) fn is_of(&self, authority: &CertificateDer<'_>) -> bool {
        self.authority == fingerprint(authority)
    }

    fn to_text(&self) -> String {
        PREFIX.to_owned() + &base32(&[&self.signed()[..], &self.code].concat())
    }

    fn signed(&self) -> [u8; BYTES - 16] {
        let mut bytes = [0; BYTES - 16];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..24].copy_from_slice(&self.until_s.to_be_bytes());
        bytes[24..].copy_from_slice(&self.authority);
        bytes
    }

    fn code_by(&self, ca: &RunCa) -> [u8; 16] {
        let key = blake3::derive_key("everstep 2026-11 join tokens", ca.issuer.key().serialized_der());
        half(blake3::keyed_hash(&key, &self.signed()))
    }

    fn check(&self, ca: &RunCa, now_s: u64) -> Result<(), TokenError> {
        if !self.is_of(&ca.certificate) {
            return Err(TokenError::OtherRun);
        }
        // Hashes compare in constant time, arrays do not.
        let whole = |code: [u8; 16]| blake3::Hash::from(std::array::from_fn(|n| code.get(n).copied().unwrap_or(0)));
        if whole(self.code) != whole(self.code_by(ca)) {
            return Err(TokenError::Forged);
        }
        match now_s.saturating_sub(self.until_s) {
            0 => Ok(()),
            ago_s => Err(TokenError::Expired { ago_s }),
        }
    }
}

/// The key of a node that wants to join, before there is a certificate for it.
#[derive(Debug)]
pub struct Applicant(Arc<KeyPair>);

impl Applicant {
    /// A new key. It never leaves this process.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library has no randomness.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self(Arc::new(KeyPair::generate_for(&PKCS_ED25519)?)))
    }

    /// What is shown of it: an Ed25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        raw(&self.0)
    }

    /// The identity that comes of the answer to `token`.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`] when the certificates are not for this key or not of the token's authority.
    pub fn accept(self, token: &JoinToken, certificates: &str) -> Result<Identity, TlsError> {
        let identity = Identity::with_key(self.0, certificates)?;
        match token.is_of(&identity.authority) && identity.peer().role == Role::Node {
            true => Ok(identity),
            false => Err(TlsError::NoCertificate("it is not what the token is for".into())),
        }
    }
}

/// Gives certificates for tokens, by who holds the authority's key.
#[derive(Debug)]
pub struct Tokens {
    ca: Arc<RunCa>,
    valid_for: Duration,
    spent: Spent,
    denied: Arc<Denied>,
}

impl Tokens {
    /// Tokens that one process gives certificates for; `valid_for` is how long those are good.
    pub fn new(ca: Arc<RunCa>, valid_for: Duration) -> Self {
        Self { ca, valid_for, spent: Spent::default(), denied: Arc::default() }
    }

    /// As [`Tokens::new`], remembered in a folder: by several processes and across restarts a token counts once.
    ///
    /// # Errors
    /// [`TlsError::Io`] when the folder cannot be made.
    pub fn kept_in(ca: Arc<RunCa>, valid_for: Duration, dir: &Path) -> Result<Self, TlsError> {
        Ok(Self { ca, valid_for, spent: Spent::kept_in(dir)?, denied: Arc::default() })
    }

    /// The authority that gives the certificates.
    pub fn authority(&self) -> &RunCa {
        &self.ca
    }

    /// Takes a token and gives a node's certificate for `public_key` and that of the authority, as PEM. The same key may ask
    /// again with the same token, should the answer have been lost; no other may.
    ///
    /// # Errors
    /// [`TokenError`]; nothing is spent then.
    pub fn redeem(&mut self, token: &str, public_key: [u8; 32], now_ms: u64) -> Result<String, TokenError> {
        let (token, now_s) = (JoinToken::parse(token)?, now_ms / 1000);
        token.check(&self.ca, now_s)?;
        // With a token of its own a node that was put out would only need to ask.
        if self.denied.denies(super::Peer::id_of_public_key(public_key), Role::Node) {
            return Err(TokenError::Denied);
        }
        let from = Duration::from_secs(now_s);
        let key = PublicKey(public_key);
        let certificate = certify(&self.ca, Role::Node, from.saturating_sub(SKEW), from + self.valid_for, &key);
        let certificate = certificate.map_err(|error| TokenError::Failed(error.to_string()))?;
        self.spent.spend(&token, super::Peer::id_of_key(&key), now_s)?;
        Ok(certificates_to_pem(&certificate, &self.ca.certificate))
    }

    /// The same, with no further certificate for any key that is denied, now or later.
    #[must_use]
    pub fn without(self, denied: Arc<Denied>) -> Self {
        Self { denied, ..self }
    }

    /// A fresh certificate for a node that has shown its present one.
    ///
    /// # Errors
    /// [`TlsError::Denied`], or [`TlsError::Make`] when the library cannot make it.
    pub(crate) fn renew(&self, public_key: [u8; 32], now_ms: u64) -> Result<String, TlsError> {
        let node = super::Peer::id_of_public_key(public_key);
        if self.denied.denies(node, Role::Node) {
            return Err(TlsError::Denied(node));
        }
        let from = Duration::from_millis(now_ms);
        let certificate = certify(&self.ca, Role::Node, from.saturating_sub(SKEW), from + self.valid_for, &PublicKey(public_key))?;
        Ok(certificates_to_pem(&certificate, &self.ca.certificate))
    }
}

impl super::Peer {
    /// The id of the node that has this Ed25519 key.
    pub(crate) fn id_of_public_key(key: [u8; 32]) -> NodeId {
        Self::id_of_key(&PublicKey(key))
    }
}

struct PublicKey([u8; 32]);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// The 32 bytes of an Ed25519 public key.
pub(super) fn raw(key: &KeyPair) -> [u8; 32] {
    std::array::from_fn(|n| key.public_key_raw().get(n).copied().unwrap_or(0))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 16] {
    half(blake3::hash(certificate))
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    std::array::from_fn(|n| hash.as_bytes()[n])
}

#[cfg(test)]
mod tests;
