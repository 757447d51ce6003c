//! Certificates as files: what a person carries who may look or command without the authority's key.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::identity::{Identity, now, provider};
use super::{Peer, TlsError};

/// The longest file that is read: three times what one has.
const LONGEST: u64 = 8 << 10;

impl Identity {
    /// Key, certificate and the authority's certificate, in this order. Keep it secret: who has it is this identity.
    pub fn to_pem(&self) -> String {
        block("PRIVATE KEY", self.key.serialized_der()) + &certificates_to_pem(&self.certificate, &self.authority)
    }

    /// What [`Identity::to_pem`] wrote. It may have expired, see [`Identity::until_ms`].
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`] when a part is missing or damaged, or the parts do not belong together.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad("its key", &error))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|error| bad("its key", &error))?;
        Self::with_key(Arc::new(key), pem)
    }

    /// The identity that a key and certificates for it make.
    pub(super) fn with_key(key: Arc<KeyPair>, certificates: &str) -> Result<Self, TlsError> {
        let (certificate, authority) = certificates_of_pem(certificates)?;
        let made = Self::of_parts(certificate, authority, key).map_err(|error| bad("a certificate", &error))?;
        if made.me.id != Peer::id_of_key(&*made.key) {
            return Err(TlsError::NoCertificate("certificate and key do not belong together".into()));
        }
        // Judged at a time when it was good: whether it still is, handshakes decide.
        let verifier = WebPkiClientVerifier::builder_with_provider(made.roots.clone(), provider());
        let verifier = verifier.build().map_err(|error| bad("the authority's certificate", &error))?;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(made.valid.0));
        verifier.verify_client_cert(&made.certificate, &[], then).map_err(|error| bad("the authority did not sign it", &error))?;
        Ok(made)
    }

    /// The same key with certificates that came for it.
    pub(crate) fn with_certificates(&self, pem: &str) -> Result<Self, TlsError> {
        let made = Self::with_key(self.key.clone(), pem)?;
        match made.me == self.me && made.authority == self.authority {
            true => Ok(made),
            false => Err(TlsError::OtherKey(format!("{made:?} is not {self:?}"))),
        }
    }

    /// Writes it to a file that only its owner can read; one that is there is replaced at once.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn write(&self, path: &Path) -> Result<(), TlsError> {
        let pem = self.to_pem();
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", &blake3::hash(pem.as_bytes()).to_hex()[..16]));
        let draft = Path::new(&draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
        let written = file.and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(draft, path)).map_err(|error| {
            // The draft may not even be there.
            let _ = fs::remove_file(draft);
            TlsError::File { path: path.to_owned(), error }
        })
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// [`TlsError`] when it cannot be read, others can read it too, it is none or it has expired.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let file = |error| TlsError::File { path: path.to_owned(), error };
        let found = fs::metadata(path).map_err(file)?;
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TlsError::Exposed { path: path.to_owned(), mode });
        }
        if found.len() > LONGEST {
            return Err(TlsError::NoCertificate(format!("a file of {} bytes", found.len())));
        }
        let read = Self::from_pem(&fs::read_to_string(path).map_err(file)?)?;
        let ago_s = now().as_secs().saturating_sub(read.valid.1);
        if ago_s > 0 { Err(TlsError::Expired { role: read.me.role, ago_s }) } else { Ok(read) }
    }
}

/// The certificate and that of its authority, as PEM.
pub(super) fn certificates_to_pem(certificate: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> String {
    [certificate, authority].map(|der| block("CERTIFICATE", der)).concat()
}

fn certificates_of_pem(pem: &str) -> Result<(CertificateDer<'static>, CertificateDer<'static>), TlsError> {
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes()).take(2);
    let mut next = |what: &str| found.next().ok_or_else(|| TlsError::NoCertificate(format!("{what} is missing")));
    let certificate = next("its certificate")?.map_err(|error| bad("its certificate", &error))?;
    let authority = next("the authority's certificate")?.map_err(|error| bad("the authority's certificate", &error))?;
    Ok((certificate, authority))
}

fn bad(what: &str, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::NoCertificate(format!("{what}: {error}"))
}

fn block(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::{Role, RunCa};
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_identity_survives_its_file_and_only_its_owner_reads_it() {
        let ca = RunCa::generate("demo").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("viewer.pem");
        for role in [Role::Viewer, Role::Admin, Role::Node] {
            let identity = Identity::issue(&ca, role, DAY).unwrap();
            identity.write(&path).unwrap();
            let again = Identity::read(&path).unwrap();
            assert_eq!((again.peer(), again.until_ms(), again.to_pem()), (identity.peer(), identity.until_ms(), identity.to_pem()));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        let key = ca.to_pem();
        assert!(
            !Identity::read(&path).unwrap().to_pem().contains(&key[key.find("-----BEGIN PRIVATE").unwrap()..]),
            "no key of the authority"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::read(&path), Err(TlsError::Exposed { mode: 0o640, .. })));
        let missing = Identity::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: ") && missing.contains("a certificate and its key"), "{missing}");
    }

    #[test]
    fn what_is_no_identity_is_refused_with_the_reason() {
        let (ca, other) = (RunCa::generate("demo").unwrap(), RunCa::generate("demo").unwrap());
        let [a, b] = [&ca, &other].map(|ca| Identity::issue(ca, Role::Viewer, DAY).unwrap());
        let parts = |identity: &Identity| -> Vec<String> {
            identity.to_pem().split_inclusive("-----\n").collect::<Vec<_>>().chunks(2).map(|two| two.concat()).collect()
        };
        let (x, y) = (parts(&a), parts(&b));
        assert_eq!(x.len(), 3);
        assert!(Identity::from_pem(&x.concat()).is_ok());
        let cases = [
            (String::new(), "its key"),
            ("nonsense".into(), "its key"),
            (ca.to_pem(), "the authority's certificate is missing"),
            (x[0].clone(), "its certificate is missing"),
            (x[..2].concat(), "the authority's certificate is missing"),
            ([&*y[0], &x[1], &x[2]].concat(), "certificate and key do not belong together"),
            ([&*x[0], &x[1], &y[2]].concat(), "the authority did not sign it"),
            ([&*x[0], &x[2], &x[1]].concat(), "a certificate"),
        ];
        for (pem, because) in cases {
            let error = Identity::from_pem(&pem).unwrap_err().to_string();
            assert!(error.contains(because), "{because}: {error}");
        }
    }

    #[test]
    fn an_expired_file_says_so() {
        let ca = RunCa::generate("demo").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.pem");
        Identity::issue_between(&ca, Role::Viewer, DAY * 100, DAY * 200).unwrap().write(&path).unwrap();
        let error = Identity::read(&path).unwrap_err();
        assert!(matches!(error, TlsError::Expired { role: Role::Viewer, ago_s } if ago_s > 86_400), "{error}");
    }

    #[test]
    fn a_renewed_identity_has_the_same_id_and_lasts_longer() {
        let (ca, other) = (RunCa::generate("demo").unwrap(), RunCa::generate("demo").unwrap());
        let short = Identity::issue(&ca, Role::Node, DAY).unwrap();
        let long = short.renewed(&ca, 3 * DAY).unwrap();
        assert_eq!(long.peer(), short.peer());
        assert!(long.until_ms() >= short.until_ms() + 2 * 86_400_000);
        assert!(short.renew_at_ms() < short.until_ms() && short.renew_at_ms() > short.until_ms() - 86_400_000 / 2);
        assert!(matches!(short.renewed(&other, DAY), Err(TlsError::OtherKey(_))));
    }
}
