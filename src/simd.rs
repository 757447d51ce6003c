//! Loops that compilers turn into the vector instructions that this CPU has.

/// Runs a loop compiled for AVX-512 or AVX2 where the CPU has it, otherwise for the target's baseline. What the closure
/// calls must be `#[inline(always)]`.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    use pulp::Simd;
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = pulp::x86::V4::try_new() {
            return avx512.vectorize(work);
        }
        if let Some(avx2) = pulp::x86::V3::try_new() {
            return avx2.vectorize(work);
        }
    }
    pulp::Scalar.vectorize(work)
}
