//! What a store can answer, split by what the caller does next.

use std::error::Error;
use std::io;

/// Why a store did not do what it was asked. Each reads as one sentence with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A kind of location that this build cannot open.
    #[error("{place}: this build has no support for {scheme}:// locations; name a folder instead")]
    Unsupported {
        /// The location.
        place: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// The location is a file, or something else that is not a folder.
    #[error("{place:?} is not a folder; name a folder for the run")]
    NotAFolder {
        /// The location.
        place: String,
    },
    /// Nothing is there.
    #[error("{place} does not exist; check the name")]
    NotFound {
        /// The object or location.
        place: String,
    },
    /// The object is larger than anything that belongs there.
    #[error("{place} has {bytes} bytes where at most {cap} are expected; it is not Everstep's, or it is damaged")]
    TooLarge {
        /// The object.
        place: String,
        /// Its size.
        bytes: u64,
        /// What the caller allows.
        cap: u64,
    },
    /// Writing is not allowed.
    #[error("{place} cannot be written; give this user the right to write there or name another location")]
    ReadOnly {
        /// The object or location.
        place: String,
    },
    /// Reading is not allowed, or credentials are missing.
    #[error("{place} may not be accessed ({because}); check its permissions and your credentials")]
    Denied {
        /// The object or location.
        place: String,
        /// What the store said.
        because: String,
    },
    /// No space is left.
    #[error("no space is left for {place}; free some or keep fewer checkpoints")]
    Full {
        /// The object or location.
        place: String,
    },
    /// Create-if-absent does not exclude here: two nodes could begin one epoch.
    #[error("{place} let a second create of one key go through; a run cannot live there, use a local disk or another store")]
    NotExclusive {
        /// The location.
        place: String,
    },
    /// A key that no store can hold: an error of the caller.
    #[error("{place} is not a valid key ({because}); use plain names separated by single slashes")]
    BadKey {
        /// The key.
        place: String,
        /// What is wrong with it.
        because: String,
    },
    /// Anything that may pass: the network, a throttled bucket, an input/output error.
    #[error("{place} cannot be reached now ({because}); it is worth trying again")]
    Unavailable {
        /// The object or location.
        place: String,
        /// What the store said.
        because: String,
    },
}

/// The error behind an input/output error of the operating system.
pub(super) fn from_io(place: &str, error: &io::Error) -> StoreError {
    let place = place.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { place },
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => StoreError::ReadOnly { place },
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => StoreError::NotAFolder { place },
        io::ErrorKind::NotFound => StoreError::NotFound { place },
        _ => StoreError::Unavailable { place, because: error.to_string() },
    }
}

/// The error behind an answer of the object store.
pub(super) fn from_store(place: &str, error: object_store::Error) -> StoreError {
    use object_store::Error as Answer;
    if let Some(io) = io_cause(&error)
        && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem)
    {
        return from_io(place, io);
    }
    let place = place.to_string();
    match error {
        Answer::NotFound { .. } => StoreError::NotFound { place },
        Answer::InvalidPath { source } => StoreError::BadKey { place, because: source.to_string() },
        Answer::PermissionDenied { source, .. } | Answer::Unauthenticated { source, .. } => {
            StoreError::Denied { place, because: source.to_string() }
        }
        error => match io_cause(&error) {
            Some(io) if io.kind() == io::ErrorKind::PermissionDenied => StoreError::ReadOnly { place },
            Some(io) => StoreError::Unavailable { place, because: io.to_string() },
            None => StoreError::Unavailable { place, because: error.to_string() },
        },
    }
}

fn io_cause(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}
