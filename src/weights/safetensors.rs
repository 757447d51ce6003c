//! Safetensors files, tensor by tensor: the header is read and checked, the values stay where they are until they are wanted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::WeightsError;
use super::floats::{Kind, floats};
use super::tensors::{Tensor, Tensors, damaged, file_error};

/// The format's own bound on a header.
const HEADER_MAX: u64 = 100_000_000;

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The tensors of a file.
pub(super) fn open(path: &Path) -> Result<Tensors, WeightsError> {
    let read = |error| file_error("read", path, error);
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let mut header = [0; 8];
    file.read_exact(&mut header).map_err(read)?;
    let header = u64::from_le_bytes(header);
    let data = header.checked_add(8).filter(|data| header <= HEADER_MAX && *data <= length);
    let data = data.ok_or_else(|| damaged(path, format!("its header claims {header} bytes")))?;
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(read)?;
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&text).map_err(|error| damaged(path, error))?;
    entries.remove("__metadata__");
    let mut tensors = Tensors::new();
    for (name, entry) in entries {
        let Entry { dtype, shape, data_offsets: [start, end] } = serde_json::from_value(entry).map_err(|error| damaged(path, error))?;
        let Some(kind) = Kind::of_safetensors(&dtype) else { continue };
        let bytes = shape.iter().try_fold(kind.bytes(), |bytes, side| bytes.checked_mul(*side));
        let (from, to) = (data.saturating_add(start), data.saturating_add(end));
        if from > to || to > length || bytes.map(|bytes| bytes as u64) != Some(to - from) {
            return Err(damaged(path, format!("{name} does not lie within it")));
        }
        let place = path.to_path_buf();
        let values = move || {
            let mut file = File::open(&place).map_err(|error| error.to_string())?;
            let mut bytes = vec![0; (to - from) as usize];
            file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(&mut bytes)).map_err(|error| error.to_string())?;
            Ok(floats(&bytes, kind))
        };
        tensors.insert(name, Tensor::whole(shape, Box::new(values)));
    }
    Ok(tensors)
}
