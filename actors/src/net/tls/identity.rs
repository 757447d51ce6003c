//! The certificate of one process, and what a peer's certificate says about it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, RootCertStore};
use x509_parser::extensions::GeneralName;

use super::{ALPN, RunCa, TlsError};
use crate::protocol::ids::NodeId;

/// The name that every node's certificate is good for; who it really is says its [`NodeId`].
pub(crate) const SERVER_NAME: &str = "everstep";

/// Clocks of two machines may differ by this much.
pub(crate) const SKEW: Duration = Duration::from_secs(300);

/// What a certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trains.
    Node,
    /// May look and command.
    Admin,
    /// May look.
    Viewer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        })
    }
}

impl FromStr for Role {
    type Err = TlsError;
    fn from_str(name: &str) -> Result<Self, TlsError> {
        match name {
            "node" => Ok(Self::Node),
            "admin" => Ok(Self::Admin),
            "viewer" => Ok(Self::Viewer),
            other => Err(TlsError::NoRole(format!("`{other}` is none"))),
        }
    }
}

/// Certificate and key of one process or person. The key is fresh, and leaves the process only by [`Identity::write`].
#[derive(Clone)]
pub struct Identity {
    pub(super) me: Peer,
    /// First and last second in which handshakes accept the certificate, since the Unix epoch.
    pub(super) valid: (u64, u64),
    pub(super) certificate: CertificateDer<'static>,
    pub(super) authority: CertificateDer<'static>,
    pub(super) key: Arc<KeyPair>,
    pub(super) roots: Arc<RootCertStore>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.me).finish()
    }
}

impl Identity {
    /// A new key and its certificate, good for handshakes in the next `valid_for`.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library cannot make it.
    pub fn issue(ca: &RunCa, role: Role, valid_for: Duration) -> Result<Self, TlsError> {
        let now = now();
        Self::issue_between(ca, role, now.saturating_sub(SKEW), now + valid_for)
    }

    /// As [`Identity::issue`], with both ends given as time since the Unix epoch.
    pub(crate) fn issue_between(ca: &RunCa, role: Role, from: Duration, to: Duration) -> Result<Self, TlsError> {
        Self::issue_for(KeyPair::generate_for(&PKCS_ED25519)?, ca, role, from, to)
    }

    /// As [`Identity::issue`], with a key that follows from `seed`: for replays, since whoever knows the seed has the key.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library cannot make it.
    pub fn seeded(ca: &RunCa, role: Role, valid_for: Duration, seed: [u8; 32]) -> Result<Self, TlsError> {
        let now = now();
        Self::issue_for(key_of(seed)?, ca, role, now.saturating_sub(SKEW), now + valid_for)
    }

    fn issue_for(key: KeyPair, ca: &RunCa, role: Role, from: Duration, to: Duration) -> Result<Self, TlsError> {
        let certificate = certify(ca, role, from, to, &key)?;
        Self::of_parts(certificate, ca.certificate.clone(), Arc::new(key))
    }

    /// The same key with a fresh certificate, so that the id stays.
    ///
    /// # Errors
    /// [`TlsError::OtherKey`] when `ca` is that of another run, [`TlsError::Make`] when the library cannot make it.
    pub fn renewed(&self, ca: &RunCa, valid_for: Duration) -> Result<Self, TlsError> {
        if ca.certificate != self.authority {
            return Err(TlsError::OtherKey(format!("the authority is that of another run than {self:?}")));
        }
        let now = now();
        let certificate = certify(ca, self.me.role, now.saturating_sub(SKEW), now + valid_for, &*self.key)?;
        Self::of_parts(certificate, self.authority.clone(), self.key.clone())
    }

