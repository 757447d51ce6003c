//! Bytes of an image file to RGB8, refusing what is too large before memory is taken.
//!
//! The format follows from the first bytes, not from the name. Grayscale, palette, 16 bit, alpha (dropped) and
//! CMYK / YCCK (Adobe's inverted convention, as Pillow assumes) all become RGB. EXIF orientation is not applied,
//! as in torchvision. A truncated JPEG is an error: half an image in gray would teach the wrong thing.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeLimits {
    /// Most pixels of an image (width × height); 64 Mi by default.
    pub pixels_max: u64,
    /// Longest side in pixels; 16,384 by default.
    pub side_max: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { pixels_max: 64 << 20, side_max: 16_384 }
    }
}

impl DecodeLimits {
    fn check(&self, width: u64, height: u64) -> Result<(), DecodeError> {
        let side_max = u64::from(self.side_max);
        if width == 0 || height == 0 {
            return Err(DecodeError::Corrupt("it has no pixels".into()));
        }
        if width > side_max || height > side_max || width * height > self.pixels_max {
            return Err(DecodeError::TooLarge { width, height, limits: *self });
        }
        Ok(())
    }
}

/// An image that cannot be used. Another takes its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes are of no known format.
    #[error("it is not a JPEG, PNG or WebP file by its first bytes; remove or convert it")]
    Unknown,
    /// Larger than the limits.
    #[error("it is {width}×{height} pixels, more than {} pixels or a side of {}; shrink it or raise the limits", limits.pixels_max, limits.side_max)]
    TooLarge {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// What is allowed.
        limits: DecodeLimits,
    },
    /// The decoder gave up.
    #[error("it cannot be decoded ({0}); copy it again or remove it")]
    Corrupt(String),
}

/// A decoded image: rows of interleaved red, green, blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `3 × width × height` bytes.
    pub pixels: Vec<u8>,
}

/// Decodes an image file.
///
/// # Errors
/// The image is of no known format, too large, or damaged.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgb, DecodeError> {
    let format = format_of(bytes).ok_or(DecodeError::Unknown)?;
    // A decoder that meets bytes its authors did not think of must cost one image, not the process.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits),
        _ => decode_other(bytes, format, limits),
    }));
    decoded.unwrap_or_else(|_| Err(DecodeError::Corrupt("its decoder failed".into())))
}

fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(ImageFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        _ => None,
    }
}

fn decode_jpeg(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgb, DecodeError> {
    let corrupt = |error: zune_jpeg::errors::DecodeErrors| DecodeError::Corrupt(error.to_string());
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(corrupt)?;
    let info = decoder.info().ok_or_else(|| DecodeError::Corrupt("it has no frame header".into()))?;
    limits.check(u64::from(info.width), u64::from(info.height))?;
    // The decoder notices missing data row by row, so not in the last one.
    if !has_end_of_image(bytes) {
        return Err(DecodeError::Corrupt("it is truncated".into()));
    }
    let pixels = decoder.decode().map_err(corrupt)?;
    checked(u32::from(info.width), u32::from(info.height), pixels)
}

/// Whether an end-of-image marker follows the last scan; bytes after it are allowed. Inside a scan no such pair can
/// occur, and a thumbnail's own marker lies before the scan.
fn has_end_of_image(bytes: &[u8]) -> bool {
    bytes.windows(2).rev().find(|pair| matches!(pair, [0xff, 0xd9 | 0xda])).is_some_and(|pair| pair[1] == 0xd9)
}

fn decode_other(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<Rgb, DecodeError> {
    let corrupt = |error: image::ImageError| DecodeError::Corrupt(error.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = Limits::default();
    // Four channels of 16 bits, the decoder's own buffers, and room for small images' tables.
    bounds.max_alloc = Some(limits.pixels_max.saturating_mul(16).saturating_add(16 << 20));
    reader.limits(bounds);
    let decoder = reader.into_decoder().map_err(corrupt)?;
    let (width, height) = decoder.dimensions();
    limits.check(u64::from(width), u64::from(height))?;
    let pixels = DynamicImage::from_decoder(decoder).map_err(corrupt)?.into_rgb8();
    checked(width, height, pixels.into_raw())
}

fn checked(width: u32, height: u32, pixels: Vec<u8>) -> Result<Rgb, DecodeError> {
    if pixels.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(DecodeError::Corrupt("its colour model is not supported".into()));
    }
    Ok(Rgb { width, height, pixels })
}

#[cfg(test)]
mod tests;
