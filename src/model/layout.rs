//! Which tensors a unit's flat vector holds, where, and how each begins.

use everstep_actors::workload::{TensorKind, TensorSpec, Unit};

use super::regnet::Block;

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this.
    Uniform(f64),
    /// As [`Init::Uniform`], then each row of the matrix divided by its Euclidean norm.
    UnitRows(f64),
    /// All the same.
    Constant(f32),
}

/// A piece of the network that a unit executes.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// 3×3 convolution of three channels, batch norm, ReLU.
    Stem {
        /// Channels out.
        width: usize,
        /// Stride.
        stride: usize,
    },
    /// A residual block.
    Block(Block),
    /// The projection head: linear layers, with batch norm and ReLU after each but the last.
    Head {
        /// Dimensions, the trunk's width first.
        dims: Vec<usize>,
        /// Whether there is batch norm after hidden layers.
        norm: bool,
    },
    /// The prototypes: `count` unit vectors.
    Prototypes {
        /// Dimension of each.
        dim: usize,
        /// How many.
        count: usize,
    },
}

/// One tensor before it has a place.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) kind: TensorKind,
    pub(super) init: Init,
}

/// Tensors listed in the order in which the forward pass takes them.
#[derive(Default)]
struct List(Vec<Tensor>);

impl List {
    fn add(&mut self, name: String, shape: &[usize], kind: TensorKind, init: Init) {
        self.0.push(Tensor { name, shape: shape.to_vec(), kind, init });
    }
    fn parameter(&mut self, name: String, shape: &[usize], init: Init) {
        self.add(name, shape, TensorKind::Parameter, init);
    }
    /// Fan-out is k·k·out, not divided by the groups: ClassyVision's and torchvision's initialisation.
    fn conv(&mut self, name: &str, out: usize, input: usize, k: usize) {
        self.parameter(format!("{name}.weight"), &[out, input, k, k], Init::Normal((2.0 / (k * k * out) as f64).sqrt()));
    }
    fn norm(&mut self, name: &str, width: usize) {
        self.parameter(format!("{name}.weight"), &[width], Init::Constant(1.0));
        self.parameter(format!("{name}.bias"), &[width], Init::Constant(0.0));
        self.add(format!("{name}.running_mean"), &[width], TensorKind::Buffer, Init::Constant(0.0));
        self.add(format!("{name}.running_var"), &[width], TensorKind::Buffer, Init::Constant(1.0));
    }
    fn conv_norm(&mut self, name: &str, out: usize, input: usize, k: usize) {
        self.conv(&format!("{name}.conv"), out, input, k);
        self.norm(&format!("{name}.bn"), out);
    }
    /// PyTorch's default for a bias: uniform within 1/√fan_in.
    fn bias(&mut self, name: &str, width: usize, fan_in: usize) {
        self.parameter(format!("{name}.bias"), &[width], Init::Uniform((fan_in as f64).sqrt().recip()));
    }
}

impl Part {
    /// The part's name in timm's style.
    pub fn name(&self) -> String {
        match self {
            Self::Stem { .. } => "stem".into(),
            Self::Block(block) => format!("s{}.b{}", block.stage, block.index + 1),
            Self::Head { .. } => "head".into(),
            Self::Prototypes { .. } => "prototypes".into(),
        }
    }

    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let mut list = List::default();
        let name = self.name();
        match self {
            Self::Stem { width, .. } => list.conv_norm(&name, *width, 3, 3),
            Self::Block(block) => {
                if block.projects() {
                    list.conv_norm(&format!("{name}.downsample"), block.width, block.input, 1);
                }
                list.conv_norm(&format!("{name}.conv1"), block.width, block.input, 1);
                list.conv_norm(&format!("{name}.conv2"), block.width, block.width / block.groups, 3);
                let (first, second) = (format!("{name}.se.fc1"), format!("{name}.se.fc2"));
                list.conv(&first, block.squeeze, block.width, 1);
                list.bias(&first, block.squeeze, block.width);
                list.conv(&second, block.width, block.squeeze, 1);
                list.bias(&second, block.width, block.squeeze);
                list.conv_norm(&format!("{name}.conv3"), block.width, block.width, 1);
            }
            Self::Head { dims, norm } => {
                for (i, layer) in dims.windows(2).enumerate() {
                    let fc = format!("{name}.fc{}", i + 1);
                    // Kaiming uniform with a = √5 is uniform within 1/√fan_in.
                    list.parameter(format!("{fc}.weight"), &[layer[1], layer[0]], Init::Uniform((layer[0] as f64).sqrt().recip()));
                    list.bias(&fc, layer[1], layer[0]);
                    if *norm && i + 2 < dims.len() {
                        list.norm(&format!("{name}.bn{}", i + 1), layer[1]);
                    }
                }
            }
            Self::Prototypes { dim, count } => {
                list.parameter("prototypes.weight".into(), &[*count, *dim], Init::UnitRows((*dim as f64).sqrt().recip()));
            }
        }
        list.0
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().filter(|t| t.kind == TensorKind::Parameter).map(|t| t.shape.iter().product::<usize>()).sum()
    }
}

/// A unit with what it executes: parameters of all its parts first, then their buffers.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The unit as the runtime sees it.
    pub unit: Unit,
    /// What it executes, in order.
    pub parts: Vec<Part>,
    /// How each of the unit's tensors begins.
    pub init: Vec<Init>,
}

impl Layout {
    /// Lays out neighbouring parts in one vector.
    pub fn new(parts: Vec<Part>) -> Self {
        let (parameters, buffers): (Vec<Tensor>, Vec<Tensor>) =
            parts.iter().flat_map(Part::tensors).partition(|t| t.kind == TensorKind::Parameter);
        let (mut tensors, mut init, mut offset) = (Vec::new(), Vec::new(), 0);
        for tensor in parameters.into_iter().chain(buffers) {
            let spec = TensorSpec { name: tensor.name, shape: tensor.shape, offset, kind: tensor.kind };
            offset = spec.range().end;
            tensors.push(spec);
            init.push(tensor.init);
        }
        let row = match parts.first() {
            Some(Part::Prototypes { dim, .. }) => *dim,
            _ => 1,
        };
        let name = match (parts.first(), parts.last()) {
            (Some(first), Some(last)) if parts.len() > 1 => format!("{}-{}", first.name(), last.name()),
            (Some(first), _) => first.name(),
            _ => String::new(),
        };
        Self { unit: Unit { name, tensors, row }, parts, init }
    }

    /// The tensors of one kind in order.
    pub fn tensors(&self, kind: TensorKind) -> impl Iterator<Item = &TensorSpec> {
        self.unit.tensors.iter().filter(move |t| t.kind == kind)
    }
}

/// Merges neighbours until each unit has at least `least` parameters; what is left over joins the last one.
pub fn merged(parts: Vec<Part>, least: usize) -> Vec<Vec<Part>> {
    let mut units: Vec<Vec<Part>> = Vec::new();
    let (mut open, mut size) = (Vec::new(), 0);
    for part in parts {
        size += part.parameters();
        open.push(part);
        if size >= least {
            units.push(std::mem::take(&mut open));
            size = 0;
        }
    }
    match units.last_mut() {
        Some(last) => last.append(&mut open),
        None => units.push(open),
    }
    units
}
