//! data
pub mod make;
