//! Trunk weights in other programs' formats: safetensors files with timm's or torchvision's names.

mod names;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everstep_actors::workload::TensorSpec;
use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensors};

use crate::model::Model;

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `s1.b1.conv1.conv.weight`: `timm.create_model("regnety_…")`.
    Timm,
    /// `trunk_output.block1.block1-0.f.a.0.weight`: `torchvision.models.regnet_y_…`.
    Torchvision,
}

/// Why weights cannot be written or read: one sentence.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system.
    #[error("cannot {what} {path}: {error}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it answered.
        error: std::io::Error,
    },
    /// Not such a file, or a damaged one.
    #[error("{path} is no intact safetensors file ({error}); export it again", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: safetensors::SafeTensorError,
    },
    /// Weights of another network.
    #[error("{path} does not fit the model: {what}; set [model] to the network that was exported", path = path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// A tensor on its way into a file; its bytes are made when they are written.
struct Out<'a> {
    shape: &'a [usize],
    values: Values<'a>,
}

enum Values<'a> {
    Floats(&'a [f32]),
    Count(i64),
}

impl View for Out<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Count(_) => Dtype::I64,
        }
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        match self.values {
            Values::Floats(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
            Values::Count(count) => count.to_le_bytes().to_vec().into(),
        }
    }
    fn data_len(&self) -> usize {
        match self.values {
            Values::Floats(values) => values.len() * 4,
            Values::Count(_) => 8,
        }
    }
}

/// The trunk's tensors, each with its unit.
fn trunk(model: &Model) -> impl Iterator<Item = (usize, &TensorSpec)> {
    model.trunk().iter().enumerate().flat_map(|(unit, layout)| layout.unit.tensors.iter().map(move |t| (unit, t)))
}

/// Writes the trunk (weights, running statistics, `num_batches_tracked`) to `path`; a file of that name is replaced
/// only once the new one is whole.
///
/// `units`: the flat vectors of the trunk's units, more are ignored; `batches`: how many the statistics have seen.
///
/// # Errors
/// [`WeightsError::File`].
///
/// # Panics
/// When a unit is missing or too short.
pub fn export(model: &Model, units: &[Arc<Vec<f32>>], batches: i64, format: Format, path: &Path) -> Result<(), WeightsError> {
    let mut tensors = Vec::new();
    for (unit, spec) in trunk(model) {
        let name = names::named(&spec.name, format);
        if let Some(norm) = name.strip_suffix("running_var") {
            tensors.push((format!("{norm}num_batches_tracked"), Out { shape: &[], values: Values::Count(batches) }));
        }
        tensors.push((name, Out { shape: &spec.shape, values: Values::Floats(&units[unit][spec.range()]) }));
    }
    let partial = path.with_extension("partial");
    let failed = |what| move |error: std::io::Error| WeightsError::File { what, path: path.to_path_buf(), error };
    safetensors::serialize_to_file(tensors, None, &partial).map_err(|e| failed("write")(std::io::Error::other(e)))?;
    std::fs::rename(&partial, path).map_err(failed("replace"))
}

/// Reads a trunk with timm's or torchvision's names: one flat vector for each unit of the trunk.
/// A classifier in the file is ignored.
///
/// # Errors
/// [`WeightsError`] names the file and the first tensor that is missing or does not fit.
pub fn import(model: &Model, path: &Path) -> Result<Vec<Vec<f32>>, WeightsError> {
    let bytes = std::fs::read(path).map_err(|error| WeightsError::File { what: "read", path: path.to_path_buf(), error })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| WeightsError::Damaged { path: path.to_path_buf(), error })?;
    let unfit = |what| WeightsError::Unfit { path: path.to_path_buf(), what };
    let format = if file.tensor("stem.0.weight").is_ok() { Format::Torchvision } else { Format::Timm };
    let mut units: Vec<Vec<f32>> = model.trunk().iter().map(|l| Vec::with_capacity(l.unit.len())).collect();
    for (unit, spec) in trunk(model) {
        let name = names::named(&spec.name, format);
        let view = file.tensor(&name).map_err(|_| unfit(format!("it has no tensor {name}")))?;
        if view.dtype() != Dtype::F32 || view.shape() != spec.shape {
            let (dtype, shape) = (view.dtype(), view.shape());
            return Err(unfit(format!("{name} is {dtype:?} {shape:?} where F32 {:?} is wanted", spec.shape)));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        units[unit].extend(values);
    }
    Ok(units)
}

#[cfg(test)]
mod tests;
