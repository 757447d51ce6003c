//! Convolution of libtorch: oneDNN's or cuDNN's, channels innermost.

use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;

use super::{Conv, Walk};
use crate::libtorch::shim::{self, Error};

type Torch = FloatTensor<LibTorch>;

/// What a lane does about an error of the library: it ends with its sentence.
fn sound(result: Result<tch::Tensor, Error>) -> Torch {
    Torch::new(result.unwrap_or_else(|error| panic!("a convolution failed: {error}")))
}

impl Conv for LibTorch {
    fn conv(x: Torch, weight: Torch, walk: Walk) -> Torch {
        sound(shim::conv(&x.tensor, &weight.tensor, walk.stride, walk.groups))
    }
    fn conv_dx(x: Torch, weight: Torch, dy: Torch, walk: Walk) -> Torch {
        sound(shim::conv_dx(&x.tensor, &weight.tensor, &dy.tensor, walk.stride, walk.groups))
    }
    fn conv_dw(x: Torch, weight: Torch, dy: Torch, walk: Walk) -> Torch {
        sound(shim::conv_dw(&x.tensor, &weight.tensor, &dy.tensor, walk.stride, walk.groups))
    }
}
