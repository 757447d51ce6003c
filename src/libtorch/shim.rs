//! The functions of `shim.cpp`, safe to call.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use tch::Tensor;
use torch_sys::C_tensor;

#[expect(unsafe_code, reason = "functions of C++; what each needs is said where it is called")]
unsafe extern "C" {
    fn everstep_conv(x: *const C_tensor, weight: *const C_tensor, stride: i64, groups: i64, y: *mut *mut C_tensor) -> *const c_char;
    fn everstep_conv_backward(
        x: *const C_tensor,
        weight: *const C_tensor,
        dy: *const C_tensor,
        stride: i64,
        groups: i64,
        dx: *mut *mut C_tensor,
        dweight: *mut *mut C_tensor,
    ) -> *const c_char;
    fn everstep_channels_last(x: *const C_tensor, y: *mut *mut C_tensor) -> *const c_char;
    fn everstep_empty_channels_last(x: *const C_tensor, y: *mut *mut C_tensor) -> *const c_char;
    fn everstep_repeatable() -> *const c_char;
}

/// What libtorch says when it cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libtorch: {0}")]
pub struct Error(String);

/// The error behind a shim's answer, its first line: what follows is a stack of C++ frames.
fn checked(answer: *const c_char) -> Result<(), Error> {
    if answer.is_null() {
        return Ok(());
    }
    // SAFETY: the shim answers with a string that lives until this thread's next call of it.
    #[expect(unsafe_code, reason = "a C string")]
    let text = unsafe { CStr::from_ptr(answer) }.to_string_lossy();
    Err(Error(text.lines().next().unwrap_or("no message").to_owned()))
}

/// Runs `work`, which writes a new tensor to where it is told.
fn tensor(work: impl FnOnce(*mut *mut C_tensor) -> *const c_char) -> Result<Tensor, Error> {
    let mut made = null_mut();
    checked(work(&raw mut made))?;
    // SAFETY: without an error the shim has made a tensor on the heap, which now belongs to the Rust object alone.
    #[expect(unsafe_code, reason = "takes over a C++ object")]
    Ok(unsafe { Tensor::from_ptr(made) })
}

/// Convolution without a bias, padded by k / 2, channels innermost.
///
/// # Errors
/// Shapes that do not fit, no memory.
pub fn conv(x: &Tensor, weight: &Tensor, stride: usize, groups: usize) -> Result<Tensor, Error> {
    // SAFETY: the pointers live as long as the borrowed tensors; the shim only reads through them.
    #[expect(unsafe_code, reason = "calls C++")]
    tensor(|y| unsafe { everstep_conv(x.as_ptr(), weight.as_ptr(), stride as i64, groups as i64, y) })
}

/// d loss / dx of [`conv`].
///
/// # Errors
/// As [`conv`].
pub fn conv_dx(x: &Tensor, weight: &Tensor, dy: &Tensor, stride: usize, groups: usize) -> Result<Tensor, Error> {
    // SAFETY: as in `conv`.
    #[expect(unsafe_code, reason = "calls C++")]
    tensor(|dx| unsafe { everstep_conv_backward(x.as_ptr(), weight.as_ptr(), dy.as_ptr(), stride as i64, groups as i64, dx, null_mut()) })
}

/// d loss / d weight of [`conv`].
///
/// # Errors
/// As [`conv`].
pub fn conv_dw(x: &Tensor, weight: &Tensor, dy: &Tensor, stride: usize, groups: usize) -> Result<Tensor, Error> {
    // SAFETY: as in `conv`.
    #[expect(unsafe_code, reason = "calls C++")]
    tensor(|dw| unsafe { everstep_conv_backward(x.as_ptr(), weight.as_ptr(), dy.as_ptr(), stride as i64, groups as i64, null_mut(), dw) })
}

/// A tensor `[n, c, h, w]` whose memory is in the order n, h, w, c; shares `x`'s if that is so already.
///
/// # Errors
/// No memory.
pub fn channels_last(x: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: as in `conv`.
    #[expect(unsafe_code, reason = "calls C++")]
    tensor(|y| unsafe { everstep_channels_last(x.as_ptr(), y) })
}

/// Memory for a tensor like `x`, in the order n, h, w, c.
///
/// # Errors
/// No memory.
pub fn empty_channels_last(x: &Tensor) -> Result<Tensor, Error> {
    // SAFETY: as in `conv`.
    #[expect(unsafe_code, reason = "calls C++")]
    tensor(|y| unsafe { everstep_empty_channels_last(x.as_ptr(), y) })
}

/// Only algorithms whose results repeat, and single precision that is single, from now on in this process.
///
/// # Errors
/// This libtorch lacks a switch.
pub fn repeatable() -> Result<(), Error> {
    // SAFETY: takes nothing.
    #[expect(unsafe_code, reason = "calls C++")]
    checked(unsafe { everstep_repeatable() })
}
