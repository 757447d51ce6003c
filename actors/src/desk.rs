//! What an operator can ask a run and what comes back: one uniform payload for everything there is, read-only, JSON on the wire.
//!
//! Every node answers for itself; the leader asks all members and answers for the run. Pages, tables, plots and checks are made from
//! [`view::View`] alone, so that nobody sees something that another command cannot show.

pub mod answer;
pub mod order;
pub mod pack;
pub mod question;
pub mod view;
