//! What goes wrong in a run, and how often: power cuts inside and outside of
//! writes, failed syncs, full disks, damaged cards, boards that stand still,
//! roads that are cut. Loss, repetition and delay of datagrams are drawn where
//! they are sent.

use understudy_core::{
    event::{Millis, NodeId},
    retention::Kept,
};

use super::{
    agenda::Happening,
    board::{BOARDS, BOARDS_LARGE, Board, set_now},
    post::Roads,
    random::Random,
    witnesses::Pair,
    world::World,
};

/// Of a board. One is drawn for a failing sync: all but the journal's WAL are synced
/// too seldom to be met by chance.
const FILES: [&str; 4] = ["state.db", "state.db-wal", "journal.db", "journal.db-wal"];

/// Rates of a seed's faults, per mille, drawn so that no fault drowns the others.
pub(crate) struct Plan {
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    pub(crate) delay_ms: u64,
    pub(crate) spike: u64,
    pub(crate) cuts: u64,
    pub(crate) crashes: u64,
    /// Of starts that end in the middle.
    pub(crate) starts: u64,
    pub(crate) stalls: u64,
    pub(crate) full: u64,
    pub(crate) bad_syncs: u64,
    pub(crate) pauses: u64,
    pub(crate) damage: u64,
    pub(crate) diverge: u64,
    pub(crate) depose: u64,
    /// Of boards without power that stay so for long.
    pub(crate) away: u64,
    /// How much of its log a board keeps: little, so that it is often too little.
    pub(crate) kept: Kept,
    /// Boards come and go.
    pub(crate) moves: bool,
    /// Old cards that are put back.
    pub(crate) old: u64,
    /// The group is founded by so many boards.
    pub(crate) boards: u64,
    pub(crate) pair: Pair,
    pub(crate) roads: Roads,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut rate = |max: u64| if random.chance(600) { random.below(max + 1) } else { 0 };
        let plan = Self {
            loss: rate(250),
            repeat: rate(150),
            delay_ms: 1 + rate(30),
            spike: rate(15),
            cuts: rate(6),
            stalls: rate(10),
            full: rate(3),
            bad_syncs: rate(3),
            pauses: rate(4),
            damage: rate(300),
            crashes: 8 + rate(16),
            starts: 100,
            diverge: rate(200),
            depose: rate(30),
            away: 50 + rate(250),
            kept: Kept { entries: 20 + rate(300), bytes: 2_000 + rate(40_000) },
            moves: false,
            old: rate(150),
            boards: BOARDS,
            pair: Pair::default(),
            roads: Roads::UDP,
        };
        let boards = if random.chance(40) { BOARDS_LARGE } else { BOARDS };
        match random.chance(400) {
            true => Self { moves: true, damage: 0, diverge: 0, depose: 0, old: 0, boards, ..plan },
            false => Self { boards, ..plan },
        }
    }

    /// Roads lose, repeat and reorder; nothing else goes wrong.
    pub(crate) const fn of_roads_alone() -> Self {
        Self {
            loss: 150,
            repeat: 100,
            delay_ms: 8,
            spike: 0,
            cuts: 0,
            crashes: 0,
            starts: 0,
            stalls: 0,
            full: 0,
            bad_syncs: 0,
            pauses: 0,
            damage: 0,
            diverge: 0,
            depose: 0,
            away: 0,
            kept: Kept { entries: 300, bytes: 1 << 20 },
            moves: false,
            old: 0,
            boards: BOARDS,
            pair: Pair { log_bytes: 0, one_copy: false, burns_at: None },
            roads: Roads::UDP,
        }
    }
}

impl World {
    /// A process that ended: by a power cut inside a call, or by its own decision,
    /// for which its disk must have given a reason.
    pub(crate) fn died(&mut self, id: NodeId, reason: &str) {
        let disk = self.boards[&id].disk.borrow();
        let board = &self.boards[&id];
        let no_start = board.process.is_none() && (disk.is_short() || board.is_damaged);
        let (inside, had_reason) = (disk.went_inside, disk.is_off || disk.has_failed || no_start);
        drop(disk);
        if !had_reason {
            return self.check.fail(format!("board {id} stopped on a sound disk: {reason}"));
        }
        self.tell(|| format!("board {id} ends: {reason}"));
        self.outcome.crashes += 1;
        self.outcome.inside += u64::from(inside);
        self.mourn(id);
        self.board(id).end();
        self.forget(id);
        let pause = 100 + self.faults.below(3_000);
        let is_away = !self.heals && self.faults.chance(self.plan.away);
        let pause = if is_away { 4 * pause } else { pause };
        self.plan_in(pause, Happening::PowerOn { board: id });
    }

    pub(crate) fn forget(&mut self, id: NodeId) {
        // Callers of a dead board never hear: their writes stay open.
        self.asked.retain(|(board, ..), _| *board != id);
    }

    pub(crate) fn power_on(&mut self, id: NodeId) {
        let now = self.now;
        let inside = !self.heals && self.faults.chance(self.plan.starts);
        let calls = self.faults.below(40);
        if self.has_burnt(id) {
            return;
        }
        let board = self.board(id);
        if board.process.is_some() || board.is_emptied {
            return;
        }
        if board.disk.borrow().is_off {
            board.disk.borrow_mut().power_on();
            self.perhaps_damage(id);
            self.perhaps_put_back(id);
        }
        self.perhaps_diverge(id);
        let board = self.board(id);
        if inside {
            board.disk.borrow_mut().crash_after(calls);
        }
        set_now(board.time(now));
        match board.start(now, 7 + id) {
            Ok(effects) => {
                let epoch = board.epoch;
                let term = board.process.as_ref().map_or(0, |p| p.journal.hard_state().term);
                self.check.came_back(id, term);
                self.tell(|| format!("board {id} is back in term {term}"));
                self.plan_in(1, Happening::Tick { board: id, epoch });
                self.open_mail(id);
                self.carry_out(id, effects);
            }
            Err(reason) => self.died(id, &reason),
        }
    }

