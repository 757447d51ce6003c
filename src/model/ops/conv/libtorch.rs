//! Convolution of libtorch: our own on the processor in f32, oneDNN's or cuDNN's everywhere else; channels innermost.

use burn::backend::LibTorch;
use burn::backend::tensor::FloatTensor;
use tch::{Device, Kind, Tensor};

use super::grid::Shape;
use super::{Conv, Walk, host, sizes};
use crate::libtorch::host::{empty_like, fresh, laid_out, ours, slice};
use crate::libtorch::shim::{self, Error};

type Torch = FloatTensor<LibTorch>;

/// What a lane does about an error of the library: it ends with its sentence.
fn sound(result: Result<Tensor, Error>) -> Torch {
    Torch::new(result.unwrap_or_else(|error| panic!("a convolution failed: {error}")))
}

fn shape(x: &Tensor, weight: &Tensor, walk: Walk) -> Shape {
    let four = |x: &Tensor| <[i64; 4]>::try_from(x.size()).expect("maps and kernels have four dimensions").map(|size| size as usize);
    sizes(four(x), four(weight), walk)
}

/// An uninitialised map, channels innermost.
fn empty([n, c, h, w]: [usize; 4]) -> Tensor {
    Tensor::empty([n, h, w, c].map(|size| size as i64), (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2])
}

impl Conv for LibTorch {
    fn conv_layout(x: Torch) -> Torch {
        Torch::new(laid_out(&x.tensor))
    }
    fn conv(x: Torch, weight: Torch, walk: Walk) -> Torch {
        if !ours(&x.tensor) {
            return sound(shim::conv(&x.tensor, &weight.tensor, walk.stride, walk.groups));
        }
        let shape = shape(&x.tensor, &weight.tensor, walk);
        let y = empty(shape.out());
        host::forward(slice(&laid_out(&x.tensor)), slice(&weight.tensor.contiguous()), fresh(&y), shape);
        Torch::new(y)
    }
    fn conv_dx(x: Torch, weight: Torch, dy: Torch, walk: Walk) -> Torch {
        if !ours(&x.tensor) {
            return sound(shim::conv_dx(&x.tensor, &weight.tensor, &dy.tensor, walk.stride, walk.groups));
        }
        let shape = shape(&x.tensor, &weight.tensor, walk);
        let dx = empty_like(&x.tensor);
        host::backward_input(slice(&weight.tensor.contiguous()), slice(&laid_out(&dy.tensor)), fresh(&dx), shape);
        Torch::new(dx)
    }
    fn conv_dw(x: Torch, weight: Torch, dy: Torch, walk: Walk) -> Torch {
        if !ours(&x.tensor) {
            return sound(shim::conv_dw(&x.tensor, &weight.tensor, &dy.tensor, walk.stride, walk.groups));
        }
        let shape = shape(&x.tensor, &weight.tensor, walk);
        let dw = host::backward_weight(slice(&laid_out(&x.tensor)), slice(&laid_out(&dy.tensor)), shape);
        Torch::new(Tensor::from_slice(&dw).reshape(weight.tensor.size()))
    }
}
