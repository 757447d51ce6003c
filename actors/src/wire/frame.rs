//! Frames: what goes into a stream and comes out of it, with every length checked before memory is taken.
//!
//! A control frame is `length: u32` (little-endian) and an rkyv archive of that length. A data frame is
//! `header length: u32`, `values: u32`, the rkyv archive of a [`DataHeader`] and `values` little-endian f32.

use bytes::Bytes;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as Rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::message::DataHeader;

#[cfg(target_endian = "big")]
compile_error!("payloads are little-endian f32 taken from memory as they are: a big-endian machine needs a swap in wire::frame");

/// The longest archive of a [`DataHeader`] that is read.
pub const MAX_HEADER: u32 = 4096;

/// What can cross between nodes: any type with rkyv's derives that checks its bytes.
pub trait Frame: Sized + Send + 'static {
    /// The archive of the value.
    ///
    /// # Errors
    /// [`FrameError::Garbage`] when the value cannot be archived.
    fn encode(&self) -> Result<AlignedVec, FrameError>;
    /// The value of an archive that comes from a peer: every byte is checked.
    ///
    /// # Errors
    /// [`FrameError::Garbage`] when the bytes are not such an archive.
    fn decode(bytes: &[u8]) -> Result<Self, FrameError>;
}

impl<T> Frame for T
where
    T: Archive + Send + 'static,
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Rancor>>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Rancor>> + Deserialize<T, HighDeserializer<Rancor>>,
{
    fn encode(&self) -> Result<AlignedVec, FrameError> {
        rkyv::to_bytes::<Rancor>(self).map_err(|error| FrameError::Garbage(error.to_string()))
    }
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        rkyv::from_bytes::<T, Rancor>(bytes).map_err(|error| FrameError::Garbage(error.to_string()))
    }
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length above its cap. Nothing was allocated for it.
    #[error("a {what} of {length} was announced where at most {cap} is allowed")]
    TooLong {
        /// What is too long, with its unit.
        what: &'static str,
        /// Its length.
        length: u64,
        /// The most that is allowed.
        cap: u64,
    },
    /// The bytes are not what they should be.
    #[error("the bytes of a frame do not check: {0}")]
    Garbage(String),
    /// The stream broke off, in the middle of a frame or between two.
    #[error("the stream broke off: {0}")]
    Broken(#[from] std::io::Error),
}

/// A control frame, ready to be written.
///
/// # Errors
/// [`FrameError::TooLong`] when its archive is longer than `cap` bytes.
pub fn control(message: &impl Frame, cap: u32) -> Result<[Bytes; 2], FrameError> {
    let body = message.encode()?;
    let length = checked("control frame in bytes", body.len() as u64, cap.into())?;
    Ok([Bytes::copy_from_slice(&length.to_le_bytes()), Bytes::from_owner(body)])
}

/// Reads a control frame; `None` at the end of the stream.
///
/// # Errors
/// See [`FrameError`]; after one the stream has lost its place and must be dropped.
pub async fn read_control<T: Frame>(stream: &mut (impl AsyncRead + Unpin), cap: u32) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    if !read_or_end(stream, &mut length).await? {
        return Ok(None);
    }
    let length = checked("control frame in bytes", u32::from_le_bytes(length).into(), cap.into())?;
    Ok(Some(T::decode(&read_body(stream, length).await?)?))
}

/// The part of a data frame before its payload.
///
/// # Errors
/// [`FrameError::TooLong`] when the payload has more than `cap` values.
pub fn data(header: &DataHeader, values: usize, cap: u32) -> Result<Bytes, FrameError> {
    let values = checked("payload in values", values as u64, cap.into())?;
    let body = header.encode()?;
    let length = checked("data header in bytes", body.len() as u64, MAX_HEADER.into())?;
    let mut head = Vec::with_capacity(8 + body.len());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&values.to_le_bytes());
    head.extend_from_slice(&body);
    Ok(head.into())
}

/// Reads the part of a data frame before its payload, and the payload's number of values; `None` at
/// the end of the stream.
///
/// # Errors
/// See [`FrameError`]; after one the stream has lost its place and must be dropped.
pub async fn read_data(stream: &mut (impl AsyncRead + Unpin), cap: u32) -> Result<Option<(DataHeader, usize)>, FrameError> {
    let mut lengths = [0; 8];
    if !read_or_end(stream, &mut lengths).await? {
        return Ok(None);
    }
    let [a, b, c, d, values @ ..] = lengths;
    let length = checked("data header in bytes", u32::from_le_bytes([a, b, c, d]).into(), MAX_HEADER.into())?;
    let values = checked("payload in values", u32::from_le_bytes(values).into(), cap.into())?;
    let header = DataHeader::decode(&read_body(stream, length).await?)?;
    Ok(Some((header, values as usize)))
}

