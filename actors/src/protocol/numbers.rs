//! Kinds of numbers, and in which ones a unit travels.

/// A kind of floating-point number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32 and 8 bits of precision.
    BF16,
    /// 16 bits with 11 bits of precision, up to 65,504.
    F16,
}

/// How a unit travels between ranks. Every lane sees the same rounded values and every addition is rounded alike, whoever holds what: placement
/// changes no bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wire {
    /// Kind of the values that are gathered.
    pub gather: Dtype,
    /// Kind of the gradients that are summed.
    pub reduce: Dtype,
    /// Only values of the unit before this index; the rest stays f32.
    pub below: usize,
}
