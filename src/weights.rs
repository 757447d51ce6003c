//! Weights in other programs' formats: timm, torchvision, Hugging Face, vissl (SEER's own).
//!
//! Written as safetensors; read from safetensors (one file, or several with an index) and from PyTorch checkpoints (whole, sharded, sliced).

mod fit;
mod floats;
mod names;
mod pytorch;
mod safetensors;
mod tensors;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::safetensors::Dtype;
use ::safetensors::tensor::View;
use everstep_actors::workload::TensorSpec;

use crate::model::Model;
use crate::model::layout::Part;
pub use fit::{Head, Weights};

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `s1.b1.conv1.conv.weight`: `timm.create_model("regnety_…")`.
    Timm,
    /// `trunk_output.block1.block1-0.f.a.0.weight`: `torchvision.models.regnet_y_…`.
    Torchvision,
    /// `encoder.stages.0.layers.0.layer.0.convolution.weight`: `transformers.RegNetModel`.
    HuggingFace,
    /// `trunk._feature_blocks.res2.block1-0.f.a.0.weight`: vissl's state dict, with projection head and prototypes.
    Vissl,
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
    /// Neither an intact safetensors file nor an intact PyTorch checkpoint.
    #[error("{path} is no intact safetensors file and no intact PyTorch checkpoint ({why}); fetch or export it again", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Weights of another network.
    #[error("{path} does not fit the model: {what}", path = path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What does not fit, and the remedy.
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

/// The tensors of a model, each with its unit: the trunk's, then head's and prototypes'.
fn tensors(model: &Model) -> impl Iterator<Item = (usize, &TensorSpec)> {
    model.units().iter().enumerate().flat_map(|(id, unit)| unit.tensors.iter().map(move |tensor| (id, tensor)))
}

/// Whether the projection head has batch norm.
fn head_norm(model: &Model) -> bool {
    model.head().parts.iter().any(|part| matches!(part, Part::Head { norm: true, .. }))
}

/// A tensor's name in a format; `None` for those of the head where the format has no place for them.
fn named(model: &Model, unit: usize, name: &str, format: Format) -> Option<String> {
    match (unit < model.trunk().len(), format) {
        (true, _) => Some(names::trunk(name, format)),
        (false, Format::Vissl) => Some(names::head(name, head_norm(model))),
        (false, _) => None,
    }
}

/// Writes a trunk (weights, running statistics, `num_batches_tracked`), in vissl's format projection head and prototypes too, to `path`; a file of
/// that name is replaced only once the new one is whole.
///
/// `units`: the flat vectors of the model's units, more are ignored; `batches`: how many the statistics have seen.
///
/// # Errors
/// [`WeightsError::File`].
///
/// # Panics
/// When a unit is missing or too short.
pub fn export(model: &Model, units: &[Arc<Vec<f32>>], batches: i64, format: Format, path: &Path) -> Result<(), WeightsError> {
    let mut out = Vec::new();
    for (unit, spec) in tensors(model) {
        let Some(name) = named(model, unit, &spec.name, format) else { continue };
        let name = match format {
            Format::Vissl if unit < model.trunk().len() => format!("trunk.{name}"),
            Format::Vissl => format!("heads.0.{name}"),
            _ => name,
        };
        if let Some(norm) = name.strip_suffix("running_var") {
            out.push((format!("{norm}num_batches_tracked"), Out { shape: &[], values: Values::Count(batches) }));
        }
        out.push((name, Out { shape: &spec.shape, values: Values::Floats(&units[unit][spec.range()]) }));
    }
    let partial = path.with_extension("partial");
    let failed = |what| move |error: std::io::Error| WeightsError::File { what, path: path.to_path_buf(), error };
    ::safetensors::serialize_to_file(out, None, &partial).map_err(|e| failed("write")(std::io::Error::other(e)))?;
    std::fs::rename(&partial, path).map_err(failed("replace"))
}

#[cfg(test)]
mod tests;