    /// One card of the three may change a bit while the power is off.
    fn perhaps_damage(&mut self, id: NodeId) {
        let wanted = !self.heals && self.faults.chance(self.plan.damage);
        if !wanted || self.is_one_wrong() {
            return;
        }
        let board = self.board(id);
        let damaged = board.disk.borrow_mut().damage_wal("journal.db-wal");
        if damaged {
            board.is_damaged = true;
            self.check.lost_its_promises(id);
            self.tell(|| format!("board {id}: a bit of its journal flips"));
        }
    }

    /// A copy may be made of a card, and one card of the three, of which there is one, be
    /// an old one when the power is back.
    fn perhaps_put_back(&mut self, id: NodeId) {
        if self.plan.old == 0 || self.heals {
            return;
        }
        let wanted = self.faults.chance(self.plan.old) && !self.is_one_wrong();
        let board = self.board(id);
        match board.kept_card.take() {
            Some(card) if wanted => {
                board.disk.borrow_mut().put_back(card);
                board.is_damaged = true;
                self.check.lost_its_promises(id);
                self.outcome.put_back += 1;
                self.tell(|| format!("board {id}: an old card is put back"));
            }
            Some(card) => board.kept_card = Some(card),
            // One with wrong rows would be wrong again.
            None if board.is_diverged || board.is_repaired => {}
            None => board.kept_card = Some(board.disk.borrow().card()),
        }
    }

    /// A row of one board of the three may change while its agent does not run.
    fn perhaps_diverge(&mut self, id: NodeId) {
        let wanted = !self.heals && self.faults.chance(self.plan.diverge);
        if !wanted || self.is_one_wrong() {
            return;
        }
        let board = self.board(id);
        board.diverge();
        if board.is_diverged {
            self.tell(|| format!("board {id}: a row changes behind its agent's back"));
        }
    }

    /// Two sound boards are needed to tell which is not, until a comparison has found all
    /// of them right again.
    fn is_one_wrong(&self) -> bool {
        let fences = |board: &Board| {
            let process = board.process.as_ref();
            process.map(|process| !process.node.status(Millis(self.now)).fenced.is_empty())
        };
        let mut fenced = self.boards.values().filter_map(fences);
        let was_wrong = self.boards.values().any(|board| board.is_repaired);
        self.boards.values().any(|board| board.is_damaged || board.is_diverged)
            || was_wrong && fenced.next().is_none_or(|first| first || fenced.any(|fences| fences))
    }

    pub(crate) fn fault(&mut self) {
        self.perhaps_burn();
        let id = self.any_board();
        let (cuts, crashes) = (self.plan.cuts, self.plan.crashes);
        if self.faults.chance(cuts) {
            let to = self.any_board();
            self.tell(|| format!("nothing passes from {id} to {to}"));
            self.cut.insert((id, to));
            let ms = 500 + self.faults.below(6_000);
            self.plan_in(ms, Happening::Mend { from: id, to });
        }
        if self.faults.chance(4 * crashes) {
            let calls = self.faults.below(30);
            if self.faults.chance(700) {
                self.board(id).disk.borrow_mut().crash_after(calls);
            } else if self.boards[&id].process.is_some() {
                self.board(id).cut_power();
                self.died(id, "power");
            }
        }
        if self.faults.chance(self.plan.bad_syncs) {
            let file = FILES[usize::try_from(self.faults.below(4)).unwrap_or(0)];
            self.tell(|| format!("board {id}: the next sync of {file} fails"));
            self.board(id).disk.borrow_mut().fail_sync(Some(file));
            // A second try that is taken for a success shows when the power goes in it.
            if self.faults.chance(500) {
                let calls = self.faults.below(30);
                self.board(id).disk.borrow_mut().crash_after_on(calls, FILES[0]);
            }
        }
        if self.faults.chance(self.plan.full) {
            let room = usize::try_from(self.faults.below(20_000)).unwrap_or(0);
            self.board(id).disk.borrow_mut().set_room(Some(room));
            self.plan_in(4_000, Happening::Room { board: id });
        }
        if self.faults.chance(self.plan.pauses) {
            self.tell(|| format!("board {id} stands still"));
            let now = self.now;
            self.board(id).paused_since.get_or_insert(now);
            let ms = 200 + self.faults.below(4_000);
            self.plan_in(ms, Happening::Resume { board: id });
        }
        if self.faults.chance(self.plan.depose) {
            self.depose();
        }
    }

    pub(crate) fn heal(&mut self) {
        self.tell(|| String::from("all heals"));
        self.heals = true;
        self.cut.clear();
        self.deposing = None;
        self.heal_roads();
        for id in self.boards.keys().copied().collect::<Vec<_>>() {
            self.resume(id);
            let mut disk = self.boards[&id].disk.borrow_mut();
            disk.set_room(None);
            disk.fail_sync(None);
            disk.crash_after(u64::MAX);
        }
    }
}
