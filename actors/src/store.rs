//! The run in its object store: the one thing that its nodes share.
//!
//! A [`Store`] is a location (today a folder; a bucket once a build carries that feature) with the few
//! operations that the runtime relies on. What they guarantee:
//!
//! - [`Store::create`] publishes a record only where none is: of any number of callers exactly one is
//!   told [`Created::Mine`]. An unclear answer is cleared up by looking, so bodies must differ between
//!   callers (put a nonce in).
//! - A write that returned is durable: in a folder the file was fsynced before it got its name, and
//!   the folder after.
//! - Readers never see half a record of a caller that died: an object appears whole or not at all.
//! - Nothing is read into memory beyond the size that the caller allows.

mod error;
pub mod faulty;
mod hashed;
mod still;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::aside::aside;
pub use error::StoreError;
use error::{from_io, from_store};

/// The largest record that [`Store::create`] reads back to see whose it is.
const RECORD_MAX: u64 = 64 << 20;
/// How many deletions of one call are under way at a time.
const DELETES_AT_ONCE: usize = 16;
/// Lines of a probe: some tens of kilobytes. A disk that has less room would take a node in and then no record of it.
const PROBE_LINES: usize = 1_024;

type Result<T> = std::result::Result<T, StoreError>;

/// What became of a create-if-absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The record is there and it is the caller's.
    Mine,
    /// Another record was there first: its bytes.
    Exists(Bytes),
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key, relative to the run's location.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, milliseconds since the Unix epoch by the store's clock.
    pub modified_ms: u64,
}

/// A run's location. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    place: Arc<str>,
    folder: Option<Arc<std::path::Path>>,
}

impl Store {
    /// Opens a run's location for reading and writing; a folder is created when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for a bucket, [`StoreError::NotAFolder`] for a file,
    /// [`StoreError::ReadOnly`] or [`StoreError::Full`] when the folder cannot be written.
    pub fn open(location: &str) -> Result<Self> {
        let folder = folder_of(location)?;
        std::fs::create_dir_all(&folder).map_err(|e| from_io(location, &e))?;
        let store = Self::existing(location, folder)?;
        store.check_writable(location)?;
        match std::env::var_os(faulty::SWITCH) {
            Some(switch) => Ok(Self { inner: Arc::new(faulty::Faulty::switched(store.inner, switch.into())), ..store }),
            None => Ok(store),
        }
    }

    /// Opens the location of a run that exists, for reading: nothing is created or written.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::NotFound`] when nothing is there.
    pub fn open_existing(location: &str) -> Result<Self> {
        let folder = folder_of(location)?;
        Self::existing(location, folder)
    }

    /// Any object store as a run's location, for instance [`faulty::Faulty`]. `place` names it in errors.
    pub fn with(inner: Arc<dyn ObjectStore>, place: &str) -> Self {
        Self { inner, place: place.into(), folder: None }
    }

    /// The same place under another name in errors: a simulation says the same wherever its folder is.
    pub fn known_as(self, place: &str) -> Self {
        Self { place: place.into(), ..self }
    }

    /// The same place behind a store that fails on demand.
    pub fn behind_faults(&self) -> (Self, Arc<faulty::Faulty>) {
        let faulty = Arc::new(faulty::Faulty::new(self.inner.clone()));
        (Self { inner: faulty.clone(), place: self.place.clone(), folder: self.folder.clone() }, faulty)
    }

    fn existing(location: &str, folder: PathBuf) -> Result<Self> {
        let about = std::fs::metadata(&folder).map_err(|e| from_io(location, &e))?;
        if !about.is_dir() {
            return Err(StoreError::NotAFolder { place: location.into() });
        }
        let folder = std::fs::canonicalize(&folder).map_err(|e| from_io(location, &e))?;
        let inner = LocalFileSystem::new_with_prefix(&folder).map_err(|e| from_store(location, e))?;
        let inner: Arc<dyn ObjectStore> = match crate::clock::is_simulated() {
            true => Arc::new(still::Still::new(inner)),
            false => Arc::new(inner.with_fsync(true)),
        };
        Ok(Self { inner, place: location.into(), folder: Some(folder.into()) })
    }

    fn check_writable(&self, location: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let trial = folder.join(format!(".writable-{}", std::process::id()));
        std::fs::write(&trial, b"everstep").map_err(|e| from_io(location, &e))?;
        std::fs::remove_file(&trial).map_err(|e| from_io(location, &e))
    }

    /// The location as the user named it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The folder, when the location is one.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }

    /// Checks that there is some room and that a second create of a key really fails here; everything about epochs rests on it.
    /// `nonce` keeps apart the probes of several nodes.
    ///
    /// # Errors
    /// [`StoreError::NotExclusive`] when the second create went through, or what the store answered.
    pub async fn probe(&self, nonce: &str) -> Result<()> {
        let key = format!("probes/{nonce}");
        let body = |which: &str| Bytes::from(format!("{nonce} {which}\n").repeat(PROBE_LINES));
        let first = self.create(&key, body("first")).await?;
        let second = self.create(&key, body("second")).await?;
        let refused = first == Created::Mine && matches!(second, Created::Exists(_));
        let kept = self.get(&key, RECORD_MAX).await? == body("first");
        self.delete(&key).await?;
        if refused && kept { Ok(()) } else { Err(StoreError::NotExclusive { place: self.place.to_string() }) }
    }

