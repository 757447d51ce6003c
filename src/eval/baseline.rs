//! Features that nothing was learned for: what a trained network has to beat.

/// Bins a channel of [`histogram`].
const BINS: usize = 8;

/// Length of [`histogram`].
pub const HISTOGRAM_DIM: usize = BINS * BINS * BINS;

/// Colour histogram of an RGB8 image (interleaved): share of its pixels in each of 8 × 8 × 8 bins, red slowest.
///
/// No pixels give zeros; bytes after the last whole pixel are ignored.
pub fn histogram(rgb: &[u8]) -> Vec<f32> {
    let mut counts = vec![0u32; HISTOGRAM_DIM];
    let (pixels, _) = rgb.as_chunks::<3>();
    for pixel in pixels {
        let bin = pixel.iter().fold(0, |bin, value| bin * BINS + usize::from(value / 32));
        counts[bin] += 1;
    }
    let scale = 1.0 / pixels.len().max(1) as f32;
    counts.into_iter().map(|count| count as f32 * scale).collect()
}

/// The pixels themselves: an RGB8 image (interleaved) as values in 0 ..= 1, less `mean`, over `std`, by channel.
pub fn pixels(rgb: &[u8], mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    rgb.iter().enumerate().map(|(i, value)| (f32::from(*value) / 255.0 - mean[i % 3]) / std[i % 3]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_colours() {
        let features = histogram(&[255, 0, 0, 255, 31, 0, 0, 0, 255, 32, 64, 96]);
        assert_eq!(features.len(), HISTOGRAM_DIM);
        assert_eq!(features[7 * 64], 0.5);
        assert_eq!(features[7], 0.25);
        assert_eq!(features[64 + 2 * 8 + 3], 0.25);
        assert_eq!(features.iter().sum::<f32>(), 1.0);
        assert_eq!(histogram(&[]).iter().sum::<f32>(), 0.0);
    }

    #[test]
    fn pixels_are_standardised_by_channel() {
        assert_eq!(pixels(&[0, 255, 51, 255, 0, 0], [0.0, 0.5, 0.2], [1.0, 0.5, 0.1]), [0.0, 1.0, 0.0, 1.0, -1.0, -2.0]);
    }
}
