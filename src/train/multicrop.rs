//! How an image's crops of several sizes go through the trunk: each size by itself, or all together, padded to the largest.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{CropGroup, LaneCrops};
use crate::model::cost::side_after;
use crate::model::layout::Part;
use crate::model::ops::{laid_out, pool};
use crate::planning::footprint::Pass;

/// Crops of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Crops of an image.
    pub crops: usize,
    /// Their side in pixels.
    pub side: usize,
}

/// The crops of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multicrop {
    /// Sizes in the recipe's order: crops are numbered through them.
    pub sizes: Vec<Size>,
    /// Smaller crops are padded with zeros at the bottom and the right, and all go through the trunk together (vissl's `MultiDimensionalTensor`, with which
    /// SEER's 10 billion were trained). Batch norm, squeeze-and-excitation and convolutions see the padding; the last pooling leaves it out.
    pub padded: bool,
}

impl Multicrop {
    /// Crops of an image.
    pub fn crops(&self) -> usize {
        self.sizes.iter().map(|size| size.crops).sum()
    }

    fn largest(&self) -> usize {
        self.sizes.iter().map(|size| size.side).max().unwrap_or_default()
    }

    /// What goes through the trunk in a step of `images` images, pass by pass.
    pub fn passes(&self, images: usize) -> Vec<Pass> {
        match self.padded {
            true => vec![Pass { images: self.crops() * images, side: self.largest() }],
            false => self.sizes.iter().map(|size| Pass { images: size.crops * images, side: size.side }).collect(),
        }
    }

    /// What is wrong with the crops of a lane of `images` images, if anything.
    pub(super) fn check(&self, images: usize, crops: &LaneCrops) -> Result<(), String> {
        if crops.groups.len() != self.sizes.len() {
            return Err(format!("crops of {} sizes where the config has {}", crops.groups.len(), self.sizes.len()));
        }
        for (group, size) in crops.groups.iter().zip(&self.sizes) {
            let expected = size.crops * images * 3 * size.side * size.side;
            if (group.crops, group.size) != (size.crops, size.side) || group.pixels.len() != expected || expected == 0 {
                let (got, many, side) = (group.pixels.len(), group.crops, group.size);
                return Err(format!("{got} pixel values for {many} crops of {images} images of size {side} where {expected} are due"));
            }
        }
        Ok(())
    }

    /// The batches `[n, 3, side, side]` of [`Multicrop::passes`]. The crops have been checked.
    pub(super) fn batches(&self, images: usize, crops: LaneCrops, device: &Device) -> Vec<Tensor<4>> {
        let passes = self.passes(images);
        let batch = |pixels: Vec<f32>, pass: &Pass| {
            laid_out(Tensor::from_data(TensorData::new(pixels, [pass.images, 3, pass.side, pass.side]), device))
        };
        match passes.as_slice() {
            [pass] if self.padded => vec![batch(padded(crops, pass.side), pass)],
            passes => crops.groups.into_iter().zip(passes).map(|(group, pass)| batch(group.pixels, pass)).collect(),
        }
    }

    /// Pooled features `[crops · images, width]`, crop-major, from the trunk's maps of each pass.
    ///
    /// Of a padded crop of side s only the part of the map that a mask of the crop would cover is pooled, the mask scaled to the map by nearest neighbours
    /// as PyTorch does it: row i of g is covered where ⌊i · S / g⌋ < s, with S the padded side.
    pub(super) fn pooled(&self, images: usize, maps: Vec<Tensor<4>>, trunk: &[Part]) -> Tensor<2> {
        if !self.padded {
            return Tensor::cat(maps.into_iter().map(pool).collect(), 0);
        }
        let (whole, side) = (self.largest(), side_after(trunk, self.largest()));
        let mut row = 0;
        let mut features = Vec::with_capacity(self.sizes.len());
        for map in maps {
            let [_, channels, ..] = map.dims();
            for size in &self.sizes {
                let rows = row..row + size.crops * images;
                let covered = (0..side).filter(|i| i * whole / side < size.side).count();
                row = rows.end;
                features.push(pool(map.clone().slice([rows, 0..channels, 0..covered, 0..covered])));
            }
        }
        Tensor::cat(features, 0)
    }
}

/// All crops in one batch of side `side`, zeros at the bottom and the right.
fn padded(crops: LaneCrops, side: usize) -> Vec<f32> {
    let planes: usize = crops.groups.iter().map(|group| 3 * group.crops * crops.images).sum();
    let mut out = vec![0.0; planes * side * side];
    let mut to = out.chunks_exact_mut(side * side);
    for CropGroup { size, pixels, .. } in crops.groups {
        for (plane, padded) in pixels.chunks_exact(size * size).zip(&mut to) {
            plane.chunks_exact(size).zip(padded.chunks_exact_mut(side)).for_each(|(row, padded)| padded[..size].copy_from_slice(row));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filler;

    fn multicrop(padded: bool) -> Multicrop {
        Multicrop { sizes: vec![Size { crops: 2, side: 160 }, Size { crops: 4, side: 96 }], padded }
    }

    #[test]
    fn padded_crops_make_one_pass_and_others_one_a_size() {
        assert_eq!(multicrop(true).passes(16), [Pass { images: 96, side: 160 }]);
        assert_eq!(multicrop(false).passes(16), [Pass { images: 32, side: 160 }, Pass { images: 64, side: 96 }]);
    }

    #[test]
    fn small_crops_lie_in_the_upper_left_corner() {
        let group = |crops, size: usize, first: f32| CropGroup {
            crops,
            size,
            pixels: (0..crops * 2 * 3 * size * size).map(|i| first + i as f32).collect(),
        };
        let all = padded(LaneCrops { groups: vec![group(1, 3, 1.0), group(2, 2, 1000.0)], images: 2 }, 3);
        assert_eq!(all.len(), 6 * 3 * 9);
        assert_eq!(all[..54], (1..=54).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!(all[54..72], [1000., 1001., 0., 1002., 1003., 0., 0., 0., 0., 1004., 1005., 0., 1006., 1007., 0., 0., 0., 0.]);
    }

    #[test]
    fn pooling_leaves_the_padding_out() {
        // SEER's grid: 5 × 5 of crops of 160, of which crops of 96 cover 3 × 3.
        let maps: Vec<f32> =
            (0..6 * 25).map(|i| if i >= 50 && (i % 5 >= 3 || i % 25 >= 15) { f32::NAN } else { (i / 25) as f32 }).collect();
        let map = Tensor::<4>::from_data(TensorData::new(maps, [6, 1, 5, 5]), &filler::device());
        let stages =
            crate::model::trunk(&crate::model::Config { trunk: crate::model::Trunk::Named("regnet_y_400mf".into()), ..Default::default() });
        let features = multicrop(true).pooled(1, vec![map], &stages.unwrap());
        assert_eq!(features.into_data().try_into_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
