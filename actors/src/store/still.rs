//! A folder under a simulated clock: every operation is over at the moment in which it begins, and files say when they were
//! written by that clock.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Still(LocalFileSystem);

impl Still {
    pub(super) fn new(folder: LocalFileSystem) -> Self {
        Self(folder)
    }

    /// The file of an object was written now.
    fn stamp(&self, location: &Path) -> Result<()> {
        let now = UNIX_EPOCH + Duration::from_millis(crate::clock::wall_ms());
        let file = std::fs::File::open(self.0.path_to_filesystem(location)?);
        file.and_then(|file| file.set_modified(now)).map_err(|error| generic(Box::new(error)))
    }
}

/// What comes of an operation. Off the threads of a runtime `LocalFileSystem` works on the spot: its futures are ready at once.
fn at_once<T: Send>(operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let done = std::thread::scope(|scope| scope.spawn(|| operation.now_or_never()).join());
    done.ok().flatten().unwrap_or_else(|| Err(generic("the operation did not end on the spot".into())))
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "Still", source }
}

impl fmt::Display for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Still({})", self.0)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Still {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = at_once(self.0.put_opts(location, payload, opts))?;
        self.stamp(location)?;
        Ok(put)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "uploads in parts".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        at_once(async {
            let head = options.head;
            let found = self.0.get_opts(location, options).await?;
            let GetResult { meta, range, attributes, extensions, .. } = &found;
            let (meta, range, attributes, extensions) = (meta.clone(), range.clone(), attributes.clone(), extensions.clone());
            // Bytes, not an open file: that would be read later, on another thread.
            let body = if head { Vec::new() } else { vec![Ok(found.bytes().await?)] };
            let payload = GetResultPayload::Stream(futures::stream::iter(body).boxed());
            Ok(GetResult { payload, meta, range, attributes, extensions })
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // All of them come from memory.
        match at_once(async { Ok(self.0.delete_stream(locations).collect::<Vec<_>>().await) }) {
            Ok(done) => futures::stream::iter(done).boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match at_once(async { Ok(self.0.list(prefix).collect::<Vec<_>>().await) }) {
            Ok(found) => futures::stream::iter(found).boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        at_once(self.0.list_with_delimiter(prefix))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        at_once(self.0.copy_opts(from, to, options))?;
        self.stamp(to)
    }
}
