//! Tables: facts → acts.
