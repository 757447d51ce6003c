//! Examinations of a small run.
