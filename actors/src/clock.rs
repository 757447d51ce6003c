//! The one place that reads the wall clock: for people, for the dates of certificates, and for nothing else. In a simulation its
//! hand is moved by tokio's paused clock.

use std::cell::Cell;
use std::marker::PhantomData;

use tokio::time::Instant;

thread_local! {
    /// What the clock showed when this thread's simulation began, and when that was.
    static SIMULATED: Cell<Option<(u64, Instant)>> = const { Cell::new(None) };
}

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    match SIMULATED.get() {
        Some((began_ms, began)) => began_ms + began.elapsed().as_millis() as u64,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
    }
}

/// Whether this thread is a world of its own, see [`simulate`].
pub fn is_simulated() -> bool {
    SIMULATED.get().is_some()
}

/// From now on, and as long as what it returns lives, this thread is a world of its own: the wall clock shows `began_ms` and moves with
/// tokio's, and nothing that nodes do leaves the thread, heavy work and disks included. To be called within a tokio runtime that
/// has this thread alone and whose clock is paused.
pub fn simulate(began_ms: u64) -> Simulated {
    SIMULATED.set(Some((began_ms, Instant::now())));
    Simulated(PhantomData)
}

/// A thread that is simulated; see [`simulate`].
#[derive(Debug)]
pub struct Simulated(PhantomData<*const ()>);

impl Drop for Simulated {
    fn drop(&mut self) {
        SIMULATED.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_moves_with_tokios_and_is_given_back() {
        let simulated = simulate(1_000);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!((wall_ms(), is_simulated()), (3_601_000, true));
        drop(simulated);
        assert!(!is_simulated() && wall_ms() > 1_700_000_000_000);
    }
}
