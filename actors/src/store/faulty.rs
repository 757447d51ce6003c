//! A store that fails on demand: the tests of everything that must survive a failing store use it.
//!
//! Writing operations (puts and deletes) are numbered from 0 in the order in which they arrive. A
//! [`Fault`] is laid on a number; all others pass through.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
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

/// A store with faults.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<BTreeMap<u64, Fault>>,
    writes: AtomicU64,
    dead: AtomicBool,
}

impl Faulty {
    /// Wraps a store; without faults it behaves as `inner` does.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, faults: Mutex::default(), writes: AtomicU64::new(0), dead: AtomicBool::new(false) }
    }

    /// Lays a fault on the `nth` writing operation, counted from 0 since the store was made.
    pub fn fail(&self, nth: u64, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(nth, fault);
    }

    /// How many writing operations have arrived.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn next_fault(&self) -> Option<Fault> {
        let nth = self.writes.fetch_add(1, Ordering::SeqCst);
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).get(&nth).copied()
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
        self.alive()?;
        let fault = self.next_fault();
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
        self.alive()?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.alive()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if let Err(error) = self.alive() {
            return futures::stream::once(async move { Err(error) }).boxed();
        }
        match self.next_fault() {
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
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.alive()?;
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