    pub(super) fn of_parts(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: Arc<KeyPair>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|error| TlsError::NoRole(error.to_string()))?;
        let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let valid = (second(parsed.validity().not_before), second(parsed.validity().not_after));
        Ok(Self { me: Peer::of_certificate(&certificate)?, valid, certificate, authority, key, roots: Arc::new(roots) })
    }

    /// The last moment in which handshakes accept the certificate, milliseconds since the Unix epoch. Links that are up stay.
    pub fn until_ms(&self) -> u64 {
        self.valid.1.saturating_mul(1000)
    }

    /// When to renew it, milliseconds since the Unix epoch: two thirds of its life are over.
    pub fn renew_at_ms(&self) -> u64 {
        let (from, to) = self.valid;
        (from + to.saturating_sub(from) / 3 * 2).saturating_mul(1000)
    }

    /// Who this process is.
    pub fn id(&self) -> NodeId {
        self.me.id
    }

    /// Id, role and run of this process.
    pub fn peer(&self) -> &Peer {
        &self.me
    }

    /// What is shown of the key.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        super::token::raw(&self.key)
    }

    /// Whom it trusts, the certificate that it shows, and the key.
    pub(crate) fn for_client(&self) -> (Arc<RootCertStore>, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.roots.clone(), vec![self.certificate.clone()], self.private_key())
    }

    /// For dialling: TLS 1.3, own certificate shown, the peer's checked, no 0-RTT, no resumption.
    pub(crate) fn client(&self) -> Result<QuicClientConfig, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_details(provider(), Arc::new(OurClock))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(vec![self.certificate.clone()], self.private_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        QuicClientConfig::try_from(config).map_err(|error| TlsError::Make(error.to_string()))
    }

    /// For being dialled: as [`Identity::client`], and nobody comes in without a certificate.
    pub(crate) fn server(&self) -> Result<QuicServerConfig, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider());
        let verifier = verifier.build().map_err(|error| TlsError::Make(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_details(provider(), Arc::new(OurClock))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.private_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        QuicServerConfig::try_from(config).map_err(|error| TlsError::Make(error.to_string()))
    }

    /// A client of this run that deviates: another protocol, or no certificate.
    #[cfg(test)]
    pub(crate) fn stranger(&self, alpn: &[u8], certificate: bool) -> QuicClientConfig {
        let config = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = config.with_root_certificates(self.roots.clone());
        let mut config = match certificate {
            true => config.with_client_auth_cert(vec![self.certificate.clone()], self.private_key()).unwrap(),
            false => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        QuicClientConfig::try_from(config).unwrap()
    }

    /// A client that would take tickets and send data before the handshake is over.
    #[cfg(test)]
    pub(crate) fn eager(&self) -> QuicClientConfig {
        let config = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let (roots, chain, key) = self.for_client();
        let mut config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = true;
        QuicClientConfig::try_from(config).unwrap()
    }

    /// A client that shows the certificate of `stolen` and has only its own key.
    #[cfg(test)]
    pub(crate) fn posing_as(&self, stolen: &Self) -> QuicClientConfig {
        let key = provider().key_provider.load_private_key(self.private_key()).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![stolen.certificate.clone()], key);
        let config = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = config.with_root_certificates(self.roots.clone());
        let mut config = config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        QuicClientConfig::try_from(config).unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

/// The Ed25519 key of a seed, by way of its PKCS #8 form: a fixed head, and the 32 bytes.
pub(super) fn key_of(seed: [u8; 32]) -> Result<KeyPair, TlsError> {
    const HEAD: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = [HEAD.as_slice(), &seed].concat();
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)?)
}

/// A certificate of the run's authority for a key.
pub(super) fn certify(
    ca: &RunCa,
    role: Role,
    from: Duration,
    to: Duration,
    key: &impl PublicKeyData,
) -> Result<CertificateDer<'static>, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, role.to_string());
    params.subject_alt_names = vec![SanType::URI(format!("everstep://{}/{role}", ca.run).try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if role == Role::Node {
        params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into()?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + from, epoch + to);
    Ok(params.signed_by(key, &ca.issuer)?.der().clone())
}

/// The time by which certificates are judged, since the Unix epoch.
pub(crate) fn now() -> Duration {
    Duration::from_secs(crate::clock::wall_ms() / 1000)
}

/// The same in milliseconds, to whole seconds.
pub(crate) fn now_ms() -> u64 {
    now().as_secs().saturating_mul(1000)
}

/// The same for rustls.
#[derive(Debug)]
struct OurClock;

impl TimeProvider for OurClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(now()))
    }
}

/// AES-128-GCM first: with AES in hardware it moves 1.7 times the bytes of ChaCha20 per core.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// What a verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The first 16 bytes of the BLAKE3 hash of the certificate's public key (SPKI, DER).
    pub id: NodeId,
    /// What it may do.
    pub role: Role,
    /// Its run.
    pub run: String,
}

impl Peer {
    /// The id of who has a key.
    pub(super) fn id_of_key(key: &impl PublicKeyData) -> NodeId {
        Self::id_of_spki(&key.subject_public_key_info())
    }

    fn id_of_spki(der: &[u8]) -> NodeId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(der).as_bytes()[..16]);
        NodeId(id)
    }

    /// As one link's other end. A person may use one certificate in several processes at once: the last half of a guest's id is
    /// the number of its link, so that each gets its own answers. A node's id stays what it is.
    pub(crate) fn on_link(&self, number: u64) -> Self {
        let mut peer = self.clone();
        if self.role != Role::Node {
            peer.id.0[8..].copy_from_slice(&number.to_be_bytes());
        }
        peer
    }

    /// Whether both have the same key, on whatever links.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.role == other.role && if self.role == Role::Node { self.id == other.id } else { self.id.0[..8] == other.id.0[..8] }
    }

    /// Reads a certificate that the handshake has verified.
    ///
    /// # Errors
    /// [`TlsError::NoRole`] when there is no `everstep://<run>/<role>` among its names.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| TlsError::NoRole(error.to_string()))?;
        let names = parsed.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
        let uri = names.into_iter().flatten().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("everstep://")?.split_once('/'),
            _ => None,
        });
        let (run, role) = uri.ok_or_else(|| TlsError::NoRole("it has no `everstep://` name".into()))?;
        Ok(Self { id: Self::id_of_spki(parsed.public_key().raw), role: role.parse()?, run: run.to_owned() })
    }

    /// Who is at the other end of a connection.
    pub(crate) fn of_connection(connection: &quinn::Connection) -> Result<Self, TlsError> {
        let chain = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        Self::of_certificate(leaf.ok_or_else(|| TlsError::NoRole("the peer showed none".into()))?)
    }
}
