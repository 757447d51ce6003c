//! All-gather: what has a copy here is copied, the rest is asked for; at most so many values are held at a time.

use super::*;

/// Bytes of a copy that is here which are copied at a time: what comes from elsewhere meanwhile does not wait long.
const STRETCH: usize = 256 << 10;

/// A unit on its way together.
#[derive(Debug)]
pub(super) struct Gather {
    buffer: Vec<f32>,
    /// How many bytes of each shard are there.
    landed: Vec<usize>,
    /// Shards that are not there as a whole.
    missing: usize,
    /// Shards that have a copy here and are not copied yet.
    own: Vec<usize>,
    pub(super) releases: u32,
    pub(super) answer: Answer,
}

impl Gather {
    /// Takes in bytes of a shard from `at` on. Pieces of one frame come in order; those of another one find their places taken.
    fn land(&mut self, shard: &Shard, at: usize, piece: &[u8]) {
        let landed = &mut self.landed[shard.id.index as usize];
        let (whole, end) = (shard.range.len() * size_of::<f32>(), at + piece.len());
        if *landed != at || end > whole || piece.is_empty() {
            return;
        }
        bytemuck::cast_slice_mut(&mut self.buffer[shard.range.clone()])[at..end].copy_from_slice(piece);
        *landed = end;
        if end == whole {
            self.missing -= 1;
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.missing == 0 {
            self.answer.send_replace(Some(Arc::new(std::mem::take(&mut self.buffer))));
        }
    }
}

impl Exchange {
    /// Opens the gather of a unit unless it is open: asks for what is not here. What is here is copied when the unit is waited for.
    pub(super) fn open(&self, state: &mut State, unit: UnitId) -> Vec<Outgoing> {
        let Some(place) = self.units.get(unit.0 as usize) else { return Vec::new() };
        if state.gathers.contains_key(&unit) {
            return Vec::new();
        }
        if let [(shard, _)] = place.shards.as_slice()
            && let Some(whole) = state.committed.get(&shard.id)
        {
            let answer = watch::channel(Some(rounded(whole, place.gather))).0;
            let gather = Gather {
                buffer: Vec::new(),
                landed: vec![whole.len() * size_of::<f32>()],
                missing: 0,
                own: Vec::new(),
                releases: 0,
                answer,
            };
            state.gathers.insert(unit, gather);
            return Vec::new();
        }
        let buffer = state.buffers.remove(&unit).unwrap_or_else(|| vec![0.0; place.length]);
        let (mut own, mut wants) = (Vec::new(), Vec::new());
        for (index, (shard, at)) in place.shards.iter().enumerate() {
            if state.committed.contains_key(&shard.id) {
                own.push(index);
            } else {
                let header = self.header(state.step, DataKind::Want, 0, unit, shard.range.clone());
                wants.push(Outgoing { to: at.owner, header, values: Arc::default(), range: 0..0 });
            }
        }
        let shards = place.shards.len();
        let answer = watch::channel(None).0;
        let mut gather = Gather { buffer, landed: vec![0; shards], missing: shards, own, releases: 0, answer };
        gather.finish();
        state.gathers.insert(unit, gather);
        wants
    }

    /// Copies a stretch of what is here of a unit; `false` when no more of it is to be copied.
    fn copy_own(&self, step: Step, unit: UnitId) -> bool {
        let Some(place) = self.units.get(unit.0 as usize) else { return false };
        let mut state = self.lock();
        let State { step: current, committed, gathers, .. } = &mut *state;
        let Some(gather) = gathers.get_mut(&unit).filter(|_| *current == step) else { return false };
        let Some(index) = gather.own.last().copied() else { return false };
        let shard = &place.shards[index].0;
        let at = gather.landed[index];
        let narrow = place.gather.within(&shard.range);
        // A replica's values are the owner's: the step that made them was stable.
        match committed.get(&shard.id) {
            Some(values) if narrow.is_plain() => {
                let bytes: &[u8] = bytemuck::cast_slice(values);
                gather.land(shard, at, &bytes[at..bytes.len().min(at + STRETCH)]);
            }
            Some(values) => gather.land(shard, at, bytemuck::cast_slice(&rounded(values, narrow))),
            None => {}
        }
        let landed = gather.landed[index];
        if landed == at || landed == shard.range.len() * size_of::<f32>() {
            gather.own.pop();
        }
        true
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

    /// Whether a frame's payload of `values` values is taken in piece by piece: what travels as it is gathered.
    pub fn lands(&self, header: &DataHeader, values: usize) -> bool {
        header.kind == DataKind::Gathered && header.length == values as u64 && self.narrow(header).is_some_and(|narrow| narrow.is_plain())
    }

    /// Takes in the next piece of an admitted frame that [`Exchange::lands`]: bytes of it from `at` on.
    pub fn land(&self, header: &DataHeader, at: usize, piece: &[u8]) {
        let Some((shard, _)) = self.shard_of(header) else { return };
        let mut state = self.lock();
        // Of what is here nobody is asked.
        if header.epoch != self.layout.epoch || header.step != state.step || state.committed.contains_key(&shard.id) {
            return;
        }
        if let Some(gather) = state.gathers.get_mut(&header.unit) {
            gather.land(shard, at, piece);
        }
    }

    pub(super) fn gathered(&self, header: &DataHeader, values: &[f32]) {
        if values.len() as u64 == header.length {
            self.land(header, 0, bytemuck::cast_slice(values));
        }
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
            while self.copy_own(step, unit) {}
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
