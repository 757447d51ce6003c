//! Who is who: a certificate authority for each run, a certificate for each process, and the node id in it.

mod denied;
pub(crate) mod identity;
mod pem;
mod token;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::protocol::ids::NodeId;

pub use denied::{DENIED_MAX, Denied, KeyName};
pub use identity::{Identity, Peer, Role};
pub use token::{Applicant, JoinToken, TokenError, Tokens};

/// The one protocol that two nodes can agree on.
pub const ALPN: &[u8] = b"everstep/1";

const FILE: &str = "ca.pem";

/// Why keys and certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file system said no.
    #[error("{path}: {error}; the run keeps its certificate authority there and needs a local folder that it can write")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// Others can read the key.
    #[error("{path} is readable by others (mode {mode:o}): whoever has it can join the run; make it private with `chmod 600`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The PEM holds no authority of ours.
    #[error(
        "the certificate authority is damaged ({0}); restore {FILE} from a copy, or delete it to make a new one and restart every node"
    )]
    Damaged(String),
    /// A certificate does not say who it is for.
    #[error("the certificate names no everstep role: {0}")]
    NoRole(String),
    /// A certificate's file cannot be read or written.
    #[error("{path}: {error}; a certificate and its key are to be there, in a file that you can read and write")]
    File {
        /// Where.
        path: PathBuf,
        /// What the file system said.
        error: std::io::Error,
    },
    /// The PEM holds no certificate that can be used.
    #[error("this is no certificate of a run ({0}); ask whoever holds the run's authority for a new one")]
    NoCertificate(String),
    /// It was good once.
    #[error("the certificate of this {role} has expired {ago_s} s ago; ask whoever holds the run's authority for a new one")]
    Expired {
        /// What it allowed.
        role: Role,
        /// Seconds since its end.
        ago_s: u64,
    },
    /// A renewed certificate is for somebody else.
    #[error("a certificate can only be renewed for the same key, role and run: {0}")]
    OtherKey(String),
    /// The node is to get no certificate any more.
    #[error("node {0} was put out of the run and gets no further certificate")]
    Denied(NodeId),
    /// The library could not make or use a key.
    #[error("making a certificate failed: {0}")]
    Make(String),
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}
impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Make(error.to_string())
    }
}

/// The certificate authority of one run. Who holds it can join.
pub struct RunCa {
    run: String,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for RunCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunCa").field("run", &self.run).finish_non_exhaustive()
    }
}

impl RunCa {
    /// A new authority. In `run_name` characters other than letters, digits, `.`, `_` and `-` become
    /// `-`, and what is beyond 64 is cut.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library has no randomness.
    pub fn generate(run_name: &str) -> Result<Self, TlsError> {
        Self::with_key(run_name, KeyPair::generate_for(&PKCS_ED25519)?)
    }

    /// As [`RunCa::generate`], with a key that follows from `seed`: for replays, since whoever knows the seed has the key.
    ///
    /// # Errors
    /// [`TlsError::Make`] when the library cannot make it.
    pub fn seeded(run_name: &str, seed: [u8; 32]) -> Result<Self, TlsError> {
        Self::with_key(run_name, identity::key_of(seed)?)
    }

