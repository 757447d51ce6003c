//! The index on disk: one file per source, replaced as a whole.
//!
//! Layout: magic, key of the listing, digest of the body, body. The body is the columns, each as a little-endian
//! u64 count and its values. A file that does not check out is as good as none.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Index, Names, Place};

const MAGIC: &[u8; 16] = b"everstep index 1";
const HEAD: usize = 16 + 32 + 32;

/// The cache's file for a source.
pub fn file_of(folder: &Path, place: &str) -> PathBuf {
    let place = std::path::absolute(place).unwrap_or_else(|_| place.into());
    let digest = blake3::hash(place.as_os_str().as_bytes()).to_hex();
    folder.join(format!("index-{}.bin", &digest[..16]))
}

/// The cached index, if it is whole and of this listing.
pub(super) fn read(file: &Path, key: &blake3::Hash) -> Option<Index> {
    let bytes = std::fs::read(file).ok()?;
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let whole = head[..16] == *MAGIC && head[16..48] == *key.as_bytes() && head[48..] == *blake3::hash(body).as_bytes();
    if !whole {
        return None;
    }
    let mut reader = Reader(body);
    let index = reader.index()?;
    reader.0.is_empty().then_some(index)
}

/// Writes the index beside its place and renames it there.
pub(super) fn write(file: &Path, key: &blake3::Hash, index: &Index) -> std::io::Result<()> {
    let mut body = Vec::new();
    put_index(&mut body, index);
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Several nodes of one host may write at once: each has its own file until the rename.
    let part = file.with_extension(format!("part-{}", std::process::id()));
    let written = std::fs::File::create(&part).and_then(|mut out| {
        out.write_all(MAGIC)?;
        out.write_all(key.as_bytes())?;
        out.write_all(blake3::hash(&body).as_bytes())?;
        out.write_all(&body)?;
        out.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&part, file));
    if renamed.is_err() {
        // Best effort: the failure itself is what the caller needs to know.
        let _ = std::fs::remove_file(&part);
    }
    renamed
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_column(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u64>) {
    put_u64(out, values.len() as u64);
    values.for_each(|value| put_u64(out, value));
}

fn put_index(out: &mut Vec<u8>, index: &Index) {
    match &index.place {
        Place::Folder(root) => {
            put_u64(out, 0);
            put_bytes(out, root.as_os_str().as_bytes());
        }
        Place::Shards(shards) => {
            put_u64(out, shards.len() as u64);
            shards.iter().for_each(|shard| put_bytes(out, shard.as_os_str().as_bytes()));
        }
    }
    put_bytes(out, index.names.text.as_bytes());
    put_column(out, index.names.ends.iter().copied());
    put_column(out, index.firsts.iter().copied());
    put_column(out, index.offsets.iter().copied());
    put_column(out, index.lens.iter().copied());
    put_column(out, index.labels.iter().map(|&label| u64::from(label)));
    put_column(out, index.attributes.iter().map(|(offset, _)| *offset));
    put_column(out, index.attributes.iter().map(|(_, len)| u64::from(*len)));
    put_u64(out, index.classes.len() as u64);
    index.classes.iter().for_each(|class| put_bytes(out, class.as_bytes()));
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_owned()).ok()
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsStr::from_bytes(self.bytes()?)))
    }

    fn column(&mut self) -> Option<Vec<u64>> {
        let len = usize::try_from(self.u64()?).ok()?.checked_mul(8)?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes.as_chunks().0.iter().map(|value| u64::from_le_bytes(*value)).collect())
    }

    fn narrow(&mut self) -> Option<Vec<u32>> {
        self.column()?.into_iter().map(|value| u32::try_from(value).ok()).collect()
    }

    fn index(&mut self) -> Option<Index> {
        let place = match self.u64()? {
            0 => Place::Folder(self.path()?),
            shards => Place::Shards((0..shards).map(|_| self.path()).collect::<Option<_>>()?),
        };
        let names = Names { text: self.text()?, ends: self.column()? };
        let (firsts, offsets, lens, labels) = (self.column()?, self.column()?, self.column()?, self.narrow()?);
        let (at, len) = (self.column()?, self.narrow()?);
        let classes = (0..self.u64()?).map(|_| self.text()).collect::<Option<_>>()?;
        Some(Index { place, names, firsts, offsets, lens, labels, attributes: at.into_iter().zip(len).collect(), classes })
    }
}
