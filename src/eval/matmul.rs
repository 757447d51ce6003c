//! Matrix products through the `gemm` crate.

/// A matrix that lies in a slice with any strides.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows, cols]`, row-major.
    pub(super) fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a matrix has rows · cols values");
        Self { values, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, of the same values.
    pub(super) fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// `out` (row-major) = a · b, on this thread alone: the bits depend on the shapes only.
pub(super) fn product(out: &mut [f32], a: View<'_>, b: View<'_>) {
    assert!(a.cols == b.rows && out.len() == a.rows * b.cols, "the shapes of a product fit");
    #[expect(unsafe_code, reason = "gemm takes pointers; the views' lengths were checked when they were made, the output's just above")]
    // SAFETY: every index that the strides reach lies inside its slice, and `out` is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            b.cols as isize,
            false,
            a.values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_matrices_and_transposes() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 0.0, 1.0, -1.0]);
        let mut out = [f32::NAN; 4];
        product(&mut out, View::new(&a, 2, 3), View::new(&b, 2, 3).transposed());
        assert_eq!(out, [7.0, -1.0, 16.0, -1.0]);
        let mut out = [f32::NAN; 9];
        product(&mut out, View::new(&a, 2, 3).transposed(), View::new(&b, 2, 3));
        assert_eq!(out, [1.0, 4.0, -2.0, 2.0, 5.0, -1.0, 3.0, 6.0, 0.0]);
    }
}
