//! Which tensor of a file is which of the model's, whether they fit, and what to do when they do not.

use std::path::{Path, PathBuf};

use everstep_actors::protocol::ids::UnitId;
use everstep_actors::workload::TensorSpec;

use super::names::{self, unwrapped};
use super::tensors::{Tensor, Tensors, open};
use super::{Format, WeightsError, named, tensors};
use crate::model::{Model, Rounding};

/// What a file has for the projection head and the prototypes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// All of them.
    Fits,
    /// None: they begin from the seed.
    Absent,
    /// Those of another head: they begin from the seed. Says what differs.
    Other(String),
}

/// Weights of a model in a file, found and measured; values are read when a unit is asked for.
pub struct Weights {
    path: PathBuf,
    format: Format,
    /// The tensors of each unit in order; none of the units that the file does not have.
    units: Vec<Option<Vec<(String, Tensor)>>>,
    lengths: Vec<Vec<usize>>,
    head: Head,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("path", &self.path).field("format", &self.format).finish_non_exhaustive()
    }
}

impl Weights {
    /// Finds a model's tensors in a safetensors file, a folder or index of several, or a PyTorch checkpoint. A classifier is ignored.
    ///
    /// # Errors
    /// [`WeightsError`] names the file and the first tensor of the trunk that is missing or does not fit; of a trunk whose widths were rounded the
    /// other way it says so.
    pub fn open(model: &Model, path: &Path) -> Result<Self, WeightsError> {
        let mut found: Tensors = open(path)?.into_iter().map(|(name, tensor)| (unwrapped(&name), tensor)).collect();
        let unfit = |what| WeightsError::Unfit { path: path.to_path_buf(), what };
        let (format, prefix) = format(&found).ok_or_else(|| unfit(unknown(&found)))?;
        let of_head = prefix_of(&found, "projection_head.0.weight").unwrap_or_default();
        let mut fitting: Vec<(usize, String)> = Vec::new();
        let mut head = Head::Fits;
        for (unit, spec) in tensors(model) {
            let trunk = unit < model.trunk().len();
            let name = match (named(model, unit, &spec.name, format), trunk) {
                (Some(name), true) => format!("{prefix}{name}"),
                (Some(name), false) => head_name(&found, &of_head, &name),
                (None, _) => String::new(),
            };
            let complaint = match found.get(&name) {
                Some(tensor) if tensor.fits(&spec.shape) => None,
                Some(tensor) => Some(format!("{name} is {:?} where {:?} is wanted", tensor.shape, spec.shape)),
                None => Some(format!("it has no tensor {name}")),
            };
            match complaint {
                Some(what) if trunk => return Err(unfit(explained(model, &found, format, &prefix, what))),
                Some(what) => head = if found.contains_key(&name) { Head::Other(what) } else { worse(head, Head::Absent) },
                None => fitting.push((unit, name)),
            }
        }
        // A head of which a part is missing is none.
        let has = |unit: usize| unit < model.trunk().len() || head == Head::Fits;
        let mut units: Vec<Option<Vec<(String, Tensor)>>> = (0..model.units().len()).map(|unit| has(unit).then(Vec::new)).collect();
        for (unit, name) in fitting {
            if let (Some(tensors), Some(tensor)) = (&mut units[unit], found.remove(&name)) {
                tensors.push((name, tensor));
            }
        }
        let lengths = model.units().iter().map(|unit| unit.tensors.iter().map(TensorSpec::len).collect()).collect();
        Ok(Self { path: path.to_path_buf(), format, units, lengths, head })
    }

    /// Whose names the file has.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What it has for the projection head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The flat vector of a unit; `None` where the file has nothing for it.
    ///
    /// # Errors
    /// The file cannot be read any more, or is damaged.
    pub fn unit(&self, unit: UnitId) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(Some(tensors)) = self.units.get(unit.0 as usize) else { return Ok(None) };
        let mut flat = Vec::with_capacity(self.lengths[unit.0 as usize].iter().sum());
        for ((name, tensor), len) in tensors.iter().zip(&self.lengths[unit.0 as usize]) {
            let values =
                tensor.values(*len).map_err(|why| WeightsError::Damaged { path: self.path.clone(), why: format!("{name}: {why}") })?;
            flat.extend(values);
        }
        Ok(Some(flat))
    }
}

fn worse(a: Head, b: Head) -> Head {
    if matches!(a, Head::Other(_)) { a } else { b }
}

/// What comes before a tensor's name in a file, by the one that ends in it.
fn prefix_of(found: &Tensors, name: &str) -> Option<String> {
    found.keys().find_map(|key| key.strip_suffix(name).filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))).map(str::to_owned)
}

/// Whose names a file has, and what stands before them.
fn format(found: &Tensors) -> Option<(Format, String)> {
    // Vissl's first: its stem ends as torchvision's does.
    [Format::Vissl, Format::HuggingFace, Format::Timm, Format::Torchvision]
        .into_iter()
        .find_map(|format| Some((format, prefix_of(found, &names::trunk("stem.conv.weight", format))?)))
}

fn unknown(found: &Tensors) -> String {
    let first = found.keys().next().map_or("nothing", String::as_str);
    format!(
        "it has the stem of no RegNet (its tensors begin with {first}); use weights with the names of timm, torchvision, transformers or vissl"
    )
}

/// Vissl numbers heads' prototypes, the swav repository does not.
fn head_name(found: &Tensors, prefix: &str, name: &str) -> String {
    let theirs = format!("{prefix}{name}");
    if found.contains_key(&theirs) { theirs } else { format!("{prefix}{}", name.replace("prototypes0.", "prototypes.")) }
}

/// The complaint about a trunk with its likely cause: widths that were rounded the other way, or another network.
fn explained(model: &Model, found: &Tensors, format: Format, prefix: &str, what: String) -> String {
    let width = |stage: usize| {
        let name = names::trunk(&format!("s{stage}.b1.conv3.bn.bias"), format);
        let tensor = found.get(&format!("{prefix}{name}"))?;
        Some(if tensor.sharded { None } else { tensor.shape.first().copied() })
    };
    let theirs: Option<Vec<usize>> = (1..).map_while(width).collect();
    let Some(theirs) = theirs.filter(|widths| !widths.is_empty()) else {
        return format!("{what}; set [model] to the network that was saved");
    };
    let config = model.config();
    let widths = |rounding| config.trunk.stages(rounding).map(|stages| stages.iter().map(|stage| stage.width).collect::<Vec<_>>());
    let ours = widths(config.rounding).unwrap_or_default();
    let (other, word) = match config.rounding {
        Rounding::Classy => (Rounding::Torchvision, "torchvision"),
        Rounding::Torchvision => (Rounding::Classy, "seer"),
    };
    if ours != theirs && widths(other).is_ok_and(|widths| widths == theirs) {
        return format!(
            "its stages are {theirs:?} channels wide, which is this trunk with its widths rounded the other way (here {ours:?}); set model.rounding = \"{word}\""
        );
    }
    if ours == theirs {
        return format!("{what}; its stages are as wide as the model's, so compare depths, group width and stem");
    }
    format!("{what}; its stages are {theirs:?} channels wide, the model's {ours:?}; set [model] to the network that was saved")
}
