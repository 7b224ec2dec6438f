//! A member's look at its group: what it sees, now and then, becomes rows of the history
//! by way of the recorder, and is told to who wants to know by way of the bell.

use tracing::{info, warn};
use understudy_core::{
    event::{Event, Millis, NodeId, ReadLevel, Reply, Request},
    history::Kind,
    readings::unset_of,
    sql,
    status::PeerStatus,
};

use super::{Member, Waiter};
use crate::{
    history::recorder::{Happening, Peer, Recorder, View},
    notices::{Notice, What, card::Card, moves::Moves, sensors::Sensors},
    readings::query::when,
    slow::{self, Slowness},
    view::Facts,
};

/// Between two looks.
const LOOK_MS: u64 = 250;

/// Between two looks at how much of the disk is free.
const CARD_MS: u64 = 60_000;

/// What a member keeps for that.
pub(super) struct Watching {
    pub(super) recorder: Recorder,
    looked: Millis,
    moves: Moves,
    sensors: Sensors,
    card: Card,
    card_looked: Option<Millis>,
    pub(super) slowness: Slowness,
}

impl Watching {
    /// Of this board.
    pub(super) fn new(facts: &Facts) -> Self {
        Self {
            recorder: Recorder::new(facts.ends.before().to_owned()),
            looked: Millis(0),
            moves: Moves::default(),
            sensors: Sensors::new(facts.started, facts.bell.wishes()),
            card: Card::default(),
            card_looked: None,
            slowness: Slowness::default(),
        }
    }
}

impl Member {
    pub(super) fn watch_group(&mut self, now: Millis) {
        let is_part = !self.node.is_removed() && !self.node.is_witness();
        if now.since(self.watching.looked) < LOOK_MS || !is_part {
            return;
        }
        self.watching.looked = now;
        self.look_whether_slow(now);
        let view = self.group_view(now);
        let happened = self.watching.recorder.look(&view);
        self.tell_of_boards(now, &view, &happened);
        self.tell_of_moves(now);
        self.look_at_card(now);
        if let Some(request) = self.watching.recorder.due(&view) {
            let id = self.wait(Waiter::History);
            self.happen(Event::Requested { id, request });
        }
        if let Some(wish) = self.watching.sensors.due(now) {
            let id = self.wait(Waiter::Sensors);
            let request = Request::Read { level: ReadLevel::Own, sql: sql::encode(&wish) };
            self.happen(Event::Requested { id, request });
        }
    }

    fn group_view(&self, now: Millis) -> View {
        let (timing, peers) = (self.node.timing(), self.node.peers(now));
        View {
            now,
            time: self.node.stamp(now),
            own: (self.facts.identity.node, self.facts.boot),
            leads: self.node.leads(),
            leader: self.node.leader(),
            before: self.node.leader_before(),
            leaderless_ms: self.node.leaderless_ms(now),
            leaderless_ms_max: timing.leaderless_ms(),
            election_ms: timing.election_ms_min(),
            peers: peers.iter().map(|(id, seen)| self.peer_view(*id, seen)).collect(),
        }
    }

    fn peer_view(&self, id: NodeId, seen: &PeerStatus) -> Peer {
        Peer {
            id,
            name: self.node.name_of(id),
            boot: self.node.boot_of(id),
            reachable: seen.reachable,
            heard_ms: seen.heard_ms,
            fate: self.node.fate(id),
        }
    }

    /// Where nobody leads, every board says so.
    fn tell_of_boards(&mut self, now: Millis, view: &View, happened: &[Happening]) {
        let of_quorum = happened.iter().filter(|it| is_of_quorum(it.kind)).cloned();
        let mut told: Vec<Happening> = of_quorum.collect();
        told.extend(self.watching.recorder.tell(view));
        for Happening { kind, board, reason } in told {
            let Some(what) = what_of(kind) else { continue };
            let board = self.node.name_of(board);
            self.facts.bell.ring(Notice { board, reason, ..self.notice(now, what) });
        }
    }

