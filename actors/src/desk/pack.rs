//! Views on the wire: JSON, packed. Thousands of items say the same words again and again.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::view::View;

/// JSON that an answer may unpack to.
const TEXT_MAX: u64 = 64 << 20;

/// Text up to this many bytes travels as it is: to pack it would cost both ends more than its packets do.
const PLAIN_MAX: usize = 64 << 10;
/// What one block of text that is not packed holds, in bytes.
const BLOCK_MAX: usize = u16::MAX as usize;

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is packed wrongly, or cut.
    #[error("it cannot be unpacked: {0}")]
    Packed(#[from] std::io::Error),
    /// It unpacks to more than a view may.
    #[error("unpacked it is larger than {} MiB", TEXT_MAX >> 20)]
    Endless,
    /// What was packed is no view.
    #[error("it is no view: {0}")]
    NoView(#[from] serde_json::Error),
}

/// Packs a view.
///
/// # Errors
/// [`Unreadable::Endless`]: whoever gets it would refuse it, however small it is packed.
pub fn pack(view: &View) -> Result<Vec<u8>, Unreadable> {
    let text = serde_json::to_vec(view)?;
    if text.len() as u64 > TEXT_MAX {
        return Err(Unreadable::Endless);
    }
    if text.len() <= PLAIN_MAX {
        return Ok(plain(&text));
    }
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&text)?;
    Ok(packer.finish()?)
}

/// Text as it is, in the form that unpacks (RFC 1951, 3.2.4): a packer that does no more than this clears hundreds of kilobytes first.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5 * (text.len() / BLOCK_MAX + 1));
    let mut blocks = text.chunks(BLOCK_MAX).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out
}

/// Unpacks a view, however little it says beforehand about its size.
///
/// # Errors
/// [`Unreadable`].
pub fn unpack(packed: &[u8]) -> Result<View, Unreadable> {
    let mut text = Vec::new();
    DeflateDecoder::new(packed).take(TEXT_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > TEXT_MAX {
        return Err(Unreadable::Endless);
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::super::view::{SCHEMA_VERSION, Scope};
    use super::*;

    fn view() -> View {
        let missing = vec!["rank 3 does not answer".to_owned(); 100];
        let answered_by = "node/n0".into();
        View { schema_version: SCHEMA_VERSION, answered_by, scope: Scope::Run, as_of_ms: 5, missing, matched: 0, items: Vec::new() }
    }

    #[test]
    fn a_view_comes_back_and_a_large_one_takes_little_room() {
        let missing = vec!["rank 3 does not answer".to_owned(); 10_000];
        let large = View { missing, ..view() };
        let text = |view: &View| serde_json::to_vec(view).unwrap().len();
        let packed = pack(&large).unwrap();
        assert!(packed.len() * 50 < text(&large), "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), large);
        let packed = pack(&view()).unwrap();
        assert!(packed.len() < text(&view()) + 64, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), view());
        assert!(unpack(&packed[..packed.len() / 2]).is_err());
        // The longest text that is not packed takes more than one block.
        let empty = text(&View { missing: vec![String::new()], ..view() });
        for length in [BLOCK_MAX, BLOCK_MAX + 1, PLAIN_MAX] {
            let long = View { missing: vec!["x".repeat(length - empty)], ..view() };
            let packed = pack(&long).unwrap();
            assert_eq!((text(&long), packed.len() - length), (length, if length > BLOCK_MAX { 10 } else { 5 }));
            assert_eq!(unpack(&packed).unwrap(), long);
        }
        assert!(unpack(b"\xff\xff\xff").is_err());
    }

    #[test]
    fn what_unpacks_without_end_is_refused() {
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![b' '; 1 << 20];
        (0..=TEXT_MAX >> 20).for_each(|_| packer.write_all(&zeros).unwrap());
        let bomb = packer.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert!(matches!(unpack(&bomb), Err(Unreadable::Endless)));
        assert_eq!(Unreadable::Endless.to_string(), "unpacked it is larger than 64 MiB");
    }

    #[test]
    fn what_would_be_refused_is_not_packed() {
        let missing = vec![" ".repeat(TEXT_MAX as usize)];
        assert!(matches!(pack(&View { missing, ..view() }), Err(Unreadable::Endless)));
    }
}
