//! Large objects whose key holds the digest of their contents, written in one pass over memory.
//!
//! In a folder each chunk is hashed and written while it is in the cache, and the disk is set to work on it at
//! once instead of at the end, so that hashing, copying and the disk overlap. (`LocalFileSystem` wants the name first,
//! and leaves all of the writing to the fsync.) The steps are its own: an unfinished file that no listing shows,
//! fsync, rename, fsync of the folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use blake3::{Hash, Hasher};
use bytes::Bytes;

use super::error::from_io;
use super::{Result, Store, StoreError};
use crate::aside::aside;

/// What is hashed, then written: fits a core's cache.
const PIECE: usize = 256 << 10;
/// How much is written before the disk is set to work on it.
const STRETCH: u64 = 8 << 20;

impl Store {
    /// Writes an object in `folder` whose name is made from the BLAKE3 of its data; `header` goes before the data and is
    /// not hashed. Returns the digest and the key. An object of that name is replaced.
    ///
    /// # Errors
    /// What the store answered, see [`StoreError`].
    pub async fn put_hashed<N>(&self, folder: &str, header: Bytes, data: Vec<Bytes>, name: N) -> Result<(Hash, String)>
    where
        N: FnOnce(&Hash) -> String + Send + 'static,
    {
        self.path(folder)?;
        let Some(root) = self.folder.clone() else { return self.hash_then_put(folder, header, data, name).await };
        let (place, below) = (self.at(folder), folder.to_string());
        let written = aside(move || {
            let dir = make_folder(&root, &below)?;
            let unfinished = Unfinished::new(&dir)?;
            let hash = unfinished.fill(&header, &data)?;
            let name = name(&hash);
            unfinished.publish(&dir, &name)?;
            Ok((hash, format!("{below}/{name}")))
        });
        let written: io::Result<(Hash, String)> = written.await.map_err(|error| self.broken(folder, &error))?;
        written.map_err(|error| from_io(&place, &error))
    }

    async fn hash_then_put<N>(&self, folder: &str, header: Bytes, data: Vec<Bytes>, name: N) -> Result<(Hash, String)>
    where
        N: FnOnce(&Hash) -> String + Send + 'static,
    {
        let chunks = data.clone();
        let hashed = aside(move || {
            let mut hasher = Hasher::new();
            chunks.iter().for_each(|chunk| {
                hasher.update(chunk);
            });
            hasher.finalize()
        });
        let hash = hashed.await.map_err(|error| self.broken(folder, &error))?;
        let key = format!("{folder}/{}", name(&hash));
        let payload: object_store::PutPayload = std::iter::once(header).chain(data).collect();
        self.put(&key, payload).await?;
        Ok((hash, key))
    }

    pub(super) fn broken(&self, key: &str, error: &tokio::task::JoinError) -> StoreError {
        StoreError::Unavailable { place: self.at(key), because: error.to_string() }
    }
}

/// Creates the missing folders below `root`, durably.
fn make_folder(root: &Path, below: &str) -> io::Result<PathBuf> {
    let mut dir = root.to_path_buf();
    for name in below.split('/') {
        let parent = dir.clone();
        dir.push(name);
        match std::fs::create_dir(&dir) {
            Ok(()) => File::open(parent)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(dir)
}

/// A file that listings do not show (`#` and digits end its name); removed unless it is published.
struct Unfinished {
    file: File,
    path: PathBuf,
}

impl Unfinished {
    fn new(dir: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("part#{}{number:010}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn fill(&self, header: &[u8], data: &[Bytes]) -> io::Result<Hash> {
        let mut hasher = Hasher::new();
        let mut file = &self.file;
        file.write_all(header)?;
        let (mut written, mut started) = (header.len() as u64, 0);
        for piece in data.iter().flat_map(|chunk| chunk.chunks(PIECE)) {
            hasher.update(piece);
            file.write_all(piece)?;
            written += piece.len() as u64;
            if written - started >= STRETCH {
                self.start_writing(started, written);
                started = written;
            }
        }
        self.file.sync_all()?;
        Ok(hasher.finalize())
    }

    /// Linux begins to write a range back when it is declared unneeded; the pages stay until they are clean.
    /// Only a hint: where it fails, the fsync does all the work.
    fn start_writing(&self, from: u64, to: u64) {
        let _ = rustix::fs::fadvise(&self.file, from, NonZeroU64::new(to - from), rustix::fs::Advice::DontNeed);
    }

    fn publish(&self, dir: &Path, name: &str) -> io::Result<()> {
        std::fs::rename(&self.path, dir.join(name))?;
        File::open(dir)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once published there is nothing left under this name.
        let _ = std::fs::remove_file(&self.path);
    }
}