    fn tell_of_moves(&mut self, now: Millis) {
        let duties = self.node.duties().iter();
        let duties = duties.map(|duty| (duty, self.node.last_move(duty.id)));
        let moved = self.watching.moves.look(duties);
        for it in moved.into_iter().filter(|_| self.node.leads()) {
            let why = self.node.why_granted(it.claim).unwrap_or_default();
            let from = self.node.name_of(it.from);
            self.facts.bell.ring(Notice {
                board: self.node.name_of(it.to),
                duty: it.duty,
                token: Some(it.claim.token),
                reason: format!("{from} had it: {why}"),
                ..self.notice(now, What::DutyMoved)
            });
        }
    }

    fn look_whether_slow(&mut self, now: Millis) {
        let Facts { syncs, power_save, .. } = &self.facts;
        let seen = slow::Seen { sync_ms: syncs.p99_ms(now), saves_power: power_save.get() };
        if self.watching.slowness.look(now, self.node.timing(), &seen) {
            match self.watching.slowness.why() {
                Some(reason) => warn!(reason, "this board is too slow for duties"),
                None => info!("this board is fast enough again"),
            }
        }
        let is_slow = self.watching.slowness.why().is_some();
        self.keepers.set_slow(now, &self.node, is_slow);
        self.tell_keepers();
    }

    pub(super) fn look_at_budgets(&mut self, now: Millis) {
        for reason in self.facts.budgets.look(now) {
            warn!(reason, "more of this board is used than its budget allows");
        }
    }

    fn look_at_card(&mut self, now: Millis) {
        let is_early = self.watching.card_looked.is_some_and(|at| now.since(at) < CARD_MS);
        if is_early || !self.facts.bell.is_wanted() {
            return;
        }
        self.watching.card_looked = Some(now);
        let Ok(disk) = rustix::fs::statvfs(&self.facts.directory) else { return };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let told = self.watching.card.look(bytes(disk.f_bavail), bytes(disk.f_blocks));
        if let Some(reason) = told {
            let board = self.node.name_of(self.facts.identity.node);
            self.facts.bell.ring(Notice { board, reason, ..self.notice(now, What::CardFilling) });
        }
    }

    /// Which sensors the rows know, and their newest readings.
    pub(super) fn hear_of_sensors(&mut self, now: Millis, reply: &Reply) {
        let Reply::Done { answer, .. } = reply else { return };
        let Ok(response) = sql::decode(answer) else { return };
        let changes = self.watching.sensors.found(now, response);
        for change in changes.into_iter().filter(|_| self.node.leads()) {
            self.facts.bell.ring(Notice {
                sensor: change.sensor,
                reason: change.reason,
                to: Some(change.wish),
                ..self.notice(now, change.what)
            });
        }
    }

    fn notice(&self, now: Millis, what: What) -> Notice {
        let time = self.node.stamp(now);
        let is_set = unset_of(time).is_none();
        Notice {
            what,
            group: self.facts.identity.group_name.clone(),
            by: self.node.name_of(self.facts.identity.node),
            time: if is_set { when(time) } else { String::new() },
            board: String::new(),
            duty: String::new(),
            token: None,
            sensor: String::new(),
            reason: String::new(),
            to: None,
        }
    }
}

/// Every board finds it by itself.
const fn is_of_quorum(kind: Kind) -> bool {
    matches!(kind, Kind::QuorumLost | Kind::QuorumBack)
}

/// As what it is told to people, if it is.
const fn what_of(kind: Kind) -> Option<What> {
    match kind {
        Kind::Lost | Kind::UncleanEnd => Some(What::BoardLost),
        Kind::Back => Some(What::BoardBack),
        Kind::QuorumLost => Some(What::QuorumLost),
        Kind::QuorumBack => Some(What::QuorumBack),
        Kind::Take | Kind::Lose | Kind::Boot | Kind::CleanEnd | Kind::Elected => None,
    }
}
