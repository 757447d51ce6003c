//! Formats, colour models, and files that lie about themselves.

use super::*;
use image::{DynamicImage, ImageBuffer, Luma, Rgba};

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn gradient(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(ImageBuffer::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 3) as u8, ((x + y) * 2) as u8])))
}

fn ok(bytes: &[u8]) -> Rgb {
    decode(bytes, &DecodeLimits::default()).unwrap()
}

fn pixel(image: &Rgb, x: u32, y: u32) -> [u8; 3] {
    image.pixels[((y * image.width + x) * 3) as usize..][..3].try_into().unwrap()
}

fn close(a: [u8; 3], b: [u8; 3], tolerance: u8) {
    assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= tolerance), "{a:?} instead of {b:?}");
}

#[test]
fn every_format_and_colour_model_becomes_rgb() {
    let rgb = gradient(40, 30);
    let exact = rgb.to_rgb8().into_raw();
    assert_eq!(ok(&encode(&rgb, ImageFormat::Png)).pixels, exact);
    assert_eq!(ok(&encode(&rgb, ImageFormat::WebP)).pixels, exact);
    let jpeg = ok(&encode(&rgb, ImageFormat::Jpeg));
    assert_eq!((jpeg.width, jpeg.height), (40, 30));
    close(pixel(&jpeg, 20, 10), [60, 30, 60], 8);

    let gray = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(9, 7, Luma([77])));
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        assert!(ok(&encode(&gray, format)).pixels.iter().all(|v| v.abs_diff(77) <= 1), "{format:?}");
    }
    let deep = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(5, 5, image::Rgb([0xffff, 0x8080, 0])));
    close(pixel(&ok(&encode(&deep, ImageFormat::Png)), 2, 2), [255, 128, 0], 0);
    let alpha = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(5, 5, Rgba([10, 20, 30, 0])));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        close(pixel(&ok(&encode(&alpha, format)), 2, 2), [10, 20, 30], 0);
    }
}

#[test]
fn a_palette_becomes_rgb() {
    // 2×1 pixels, 8-bit palette of two colours, one stored (uncompressed) deflate block.
    let raw = [0u8, 1, 0];
    let mut zlib = vec![0x78, 0x01, 0x01, 3, 0, !3, 0xff];
    zlib.extend(raw);
    let (mut a, mut b) = (1u32, 0u32);
    raw.iter().for_each(|byte| (a, b) = (a + u32::from(*byte), b + a + u32::from(*byte)));
    zlib.extend(((b << 16) | a).to_be_bytes());
    let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0];
    let bytes = png_of(&[(b"IHDR", &header), (b"PLTE", &[1, 2, 3, 200, 100, 50]), (b"IDAT", &zlib), (b"IEND", &[])]);
    assert_eq!(ok(&bytes).pixels, [200, 100, 50, 1, 2, 3]);
}

#[test]
fn cmyk_and_ycck_follow_adobe() {
    for bytes in [&include_bytes!("../../../tests/fixtures/cmyk.jpg")[..], include_bytes!("../../../tests/fixtures/ycck.jpg")] {
        let image = ok(bytes);
        let colors = [[255, 0, 0], [0, 160, 0], [0, 0, 255], [200, 200, 40]];
        for (i, color) in colors.into_iter().enumerate() {
            close(pixel(&image, (i as u32 % 2) * 32 + 16, (i as u32 / 2) * 32 + 16), color, 3);
        }
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    for (width, height) in [(64, 64), (100, 8), (33, 200)] {
        let bytes = encode(&gradient(width, height), ImageFormat::Jpeg);
        ok(&bytes);
        for cut in (1..40).map(|i| i * bytes.len() / 40).chain([bytes.len() - 1, bytes.len() - 2, bytes.len() - 9]) {
            assert!(decode(&bytes[..cut], &DecodeLimits::default()).is_err(), "{width}×{height} cut at {cut} of {}", bytes.len());
        }
        let mut longer = bytes.clone();
        longer.extend([0; 100]);
        ok(&longer);
    }
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let bytes = encode(&gradient(50, 50), format);
        assert!(decode(&bytes[..bytes.len() * 2 / 3], &DecodeLimits::default()).is_err(), "{format:?}");
    }
}

#[test]
fn huge_dimensions_are_refused_by_the_header_alone() {
    let side = 60_000u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let bytes = png_of(&[(b"IHDR", &header), (b"IDAT", &[]), (b"IEND", &[])]);
    let error = decode(&bytes, &DecodeLimits::default()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
    assert!(error.to_string().contains("60000×60000"));

    let mut jpeg = encode(&gradient(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert!(matches!(decode(&jpeg, &DecodeLimits::default()), Err(DecodeError::TooLarge { width: 60_000, height: 60_000, .. })));

    let limits = DecodeLimits { pixels_max: 99, side_max: 1000 };
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        assert!(matches!(decode(&encode(&gradient(10, 10), format), &limits), Err(DecodeError::TooLarge { .. })), "{format:?}");
        decode(&encode(&gradient(11, 9), format), &limits).unwrap();
    }
}

#[test]
fn what_is_no_image_is_an_error() {
    assert_eq!(decode(b"just some text", &DecodeLimits::default()), Err(DecodeError::Unknown));
    assert_eq!(decode(b"", &DecodeLimits::default()), Err(DecodeError::Unknown));
    let mut bytes = encode(&gradient(64, 64), ImageFormat::Jpeg);
    for seed in 0..200usize {
        // Damage must end in an image or an error, never in a panic or a hang.
        let at = 2 + seed * 7919 % (bytes.len() - 4);
        bytes[at] ^= (seed % 255) as u8 + 1;
        let _ = decode(&bytes, &DecodeLimits::default());
        bytes[at] ^= (seed % 255) as u8 + 1;
    }
}

/// A PNG of the given chunks.
fn png_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], data].concat();
        let crc = body.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        });
        bytes.extend(&body);
        bytes.extend((!crc).to_be_bytes());
    }
    bytes
}
