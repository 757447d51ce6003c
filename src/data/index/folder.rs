//! A folder of images, or of tar shards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::{Found, Kind, Label, ListedFile, Listing, OpenError, SAMPLES_MAX, has_extension, kind_of};

/// Deepest folder below the root.
const DEPTH_MAX: usize = 64;
/// A `.cls` holds a number or a name.
pub(super) const CLS_MAX: u64 = 4096;

/// Lists a folder: its images with their sidecars at any depth, or its tars. Links are followed, hidden files are not.
pub(super) fn list(place: &str) -> Result<Listing, OpenError> {
    let root = std::fs::canonicalize(place).map_err(OpenError::io(Path::new(place)))?;
    let visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let (mut files, mut shards, mut images) = (Vec::new(), Vec::new(), 0usize);
    for entry in WalkDir::new(&root).follow_links(true).max_depth(DEPTH_MAX).sort_by_file_name().into_iter().filter_entry(visible) {
        let io = |error: walkdir::Error| {
            let path = error.path().map_or_else(|| root.clone(), Path::to_path_buf);
            OpenError::Io { path, source: error.into() }
        };
        let entry = entry.map_err(io)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let kind = entry.path().to_str().and_then(kind_of).map(|(kind, _)| kind);
        let target = match kind {
            Some(_) => &mut files,
            None if has_extension(entry.path(), &["tar"]) => &mut shards,
            None => continue,
        };
        images += usize::from(kind == Some(Kind::Image));
        if target.len() >= SAMPLES_MAX {
            return Err(OpenError::TooMany(place.to_owned()));
        }
        let metadata = entry.metadata().map_err(io)?;
        target.push(ListedFile::new(entry.into_path(), &metadata));
    }
    match (images > 0, shards.is_empty()) {
        (true, true) => Ok(Listing::Folder { root, files }),
        (false, false) => Ok(Listing::Shards(shards)),
        (true, false) => Err(OpenError::Mixed(place.to_owned())),
        (false, true) => Err(OpenError::Empty(place.to_owned())),
    }
}

/// Turns the listed files into images with their labels and sidecars.
pub(super) fn read(root: &Path, files: &[ListedFile], found: &mut Vec<Found>) -> Result<(), OpenError> {
    let names: Vec<String> = files.iter().map(|file| relative(root, &file.path)).collect();
    let mut labels: HashMap<&str, Label> = HashMap::new();
    let mut attributes: HashMap<&str, (u64, u32)> = HashMap::new();
    for (file, name) in files.iter().zip(&names) {
        match kind_of(name) {
            Some((Kind::Label, key)) if file.len <= CLS_MAX => {
                let text = std::fs::read(&file.path).map_err(OpenError::io(&file.path))?;
                labels.extend(Label::from_cls(&String::from_utf8_lossy(&text)).map(|label| (key, label)));
            }
            Some((Kind::Attributes, key)) => {
                attributes.insert(key, (0, u32::try_from(file.len).unwrap_or(u32::MAX)));
            }
            _ => {}
        }
    }
    for (file, name) in files.iter().zip(&names) {
        if let Some((Kind::Image, key)) = kind_of(name) {
            let label = labels.get(key).cloned().or_else(|| Label::from_folder(name));
            let attributes = attributes.get(key).copied().unwrap_or_default();
            found.push(Found { name: name.clone(), offset: 0, len: file.len, label, attributes });
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> String {
    let relative: PathBuf = path.strip_prefix(root).unwrap_or(path).to_owned();
    relative.to_string_lossy().into_owned()
}
