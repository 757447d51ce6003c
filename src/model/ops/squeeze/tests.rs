//! The operation against the same one made of Burn's own.

use burn::tensor::activation::{relu, sigmoid};

use super::*;
use crate::model::filler::{self, distance, fill};
use crate::model::ops::batch_norm::values;
use crate::model::ops::{linear, pool};

fn plain(x: Tensor<4>, layers: Layers) -> Tensor<4> {
    let hidden = relu(linear(pool(x.clone()), layers.first, Some(layers.first_bias)));
    let weights = sigmoid(linear(hidden, layers.second, Some(layers.second_bias)));
    let [n, c] = weights.dims();
    x * weights.reshape([n, c, 1, 1])
}

#[test]
fn agrees_with_burns_own_operations_and_their_gradients() {
    for [n, c, squeezed, h, w] in [[3, 16, 4, 7, 9], [2, 5, 1, 1, 1], [4, 24, 6, 12, 3]] {
        let device = filler::device().autodiff();
        let data = |name: &str, shape: &[usize]| TensorData::new(fill(name, shape), shape);
        let run = |operation: fn(Tensor<4>, Layers) -> Tensor<4>| {
            let x = Tensor::<4>::from_data(data("input.x", &[n, c, h, w]), &device).require_grad();
            let matrix = |name, shape: &[usize]| Tensor::<2>::from_data(data(name, shape), &device).require_grad();
            let vector = |name, shape: &[usize]| Tensor::<1>::from_data(data(name, shape), &device).require_grad();
            let layers = Layers {
                first: matrix("input.first", &[squeezed, c]),
                first_bias: vector("input.a", &[squeezed]),
                second: matrix("input.second", &[c, squeezed]),
                second_bias: vector("input.b", &[c]),
            };
            let y = operation(x.clone(), layers.clone());
            let mut gradients = (y.clone() * Tensor::from_data(data("input.dy", &[n, c, h, w]), &device)).sum().backward();
            [
                values(y.inner()),
                values(x.grad_remove(&mut gradients).unwrap()),
                values(layers.first.grad_remove(&mut gradients).unwrap()),
                values(layers.first_bias.grad_remove(&mut gradients).unwrap()),
                values(layers.second.grad_remove(&mut gradients).unwrap()),
                values(layers.second_bias.grad_remove(&mut gradients).unwrap()),
            ]
        };
        for (ours, burns) in run(squeeze).iter().zip(run(plain)) {
            assert!(distance(ours, &burns) < 1e-5, "{n} {c} {h} {w}: {:e}", distance(ours, &burns));
        }
    }
}
