//! The members of the RegNetY family that have a name, and the numbers that generate them.
//!
//! Sources: ClassyVision's and vissl's model definitions (Radosavovic et al. 2020; Goyal et al. 2021 and 2022).

use super::regnet::{Numbers, Stages, Trunk};

/// Names of the family, smallest first.
///
/// Two different networks are called 256GF: `regnet_y_256gf` is SEER's (and timm's), `regnet_y_256gf_classy` ClassyVision's.
pub const NAMES: [&str; 14] = [
    "toy",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_1_6gf",
    "regnet_y_3_2gf",
    "regnet_y_8gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "regnet_y_64gf",
    "regnet_y_128gf",
    "regnet_y_256gf_classy",
    "regnet_y_256gf",
    "seer_3b",
    "seer_10b",
];

/// What a name stands for; `None` for a name that is not among [`NAMES`].
pub(super) fn member(name: &str) -> Option<Trunk> {
    let (depth, w_0, w_a, w_m, group_width) = match name {
        "toy" => return Some(stages(&[32, 64, 128], &[1, 2, 1], 16)),
        "regnet_y_400mf" => (16, 48.0, 27.89, 2.09, 8),
        "regnet_y_800mf" => (14, 56.0, 38.84, 2.4, 16),
        "regnet_y_1_6gf" => (27, 48.0, 20.71, 2.65, 24),
        "regnet_y_3_2gf" => (21, 80.0, 42.63, 2.66, 24),
        "regnet_y_8gf" => (17, 192.0, 76.82, 2.19, 56),
        "regnet_y_16gf" => (18, 200.0, 106.23, 2.48, 112),
        "regnet_y_32gf" => (20, 232.0, 115.89, 2.53, 232),
        "regnet_y_64gf" => (20, 352.0, 147.48, 2.4, 328),
        "regnet_y_128gf" => (27, 456.0, 160.83, 2.52, 264),
        "regnet_y_256gf_classy" => (27, 640.0, 124.47, 2.04, 848),
        "regnet_y_256gf" => (27, 640.0, 230.83, 2.53, 373),
        // The ablation at 3 billion parameters was given by its stages.
        "seer_3b" => return Some(stages(&[1840, 3680, 10120, 25760], &[1, 4, 4, 1], 920)),
        "seer_10b" => (27, 1744.0, 620.83, 2.52, 1010),
        _ => return None,
    };
    Some(Trunk::Numbers(Numbers { depth, w_0, w_a, w_m, group_width }))
}

fn stages(widths: &[usize], depths: &[usize], group_width: usize) -> Trunk {
    Trunk::Stages(Stages { widths: widths.to_vec(), depths: depths.to_vec(), group_width })
}

#[cfg(test)]
mod tests;
