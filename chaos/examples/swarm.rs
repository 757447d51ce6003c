//! Plays drawn scenarios in the simulated tier and stops at the first that fails, shrunk.
//!
//! `cargo run --release -p everstep-chaos --example swarm -- SEEDS [FIRST] [RANKS]`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::Path;
use std::process::ExitCode;

use everstep_chaos::command;
use everstep_chaos::error::ChaosError;

fn main() -> Result<ExitCode, ChaosError> {
    let number = |place: usize| std::env::args().nth(place).and_then(|text| text.parse::<u64>().ok());
    let (seeds, first, ranks) = (number(1).unwrap_or(100), number(2).unwrap_or(0), number(3).map(|ranks| ranks as u32));
    let swarm = command::swarm(seeds, first, ranks, Path::new("target/chaos-swarm"), |seed, played| {
        if ranks.is_some() {
            println!("seed {seed}: {:.2} s, {} steps", played.wall.as_secs_f64(), played.history.stable().count());
        }
    })?;
    println!("{swarm}");
    Ok(ExitCode::from(u8::from(!swarm.holds())))
}
