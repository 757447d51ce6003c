//! Real quinn over loopback, with peers that behave, misbehave and fall silent.

mod bad_peers;
mod harness;
mod paths;
mod renewal;
mod silence;
mod transfers;
