//! What the rig's boards keep of readings: a spool each, and a database that knows
//! which are stored and stops at one that is stored twice.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    beginning,
    change::{Change, Segment},
    duty::Incarnation,
    event::{Entry, Executed, NodeId, Position, SpoolPiece, SpoolWrite},
    readings::{self, Batch, Stored, StoredRow},
    restored::SpoolHeld,
    rig::Rig,
    sql,
    writes::Answer,
};

/// What a board's database has of readings.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// Whose, and which number.
    pub(crate) numbers: BTreeSet<(NodeId, u64)>,
    /// Below these nothing of a board comes any more.
    floors: BTreeMap<NodeId, u64>,
}

/// A piece of a spool.
pub(crate) struct Piece {
    readings: u32,
    lowest: u64,
    data: Vec<u8>,
}

impl Rig {
    pub(crate) fn write_spool(&mut self, id: NodeId, writes: Vec<SpoolWrite>) {
        let spool = self.spools.entry(id).or_default();
        for write in writes {
            match write {
                SpoolWrite::Put { place, readings, lowest, data } => {
                    spool.insert(place, Piece { readings, lowest, data });
                }
                SpoolWrite::Take { first, last } => {
                    spool.retain(|place, _| !(first..=last).contains(place));
                }
            }
        }
    }

    pub(crate) fn spool_of(&self, id: NodeId) -> SpoolHeld {
        let Some(spool) = self.spools.get(&id).filter(|spool| !spool.is_empty()) else {
            return SpoolHeld::default();
        };
        SpoolHeld {
            first: *spool.keys().next().unwrap(),
            last: *spool.keys().next_back().unwrap(),
            readings: spool.values().map(|piece| u64::from(piece.readings)).sum(),
            bytes: spool.values().map(|piece| piece.data.len() as u64 + 32).sum(),
            lowest: spool.values().map(|piece| piece.lowest).min().unwrap(),
        }
    }

    /// No reading is ever stored twice.
    pub(crate) fn store(&mut self, id: NodeId, entries: &[Entry]) {
        let stored = self.stored.entry(id).or_default();
        for entry in entries {
            let change = Change::of(entry).unwrap_or_default();
            for Stored { board, floor, rows, .. } in change.into_readings() {
                for row in rows {
                    let is_new = stored.numbers.insert((board, row.number));
                    assert!(is_new, "{} is stored twice", row.number);
                }
                let known = stored.floors.entry(board).or_default();
                *known = floor.max(*known);
            }
        }
    }

    /// A start begins to send readings, where that is what the leader is asked first.
    pub(crate) fn begin(&mut self, requests: &[Vec<u8>]) -> Option<Answer> {
        let Incarnation { board, boot, nonce } = beginning::begins(requests.first()?)?;
        let start = (boot, nonce);
        let known = *self.begun.entry(board).or_insert(start);
        let is_latest = known.0 < boot || known == start;
        if is_latest {
            self.begun.insert(board, start);
        }
        Some(Ok(beginning::answer(is_latest)))
    }

    /// The first of a board's spool after a place.
    pub(crate) fn pieces(&self, id: NodeId, after: u64) -> Vec<SpoolPiece> {
        let spool = self.spools.get(&id).into_iter().flat_map(|spool| spool.range(after + 1..));
        let piece = |(place, piece): (&u64, &Piece)| {
            let Piece { readings, ref data, .. } = *piece;
            SpoolPiece { place: *place, readings, data: data.clone() }
        };
        spool.take(2).map(piece).collect()
    }
}

/// Batches of readings that are all a leader is asked about.
pub(crate) struct Readings(Vec<Batch>);

impl Readings {
    pub(crate) fn of(requests: &[Vec<u8>]) -> Option<Self> {
        let batch = |request: &Vec<u8>| match readings::Work::decode(request)? {
            readings::Work::Store(batch) => Some(batch),
            readings::Work::Clock(_) | readings::Work::Tend(_) => None,
        };
        requests.iter().map(batch).collect::<Option<_>>().map(Self)
    }

    /// As the leader's database does: what is stored already is not stored again.
    pub(crate) fn execute(self, base: Position, stored: &Ledger) -> Executed {
        let Ledger { numbers: mut known, floors } = stored.clone();
        let mut answers = Vec::new();
        let segment = |batch: &Batch| {
            let floor = floors.get(&batch.board).copied().unwrap_or_default();
            let fresh = batch
                .readings
                .iter()
                .filter(|(number, _)| *number >= floor && known.insert((batch.board, *number)));
            let row = |(number, reading): &(u64, readings::Reading)| StoredRow {
                number: *number,
                sensor: 1,
                time: reading.time,
                value: reading.value.clone(),
                id: None,
                token: None,
                is_far: false,
            };
            let rows = fresh.map(row).collect();
            let (board, floor) = (batch.board, batch.floor);
            answers.push(Ok(sql::encode(&readings::Verdict::default())));
            Segment::Readings(Stored { board, floor, rows, ..Stored::default() })
        };
        let segments = self.0.iter().map(segment).collect();
        let change = Change { base, fingerprint: 0, segments }.encode();
        Executed { change, answers }
    }
}
