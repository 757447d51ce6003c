//! The crops of one lane, laid out for the model.

use crate::data::augment::recipe::Crops;

/// Crops of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct CropGroup {
    /// Crops per image.
    pub crops: usize,
    /// Side in pixels.
    pub size: usize,
    /// `[crops · images, 3, size, size]`, crop-major: rows `c · images .. (c + 1) · images` belong to crop `c`.
    pub pixels: Vec<f32>,
}

/// What a lane trains on in one step.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneCrops {
    /// Groups in the recipe's order.
    pub groups: Vec<CropGroup>,
    /// Images of the lane.
    pub images: usize,
}

impl LaneCrops {
    /// Zeros in the layout of a recipe.
    pub fn zeros(crops: &Crops, images: usize) -> Self {
        let group = |group: &super::recipe::GroupRecipe| {
            let (crops, size) = (group.count as usize, group.size as usize);
            CropGroup { crops, size, pixels: vec![0.0; crops * images * 3 * size * size] }
        };
        Self { groups: crops.groups.iter().map(group).collect(), images }
    }

    /// The values of one crop of one image, `[3, size, size]`.
    pub fn crop_mut(&mut self, group: usize, crop: usize, image: usize) -> &mut [f32] {
        let row = crop * self.images + image;
        let group = &mut self.groups[group];
        let len = 3 * group.size * group.size;
        &mut group.pixels[row * len..(row + 1) * len]
    }
}
