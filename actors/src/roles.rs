//! Who does it: the actors of a node, one file each.

pub mod aggregator;
pub mod coordinator;
pub mod denials;
pub mod desk;
pub mod exchange;
pub mod lane;
pub mod lease;
pub mod ledger;
pub mod loader;
pub mod log;
pub mod node;
pub mod phases;
pub mod rank;
pub mod records;
pub mod transfer;
pub mod vault;
pub mod watchdog;
