//! Crops and colours against values worked out by other means.

use super::*;
use crate::data::augment::draw::ColorOp;
use crate::data::augment::recipe::GroupRecipe;

fn ramp(width: u32, height: u32) -> Rgb {
    let pixels =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x % 256) as u8, (y % 256) as u8, ((x * y) % 256) as u8])).collect();
    Rgb { width, height, pixels }
}

fn plain(region: Region) -> CropDraw {
    CropDraw { region, flip: false, colors: Vec::new(), blur: None }
}

const UNIT: Normalize = Normalize { scale: [1.0; 3], offset: [0.0; 3] };

#[test]
fn a_crop_of_its_own_size_is_a_copy_mirrored_if_told() {
    let image = ramp(60, 50);
    let region = Region { left: 7, top: 9, width: 32, height: 32 };
    let mut out = vec![0.0; 3 * 32 * 32];
    let mut cropper = Cropper::default();
    cropper.crop(&image, &plain(region), 32, &UNIT, &mut out);
    for (y, x) in [(0, 0), (5, 31), (31, 2)] {
        assert_eq!([out[y * 32 + x], out[1024 + y * 32 + x]], [(x + 7) as f32, (y + 9) as f32]);
    }
    let mut mirrored = vec![0.0; 3 * 32 * 32];
    cropper.crop(&image, &CropDraw { flip: true, ..plain(region) }, 32, &UNIT, &mut mirrored);
    for (row, mirror) in out.chunks(32).zip(mirrored.chunks(32)) {
        assert!(row.iter().eq(mirror.iter().rev()));
    }
}

#[test]
fn resizing_reads_nothing_outside_the_region() {
    let mut image = ramp(64, 64);
    let region = Region { left: 16, top: 16, width: 32, height: 32 };
    let mut cropper = Cropper::default();
    let before = cropper.resize(&image, region, 12, 12).to_vec();
    for y in 0..64usize {
        for x in 0..64usize {
            if !(16..48).contains(&x) || !(16..48).contains(&y) {
                image.pixels[(y * 64 + x) * 3..][..3].fill(255);
            }
        }
    }
    assert_eq!(cropper.resize(&image, region, 12, 12), before);
}

#[test]
fn reducing_averages_so_that_fine_patterns_do_not_alias() {
    let pixels = (0..64 * 64).flat_map(|i| [if (i % 64 + i / 64) % 2 == 0 { 255 } else { 0 }; 3]).collect();
    let image = Rgb { width: 64, height: 64, pixels };
    let mut cropper = Cropper::default();
    let small = cropper.resize(&image, Region { left: 0, top: 0, width: 64, height: 64 }, 16, 16);
    assert!(small.iter().all(|v| v.abs_diff(127) <= 4), "{small:?}");
}

#[test]
fn normalising_is_the_same_with_and_without_blur() {
    let image = Rgb { width: 20, height: 20, pixels: [50, 100, 200].repeat(400) };
    let normalize = Normalize::new([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let region = Region { left: 0, top: 0, width: 20, height: 20 };
    for blur in [None, Some(1.3)] {
        let mut out = vec![0.0; 3 * 256];
        Cropper::default().crop(&image, &CropDraw { blur, ..plain(region) }, 16, &normalize, &mut out);
        for (c, value) in [50.0, 100.0, 200.0].into_iter().enumerate() {
            let expected = (value / 255.0 - [0.485, 0.456, 0.406][c]) / [0.229, 0.224, 0.225][c];
            assert!(out[c * 256..(c + 1) * 256].iter().all(|v| (v - expected).abs() < 1e-4), "{blur:?} channel {c}");
        }
    }
}

fn lane(image: &Rgb, recipe: &Crops, seed: CropSeed) -> LaneCrops {
    let mut lane = LaneCrops::zeros(recipe, 1);
    Cropper::default().crops(image, recipe, seed, &mut lane, 0);
    lane
}

#[test]
fn crops_depend_on_seed_pass_sample_and_number_alone() {
    let image = ramp(120, 90);
    let groups = vec![GroupRecipe { size: 48, ..GroupRecipe::default() }, GroupRecipe { count: 3, size: 24, ..GroupRecipe::default() }];
    let recipe = Crops { groups, ..Crops::default() };
    let seed = CropSeed { seed: 1, pass: 2, sample: 3 };
    let first = lane(&image, &recipe, seed);
    assert_eq!(lane(&image, &recipe, seed), first);
    for other in [CropSeed { seed: 9, ..seed }, CropSeed { pass: 9, ..seed }, CropSeed { sample: 9, ..seed }] {
        assert_ne!(lane(&image, &recipe, other), first, "{other:?}");
    }
    let crops: Vec<&[f32]> = first.groups[1].pixels.chunks(3 * 24 * 24).collect();
    assert!(crops.len() == 3 && crops[0] != crops[1] && crops[1] != crops[2], "crops differ by number");
    assert!(first.groups.iter().flat_map(|g| &g.pixels).all(|v| v.is_finite() && v.abs() < 3.0));
    // Working memory of another image leaves no trace.
    let mut cropper = Cropper::default();
    let mut used = LaneCrops::zeros(&recipe, 1);
    cropper.crops(&ramp(33, 200), &recipe, seed, &mut used, 0);
    cropper.crops(&image, &recipe, seed, &mut used, 0);
    assert_eq!(used, first);
}

#[test]
fn rows_are_crop_major() {
    let recipe = Crops { groups: vec![GroupRecipe { count: 2, size: 1, ..GroupRecipe::default() }], ..Crops::default() };
    let mut lane = LaneCrops::zeros(&recipe, 3);
    for crop in 0..2 {
        for image in 0..3 {
            lane.crop_mut(0, crop, image).fill((crop * 10 + image) as f32);
        }
    }
    let rows: Vec<f32> = lane.groups[0].pixels.chunks(3).map(|row| row[0]).collect();
    assert_eq!(rows, [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
}

#[test]
fn the_order_of_changes_matters_and_grayscale_has_one_value() {
    let image = ramp(40, 40);
    let region = Region { left: 0, top: 0, width: 40, height: 40 };
    let with = |colors: Vec<ColorOp>| {
        let mut out = vec![0.0; 3 * 400];
        Cropper::default().crop(&image, &CropDraw { colors, ..plain(region) }, 20, &UNIT, &mut out);
        out
    };
    let (bright, gray) = (ColorOp::Brightness(9.0), ColorOp::Grayscale);
    assert_ne!(with(vec![bright, gray]), with(vec![gray, bright]));
    let out = with(vec![gray]);
    assert!((0..400).all(|i| (out[i] - out[400 + i]).abs() < 1e-3 && (out[i] - out[800 + i]).abs() < 1e-3));
}
