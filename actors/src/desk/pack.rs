//! Views on the wire: JSON, packed. Thousands of items say the same words again and again.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::view::View;

/// JSON that an answer may unpack to.
const TEXT_MAX: u64 = 64 << 20;

/// Text up to this many bytes travels as it is: to pack it would cost both ends more than its packets do.
const PLAIN_MAX: usize = 64 << 10;

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
    let level = if text.len() <= PLAIN_MAX { Compression::none() } else { Compression::fast() };
    let mut packer = DeflateEncoder::new(Vec::new(), level);
    packer.write_all(&text)?;
    Ok(packer.finish()?)
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
