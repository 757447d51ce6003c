//! The index of a source: where each image lies, its name, its label, its sidecar.
//!
//! Built once from a listing of files (paths, sizes, times of change) and cached under a key of that listing, so
//! that a changed file leads to a new index. Columns instead of records: an image costs its name and 32 bytes.

pub mod cache;
mod folder;
mod pattern;
mod shard;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Images of one source at most.
pub const SAMPLES_MAX: usize = 1 << 32;
/// Shards of one source at most.
pub const SHARDS_MAX: usize = 1 << 20;
/// Longest name of an image in its shard or folder, in bytes.
const NAME_MAX: usize = 4096;
/// Largest label number: above it a `.cls` is taken for a name.
const LABEL_MAX: u32 = 1 << 20;

/// The source cannot be used. Each sentence names the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path does not exist.
    #[error("{0}: there is no such file or folder; give a folder of images, a .tar or a pattern of .tar shards")]
    Missing(String),
    /// A file that is not a tar.
    #[error("{0}: this is neither a folder nor a .tar; give a folder of images, an uncompressed .tar or a pattern of .tar shards")]
    NotTar(String),
    /// No images inside.
    #[error("{0}: there are no images in it; it needs .jpg, .jpeg, .png or .webp files, or .tar shards with such entries")]
    Empty(String),
    /// Both kinds of content.
    #[error("{0}: this folder holds both images and .tar shards; give one kind, for instance `{0}/*.tar`")]
    Mixed(String),
    /// The pattern matches nothing.
    #[error("{0}: no .tar matches this pattern; check the path and quote the pattern so that the shell leaves it alone")]
    NoMatch(String),
    /// A shard that the pattern names is not there.
    #[error("{pattern}: its shard {} does not exist; fetch it or correct the range", shard.display())]
    ShardMissing {
        /// The pattern as given.
        pattern: String,
        /// The first shard that is missing.
        shard: PathBuf,
    },
    /// The pattern itself is wrong.
    #[error("{pattern}: {problem}; write {{a,b}}, {{000..012}}, * or ? and close every bracket")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A tar is damaged or holds what no image shard should.
    #[error("{}: {problem}; write the shard again", shard.display())]
    Shard {
        /// The tar.
        shard: PathBuf,
        /// What is wrong, with the entry's name.
        problem: String,
    },
    /// More than can be indexed.
    #[error("{0}: it has more than {SAMPLES_MAX} images or {SHARDS_MAX} shards; split it")]
    TooMany(String),
    /// The file system refused.
    #[error("{}: it cannot be read ({source}); check the path and its permissions", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl OpenError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// A file of a source as the listing found it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedFile {
    path: PathBuf,
    len: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no time.
    modified: u128,
}

impl ListedFile {
    fn new(path: PathBuf, metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { path, len: metadata.len(), modified: modified.map_or(0, |time| time.as_nanos()) }
    }
}

/// What a source string turned out to be.
#[derive(Debug)]
enum Listing {
    /// A folder: its images and sidecars, sorted by path.
    Folder { root: PathBuf, files: Vec<ListedFile> },
    /// Tar shards in order.
    Shards(Vec<ListedFile>),
}

impl Listing {
    fn find(place: &str) -> Result<Self, OpenError> {
        let path = Path::new(place);
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => folder::list(place),
            Ok(metadata) if metadata.is_file() && has_extension(path, &["tar"]) => {
                Ok(Self::Shards(vec![ListedFile::new(path.to_owned(), &metadata)]))
            }
            Ok(_) => Err(OpenError::NotTar(place.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && pattern::is_pattern(place) => pattern::list(place),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(OpenError::Missing(place.to_owned())),
            Err(error) => Err(OpenError::io(path)(error)),
        }
    }

    fn key(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let (kind, files) = match self {
            Self::Folder { root, files } => (root.as_os_str().as_encoded_bytes(), files),
            Self::Shards(files) => (b"shards".as_slice(), files),
        };
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        put(kind);
        for file in files {
            put(file.path.as_os_str().as_encoded_bytes());
            put(&file.len.to_le_bytes());
            put(&file.modified.to_le_bytes());
        }
        hasher.finalize()
    }
}

/// Where the images of a source lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Each image is a file below this folder.
    Folder(PathBuf),
    /// Images are entries of these tars.
    Shards(Vec<PathBuf>),
}

/// The index of a source. Samples are numbered shard by shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub(crate) place: Place,
    pub(crate) names: Names,
    /// Number of the first sample of each shard, and the number of samples at the end. A folder is one shard.
    pub(crate) firsts: Vec<u64>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) lens: Vec<u64>,
    /// Index into `classes`, or [`NO_LABEL`].
    pub(crate) labels: Vec<u32>,
    /// Offset and length of the sidecar of attributes; length 0: none.
    pub(crate) attributes: Vec<(u64, u32)>,
    pub(crate) classes: Vec<String>,
}

