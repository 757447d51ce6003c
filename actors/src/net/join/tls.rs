//! Who the desk is to its guests: a certificate that is no node's, below an authority that a token names.

use std::sync::Arc;
use std::time::Duration;

use quinn::TransportConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::net::tls::identity::{SKEW, now, provider};
use crate::net::tls::{Identity, JoinToken, RunCa, TlsError};

/// The protocol of the desk.
pub(super) const ALPN: &[u8] = b"everstep-join/1";
/// The name that only a desk's certificate is good for: a node that was taken over cannot pose as one.
pub(super) const DESK_NAME: &str = "everstep-join";
/// Life of the desk's own certificate.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// When a desk that got its certificate at `made_ms` needs the next one.
pub(super) fn renew_at_ms(made_ms: u64) -> u64 {
    made_ms + LIFE.as_millis() as u64 / 3 * 2
}

/// For the desk: guests may come without a certificate, and those who have one show it.
pub(super) fn server(ca: &RunCa, transport: TransportConfig) -> Result<quinn::ServerConfig, TlsError> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "join desk");
    params.subject_alt_names = vec![SanType::DnsName(DESK_NAME.try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + now().saturating_sub(SKEW), epoch + (now() + LIFE));
    let chain = vec![ca.sign(&params, &key)?, ca.certificate().clone()];

    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    let verifier = verifier.build().map_err(|error| TlsError::Make(error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(config).map_err(|error| TlsError::Make(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport)).max_incoming(64).incoming_buffer_size(8 << 10).incoming_buffer_size_total(512 << 10);
    Ok(server)
}

/// For a guest: any desk below the authority that the token names.
pub(super) fn guest(token: &JoinToken) -> Result<quinn::ClientConfig, TlsError> {
    let config = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    client(config.dangerous().with_custom_certificate_verifier(Arc::new(Named(token.clone()))).with_no_client_auth())
}

/// For a member: any desk below its own authority.
pub(super) fn member(identity: &Identity) -> Result<quinn::ClientConfig, TlsError> {
    let config = rustls::ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let (roots, chain, key) = identity.for_client();
    client(config.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
}

fn client(mut config: rustls::ClientConfig) -> Result<quinn::ClientConfig, TlsError> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(config).map_err(|error| TlsError::Make(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(super::transport()));
    Ok(client)
}

/// Trusts the authority whose fingerprint the token has, where the desk shows it, and nothing else.
#[derive(Debug)]
struct Named(JoinToken);

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        desk: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = others.iter().find(|certificate| self.0.is_of(certificate)).ok_or_else(|| unknown.clone())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(|_| unknown)?;
        verifier.verify_server_cert(desk, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        desk: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, desk, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
