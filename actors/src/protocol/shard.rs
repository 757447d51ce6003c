//! How units are cut into shards: a function of the model's shape alone, so it never changes in a run.

use std::ops::Range;

use super::ids::{ShardId, UnitId};

/// What the cut needs to know of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitShape {
    /// Values of the flat vector.
    pub length: usize,
    /// Shards end on multiples of this (or at the end).
    pub row: usize,
}

/// One slice of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Which.
    pub id: ShardId,
    /// Its values in the unit's flat vector.
    pub range: Range<usize>,
}

/// The default size of a shard: small models stay whole per unit, large ones have some 8,192 shards.
pub fn default_shard_values(total: usize) -> usize {
    (total / 8_192).clamp(65_536, 16 << 20)
}

/// Cuts every unit into equal shards of at most about `shard_values` values, in (unit, index) order.
pub fn cut(units: &[UnitShape], shard_values: usize) -> Vec<Shard> {
    let mut shards = Vec::new();
    for (unit, shape) in units.iter().enumerate() {
        let row = shape.row.max(1);
        let rows = shape.length.div_ceil(row);
        let pieces = shape.length.div_ceil(shard_values.max(1)).clamp(1, rows.max(1));
        for index in 0..pieces {
            let at = |piece: usize| (rows * piece / pieces * row).min(shape.length);
            let range = at(index)..at(index + 1);
            shards.push(Shard { id: ShardId { unit: UnitId(unit as u32), index: index as u32 }, range });
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_each_unit_once_and_ends_on_rows() {
        let units = [UnitShape { length: 100, row: 1 }, UnitShape { length: 64 * 30, row: 64 }, UnitShape { length: 1, row: 1 }];
        for shard_values in [1, 7, 64, 100, 500, 10_000] {
            let shards = cut(&units, shard_values);
            for (unit, shape) in units.iter().enumerate() {
                let mine: Vec<_> = shards.iter().filter(|s| s.id.unit.0 as usize == unit).collect();
                assert_eq!(mine.first().unwrap().range.start, 0);
                assert_eq!(mine.last().unwrap().range.end, shape.length);
                assert!(mine.windows(2).all(|pair| pair[0].range.end == pair[1].range.start));
                assert!(mine.iter().all(|s| !s.range.is_empty()));
                assert!(mine.iter().all(|s| s.range.end % shape.row == 0 || s.range.end == shape.length));
            }
        }
    }

    #[test]
    fn shard_counts_stay_in_hand_at_both_ends() {
        assert_eq!(cut(&[UnitShape { length: 104_816, row: 1 }], default_shard_values(104_816)).len(), 2);
        let seer = default_shard_values(9_628_923_288);
        assert!((1_000_000..2_000_000).contains(&seer), "{seer}");
    }
}
