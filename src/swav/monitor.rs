//! Signs of collapse: few prototypes in use, or a loss that sits at ln K.

/// How often each of `k` prototypes is the nearest one of a row of `scores` (`[rows, k]`); the first of equals wins.
///
/// # Panics
/// If `k` is 0.
pub fn usage(scores: &[f32], k: usize) -> Vec<u32> {
    let mut counts = vec![0; k];
    for row in scores.chunks_exact(k) {
        let mut best = 0;
        for (i, s) in row.iter().enumerate() {
            if *s > row[best] {
                best = i;
            }
        }
        counts[best] += 1;
    }
    counts
}

/// Entropy of the use of prototypes as a share of ln K: 1 when all are used alike, 0 when one is (or nothing was counted).
pub fn entropy(counts: &[u32]) -> f64 {
    let total: f64 = counts.iter().copied().map(f64::from).sum();
    if total == 0.0 || counts.len() < 2 {
        return 0.0;
    }
    let nats: f64 = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.ln()).sum();
    nats / (counts.len() as f64).ln()
}

/// ln K − loss, in nats: how far the loss is below that of a model that tells nothing apart. Near 0 means collapse.
pub fn margin(loss: f32, k: usize) -> f64 {
    (k as f64).ln() - f64::from(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_nearest_prototype() {
        assert_eq!(usage(&[0.1, 0.3, 0.3, 0.9, 0.0, -1.0, 0.2, 0.1, 0.0], 3), [2, 1, 0]);
    }

    #[test]
    fn entropy_tells_even_use_from_collapse() {
        assert!((entropy(&[5, 5, 5, 5]) - 1.0).abs() < 1e-12);
        assert_eq!(entropy(&[20, 0, 0, 0]), 0.0);
        assert!((entropy(&[10, 10, 0, 0]) - 0.5).abs() < 1e-12);
        assert_eq!(entropy(&[0, 0]), 0.0);
    }

    #[test]
    fn margin_is_zero_at_ln_k() {
        assert!(margin(16_000f32.ln(), 16_000).abs() < 1e-6);
        assert!((margin(9.0, 16_000) - 0.680_344).abs() < 1e-5);
    }
}
