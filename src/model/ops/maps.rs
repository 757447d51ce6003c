//! Feature maps of the flex backend in the order n, h, w, c: Burn sees `[n, c, h, w]` with strides.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;

type Flat = FloatTensor<Flex>;

/// The values of a map, channels innermost: shares `x`'s memory if that is so already.
pub(super) fn laid_out(x: &Flat) -> Flat {
    let [n, c, h, w] = x.shape().dims();
    // Burn copies squares of values, which the three channels of an image do not fill.
    let x = match x.is_contiguous() && c < 8 {
        true => &made([n, c, h, w], |y| interleave(slice(x), y, c, h * w)),
        false => x,
    };
    let layout = x.layout().permute(&[0, 2, 3, 1]);
    x.clone().with_layout(layout).to_contiguous()
}

fn interleave(x: &[f32], y: &mut [f32], c: usize, pixels: usize) {
    for (x, y) in x.chunks_exact(c * pixels).zip(y.chunks_exact_mut(c * pixels)) {
        for (channel, x) in x.chunks_exact(pixels).enumerate() {
            y.iter_mut().skip(channel).step_by(c).zip(x).for_each(|(y, x)| *y = *x);
        }
    }
}

/// A map `[n, c, h, w]` whose values in the order n, h, w, c are what `write` writes, which has to be all of them.
pub(super) fn made([n, c, h, w]: [usize; 4], write: impl FnOnce(&mut [f32])) -> Flat {
    let map = Flat::from_data(TensorData::new(written(n * c * h * w, write), [n, h, w, c]));
    let layout = map.layout().permute(&[0, 3, 1, 2]);
    map.with_layout(layout)
}

/// [`made`] of the shape of `x`.
pub(super) fn like(x: &Flat, write: impl FnOnce(&mut [f32])) -> Flat {
    made(x.shape().dims(), write)
}

/// `length` values that `write` writes: zeroing them first would be a pass over memory of its own.
fn written(length: usize, write: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut values = Vec::<f32>::with_capacity(length);
    // SAFETY: the memory is the vector's own and long enough, any bits are an f32, and `write` reads nothing that it has not written.
    #[expect(unsafe_code, reason = "hands out memory that nobody has zeroed")]
    unsafe {
        write(std::slice::from_raw_parts_mut(values.as_mut_ptr(), length));
        values.set_len(length);
    }
    values
}

/// The values of a tensor in order.
pub(super) fn slice(x: &Flat) -> &[f32] {
    x.as_slice().expect("made contiguous, in f32")
}
