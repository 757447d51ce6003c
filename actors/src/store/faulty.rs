//! A store that fails on demand: the tests of everything that must survive a failing store use it.
//!
//! Writing operations (puts and deletes) are numbered from 0 in the order in which they arrive. A
//! [`Fault`] is laid on a number; all others pass through. A [`Trouble`] lasts until it is taken back. Processes that are proved by
//! chaos are started with [`SWITCH`]: that is all their store knows of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Names a file in the environment of a process: while it is there, the results of its writes are [`Trouble::Unknown`], and each that
/// meets that leaves a byte in it.
pub const SWITCH: &str = "EVERSTEP_CHAOS_STORE";

/// What happens to one writing operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full; nothing was written.
    Full,
    /// The place is read-only; nothing was written.
    ReadOnly,
    /// The first half of the object is visible under its key, and the writer is told of an error.
    Torn,
    /// The first half of the object is visible under its key, and the writer is told that all went well.
    TornSilently,
    /// One bit of this byte (modulo the length) is wrong, and the writer is told that all went well.
    Flipped(u64),
    /// The operation takes effect, but its answer is lost.
    AnswerLost,
    /// The operation takes effect after this time.
    Late(Duration),
    /// The process dies before the operation: this and every later one fails, nothing changes.
    Crash,
    /// The process dies in the middle of the operation: half of the object is visible, all later ones fail.
    CrashTorn,
    /// The process dies after the operation took effect: it and all later ones fail.
    CrashAfter,
}

/// What is wrong with the store for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers nobody: every operation fails after this time.
    Away(Duration),
    /// Every operation takes effect, and is answered, after this time.
    Late(Duration),
    /// Every other writing operation takes effect; of none is the answer heard.
    Unknown,
    /// It reads and refuses writes.
    ReadOnly,
    /// It reads, and has no room for objects whose keys begin so.
    Full(&'static str),
}

/// A store with faults.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    troubles: Mutex<BTreeMap<u32, (Trouble, u64)>>,
    faults: Mutex<BTreeMap<u64, Fault>>,
    writes: AtomicU64,
    dead: AtomicBool,
    switch: Option<PathBuf>,
}

