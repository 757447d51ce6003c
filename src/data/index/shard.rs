//! One tar shard: where its images lie, read from the headers without unpacking.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use tar::{Archive, EntryType, PaxExtensions};

use super::folder::CLS_MAX;
use super::{Found, Kind, Label, NAME_MAX, OpenError, kind_of};

/// Entries of one shard at most.
const ENTRIES_MAX: usize = 16 << 20;
/// Most bytes of a long name or of extended headers.
const EXTENSION_MAX: u64 = 64 << 10;

/// Adds the images of a tar of `file_len` bytes to `found`, in their order.
pub(super) fn read(path: &Path, file_len: u64, found: &mut Vec<Found>) -> Result<(), OpenError> {
    let file = File::open(path).map_err(OpenError::io(path))?;
    let wrong = |problem: String| OpenError::Shard { shard: path.to_owned(), problem };
    let first = found.len();
    let mut labels: HashMap<String, Label> = HashMap::new();
    let mut attributes: HashMap<String, (u64, u32)> = HashMap::new();
    let mut archive = Archive::new(BufReader::new(file));
    // Raw entries: long names are read here, with a bound.
    let entries = archive.entries_with_seek().map_err(|error| wrong(format!("it is not a tar ({error})")))?.raw(true);
    let mut long_name: Option<String> = None;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| wrong(format!("it is not a whole tar ({error})")))?;
        if number >= ENTRIES_MAX {
            return Err(wrong(format!("it has more than {ENTRIES_MAX} entries")));
        }
        let (offset, len) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(len).is_none_or(|end| end > file_len) {
            return Err(wrong(format!("it is cut short: its entry {number} ends after the file")));
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName | EntryType::XHeader => {
                if len > EXTENSION_MAX {
                    return Err(wrong(format!("its entry {number} has extended headers of {len} bytes")));
                }
                let mut bytes = Vec::with_capacity(len as usize);
                entry.read_to_end(&mut bytes).map_err(OpenError::io(path))?;
                let name = if kind == EntryType::XHeader { pax_path(&bytes).map_err(wrong)? } else { Some(bytes) };
                if let Some(name) = name {
                    long_name = Some(utf8(name).ok_or_else(|| wrong(format!("the name of its entry {number} is not UTF-8")))?);
                }
                continue;
            }
            EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = match long_name.take() {
            Some(name) => name,
            None => utf8(entry.path_bytes().into_owned()).ok_or_else(|| wrong(format!("the name of its entry {number} is not UTF-8")))?,
        };
        let name = safe_name(&name).map_err(wrong)?;
        match kind {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory => continue,
            _ => return Err(wrong(format!("its entry {name:?} is not a plain file (links, devices and sparse files are refused)"))),
        }
        match kind_of(name) {
            Some((Kind::Image, _)) => found.push(Found { name: name.to_owned(), offset, len, label: None, attributes: (0, 0) }),
            Some((Kind::Label, key)) if len <= CLS_MAX => {
                let mut text = Vec::with_capacity(len as usize);
                entry.read_to_end(&mut text).map_err(OpenError::io(path))?;
                labels.extend(Label::from_cls(&String::from_utf8_lossy(&text)).map(|label| (key.to_owned(), label)));
            }
            Some((Kind::Attributes, key)) => {
                attributes.insert(key.to_owned(), (offset, u32::try_from(len).unwrap_or(u32::MAX)));
            }
            _ => {}
        }
    }
    for image in &mut found[first..] {
        let key = kind_of(&image.name).map_or("", |(_, key)| key);
        image.label = labels.get(key).cloned().or_else(|| Label::from_folder(&image.name));
        image.attributes = attributes.get(key).copied().unwrap_or_default();
    }
    Ok(())
}

fn utf8(mut name: Vec<u8>) -> Option<String> {
    while name.last() == Some(&0) {
        name.pop();
    }
    String::from_utf8(name).ok()
}

fn pax_path(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut path = None;
    for extension in PaxExtensions::new(bytes) {
        let extension = extension.map_err(|error| format!("its extended headers are damaged ({error})"))?;
        match extension.key_bytes() {
            b"path" => path = Some(extension.value_bytes().to_owned()),
            b"size" => return Err("it has an entry of more than 8 GiB".to_owned()),
            key if key.starts_with(b"GNU.sparse") => return Err("it has sparse entries".to_owned()),
            _ => {}
        }
    }
    Ok(path)
}

/// The name below the tar's root. Names that would lead out of it are refused, though nothing is ever unpacked: a
/// shard that has them was not written as a data set.
fn safe_name(name: &str) -> Result<&str, String> {
    let below = name.trim_start_matches("./");
    let leads_out = below.starts_with('/') || below.split('/').any(|part| part == "..");
    if leads_out || below.contains('\0') || below.len() > NAME_MAX {
        let shown: String = name.chars().take(200).collect();
        return Err(format!("its entry {shown:?} has a name that is refused (absolute, with `..`, or too long)"));
    }
    Ok(below)
}
