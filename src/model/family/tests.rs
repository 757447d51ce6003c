//! The published table: stages, parameters and multiply-adds of every member, to the last digit.

use std::collections::BTreeMap;

use super::*;
use crate::model::layout::Part;
use crate::model::regnet::Rounding;
use crate::model::{Config, trunk};
use crate::model::{cost, filler};

/// One line of the table: ClassyVision's rounding.
struct Row {
    name: &'static str,
    widths: &'static [usize],
    depths: &'static [usize],
    parameters: usize,
    /// Of one image of 224 × 224.
    macs: u64,
    /// The same in the billions that are published, with as many digits.
    published: &'static str,
}

/// Parameters of the trunk without a classifier.
const TABLE: [Row; 14] = [
    row("toy", &[32, 64, 128], &[1, 2, 1], 104_816, 91_528_704, "0.092"),
    row("regnet_y_400mf", &[48, 104, 208, 440], &[1, 3, 6, 6], 3_903_144, 401_402_848, "0.40"),
    row("regnet_y_800mf", &[64, 128, 320, 768], &[1, 3, 8, 2], 5_494_168, 796_408_832, "0.80"),
    row("regnet_y_1_6gf", &[48, 120, 336, 888], &[2, 6, 17, 2], 10_313_430, 1_611_188_160, "1.61"),
    row("regnet_y_3_2gf", &[72, 216, 576, 1512], &[2, 5, 13, 1], 17_923_338, 3_174_970_752, "3.17"),
    row("regnet_y_8gf", &[168, 448, 896, 2016], &[2, 4, 10, 1], 37_163_068, 7_961_041_312, "7.96"),
    row("regnet_y_16gf", &[224, 448, 1232, 3024], &[2, 4, 11, 1], 80_565_140, 15_908_486_272, "15.9"),
    row("regnet_y_32gf", &[232, 696, 1392, 3712], &[2, 5, 12, 1], 141_333_770, 32_275_840_832, "32.3"),
    row("regnet_y_64gf", &[328, 984, 1968, 4920], &[2, 5, 12, 1], 276_457_786, 64_065_039_616, "64.1"),
    row("regnet_y_128gf", &[528, 1056, 2904, 7392], &[2, 7, 17, 1], 637_419_894, 127_510_423_680, "127.5"),
    row("regnet_y_256gf_classy", &[640, 1696, 2544, 5088], &[3, 7, 16, 1], 821_051_008, 256_892_516_224, "256.9"),
    row("regnet_y_256gf", &[746, 1492, 4103, 10444], &[2, 7, 17, 1], 1_272_156_138, 254_374_370_734, "254.4"),
    row("seer_3b", &[1840, 3680, 10120, 25760], &[1, 4, 4, 1], 3_100_764_796, 605_613_692_256, "605.6"),
    row("seer_10b", &[2020, 4040, 11110, 28280], &[2, 7, 17, 1], 9_323_934_872, 1_863_284_508_176, "1863.3"),
];

/// Those that torchvision rounds to other widths.
const TORCHVISION: [Row; 2] = [
    row("regnet_y_800mf", &[64, 144, 320, 784], &[1, 3, 8, 2], 5_647_512, 833_072_256, "0.83"),
    row("regnet_y_8gf", &[224, 448, 896, 2016], &[2, 4, 10, 1], 37_364_472, 8_471_054_592, "8.47"),
];

const fn row(
    name: &'static str,
    widths: &'static [usize],
    depths: &'static [usize],
    parameters: usize,
    macs: u64,
    published: &'static str,
) -> Row {
    Row { name, widths, depths, parameters, macs, published }
}

fn check(row: &Row, rounding: Rounding) {
    let name = row.name;
    let stages = Trunk::Named(name.into()).stages(rounding).unwrap();
    let widths: Vec<usize> = stages.iter().map(|stage| stage.width).collect();
    let depths: Vec<usize> = stages.iter().map(|stage| stage.depth).collect();
    assert_eq!((widths.as_slice(), depths.as_slice()), (row.widths, row.depths), "{name}, {rounding:?}");
    let parts = trunk(&Config { trunk: Trunk::Named(name.into()), rounding, ..Config::default() }).unwrap();
    assert_eq!(parts.iter().map(Part::parameters).sum::<usize>(), row.parameters, "{name}, {rounding:?}");
    let macs = cost::multiply_adds(&parts, 224);
    assert_eq!(macs, row.macs, "{name}, {rounding:?}");
    let digits = row.published.split('.').nth(1).unwrap().len();
    assert_eq!(format!("{:.digits$}", macs as f64 / 1e9), row.published, "{name}, {rounding:?}");
}

#[test]
fn every_member_has_the_published_stages_parameters_and_multiply_adds() {
    assert_eq!(TABLE.map(|row| row.name), NAMES, "every name is in the table");
    TABLE.iter().for_each(|row| check(row, Rounding::Classy));
}

/// `tests/reference/family.py` counts on torchvision's modules, on the meta device.
#[test]
fn torchvisions_modules_have_as_many_parameters_and_multiply_adds() {
    type Counts = BTreeMap<String, BTreeMap<String, (usize, u64)>>;
    let counted: Counts = serde_json::from_slice(&filler::fixture("family.json")).unwrap();
    assert_eq!(counted.len(), NAMES.len());
    for (name, by_rounding) in counted {
        for (rounding, counts) in [(Rounding::Classy, by_rounding["classy"]), (Rounding::Torchvision, by_rounding["torchvision"])] {
            let parts = trunk(&Config { trunk: Trunk::Named(name.clone()), rounding, ..Config::default() }).unwrap();
            let ours = (parts.iter().map(Part::parameters).sum::<usize>(), cost::multiply_adds(&parts, 224));
            assert_eq!(ours, counts, "{name}, {rounding:?}");
        }
    }
}

#[test]
fn torchvisions_rounding_makes_two_members_wider_and_no_other() {
    TORCHVISION.iter().for_each(|row| check(row, Rounding::Torchvision));
    let same = TABLE.iter().filter(|row| TORCHVISION.iter().all(|other| other.name != row.name));
    assert_eq!(same.map(|row| check(row, Rounding::Torchvision)).count(), NAMES.len() - TORCHVISION.len());
}

#[test]
fn ten_billion_cost_what_is_published_at_each_size_of_crop() {
    let parts = trunk(&Config { trunk: Trunk::Named("seer_10b".into()), ..Config::default() }).unwrap();
    for (size, published) in [(96, "343.2"), (160, "951.3"), (224, "1863.3"), (384, "5473.4")] {
        assert_eq!(format!("{:.1}", cost::multiply_adds(&parts, size) as f64 / 1e9), published, "{size}");
    }
    let of_stage = |stage: usize| -> usize {
        let inside = |part: &&Part| matches!(part, Part::Block(block) if block.stage == stage);
        parts.iter().filter(inside).map(Part::parameters).sum()
    };
    assert_eq!([1, 2, 3, 4].map(|stage| (of_stage(stage) as f64 / 1e6).round()), [51.0, 539.0, 6_891.0, 1_843.0]);
}

#[test]
fn a_classy_256gf_has_a_group_width_per_stage() {
    let stages = Trunk::Named("regnet_y_256gf_classy".into()).stages(Rounding::Classy).unwrap();
    let groups: Vec<_> = stages.iter().map(|stage| stage.group_width).collect();
    assert_eq!(groups, [640, 848, 848, 848]);
}
