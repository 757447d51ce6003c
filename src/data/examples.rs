//! Images for evaluation: one view each, no augmentation, in the source's order.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::data::augment::draw::Region;
use crate::data::augment::{Cropper, Normalize, normalize_planes, split_planes};
use crate::data::decode::{DecodeLimits, Rgb, decode};
use crate::data::loader::BadSample;
use crate::data::source::{ReadError, Source};

/// How an image becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The shorter side is resized to this many pixels, then the centre is cut (256 for views of 224 is customary).
    Centre(u32),
    /// Both sides are resized to the view's size; the aspect changes.
    Exact,
}

/// The view of an image that evaluation uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Side of the view in pixels.
    pub size: u32,
    /// How the image becomes a square.
    pub fit: Fit,
    /// Mean per channel of values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation per channel.
    pub std: [f32; 3],
    /// How large an image may be.
    pub limits: DecodeLimits,
}

impl Default for View {
    fn default() -> Self {
        Self { size: 224, fit: Fit::Centre(256), mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], limits: DecodeLimits::default() }
    }
}

/// Some images, ready for a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExampleBatch {
    /// `[n, 3, size, size]`, normalised.
    pub pixels: Vec<f32>,
    /// Numbers of the `n` images in the source.
    pub samples: Vec<u64>,
    /// Their labels.
    pub labels: Vec<Option<u32>>,
    /// Images that were left out because they cannot be decoded.
    pub bad: Vec<BadSample>,
}

/// Batches of examples in order. The result does not depend on the number of threads.
#[derive(Debug)]
pub struct Examples<'a> {
    source: &'a Source,
    view: View,
    samples: std::vec::IntoIter<u64>,
    batch: usize,
    croppers: Vec<Cropper>,
}

/// All images of a source, `batch` at a time, decoded by `threads` threads.
pub fn examples(source: &Source, view: View, batch: NonZeroUsize, threads: NonZeroUsize) -> Examples<'_> {
    examples_of(source, (0..source.len()).collect(), view, batch, threads)
}

/// Chosen images of a source, in the order given.
pub fn examples_of(source: &Source, samples: Vec<u64>, view: View, batch: NonZeroUsize, threads: NonZeroUsize) -> Examples<'_> {
    let croppers = (0..threads.get()).map(|_| Cropper::default()).collect();
    Examples { source, view, samples: samples.into_iter(), batch: batch.get(), croppers }
}

impl Iterator for Examples<'_> {
    /// A batch with at least one image, good or bad; or why the source cannot be read.
    type Item = Result<ExampleBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let samples: Vec<u64> = self.samples.by_ref().take(self.batch).collect();
        (!samples.is_empty()).then(|| self.load(&samples))
    }
}

