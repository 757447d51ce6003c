//! Matrix products in f32 on one thread: the bits depend on the shapes alone.

use gemm::Parallelism;

/// A matrix in a slice: values, distance between rows, distance between columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a>(pub(super) &'a [f32], pub(super) usize, pub(super) usize);

/// out (m × n, its rows `stride` apart) = a (m × k) · b (k × n), added to what is there if `add`.
pub(super) fn product(out: &mut [f32], stride: usize, [m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, add: bool) {
    let last = |x: Matrix<'_>, rows: usize, columns: usize| (rows - 1) * x.1 + (columns - 1) * x.2 < x.0.len();
    assert!(m > 0 && n > 0 && k > 0 && n <= stride && (m - 1) * stride + n <= out.len(), "the output within its slice");
    assert!(last(a, m, k) && last(b, k, n), "matrices within their slices");
    // SAFETY: the assertions bound every index that the strides reach, and `out` is borrowed alone.
    #[expect(unsafe_code, reason = "the library takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
