//! The run in its object store.
