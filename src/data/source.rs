//! A source of images: random access to the files behind an index.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::data::index::{Index, NO_LABEL, OpenError, Place};

/// Largest file of an image.
pub const IMAGE_BYTES_MAX: u64 = 256 << 20;
/// Largest sidecar of attributes.
pub const ATTRIBUTES_BYTES_MAX: u32 = 1 << 20;
/// Shards that are kept open.
const OPEN_FILES: usize = 32;

/// An image's bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The same on every machine and at every try: another image takes its place.
    #[error("its file has {len} bytes, more than {IMAGE_BYTES_MAX}; shrink it or remove it")]
    TooLarge {
        /// Bytes of the file.
        len: u64,
    },
    /// May differ between machines and tries, so no other image may take its place.
    #[error("{}: {name} cannot be read ({source}); check the disk, or whether the data changed while the run uses it", path.display())]
    Io {
        /// The shard or file.
        path: PathBuf,
        /// The image's name.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The sidecar of attributes is not a JSON object of acceptable size.
    #[error(
        "the attributes of {name} are not a flat JSON object below {ATTRIBUTES_BYTES_MAX} bytes ({problem}); correct or remove its .json"
    )]
    Attributes {
        /// The image's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// One attribute of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// A source of images, numbered from 0. Shared by threads; reads have no common cursor.
#[derive(Debug)]
pub struct Source {
    place: String,
    index: Index,
    digest: blake3::Hash,
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

impl Source {
    /// Opens a folder of images (any depth), a tar, a folder of tar shards, or a brace / glob pattern of tar shards.
    /// The index is kept in the folder `cache`, if one is given.
    ///
    /// # Errors
    /// One sentence with the place and the remedy.
    pub fn open(place: &str, cache: Option<&Path>) -> Result<Self, OpenError> {
        let index = Index::open(place, cache)?;
        let digest = digest(&index);
        Ok(Self { place: place.to_owned(), index, digest, open: Mutex::default() })
    }

    /// The source as it was given.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Number of images, at least 1.
    pub fn len(&self) -> u64 {
        self.index.names.len() as u64
    }

    /// Whether there are no images: never, such a source does not open.
    pub fn is_empty(&self) -> bool {
        self.index.names.len() == 0
    }

    /// Name of an image: its path below the folder or in the tar.
    pub fn name(&self, sample: u64) -> &str {
        self.index.names.get(sample as usize)
    }

    /// Label of an image, an index into [`Source::classes`].
    pub fn label(&self, sample: u64) -> Option<u32> {
        Some(self.index.labels[sample as usize]).filter(|label| *label != NO_LABEL)
    }

    /// Names of the classes. From folder names and named `.cls` files: sorted. If all `.cls` files hold numbers: `0..=max`.
    pub fn classes(&self) -> &[String] {
        &self.index.classes
    }

    /// Number of images of each shard. A folder is one shard.
    pub fn shards(&self) -> Vec<u64> {
        self.index.firsts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Digest of the names, sizes and labels in order: tells whether a run sees the data that it began with.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }

    /// The bytes of an image's file.
    ///
    /// # Errors
    /// The file is too large, or cannot be read.
    pub fn bytes(&self, sample: u64) -> Result<Bytes, ReadError> {
        let i = sample as usize;
        let len = self.index.lens[i];
        if len > IMAGE_BYTES_MAX {
            return Err(ReadError::TooLarge { len });
        }
        self.read(sample, self.name(sample), self.index.offsets[i], len as usize).map(Bytes::from)
    }

    /// The attributes of an image from its sidecar `key.json`; empty without one. Values that are neither text nor number are left out.
    ///
    /// # Errors
    /// The sidecar cannot be read or is not a JSON object.
    pub fn attributes(&self, sample: u64) -> Result<BTreeMap<String, Attribute>, ReadError> {
        let name = self.name(sample);
        let wrong = |problem: String| ReadError::Attributes { name: name.to_owned(), problem };
        let (offset, len) = self.index.attributes[sample as usize];
        if len == 0 {
            return Ok(BTreeMap::new());
        }
        if len > ATTRIBUTES_BYTES_MAX {
            return Err(wrong(format!("it has {len} bytes")));
        }
        let sidecar = name.rsplit_once('.').map_or_else(|| name.to_owned(), |(key, _)| format!("{key}.json"));
        let bytes = self.read(sample, &sidecar, offset, len as usize)?;
        let values: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let attribute = |value| match value {
            serde_json::Value::String(text) => Some(Attribute::Text(text)),
            serde_json::Value::Number(number) => number.as_f64().map(Attribute::Number),
            _ => None,
        };
        Ok(values.into_iter().filter_map(|(key, value)| Some((key, attribute(value)?))).collect())
    }

    fn read(&self, sample: u64, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        let (path, file) = match &self.index.place {
            Place::Folder(root) => {
                let path = root.join(name);
                let file = File::open(&path).map(Arc::new);
                (path, file)
            }
            Place::Shards(shards) => {
                let shard = self.index.firsts.partition_point(|&first| first <= sample) - 1;
                (shards[shard].clone(), self.shard(shard, &shards[shard]))
            }
        };
        let mut bytes = vec![0; len];
        match file.and_then(|file| file.read_exact_at(&mut bytes, offset)) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(ReadError::Io { path, name: name.to_owned(), source }),
        }
    }

    /// The open file of a shard; the one used longest ago is closed when there are too many.
    fn shard(&self, shard: usize, path: &Path) -> std::io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().position(|(number, _)| *number == shard);
        let entry = match known.and_then(|i| open.remove(i)) {
            Some(entry) => entry,
            None => (shard, Arc::new(File::open(path)?)),
        };
        let file = Arc::clone(&entry.1);
        open.push_back(entry);
        if open.len() > OPEN_FILES {
            open.pop_front();
        }
        Ok(file)
    }
}

fn digest(index: &Index) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for i in 0..index.names.len() {
        let name = index.names.get(i);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&index.lens[i].to_le_bytes());
        hasher.update(&index.labels[i].to_le_bytes());
    }
    index.firsts.iter().for_each(|first| {
        hasher.update(&first.to_le_bytes());
    });
    hasher.finalize()
}

#[cfg(test)]
pub(crate) mod tests;
