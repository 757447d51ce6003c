//! Multi-crop augmentation: one decoded image to all its normalised crops.
//!
//! A crop is a pure function of (image, recipe, seed, pass, sample, crop). What is random is drawn first
//! ([`draw::CropDraw`]), then pixels move once: the region is resized (bilinear with antialias, the window reads
//! nothing outside the region, as crop-then-resize does in torchvision), planes are split into the output itself,
//! colours change there in bands, and the blur's second pass (or a last sweep) normalises.

pub mod blur;
pub mod color;
pub mod draw;
pub mod lane;
pub mod recipe;

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::data::augment::blur::BlurScratch;
use crate::data::augment::draw::{CropDraw, Region};
use crate::data::augment::lane::LaneCrops;
use crate::data::augment::recipe::Crops;
use crate::data::decode::Rgb;
use crate::data::random::Random;

/// Where the randomness of an image's crops comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropSeed {
    /// Seed of the run.
    pub seed: u64,
    /// The sweep over the data.
    pub pass: u64,
    /// The sample's index in its source.
    pub sample: u64,
}

/// Scale and offset per channel that take 0..=255 to normalised values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalize {
    scale: [f32; 3],
    offset: [f32; 3],
}

impl Normalize {
    /// `(v / 255 − mean) / std` per channel.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self { scale: std.map(|std| 1.0 / (255.0 * std)), offset: std::array::from_fn(|c| -mean[c] / std[c]) }
    }
}

/// Cuts crops. Holds working memory: one per thread.
#[derive(Default)]
pub struct Cropper {
    resizer: Resizer,
    resized: Vec<u8>,
    blur: BlurScratch,
}

impl std::fmt::Debug for Cropper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cropper").finish_non_exhaustive()
    }
}

impl Cropper {
    /// Writes every crop of an image into the lane's slot `image`.
    pub fn crops(&mut self, rgb: &Rgb, crops: &Crops, seed: CropSeed, lane: &mut LaneCrops, image: usize) {
        let normalize = Normalize::new(crops.mean, crops.std);
        let mut number = 0u64;
        for (g, group) in crops.groups.iter().enumerate() {
            for c in 0..group.count as usize {
                let mut random = Random::new("crop", &[seed.seed, seed.pass, seed.sample, number]);
                let draw = CropDraw::new(&mut random, group, rgb.width, rgb.height);
                self.crop(rgb, &draw, group.size as usize, &normalize, lane.crop_mut(g, c, image));
                number += 1;
            }
        }
    }

    /// Cuts one crop as drawn and writes it to `out`, `[3, size, size]`.
    ///
    /// # Panics
    /// If the region is not inside the image or `out` is not `3 · size²` long.
    pub fn crop(&mut self, image: &Rgb, draw: &CropDraw, size: usize, normalize: &Normalize, out: &mut [f32]) {
        assert_eq!(out.len(), 3 * size * size, "the output holds three planes");
        let resized = self.resize(image, draw.region, size, size);
        let (r, rest) = out.split_at_mut(size * size);
        let (g, b) = rest.split_at_mut(size * size);
        split_planes(resized, size, draw.flip, [&mut *r, &mut *g, &mut *b]);
        color::apply(&draw.colors, [&mut *r, &mut *g, &mut *b]);
        for (c, plane) in [r, g, b].into_iter().enumerate() {
            let (scale, offset) = (normalize.scale[c], normalize.offset[c]);
            match draw.blur {
                Some(sigma) => blur::blur(plane, size, sigma, scale, offset, &mut self.blur),
                None => plane.iter_mut().for_each(|value| *value = *value * scale + offset),
            }
        }
    }

    /// Resizes a region to `width` × `height` RGB8.
    ///
    /// # Panics
    /// If the region is empty or not inside the image.
    pub fn resize(&mut self, image: &Rgb, region: Region, width: usize, height: usize) -> &[u8] {
        const FITS: &str = "sizes were checked when the image was decoded and the region drawn";
        self.resized.resize(3 * width * height, 0);
        let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.pixels).expect(FITS);
        let source = TypedCroppedImage::from_ref(&source, region.left, region.top, region.width, region.height).expect(FITS);
        let mut target = TypedImage::<U8x3>::from_buffer(width as u32, height as u32, &mut self.resized).expect(FITS);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize_typed(&source, &mut target, &options).expect(FITS);
        &self.resized
    }
}

/// Interleaved bytes to three planes of f32, mirrored if told to.
pub(crate) fn split_planes(pixels: &[u8], width: usize, flip: bool, planes: [&mut [f32]; 3]) {
    let [r, g, b] = planes;
    let rows = r.chunks_exact_mut(width).zip(g.chunks_exact_mut(width)).zip(b.chunks_exact_mut(width));
    for (((r, g), b), row) in rows.zip(pixels.chunks_exact(3 * width)) {
        let targets = r.iter_mut().zip(g).zip(b);
        let write = |(((r, g), b), pixel): (((&mut f32, &mut f32), &mut f32), &[u8])| {
            (*r, *g, *b) = (f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2]));
        };
        if flip { targets.zip(row.chunks_exact(3).rev()).for_each(write) } else { targets.zip(row.chunks_exact(3)).for_each(write) }
    }
}

/// Normalises three planes of 0..=255 that lie one after another.
pub(crate) fn normalize_planes(planes: &mut [f32], normalize: &Normalize) {
    let plane = planes.len() / 3;
    for (c, plane) in planes.chunks_exact_mut(plane.max(1)).enumerate() {
        plane.iter_mut().for_each(|value| *value = *value * normalize.scale[c] + normalize.offset[c]);
    }
}

#[cfg(test)]
mod tests;
