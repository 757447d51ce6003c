//! PyTorch checkpoints (`.pth`, `.pt`, `.torch`) whose pickles are read and never run, in vissl's three layouts.
//!
//! Whole: one file. Sharded: a list of files (`type = "shard_list"`), each with an equal slice of every flattened parameter and with whole
//! buffers, as fairscale's FSDP keeps them. Sliced: a list of files (`type = "slice_list"`), each with one whole tensor.

use std::collections::HashMap;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader};

use super::WeightsError;
use super::floats::{Kind, floats};
use super::tensors::{Read, Tensor, Tensors, beside, damaged};

/// Shards of a checkpoint at most.
const SHARDS_MAX: usize = 65_536;

/// The tensors of a checkpoint.
pub(super) fn open(path: &Path) -> Result<Tensors, WeightsError> {
    let root = PytorchReader::read_pickle_data(path, None).map_err(|error| damaged(path, error))?;
    let PickleValue::Dict(root) = root else { return whole(path) };
    match root.get("type") {
        Some(PickleValue::String(kind)) if kind == "shard_list" => sharded(path, &root),
        Some(PickleValue::String(kind)) if kind == "slice_list" => sliced(path, root),
        _ => whole(path),
    }
}

fn whole(path: &Path) -> Result<Tensors, WeightsError> {
    let tensors = PytorchReader::new(path).map_err(|error| damaged(path, error))?.into_tensors();
    Ok(tensors.into_iter().filter_map(|(name, tensor)| Some((name, read(tensor)?))).collect())
}

/// A tensor of floating-point numbers; others are no weights.
fn read(tensor: pytorch_reader::Tensor) -> Option<Tensor> {
    let kind = match tensor.dtype() {
        DType::F64 => Kind::F64,
        DType::F32 => Kind::F32,
        DType::F16 => Kind::F16,
        DType::BF16 => Kind::BF16,
        _ => return None,
    };
    let shape = tensor.shape().to_vec();
    let values: Read = Box::new(move || tensor.read().map(|bytes| floats(&bytes, kind)).map_err(|error| error.to_string()));
    Some(Tensor::whole(shape, values))
}

fn sharded(path: &Path, root: &HashMap<String, PickleValue>) -> Result<Tensors, WeightsError> {
    let Some(PickleValue::List(shards)) =
        root.get("shards").filter(|shards| matches!(shards, PickleValue::List(list) if list.len() <= SHARDS_MAX))
    else {
        return Err(damaged(path, "its list of shards is none"));
    };
    let mut tensors = Tensors::new();
    for (rank, shard) in shards.iter().enumerate() {
        let PickleValue::String(name) = shard else { return Err(damaged(path, "its list of shards holds no names")) };
        for (name, mut piece) in whole(&beside(path, name))? {
            let buffer = name.ends_with("running_mean") || name.ends_with("running_var");
            match tensors.get_mut(&name) {
                None if rank > 0 => return Err(damaged(path, format!("{name} is missing in the shards before {rank}"))),
                None => {
                    piece.sharded = !buffer && shards.len() > 1;
                    tensors.insert(name, piece);
                }
                Some(_) if buffer => {}
                Some(first) if first.shape == piece.shape => first.pieces.append(&mut piece.pieces),
                Some(_) => return Err(damaged(path, format!("the slices of {name} differ in length"))),
            }
        }
    }
    match tensors.iter().find(|(_, tensor)| tensor.sharded && tensor.pieces.len() != shards.len()) {
        Some((name, _)) => Err(damaged(path, format!("{name} is missing in a shard"))),
        None => Ok(tensors),
    }
}

fn sliced(path: &Path, root: HashMap<String, PickleValue>) -> Result<Tensors, WeightsError> {
    let mut files = Vec::new();
    collect("", PickleValue::Dict(root), &mut files);
    let folder = path.with_file_name(format!("{}_layers", path.file_stem().unwrap_or_default().to_string_lossy()));
    let mut tensors = Tensors::new();
    for (name, file) in files {
        // The list names files where they were written; they may have been moved together with it.
        let file = beside(&folder.join("layer"), &file);
        let mut slice = whole(&file)?;
        let Some(tensor) = slice.remove("weight") else { continue };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The texts of nested dictionaries that end in `.torch`, by their dotted names.
fn collect(name: &str, value: PickleValue, files: &mut Vec<(String, String)>) {
    match value {
        PickleValue::Dict(inside) => inside.into_iter().for_each(|(key, value)| {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            collect(&name, value, files);
        }),
        PickleValue::String(text) if text.ends_with(".torch") => files.push((name.to_owned(), text)),
        _ => {}
    }
}
