//! How faults that last reach the processes of a stage, their networks and their disk, and how they end.

use std::time::Duration;

use super::Processes;
use crate::fault::{Fault, Kind, Mode};
use crate::process::disk::Disk;
use crate::process::drowsy::Drowsy;
use crate::process::launcher::Launcher;
use crate::process::namespace::Filter;
use crate::process::relay::Harm;
use crate::process::stall::Stall;
use crate::process::wedge::Wedge;
use crate::scenario::Span;
use crate::stage::Strike;

/// What a strike has begun.
#[derive(Debug)]
pub(super) enum Undo {
    Continue(Vec<u32>),
    Wake(Drowsy),
    Free(Wedge),
    Path,
    Disk,
    Flow(Stall),
    Answers,
}

/// Whether writes to the store only wait.
pub(super) fn is_stall(fault: &Fault) -> bool {
    fault.kind == Kind::Store && matches!(fault.mode, Some(Mode::Away | Mode::Late))
}

impl Processes<'_> {
    /// Begins what lasts, unless there is nothing that it could reach.
    pub(super) fn begin(&mut self, strike: &Strike<'_>) -> Option<Undo> {
        let fault = strike.fault;
        Some(match fault.kind {
            Kind::Stop => {
                let mut pids = self.pids(&strike.whom);
                let whole = |launcher: &&Launcher| launcher.slots.iter().all(|slot| strike.whom.contains(slot));
                pids.extend(self.launchers.iter().filter(whole).map(Launcher::pid));
                pids.iter().for_each(|pid| self.held.hold(*pid));
                Undo::Continue(pids)
            }
            Kind::Slow => Undo::Wake(Drowsy::begin(&self.held, &self.pids(&strike.whom), fault.factor.unwrap_or(3))),
            Kind::Hang => Undo::Free(Wedge::begin(&self.pids(&strike.whom), fault.mode == Some(Mode::Waiting))),
            Kind::Cut | Kind::Link => {
                if let Err(because) = self.begin_on_paths(strike) {
                    self.ends.push(because);
                }
                Undo::Path
            }
            Kind::Store if fault.mode == Some(Mode::Unknown) => {
                if let Err(because) = self.answers.on() {
                    self.ends.push(because);
                }
                Undo::Answers
            }
            Kind::Store if is_stall(fault) => Undo::Flow(self.disk.as_ref()?.stall(fault.lasts(), fault.mode == Some(Mode::Late))),
            Kind::Store => {
                let disk = self.disk.as_mut()?;
                let done = if fault.mode == Some(Mode::Full) { disk.fill() } else { disk.freeze() };
                if let Err(because) = done {
                    self.ends.push(because);
                }
                Undo::Disk
            }
            _ => return None,
        })
    }

    fn begin_on_paths(&mut self, strike: &Strike<'_>) -> Result<(), String> {
        let fault = strike.fault;
        let (from, to) = (self.hosts(&strike.whom), self.hosts(&strike.to));
        let Ok(network) = &mut self.network else { return Ok(()) };
        let span = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
        let harm = Harm {
            loss: fault.loss.unwrap_or(0.0),
            delay: span(fault.delay),
            duplicate: fault.duplicate.unwrap_or(0.0),
            reorder: span(fault.reorder),
        };
        let number = strike.number;
        match (fault.kind, fault.mode) {
            (Kind::Cut, Some(Mode::Down)) => from.iter().try_for_each(|machine| network.take_down(number, *machine)),
            (Kind::Cut, Some(Mode::Moved)) => from.iter().try_for_each(|machine| network.shift(number, *machine)),
            (Kind::Cut, _) => from.iter().try_for_each(|machine| network.lay(number, *machine, &to, fault.one_way, Filter::Cut)),
            // Filters of the kernel drop without carrying every datagram.
            _ if (Harm { loss: harm.loss, ..Harm::default() }) == harm => {
                from.iter().try_for_each(|machine| network.lay(number, *machine, &to, fault.one_way, Filter::Loss(harm.loss)))
            }
            _ => network.harm(number, &from, &to, fault.one_way, harm),
        }
    }

    /// Ends what a strike has begun; how often it showed.
    pub(super) fn end(&mut self, number: u32, undo: Undo) -> u64 {
        let showed = match undo {
            Undo::Continue(pids) => {
                pids.iter().for_each(|pid| self.held.release(*pid));
                Ok(pids.len() as u64)
            }
            Undo::Wake(mut drowsy) => Ok(drowsy.end()),
            Undo::Free(mut wedge) => Ok(wedge.end()),
            Undo::Path => self.network.as_mut().map_or(Ok(0), |network| network.lift(number)),
            Undo::Flow(mut stall) => stall.end(),
            Undo::Answers => Ok(self.answers.off()),
            Undo::Disk => self.disk.as_mut().map_or(Ok(()), Disk::mend).map(|()| 1),
        };
        showed.unwrap_or_else(|because| {
            self.ends.push(because);
            0
        })
    }
}