/// A sample without a label.
pub(crate) const NO_LABEL: u32 = u32::MAX;

/// Many names in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) text: String,
    pub(crate) ends: Vec<u64>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len() as u64);
    }
    pub(crate) fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// One image while the index is being built.
#[derive(Debug)]
struct Found {
    name: String,
    offset: u64,
    len: u64,
    label: Option<Label>,
    attributes: (u64, u32),
}

/// A label before classes are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    /// From a folder or a `.cls` with a name.
    Name(String),
    /// From a `.cls` with a number.
    Number(u32),
}

impl Label {
    fn from_cls(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.parse() {
            Ok(number) if number <= LABEL_MAX => Some(Self::Number(number)),
            _ => (!text.is_empty()).then(|| Self::Name(text.to_owned())),
        }
    }

    /// The folder directly above an image, if there is one.
    fn from_folder(name: &str) -> Option<Self> {
        let (folders, _) = name.rsplit_once('/')?;
        folders.rsplit('/').next().map(|folder| Self::Name(folder.to_owned()))
    }

    fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Index {
    /// Opens a source: from the cache if its files are unchanged, else by reading it.
    ///
    /// # Errors
    /// The source is missing, empty or damaged. A cache that cannot be read or written is not an error.
    pub fn open(place: &str, cache: Option<&Path>) -> Result<Self, OpenError> {
        let listing = Listing::find(place)?;
        let key = listing.key();
        let file = cache.map(|folder| cache::file_of(folder, place));
        if let Some(index) = file.as_deref().and_then(|file| cache::read(file, &key)) {
            return Ok(index);
        }
        let index = Self::build(place, listing)?;
        if let Some(Err(error)) = file.as_deref().map(|file| cache::write(file, &key, &index)) {
            tracing::warn!(%error, "the index of {place} could not be cached and will be built again");
        }
        Ok(index)
    }

    fn build(place: &str, listing: Listing) -> Result<Self, OpenError> {
        let mut firsts = vec![0];
        let mut found = Vec::new();
        let place_of = match listing {
            Listing::Folder { root, files } => {
                folder::read(&root, &files, &mut found)?;
                firsts.push(found.len() as u64);
                Place::Folder(root)
            }
            Listing::Shards(files) => {
                for file in &files {
                    shard::read(&file.path, file.len, &mut found)?;
                    firsts.push(found.len() as u64);
                }
                Place::Shards(files.into_iter().map(|file| file.path).collect())
            }
        };
        if found.is_empty() {
            return Err(OpenError::Empty(place.to_owned()));
        }
        if found.len() > SAMPLES_MAX || firsts.len() > SHARDS_MAX {
            return Err(OpenError::TooMany(place.to_owned()));
        }
        let (classes, labels) = number_classes(&found);
        let mut names = Names::default();
        found.iter().for_each(|image| names.push(&image.name));
        Ok(Self {
            place: place_of,
            names,
            firsts,
            offsets: found.iter().map(|image| image.offset).collect(),
            lens: found.iter().map(|image| image.len).collect(),
            labels,
            attributes: found.iter().map(|image| image.attributes).collect(),
            classes,
        })
    }
}

/// Classes and the label of each image. If every label is a number, numbers stay as they are, so that a part of a
/// data set has the same labels as the whole; else labels are indices into the sorted names.
fn number_classes(found: &[Found]) -> (Vec<String>, Vec<u32>) {
    let labels = || found.iter().filter_map(|image| image.label.as_ref());
    if labels().all(|label| matches!(label, Label::Number(_))) {
        let number = |label: &Label| if let Label::Number(number) = label { *number } else { NO_LABEL };
        let count = labels().map(number).max().map_or(0, |max| max + 1);
        let labels = found.iter().map(|image| image.label.as_ref().map_or(NO_LABEL, number)).collect();
        return ((0..count).map(|number| number.to_string()).collect(), labels);
    }
    let classes: Vec<String> = labels().map(Label::name).collect::<BTreeSet<_>>().into_iter().collect();
    let index = |label: &Label| classes.binary_search(&label.name()).map_or(NO_LABEL, |i| i as u32);
    let labels = found.iter().map(|image| image.label.as_ref().map_or(NO_LABEL, index)).collect();
    (classes, labels)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// What a file or entry is to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Label,
    Attributes,
}

/// Kind and key (the name without its last extension) of a file. Names that start with a dot are left out.
fn kind_of(name: &str) -> Option<(Kind, &str)> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let (_, extension) = base.rsplit_once('.').filter(|(stem, _)| !stem.is_empty() && !base.starts_with('.'))?;
    let kind = match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" | "png" | "webp" => Kind::Image,
        "cls" => Kind::Label,
        "json" => Kind::Attributes,
        _ => return None,
    };
    Some((kind, &name[..name.len() - extension.len() - 1]))
}

#[cfg(test)]
mod tests;
