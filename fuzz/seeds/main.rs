//! Writes what each of the runtime's readers takes into its corpus.

use std::path::Path;

/// Longer ones slow a fuzzer down.
const LONGEST: usize = 1024;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, _, inputs) in everstep_actors::untrusted::samples() {
        let folder = corpus.join(name);
        std::fs::create_dir_all(&folder)?;
        // Even a key that opens nothing has no place in a repository.
        for (number, mut bytes) in inputs.into_iter().filter(|bytes| !bytes.starts_with(b"-----BEGIN PRIVATE")).enumerate() {
            bytes.truncate(LONGEST);
            std::fs::write(folder.join(format!("{number:02}")), bytes)?;
        }
    }
    Ok(())
}
