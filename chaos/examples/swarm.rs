//! Plays drawn scenarios in the simulated tier and stops at the first that fails, shrunk.
//!
//! `cargo run --release -p everstep-chaos --example swarm -- SEEDS [FIRST] [RANKS]`

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
use std::time::Instant;

use everstep_chaos::sim;

fn main() -> ExitCode {
    let number = |place: usize| std::env::args().nth(place).and_then(|text| text.parse::<u64>().ok());
    let (seeds, first, ranks) = (number(1).unwrap_or(100), number(2).unwrap_or(0), number(3).map(|ranks| ranks as u32));
    let began = Instant::now();
    let (mut struck, mut epochs, mut steps, mut events, mut failed) = (0, 0, 0, 0, 0);
    for seed in first..first + seeds {
        let scenario = sim::draw(seed, ranks);
        let one = Instant::now();
        let run = match sim::run(&scenario, seed, None) {
            Ok(run) => run,
            Err(error) => {
                println!("{error}");
                return ExitCode::FAILURE;
            }
        };
        if ranks.is_some() {
            println!(
                "seed {seed}: {:.2} s wall, {:.1} s virtual, {} events, {} epochs, {} steps, {} strikes",
                one.elapsed().as_secs_f64(),
                run.took.as_secs_f64(),
                run.events,
                run.epochs(),
                run.steps(),
                run.struck
            );
        }
        struck += run.struck;
        epochs += run.epochs();
        steps += run.steps();
        events += run.events;
        if let Some(failure) = run.failure(&scenario, seed).filter(|_| !run.violations.is_empty()) {
            failed += 1;
            println!("seed {seed} fails: {}", failure.lines().next().unwrap_or_default());
            if std::env::var("DETAIL").is_ok() {
                let small = sim::shrink(&scenario, seed, None, run.violations[0].check);
                if let Ok(again) = sim::run(&small, seed, None) {
                    if std::env::var("DETAIL").is_ok_and(|detail| detail == "2") {
                        again.standing.iter().for_each(|(who, machine)| println!("node {who}: {machine}\n"));
                    }
                    if std::env::var("DETAIL").is_ok_and(|detail| detail == "3") {
                        again
                            .history
                            .entries
                            .iter()
                            .for_each(|entry| println!("  {:>9.3}  node {:<4} {:?}", entry.at.as_secs_f64(), entry.who, entry.what));
                    }
                    println!("{}\n{}", small.to_toml().unwrap_or_default(), again.failure(&small, seed).unwrap_or_default());
                }
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{seeds} seeds, {failed} fail; {struck} strikes, {epochs} epochs, {steps} steps, {events} events in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}