    fn with_key(run_name: &str, key: KeyPair) -> Result<Self, TlsError> {
        let run: String = run_name.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        // A subject of its own for every key: a certificate of another run then has an unknown issuer, not a bad signature.
        let mut name = format!("everstep/{run}/");
        blake3::hash(key.public_key_raw()).as_bytes()[..8].iter().try_for_each(|b| write!(name, "{b:02x}")).expect("a string takes all");
        let params = ca_params(&name);
        let certificate = params.self_signed(&key)?;
        Ok(Self { run, certificate: certificate.der().clone(), certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority as [`RunCa::to_pem`] wrote it.
    ///
    /// # Errors
    /// [`TlsError::Damaged`] when certificate or key are missing, are no PEM or do not belong together.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let damaged = |what: &str, error: &dyn std::fmt::Display| TlsError::Damaged(format!("{what}: {error}"));
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged("its certificate", &e))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| damaged("its key", &e))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|e| damaged("its key", &e))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|e| damaged("its certificate", &e))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(TlsError::Damaged("certificate and key do not belong together".into()));
        }
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
        let run = name.strip_prefix("everstep/").and_then(|rest| rest.rsplit_once('/')).map(|(run, _)| run.to_owned());
        let run = run.ok_or_else(|| TlsError::Damaged(format!("`{name}` is the name of no run")))?;
        let end = pem.find("-----BEGIN PRIVATE KEY-----").unwrap_or(pem.len());
        Ok(Self { run, certificate, certificate_pem: pem[..end].to_owned(), issuer: Issuer::new(ca_params(&name), key) })
    }

    /// Certificate and private key as PEM. Keep it secret.
    pub fn to_pem(&self) -> String {
        let mut pem = self.certificate_pem.trim_end().replace("\r\n", "\n");
        pem.push('\n');
        pem + &self.issuer.key().serialize_pem()
    }

    /// The authority that is kept in `dir`, made there at first (mode 0600). Of several processes that
    /// come at once one makes it and all get the same.
    ///
    /// # Errors
    /// [`TlsError`] when the folder cannot be used, others may read the file or it is damaged.
    pub fn load_or_create(dir: &Path, run_name: &str) -> Result<Self, TlsError> {
        let path = dir.join(FILE);
        match load(&path)? {
            Some(ca) => Ok(ca),
            None => {
                publish(dir, &path, Self::generate(run_name)?.to_pem().as_bytes())?;
                load(&path)?.ok_or_else(|| TlsError::Io { path, error: ErrorKind::NotFound.into() })
            }
        }
    }

    /// The authority that is kept in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// [`TlsError`] when it cannot be read, others may read the file or it is damaged.
    pub fn load(dir: &Path) -> Result<Option<Self>, TlsError> {
        load(&dir.join(FILE))
    }

    /// The authority's certificate: no secret.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<CertificateDer<'static>, TlsError> {
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }

    /// The run's name, as it stands in certificates.
    pub fn run(&self) -> &str {
        &self.run
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn load(path: &Path) -> Result<Option<RunCa>, TlsError> {
    let io = |error| TlsError::Io { path: path.to_owned(), error };
    let pem = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        pem => pem.map_err(io)?,
    };
    let mode = fs::metadata(path).map_err(io)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    RunCa::from_pem(&pem).map(Some)
}

/// A hard link never replaces and never shows half a file: the first wins, the others read it.
fn publish(dir: &Path, path: &Path, pem: &[u8]) -> Result<(), TlsError> {
    let io = |path: &Path, error| TlsError::Io { path: path.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io(dir, e))?;
    let draft = dir.join(format!("{FILE}.{}", blake3::hash(pem).to_hex()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(|e| io(&draft, e))?;
    let linked = file.write_all(pem).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io(path, error)),
        _ => removed.map_err(|e| io(&draft, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_authority_survives_pem() {
        let ca = RunCa::generate("demo run/1").unwrap();
        let again = RunCa::from_pem(&ca.to_pem()).unwrap();
        assert_eq!((again.run(), &again.certificate), ("demo-run-1", &ca.certificate));
        assert_eq!(again.to_pem(), ca.to_pem());
    }

    #[test]
    fn of_one_seed_there_is_one_authority_and_one_node() {
        let made = |seed: u8| {
            let ca = RunCa::seeded("demo", [1; 32]).unwrap();
            let node = Identity::seeded(&ca, Role::Node, std::time::Duration::from_secs(60), [seed; 32]).unwrap();
            (ca.to_pem(), node.id())
        };
        assert_eq!(made(2), made(2));
        assert_ne!(made(2).1, made(3).1);
    }

    #[test]
    fn a_damaged_authority_is_named() {
        let (a, b) = (RunCa::generate("a").unwrap().to_pem(), RunCa::generate("b").unwrap().to_pem());
        let split = |pem: &str| pem.find("-----BEGIN PRIVATE").unwrap();
        let crossed = format!("{}{}", &a[..split(&a)], &b[split(&b)..]);
        for bad in ["", "nonsense", &a[..split(&a)], &a[split(&a)..], &crossed, &a[..a.len() / 3]] {
            assert!(matches!(RunCa::from_pem(bad), Err(TlsError::Damaged(_))), "{bad}");
        }
    }

    #[test]
    fn all_who_come_at_once_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        let barrier = std::sync::Barrier::new(8);
        let all: Vec<String> = std::thread::scope(|scope| {
            let one = || {
                barrier.wait();
                RunCa::load_or_create(&secrets, "demo").unwrap().to_pem()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|pem| *pem == all[0]));
        assert_eq!(fs::metadata(secrets.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&secrets).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn who_only_looks_makes_no_authority() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RunCa::load(dir.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let made = RunCa::load_or_create(dir.path(), "demo").unwrap();
        assert_eq!(RunCa::load(dir.path()).unwrap().unwrap().to_pem(), made.to_pem());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        RunCa::load_or_create(dir.path(), "demo").unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let error = RunCa::load_or_create(dir.path(), "demo").unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
    }
}
