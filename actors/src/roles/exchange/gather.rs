//! All-gather: what has a copy here is copied, the rest is asked for; at most so many values are held at a time.

use super::*;

impl Exchange {
    /// Opens the gather of a unit unless it is open: copies what is owned, asks for the rest.
    pub(super) fn open(&self, state: &mut State, unit: UnitId) -> Vec<Outgoing> {
        let Some(place) = self.units.get(unit.0 as usize) else { return Vec::new() };
        if state.gathers.contains_key(&unit) {
            return Vec::new();
        }
        if let [(shard, _)] = place.shards.as_slice()
            && let Some(whole) = state.committed.get(&shard.id)
        {
            let answer = watch::channel(Some(rounded(whole, place.gather))).0;
            state.gathers.insert(unit, Gather { buffer: Vec::new(), missing: 0, arrived: vec![true], releases: 0, answer });
            return Vec::new();
        }
        let mut buffer = state.buffers.remove(&unit).unwrap_or_else(|| vec![0.0; place.length]);
        let mut arrived = vec![false; place.shards.len()];
        let mut wants = Vec::new();
        for (index, (shard, at)) in place.shards.iter().enumerate() {
            // A replica's values are the owner's: the step that made them was stable.
            if let Some(values) = state.committed.get(&shard.id) {
                buffer[shard.range.clone()].copy_from_slice(values);
                place.gather.within(&shard.range).round(&mut buffer[shard.range.clone()]);
                arrived[index] = true;
            } else {
                let header = self.header(state.step, DataKind::Want, 0, unit, shard.range.clone());
                wants.push(Outgoing { to: at.owner, header, values: Arc::default(), range: 0..0 });
            }
        }
        let missing = arrived.iter().filter(|there| !**there).count();
        let mut gather = Gather { buffer, missing, arrived, releases: 0, answer: watch::channel(None).0 };
        finish(&mut gather);
        state.gathers.insert(unit, gather);
        wants
    }

    /// The step is over: what it gathered into is used again, unless somebody still reads it.
    pub(super) fn keep_buffers(&self, state: &mut State) {
        let gathers = std::mem::take(&mut state.gathers);
        if self.units.iter().map(|unit| unit.length).sum::<usize>() > self.layout.gathered_values_max {
            return;
        }
        for (unit, gather) in gathers {
            let whole = gather.answer.send_replace(None).and_then(Arc::into_inner);
            if let Some(buffer) = whole.filter(|buffer| buffer.len() == self.length(unit)) {
                state.buffers.insert(unit, buffer);
            }
        }
    }

    /// Answers a peer's want, or parks it until the step that it is for has been committed here.
    pub(super) fn answer(self: &Arc<Self>, from: Rank, want: DataHeader) {
        let mut state = self.lock();
        if state.over {
            return;
        }
        if want.step > state.step {
            if state.parked.len() < PARKED_MAX {
                state.parked.push((from, want));
            }
            return;
        }
        let Some((shard, _)) = self.shard_of(&want) else { return };
        let Some(values) = state.committed.get(&shard.id).cloned() else { return };
        drop(state);
        let header = DataHeader { kind: DataKind::Gathered, ..want };
        let narrow = self.units[header.unit.0 as usize].gather.within(&header.range());
        let range = 0..values.len();
        tokio::spawn(self.outbound.send(outgoing(from, header, &values, range, narrow)));
    }

    pub(super) fn gathered(&self, header: &DataHeader, values: &[f32]) {
        let Some((shard, _)) = self.shard_of(header) else { return };
        let mut state = self.lock();
        if header.step != state.step {
            return;
        }
        let Some(gather) = state.gathers.get_mut(&header.unit) else { return };
        let index = shard.id.index as usize;
        if gather.arrived[index] || values.len() != shard.range.len() {
            return;
        }
        gather.buffer[shard.range.clone()].copy_from_slice(values);
        gather.arrived[index] = true;
        gather.missing -= 1;
        finish(gather);
    }

    pub(super) async fn gather_unit(self: Arc<Self>, step: Step, unit: UnitId) -> Result<Vector, Aborted> {
        loop {
            let mut turn = self.room.subscribe();
            let (wants, answer) = {
                let mut state = self.lock();
                if state.over || state.step != step || unit.0 as usize >= self.units.len() {
                    return Err(Aborted);
                }
                if !state.gathers.contains_key(&unit) && !self.has_room(&state, unit) {
                    (Vec::new(), None)
                } else {
                    let mut wants = self.open(&mut state, unit);
                    wants.extend(self.prefetch(&mut state, unit));
                    let answer = state.gathers.get(&unit).map(|gather| gather.answer.subscribe());
                    (wants, answer)
                }
            };
            for want in wants {
                self.outbound.send(want).await;
            }
            match answer {
                Some(mut answer) => return answer.wait_for(Option::is_some).await.map_err(|_| Aborted)?.clone().ok_or(Aborted),
                None => turn.changed().await.map_err(|_| Aborted)?,
            }
        }
    }

    /// Two units are always held; more only within the budget.
    pub(super) fn has_room(&self, state: &State, unit: UnitId) -> bool {
        let held: usize = state.gathers.keys().map(|unit| self.length(*unit)).sum();
        state.gathers.len() < 2 || held + self.length(unit) <= self.layout.gathered_values_max
    }

    pub(super) fn length(&self, unit: UnitId) -> usize {
        self.units.get(unit.0 as usize).map_or(0, |place| place.length)
    }

    /// The whole model is asked for at once where it fits; otherwise the next unit is on its way
    /// while this one is used.
    pub(super) fn prefetch(&self, state: &mut State, unit: UnitId) -> Vec<Outgoing> {
        let mut wants = Vec::new();
        for next in (0..self.units.len() as u32).map(UnitId).filter(|next| *next > unit) {
            if state.gathers.contains_key(&next) {
                continue;
            }
            if !self.has_room(state, next) {
                break;
            }
            wants.extend(self.open(state, next));
        }
        wants
    }
}

/// The values as all lanes see them.
fn rounded(values: &Vector, narrow: Narrow) -> Vector {
    if narrow.is_plain() {
        return values.clone();
    }
    let mut values = values.to_vec();
    narrow.round(&mut values);
    Arc::new(values)
}

fn finish(gather: &mut Gather) {
    if gather.missing == 0 {
        gather.answer.send_replace(Some(Arc::new(std::mem::take(&mut gather.buffer))));
    }
}
