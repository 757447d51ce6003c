//! Loops that compilers turn into the vector instructions that this CPU has.

use pulp::Simd;

/// Runs a loop compiled for AVX2 where the CPU has it, otherwise for the target's baseline. What the closure
/// calls must be `#[inline(always)]`.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = pulp::x86::V3::try_new() {
        return avx2.vectorize(work);
    }
    pulp::Scalar.vectorize(work)
}

/// The same with AVX-512 where the CPU has it: for loops that run through memory. Convolutions are no faster for it.
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = pulp::x86::V4::try_new() {
        return avx512.vectorize(work);
    }
    vectorised(work)
}