    /// Publishes a record where none is.
    ///
    /// When the store's answer is unclear (an error although the record may have arrived) the key is read
    /// and compared with `body`. An error therefore means that the record was not there when last looked
    /// for; a caller that asks again must ask with the same key and body.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn create(&self, key: &str, body: Bytes) -> Result<Created> {
        let path = self.path(key)?;
        let options = PutOptions::from(PutMode::Create);
        let Err(failed) = self.inner.put_opts(&path, PutPayload::from_bytes(body.clone()), options).await else {
            return Ok(Created::Mine);
        };
        let taken = matches!(failed, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. });
        match self.get(key, RECORD_MAX).await {
            Ok(found) if found == body => Ok(Created::Mine),
            Ok(found) => Ok(Created::Exists(found)),
            Err(error) if taken => Err(error),
            Err(_) => Err(self.error(key, failed)),
        }
    }

    /// Writes an object, in place of an older one if there is one.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn put(&self, key: &str, body: impl Into<PutPayload>) -> Result<()> {
        let put = self.inner.put(&self.path(key)?, body.into()).await;
        put.map(drop).map_err(|e| self.error(key, e))
    }

    /// Reads an object of at most `cap` bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::TooLarge`] (before anything is read), or what the store answered.
    pub async fn get(&self, key: &str, cap: u64) -> Result<Bytes> {
        let found = self.inner.get(&self.path(key)?).await.map_err(|e| self.error(key, e))?;
        let size = found.meta.size;
        if size > cap {
            return Err(StoreError::TooLarge { place: self.at(key), bytes: size, cap });
        }
        let body = found.bytes().await.map_err(|e| self.error(key, e))?;
        if body.len() as u64 > cap {
            return Err(StoreError::TooLarge { place: self.at(key), bytes: body.len() as u64, cap });
        }
        Ok(body)
    }

    /// Reads some ranges of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or what the store answered (also for a range beyond the end).
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(&self.path(key)?, ranges).await.map_err(|e| self.error(key, e))
    }

    /// The size of an object, or `None` where there is none.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn head(&self, key: &str) -> Result<Option<u64>> {
        match self.inner.head(&self.path(key)?).await {
            Ok(about) => Ok(Some(about.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// All objects below a prefix (whole path segments), in the order of their keys.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let path = self.path(prefix)?;
        let modified_ms = |about: &object_store::ObjectMeta| u64::try_from(about.last_modified.timestamp_millis()).unwrap_or(0);
        let found = self.inner.list(Some(&path)).map_ok(|about| Entry {
            modified_ms: modified_ms(&about),
            key: about.location.to_string(),
            bytes: about.size,
        });
        let mut entries: Vec<Entry> = found.try_collect().await.map_err(|e| self.error(prefix, e))?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// The names right below a prefix that have objects (or, in a folder, anything) below them.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let found = self.inner.list_with_delimiter(Some(&self.path(prefix)?)).await.map_err(|e| self.error(prefix, e))?;
        Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_string)).collect())
    }

    /// Removes what listings do not show below a prefix: in a folder, the unfinished files of writers that
    /// died and empty folders. A bucket has neither. Whatever else is there goes too.
    ///
    /// # Errors
    /// What the folder answered, see [`StoreError`].
    pub async fn sweep(&self, prefix: &str) -> Result<()> {
        self.path(prefix)?;
        let Some(folder) = self.folder.as_ref().map(|root| root.join(prefix)) else { return Ok(()) };
        match aside(move || std::fs::remove_dir_all(folder)).await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(from_io(&self.at(prefix), &error)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(prefix, &error)),
        }
    }

    /// Deletes an object; none there is fine. In a folder the deletion is durable when this returns.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.inner.delete(&self.path(key)?).await {
            Ok(()) => self.sync_folder_of(key).await,
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// Deletes many objects.
    ///
    /// # Errors
    /// The first that the store answered; the others were tried all the same.
    pub async fn delete_all(&self, keys: Vec<String>) -> Result<()> {
        let deletes = futures::stream::iter(keys).map(|key| async move { self.delete(&key).await });
        let results: Vec<Result<()>> = deletes.buffer_unordered(DELETES_AT_ONCE).collect().await;
        results.into_iter().collect()
    }

    /// LocalFileSystem leaves a deletion to the page cache; retention relies on the order of deletions.
    async fn sync_folder_of(&self, key: &str) -> Result<()> {
        let Some(folder) = self.folder.as_ref().and_then(|root| root.join(key).parent().map(PathBuf::from)) else {
            return Ok(());
        };
        if crate::clock::is_simulated() {
            // Its machine never loses power.
            return Ok(());
        }
        let synced = aside(move || std::fs::File::open(&folder)?.sync_all()).await;
        match synced {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(from_io(&self.at(key), &error)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(key, &error)),
        }
    }

    fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|error| StoreError::BadKey { place: self.at(key), because: error.to_string() })
    }

    /// A key with its location, as errors name it.
    pub fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.place.trim_end_matches('/'))
    }

    fn error(&self, key: &str, error: object_store::Error) -> StoreError {
        from_store(&self.at(key), error)
    }
}

/// The folder that a location names.
fn folder_of(location: &str) -> Result<PathBuf> {
    match location.split_once("://") {
        _ if location.is_empty() => Err(StoreError::NotAFolder { place: location.into() }),
        None => Ok(PathBuf::from(location)),
        Some(("file", rest)) if rest.starts_with('/') => Ok(PathBuf::from(rest)),
        Some((scheme, _)) => Err(StoreError::Unsupported { place: location.into(), scheme: scheme.into() }),
    }
}
