//! The tensors of a file or of several that belong together: names and shapes at once, values when they are asked for.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{WeightsError, pytorch, safetensors};

/// Reads the values of a tensor as f32.
pub(super) type Read = Box<dyn Fn() -> Result<Vec<f32>, String> + Send + Sync>;

/// One tensor.
pub(super) struct Tensor {
    /// Its shape; of a sharded one that of a piece.
    pub(super) shape: Vec<usize>,
    /// Its values, or those of each of its pieces.
    pub(super) pieces: Vec<Read>,
    /// The pieces are equal slices of the flattened tensor, filled up with zeros at the end (fairscale's FSDP).
    pub(super) sharded: bool,
}

impl Tensor {
    pub(super) fn whole(shape: Vec<usize>, read: Read) -> Self {
        Self { shape, pieces: vec![read], sharded: false }
    }

    /// Whether it can be a tensor of `shape`.
    pub(super) fn fits(&self, shape: &[usize]) -> bool {
        let len: usize = shape.iter().product();
        match self.sharded {
            false => self.shape == shape,
            true => self.shape == [len.div_ceil(self.pieces.len())],
        }
    }

    /// The values, row-major. The tensor fits a shape of `len` values.
    pub(super) fn values(&self, len: usize) -> Result<Vec<f32>, String> {
        let mut values = Vec::with_capacity(len);
        for piece in &self.pieces {
            values.extend(piece()?);
        }
        values.truncate(len);
        if values.len() == len { Ok(values) } else { Err(format!("it gave {} values where {len} are due", values.len())) }
    }
}

/// Tensors by their names.
pub(super) type Tensors = BTreeMap<String, Tensor>;

/// No index of a sharded file is longer than this many bytes.
const INDEX_MAX: u64 = 64 << 20;

/// Opens a file, or what a folder of Hugging Face holds.
pub(super) fn open(path: &Path) -> Result<Tensors, WeightsError> {
    if path.is_dir() {
        let inside = ["model.safetensors.index.json", "model.safetensors"].map(|name| path.join(name));
        let found = inside.iter().find(|path| path.is_file());
        return found
            .map_or_else(|| Err(file_error("find model.safetensors in", path, std::io::ErrorKind::NotFound.into())), |path| open(path));
    }
    if path.to_string_lossy().ends_with(".index.json") {
        return indexed(path);
    }
    let mut start = [0; 9];
    let mut file = std::fs::File::open(path).map_err(|error| file_error("read", path, error))?;
    let is_json = file.read_exact(&mut start).is_ok() && start[8] == b'{';
    if is_json { safetensors::open(path) } else { pytorch::open(path) }
}

/// Hugging Face's index: which file holds which tensor.
fn indexed(path: &Path) -> Result<Tensors, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| file_error("read", path, error))?;
    file.take(INDEX_MAX).read_to_string(&mut text).map_err(|error| file_error("read", path, error))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| damaged(path, error))?;
    let mut tensors = Tensors::new();
    let files: std::collections::BTreeSet<&String> = index.weight_map.values().collect();
    for file in files {
        tensors.extend(safetensors::open(&beside(path, file))?);
    }
    Ok(tensors)
}

/// A file that another one names: in the same folder, whatever folder the name says.
pub(super) fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(Path::new(name).file_name().unwrap_or_default())
}

pub(super) fn file_error(what: &'static str, path: &Path, error: std::io::Error) -> WeightsError {
    WeightsError::File { what, path: path.to_path_buf(), error }
}

pub(super) fn damaged(path: &Path, why: impl std::fmt::Display) -> WeightsError {
    WeightsError::Damaged { path: path.to_path_buf(), why: why.to_string() }
}
