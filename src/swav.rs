//! swav