impl Faulty {
    /// Wraps a store; without faults it behaves as `inner` does.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            troubles: Mutex::default(),
            faults: Mutex::default(),
            writes: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            switch: None,
        }
    }

    /// Wraps a store that loses its answers while the file `switch` is there.
    pub fn switched(inner: Arc<dyn ObjectStore>, switch: PathBuf) -> Self {
        Self { switch: Some(switch), ..Self::new(inner) }
    }

    /// Whether answers are lost by the switch, and this one with them: it is counted there.
    fn is_switched(&self) -> bool {
        // Not created: it may be taken away at this moment.
        let switch = self.switch.as_ref().and_then(|switch| std::fs::OpenOptions::new().append(true).open(switch).ok());
        switch.is_some_and(|mut switch| io::Write::write_all(&mut switch, b".").is_ok())
    }

    /// Lays a fault on the `nth` writing operation, counted from 0 since the store was made.
    pub fn fail(&self, nth: u64, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, fault);
    }

    /// Lays a trouble on all operations, under a number of the caller's; the one with the highest number counts.
    pub fn trouble(&self, number: u32, trouble: Trouble) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).insert(number, (trouble, 0));
    }

    /// Takes the trouble of this number back; how many operations it met.
    pub fn mend(&self, number: u32) -> u64 {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).remove(&number).map_or(0, |(_, met)| met)
    }

    fn troubled(&self) -> Option<Trouble> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.values_mut().next_back().map(|(trouble, met)| {
            *met += 1;
            *trouble
        })
    }

    /// Holds an operation up as its trouble says, or ends it.
    async fn reach(&self) -> Result<()> {
        self.alive()?;
        match self.troubled() {
            Some(Trouble::Away(after)) => {
                tokio::time::sleep(after).await;
                Err(broken())
            }
            Some(Trouble::Late(by)) => {
                tokio::time::sleep(by).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What becomes of the `nth` writing operation: an error before it, and whether its answer is heard.
    fn fate(&self, nth: u64, put: Option<&Path>) -> Result<bool> {
        let trouble = if self.is_switched() { Some(Trouble::Unknown) } else { self.troubled() };
        match trouble {
            Some(Trouble::ReadOnly) => Err(os(io::ErrorKind::ReadOnlyFilesystem)),
            Some(Trouble::Full(below)) if put.is_some_and(|key| key.as_ref().starts_with(below)) => Err(os(io::ErrorKind::StorageFull)),
            Some(Trouble::Unknown) if nth.is_multiple_of(2) => Err(broken()),
            Some(Trouble::Unknown) => Ok(false),
            _ => Ok(true),
        }
    }

    /// How many writing operations have arrived.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// The number of a writing operation that arrives, and its fault.
    fn next_fault(&self) -> (u64, Option<Fault>) {
        let nth = self.writes.fetch_add(1, Ordering::SeqCst);
        (nth, self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(&nth).copied())
    }

    fn alive(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(broken()) } else { Ok(()) }
    }

    fn die<T>(&self) -> Result<T> {
        self.dead.store(true, Ordering::SeqCst);
        Err(broken())
    }

    /// Leaves half of the object under its key, as a store without atomic writes would.
    async fn tear(&self, location: &Path, payload: &PutPayload) -> Result<PutResult> {
        let whole = concat(payload);
        self.inner.put(location, whole.slice(..whole.len() / 2).into()).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.reach().await?;
        let (nth, fault) = self.next_fault();
        if !self.fate(nth, Some(location))? {
            return self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(broken()));
        }
        if opts.mode == PutMode::Create && fault.is_some() && self.inner.head(location).await.is_ok() {
            return self.inner.put_opts(location, payload, opts).await;
        }
        match fault {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Full) => Err(os(io::ErrorKind::StorageFull)),
            Some(Fault::ReadOnly) => Err(os(io::ErrorKind::ReadOnlyFilesystem)),
            Some(Fault::Torn) => self.tear(location, &payload).await.and_then(|_| Err(broken())),
            Some(Fault::TornSilently) => self.tear(location, &payload).await,
            Some(Fault::Flipped(at)) => {
                let mut whole = concat(&payload).to_vec();
                let at = at as usize % whole.len().max(1);
                whole.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
                self.inner.put_opts(location, whole.into(), opts).await
            }
            Some(Fault::AnswerLost) => self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(broken())),
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                self.inner.put_opts(location, payload, opts).await
            }
            Some(Fault::Crash) => self.die(),
            Some(Fault::CrashTorn) => {
                self.tear(location, &payload).await?;
                self.die()
            }
            Some(Fault::CrashAfter) => {
                self.inner.put_opts(location, payload, opts).await?;
                self.die()
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.reach().await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reach().await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reach().await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (nth, fault) = self.next_fault();
        let fated = self.alive().and_then(|()| match self.troubled() {
            Some(Trouble::Away(_)) => Err(broken()),
            _ => self.fate(nth, None),
        });
        match fated {
            Err(error) => return futures::stream::once(async move { Err(error) }).boxed(),
            Ok(false) => return self.inner.delete_stream(locations).map(|done| done.and_then(|_| Err(broken()))).boxed(),
            Ok(true) => {}
        }
        match fault {
            None | Some(Fault::Late(_)) => self.inner.delete_stream(locations),
            Some(Fault::CrashAfter) => {
                self.dead.store(true, Ordering::SeqCst);
                self.inner.delete_stream(locations).map(|done| done.and_then(|_| Err(broken()))).boxed()
            }
            Some(fault) => {
                if matches!(fault, Fault::Crash | Fault::CrashTorn) {
                    self.dead.store(true, Ordering::SeqCst);
                }
                futures::stream::once(async { Err(broken()) }).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let away = matches!(self.troubled(), Some(Trouble::Away(_)));
        match self.alive().and_then(|()| if away { Err(broken()) } else { Ok(()) }) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reach().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.reach().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

fn concat(payload: &PutPayload) -> Bytes {
    payload.iter().flat_map(|chunk| chunk.iter().copied()).collect::<Vec<u8>>().into()
}

fn broken() -> Error {
    os(io::ErrorKind::ConnectionReset)
}

fn os(kind: io::ErrorKind) -> Error {
    Error::Generic { store: "Faulty", source: Box::new(io::Error::from(kind)) }
}