impl Examples<'_> {
    fn load(&mut self, samples: &[u64]) -> Result<ExampleBatch, ReadError> {
        let share = samples.len().div_ceil(self.croppers.len());
        let (source, view) = (self.source, &self.view);
        let parts: Vec<Result<ExampleBatch, ReadError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = samples
                .chunks(share)
                .zip(&mut self.croppers)
                .map(|(samples, cropper)| scope.spawn(move || load_part(source, view, samples, cropper)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut whole = ExampleBatch::default();
        for part in parts {
            let part = part?;
            whole.pixels.extend_from_slice(&part.pixels);
            whole.samples.extend(part.samples);
            whole.labels.extend(part.labels);
            whole.bad.extend(part.bad);
        }
        Ok(whole)
    }
}

fn load_part(source: &Source, view: &View, samples: &[u64], cropper: &mut Cropper) -> Result<ExampleBatch, ReadError> {
    let normalize = Normalize::new(view.mean, view.std);
    let plane = (view.size * view.size) as usize;
    let mut part = ExampleBatch::default();
    for &sample in samples {
        let image = match source.bytes(sample) {
            Ok(bytes) => decode(&bytes, &view.limits).map_err(|error| error.to_string()),
            Err(error @ ReadError::TooLarge { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match image {
            Ok(image) => {
                let start = part.pixels.len();
                part.pixels.resize(start + 3 * plane, 0.0);
                write_view(&image, view, &normalize, cropper, &mut part.pixels[start..]);
                part.samples.push(sample);
                part.labels.push(source.label(sample));
            }
            Err(reason) => part.bad.push(BadSample { sample, name: source.name(sample).to_owned(), reason }),
        }
    }
    Ok(part)
}

fn write_view(image: &Rgb, view: &View, normalize: &Normalize, cropper: &mut Cropper, out: &mut [f32]) {
    let size = view.size as usize;
    let region = match view.fit {
        Fit::Exact => Region { left: 0, top: 0, width: image.width, height: image.height },
        Fit::Centre(shorter) => centre(image, view.size, shorter),
    };
    let pixels = cropper.resize(image, region, size, size);
    let (r, rest) = out.split_at_mut(size * size);
    let (g, b) = rest.split_at_mut(size * size);
    split_planes(pixels, size, false, [r, g, b]);
    normalize_planes(out, normalize);
}

/// The region whose resize to `size` is, to a pixel of the image, the centre cut after the shorter side became `shorter`: the
/// same scale, without resizing what is thrown away.
fn centre(image: &Rgb, size: u32, shorter: u32) -> Region {
    let short = image.width.min(image.height);
    let side = (f64::from(short) * f64::from(size) / f64::from(shorter.max(size))).round().max(1.0) as u32;
    Region { left: (image.width - side) / 2, top: (image.height - side) / 2, width: side, height: side }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::tests::png;

    fn n(value: usize) -> NonZeroUsize {
        NonZeroUsize::new(value).unwrap()
    }

    fn source(folder: &std::path::Path) -> Source {
        for i in 0..7u8 {
            let class = folder.join(if i < 4 { "a" } else { "b" });
            std::fs::create_dir_all(&class).unwrap();
            std::fs::write(class.join(format!("{i}.png")), png(8, 6, [i * 30, 0, 0])).unwrap();
        }
        std::fs::write(folder.join("a/bad.png"), b"no image").unwrap();
        Source::open(folder.to_str().unwrap(), None).unwrap()
    }

    #[test]
    fn batches_are_in_order_with_any_number_of_threads_and_leave_bad_images_out() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        let view = View { size: 4, fit: Fit::Exact, mean: [0.0; 3], std: [1.0; 3], ..View::default() };
        let all = |threads| -> Vec<ExampleBatch> { examples(&source, view, n(3), n(threads)).map(Result::unwrap).collect() };
        let batches = all(1);
        assert_eq!(all(2), batches);
        assert_eq!(all(5), batches);
        let labels: Vec<_> = batches.iter().flat_map(|b| b.labels.clone()).map(Option::unwrap).collect();
        assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1]);
        let bad: Vec<_> = batches.iter().flat_map(|b| &b.bad).map(|bad| bad.name.as_str()).collect();
        assert_eq!(bad, ["a/bad.png"]);
        let reds: Vec<f32> = batches.iter().flat_map(|b| b.pixels.chunks(48).map(|image| (image[0] * 255.0).round())).collect();
        assert_eq!(reds, [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0]);
        let chosen: Vec<u64> = examples_of(&source, vec![6, 1], view, n(8), n(2)).next().unwrap().unwrap().samples;
        assert_eq!(chosen, [6, 1]);
    }

    #[test]
    fn the_centre_keeps_the_scale_of_the_shorter_side() {
        let image = Rgb { width: 500, height: 256, pixels: Vec::new() };
        assert_eq!(centre(&image, 224, 256), Region { left: 138, top: 16, width: 224, height: 224 });
        assert_eq!(centre(&image, 224, 224), Region { left: 122, top: 0, width: 256, height: 256 });
    }
}
