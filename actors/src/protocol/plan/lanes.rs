//! Lanes → ranks: contiguous ranges, cut where the canonical tree is cut.

/// Contiguous ranges in proportion to the ranks' speeds, first lane and one past the last.
///
/// Equal speeds give sizes that differ by one at most; cuts then fall on the roundest lane numbers, so that a rank's lanes
/// are few complete subtrees of the canonical tree.
pub(super) fn place(speeds: &[u32], lanes: u32) -> Vec<(u32, u32)> {
    let equal = speeds.windows(2).all(|pair| pair[0] == pair[1]);
    if equal { evenly(speeds.len() as u32, lanes) } else { in_proportion(speeds, lanes) }
}

fn evenly(ranks: u32, lanes: u32) -> Vec<(u32, u32)> {
    let working = ranks.min(lanes);
    let mut out = Vec::with_capacity(ranks as usize);
    let mut at = 0;
    for rank in 0..ranks {
        let left = working.saturating_sub(rank);
        let size = match left {
            0 => 0,
            1 => lanes - at,
            _ => {
                let (small, larger) = ((lanes - at) / left, (lanes - at) % left);
                let round = |size: u32| (at + size).trailing_zeros();
                if larger > 0 && round(small + 1) > round(small) { small + 1 } else { small }
            }
        };
        out.push((at, at + size));
        at += size;
    }
    out
}

/// Lane by lane to the rank that would be done with one more first; a rank that is too slow gets none.
fn in_proportion(speeds: &[u32], lanes: u32) -> Vec<(u32, u32)> {
    let mut counts = vec![0u64; speeds.len()];
    for _ in 0..lanes {
        let next = (0..speeds.len()).min_by(|a, b| {
            let done = |rank: usize, other: usize| (counts[rank] + 1) * u64::from(speeds[other].max(1));
            done(*a, *b).cmp(&done(*b, *a)).then(a.cmp(b))
        });
        next.into_iter().for_each(|rank| counts[rank] += 1);
    }
    let mut at = 0;
    let ranges = counts.into_iter().map(|count| {
        let start = at;
        at += count as u32;
        (start, at)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lanes_are_cut_where_the_tree_is() {
        assert_eq!(evenly(2, 4), [(0, 2), (2, 4)]);
        assert_eq!(evenly(3, 4), [(0, 2), (2, 3), (3, 4)]);
        assert_eq!(evenly(3, 8), [(0, 2), (2, 5), (5, 8)]);
        assert_eq!(evenly(6, 4), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4), (4, 4)]);
        assert_eq!(evenly(1, 5), [(0, 5)]);
    }

    #[test]
    fn slow_ranks_get_fewer_lanes() {
        assert_eq!(place(&[3, 1], 4), [(0, 3), (3, 4)]);
        assert_eq!(place(&[1, 2, 1], 8), [(0, 2), (2, 6), (6, 8)]);
        assert_eq!(place(&[10, 10, 1], 4), [(0, 2), (2, 4), (4, 4)]);
    }

    proptest! {
        #[test]
        fn lanes_are_contiguous_complete_and_balanced(ranks in 1usize..64, lanes in 1u32..300, slow in 1u32..4) {
            let mut speeds = vec![slow; ranks];
            for uneven in [false, true] {
                speeds[0] = if uneven { slow + 1 } else { slow };
                let placed = place(&speeds, lanes);
                prop_assert_eq!(placed.len(), ranks);
                prop_assert_eq!(placed[0].0, 0);
                prop_assert!(placed.windows(2).all(|pair| pair[0].1 == pair[1].0));
                prop_assert_eq!(placed.last().unwrap().1, lanes);
                if !uneven {
                    let sizes: Vec<u32> = placed.iter().take(ranks.min(lanes as usize)).map(|(start, end)| end - start).collect();
                    prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", placed);
                }
            }
        }
    }
}
