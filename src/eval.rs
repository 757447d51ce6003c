//! What features are worth: nearest neighbours, a linear probe, and baselines that learned nothing.

mod matmul;

pub mod baseline;
pub mod knn;
pub mod linear;

/// Why features cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// There is nothing to evaluate.
    #[error("the {0} set has no images: name a folder or archive that holds some")]
    Empty(&'static str),
    /// Lengths do not fit.
    #[error(
        "the {set} set has {values} feature values for {labels} labels of {dim} values each: one row of features is needed for each label"
    )]
    Shape {
        /// Which set.
        set: &'static str,
        /// Number of feature values.
        values: usize,
        /// Number of labels.
        labels: usize,
        /// Length of a row.
        dim: usize,
    },
    /// Rows of two lengths.
    #[error("the train set has {train} features an image and the test set {test}: both must come from one network")]
    Dim {
        /// Length of a row of the train set.
        train: usize,
        /// Length of a row of the test set.
        test: usize,
    },
    /// A feature is NaN or infinite.
    #[error("row {row} of the {set} set has a feature that is not finite: the weights are broken, evaluate an earlier checkpoint")]
    NotFinite {
        /// Which set.
        set: &'static str,
        /// The image's place.
        row: usize,
    },
    /// A label is too large to be one.
    #[error("row {row} of the {set} set has label {label}: labels count classes from 0 and stay below {CLASSES_MAX}")]
    Label {
        /// Which set.
        set: &'static str,
        /// The image's place.
        row: usize,
        /// Its label.
        label: u32,
    },
    /// A setting is out of its range.
    #[error("`{key}` must be {want}")]
    Setting {
        /// The setting's name.
        key: &'static str,
        /// What it may be.
        want: &'static str,
    },
}

/// Bound on the number of classes.
const CLASSES_MAX: u32 = 1 << 20;

/// Images as rows of features, with their labels.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// `[labels.len(), dim]`.
    pub values: &'a [f32],
    /// Features an image.
    pub dim: usize,
    /// Class of each image, counted from 0.
    pub labels: &'a [u32],
}

impl Features<'_> {
    fn check(&self, set: &'static str) -> Result<(), EvalError> {
        if self.labels.is_empty() || self.dim == 0 {
            return Err(EvalError::Empty(set));
        }
        if self.labels.len().checked_mul(self.dim) != Some(self.values.len()) {
            return Err(EvalError::Shape { set, values: self.values.len(), labels: self.labels.len(), dim: self.dim });
        }
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            return Err(EvalError::NotFinite { set, row: at / self.dim });
        }
        match self.labels.iter().position(|label| *label >= CLASSES_MAX) {
            Some(row) => Err(EvalError::Label { set, row, label: self.labels[row] }),
            None => Ok(()),
        }
    }
}

/// Checks both sets; returns the number of classes.
fn check(train: &Features<'_>, test: &Features<'_>) -> Result<usize, EvalError> {
    train.check("train")?;
    test.check("test")?;
    if train.dim != test.dim {
        return Err(EvalError::Dim { train: train.dim, test: test.dim });
    }
    Ok(train.labels.iter().max().map_or(0, |label| *label as usize + 1))
}

/// Share of equal labels, in percent.
fn accuracy(got: &[u32], want: &[u32]) -> f64 {
    100.0 * got.iter().zip(want).filter(|(got, want)| got == want).count() as f64 / want.len() as f64
}

#[cfg(test)]
mod tests;
