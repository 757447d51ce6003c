//! What is remembered of tokens: bounded, and never shorter than they are good.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::base32::base32;
use super::{JoinToken, TokenError};
use crate::net::tls::TlsError;
use crate::protocol::ids::NodeId;

/// Tokens that are spent and have not expired; only real ones count.
pub(super) const MAX_SPENT: usize = 4096;

/// Which tokens are spent, and by which key.
#[derive(Debug)]
pub(super) enum Spent {
    /// In this process.
    Remembered(BTreeMap<[u8; 16], (u64, NodeId)>),
    /// In a folder, for all processes that share it.
    Kept(PathBuf),
}

impl Default for Spent {
    fn default() -> Self {
        Self::Remembered(BTreeMap::new())
    }
}

impl Spent {
    pub(super) fn kept_in(dir: &Path) -> Result<Self, TlsError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| TlsError::Io { path: dir.to_owned(), error })?;
        Ok(Self::Kept(dir.to_owned()))
    }

    /// Takes a token for a key, which may take it again; no other may.
    pub(super) fn spend(&mut self, token: &JoinToken, by: NodeId, now_s: u64) -> Result<(), TokenError> {
        match self {
            Self::Remembered(spent) => {
                spent.retain(|_, (until_s, _)| *until_s >= now_s);
                match spent.get(&token.id) {
                    Some((_, first)) if *first == by => Ok(()),
                    Some(_) => Err(TokenError::Spent),
                    None if spent.len() >= MAX_SPENT => Err(TokenError::Busy),
                    None => {
                        spent.insert(token.id, (token.until_s, by));
                        Ok(())
                    }
                }
            }
            Self::Kept(dir) => keep(dir, token, by, now_s),
        }
    }
}

/// A file for each spent token, named by end and id: to make it is to have the token.
fn keep(dir: &Path, token: &JoinToken, by: NodeId, now_s: u64) -> Result<(), TokenError> {
    let failed = |error: std::io::Error| TokenError::Failed(format!("{}: {error}", dir.display()));
    let mut kept = 0;
    for file in fs::read_dir(dir).map_err(failed)? {
        let file = file.map_err(failed)?;
        let until_s = file.file_name().to_str().and_then(|name| name.split_once('-')?.0.parse::<u64>().ok());
        match until_s {
            // Another process may have been faster.
            Some(until_s) if until_s < now_s => drop(fs::remove_file(file.path())),
            Some(_) => kept += 1,
            None => {}
        }
    }
    let path = dir.join(format!("{}-{}", token.until_s, base32(&token.id)));
    if kept >= MAX_SPENT && !path.exists() {
        return Err(TokenError::Busy);
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => file.write_all(&by.0).and_then(|()| file.sync_all()).map_err(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut first = [0; 16];
            let whose = fs::File::open(&path).and_then(|mut file| file.read_exact(&mut first));
            if whose.is_ok() && first == by.0 { Ok(()) } else { Err(TokenError::Spent) }
        }
        Err(error) => Err(failed(error)),
    }
}
