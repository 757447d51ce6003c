//! Real quinn over loopback, with peers that behave, misbehave and fall silent.

mod bad_peers;
mod floods;
mod harness;
mod hostile;
mod paths;
mod renewal;
mod silence;
mod transfers;