/// Values that are made room for and read at a time: few enough to be still near when they are written over.
const STRETCH: usize = 16 << 10;

/// Reads a payload of `values` values straight into `payload`, whose memory is used again. It grows as values come: a length that is only claimed costs no memory.
///
/// # Errors
/// [`FrameError::Broken`] when the stream ends before.
pub async fn read_values(stream: &mut (impl AsyncRead + Unpin), mut payload: Vec<f32>, values: usize) -> Result<Vec<f32>, FrameError> {
    payload.clear();
    payload.reserve_exact(values);
    while payload.len() < values {
        let start = payload.len();
        payload.resize(values.min(start + STRETCH), 0.0);
        stream.read_exact(bytemuck::cast_slice_mut(&mut payload[start..])).await?;
    }
    Ok(payload)
}

/// Reads a payload that nobody wants, without keeping it.
///
/// # Errors
/// [`FrameError::Broken`] when the stream ends before.
pub async fn skip_values(stream: &mut (impl AsyncRead + Unpin), values: usize) -> Result<(), FrameError> {
    let bytes = values as u64 * 4;
    let skipped = tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await?;
    if skipped < bytes { Err(FrameError::Broken(std::io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

fn checked(what: &'static str, length: u64, cap: u64) -> Result<u32, FrameError> {
    u32::try_from(length).ok().filter(|_| length <= cap).ok_or(FrameError::TooLong { what, length, cap })
}

/// Its own aligned buffer: an archive that starts in the middle of another one would not check.
async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: u32) -> Result<AlignedVec, FrameError> {
    let mut body = AlignedVec::with_capacity(length as usize);
    body.resize(length as usize, 0);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Fills `buffer`, or says `false` when the stream ends cleanly before its first byte.
async fn read_or_end(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<bool, FrameError> {
    let first = stream.read(buffer).await?;
    if first == 0 {
        return Ok(false);
    }
    stream.read_exact(&mut buffer[first..]).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Epoch, Step, UnitId};
    use crate::wire::message::DataKind;
    use proptest::prelude::*;

    fn header() -> DataHeader {
        DataHeader {
            epoch: Epoch(3),
            step: Step(17),
            kind: DataKind::Gradient,
            call: 5,
            unit: UnitId(2),
            start: 10,
            length: 2,
            lanes_start: 0,
            lanes_end: 4,
            group_start: 0,
            group_end: 8,
        }
    }

    #[tokio::test]
    async fn frames_come_back_as_they_went() {
        let mut wire = Vec::new();
        for text in ["first", "", "third"] {
            wire.extend(control(&text.to_owned(), 64).unwrap().concat());
        }
        let mut stream = wire.as_slice();
        for text in ["first", "", "third"] {
            assert_eq!(read_control::<String>(&mut stream, 64).await.unwrap().as_deref(), Some(text));
        }
        assert_eq!(read_control::<String>(&mut stream, 64).await.unwrap(), None);

        let mut wire = data(&header(), 2, 100).unwrap().to_vec();
        wire.extend(bytemuck::cast_slice(&[1.5f32, f32::NAN]));
        let mut stream = wire.as_slice();
        assert_eq!(read_data(&mut stream, 100).await.unwrap(), Some((header(), 2)));
        let values = read_values(&mut stream, vec![9.0; 5], 2).await.unwrap();
        assert_eq!(values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [1.5f32.to_bits(), f32::NAN.to_bits()]);
    }

    #[tokio::test]
    async fn lengths_are_checked_before_memory_is_taken() {
        let long = [u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        let error = read_control::<String>(&mut long.as_slice(), 1 << 20).await.unwrap_err();
        assert_eq!(error.to_string(), "a control frame in bytes of 4294967295 was announced where at most 1048576 is allowed");
        assert!(matches!(read_data(&mut long.as_slice(), 100).await, Err(FrameError::TooLong { .. })));
        let many = [8u32.to_le_bytes(), 101u32.to_le_bytes()].concat();
        assert!(matches!(read_data(&mut many.as_slice(), 100).await, Err(FrameError::TooLong { length: 101, .. })));
        assert!(matches!(control(&"x".repeat(100), 50), Err(FrameError::TooLong { .. })));
        assert!(matches!(data(&header(), 101, 100), Err(FrameError::TooLong { .. })));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_told_from_one_that_ends() {
        let wire = control(&"a longer message".to_owned(), 64).unwrap().concat();
        for cut in 1..wire.len() {
            let error = read_control::<String>(&mut &wire[..cut], 64).await.unwrap_err();
            assert!(matches!(error, FrameError::Broken(_)), "cut at {cut}: {error}");
        }
    }

    proptest! {
        /// Whatever a peer sends, the answer is a value or an error.
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = String::decode(&bytes);
            let _ = DataHeader::decode(&bytes);
            let _ = Vec::<(u64, String)>::decode(&bytes);
        }
    }
}
