//! Boards come and go while everything else happens: they join, are removed, promoted,
//! demoted, asked to lead; the oldest go first, so that in a long run all are replaced.
//! The group's key is changed now and then, and by the board that owes one; the key
//! itself is made up, since nothing is sealed here.
//!
//! A seed that moves boards damages none and changes no rows behind their backs: with
//! those there must be two sound boards of three, and here there may be two in all. But of
//! five that vote one may lose all its card holds, and is then replaced by a newcomer.

use std::collections::{BTreeMap, BTreeSet};

use understudy_core::{
    error::Refusal,
    event::{Event, NodeId, Reply, Request},
    keys::SealedKey,
    limits::KEY_COPY_BYTES,
    member::{Candidate, Invitation, Member, MemberRequest, Membership},
    sql,
};

use super::{agenda::Happening, board::Board, calls::Asked, world::World};

const TOKEN: [u8; 16] = [9; 16];

/// Boards that ever join in a run, and members at a time.
pub(crate) const NEWCOMERS_MAX: u64 = 5;
const MEMBERS_MAX: usize = 5;

fn new_key(number: u32, members: &[NodeId]) -> MemberRequest {
    let copies = members.iter().map(|id| (*id, vec![7; KEY_COPY_BYTES])).collect();
    MemberRequest::InstallKey(SealedKey { number, copies })
}

/// What has been moved.
#[derive(Default)]
pub(crate) struct Moves {
    /// Newcomers so far; the key of the last is not admitted yet, as far as it knows.
    newcomers: u64,
    is_joining: bool,
    /// The board whose place it takes.
    replaces: Option<NodeId>,
    /// Taken out, and that was acknowledged.
    removed: BTreeSet<NodeId>,
}

/// A wish of a person about the membership.
pub(crate) enum Move {
    Join,
    Remove(NodeId),
    Other,
}

impl World {
    /// A person wishes something of some board.
    pub(crate) fn move_boards(&mut self) {
        if self.heals {
            return;
        }
        let pause = 300 + self.faults.below(1_500);
        self.plan_in(pause, Happening::Move);
        self.perhaps_empty_a_card();
        let id = self.any_board();
        let Some(process) = &self.boards[&id].process else { return };
        if self.boards[&id].paused_since.is_some() {
            return;
        }
        let members = process.node.membership().members.iter().map(|member| member.id);
        let members: Vec<NodeId> = members.collect();
        let keys = &process.node.membership().keys;
        let number = keys.newest() + 1;
        let (wish, moves) = match process.node.owes_key() || self.faults.below(24) == 0 {
            true => (new_key(number, &members), Move::Other),
            false => self.wish(&members),
        };
        self.requests += 1;
        let (request, epoch) = (self.requests, self.boards[&id].epoch);
        self.tell(|| format!("of board {id}: {wish:?}"));
        self.asked.insert((id, epoch, request), Asked::Move(moves));
        self.give(id, Event::Requested { id: request, request: Request::Member(wish) });
    }

    fn wish(&mut self, members: &[NodeId]) -> (MemberRequest, Move) {
        let any = |random: u64| members.get(usize::try_from(random).unwrap_or(0)).copied();
        let random = self.faults.below(members.len().max(1) as u64);
        let someone = any(random).unwrap_or(1);
        let oldest = members.first().copied().unwrap_or(1);
        let may_join = members.len() < MEMBERS_MAX && self.moves.newcomers < NEWCOMERS_MAX;
        match self.faults.below(12) {
            0 | 1 => {
                let invitation = Invitation { id: TOKEN, lifetime_ms: 3_600_000, uses: 0 };
                (MemberRequest::Invite(invitation), Move::Other)
            }
            2..=5 if may_join || self.moves.is_joining => {
                if !self.moves.is_joining {
                    self.moves.newcomers += 1;
                    self.moves.is_joining = true;
                }
                (self.join(), Move::Join)
            }
            6 | 7 if members.len() > 3 => (MemberRequest::Remove(oldest), Move::Remove(oldest)),
            8 if members.len() > 3 => (MemberRequest::Remove(someone), Move::Remove(someone)),
            9 => (MemberRequest::Vote { id: someone, voter: false }, Move::Other),
            10 => (MemberRequest::Vote { id: someone, voter: true }, Move::Other),
            _ => (MemberRequest::Transfer(any(random)), Move::Other),
        }
    }

    /// One of five that vote may lose what its card holds; it joins anew in its own place.
    fn perhaps_empty_a_card(&mut self) {
        let is_pair = self.plan.pair.log_bytes > 0;
        if is_pair || self.moves.is_joining || self.boards.values().any(|board| board.is_emptied) {
            return;
        }
        let processes = self.boards.values().filter_map(|board| board.process.as_ref());
        let leader = processes.filter(|process| process.node.leads()).max_by_key(|p| p.node.term());
        let Some(membership) = leader.map(|process| process.node.membership()) else { return };
        let voters = membership.voters();
        if !membership.outgoing.is_empty() || voters.len() < 5 {
            return;
        }
        let id = voters[usize::try_from(self.faults.below(5)).unwrap_or(0)];
        self.tell(|| format!("board {id}: its card is emptied"));
        self.board(id).is_damaged = true;
        self.board(id).is_emptied = true;
        self.board(id).cut_power();
        self.forget(id);
        self.moves.newcomers += 1;
        self.moves.is_joining = true;
        self.moves.replaces = Some(id);
    }

    fn join(&self) -> MemberRequest {
        let number = 100 + self.moves.newcomers;
        let replaces = self.moves.replaces.map(|id| self.name_of(id)).unwrap_or_default();
        let name = match replaces.is_empty() {
            true => format!("newcomer-{number}"),
            false => replaces.clone(),
        };
        let key = [u8::try_from(number).unwrap_or(0); 32];
        let candidate = Candidate { name, key, addresses: Vec::new() };
        MemberRequest::Join { candidate, invitation: TOKEN, replaces }
    }

    /// As some board still knows it.
    fn name_of(&self, id: NodeId) -> String {
        let processes = self.boards.values().filter_map(|board| board.process.as_ref());
        let mut known = processes.filter_map(|process| process.node.membership().member(id));
        known.next().map(|member| member.name.clone()).unwrap_or_default()
    }

    /// What became of it.
    pub(crate) fn moved(&mut self, what: &Move, reply: Reply) {
        self.tell(|| format!("moved: {reply:?}"));
        match (what, reply) {
            (Move::Remove(id), Reply::Done { .. }) => {
                self.outcome.moves += 1;
                self.moves.removed.insert(*id);
            }
            (Move::Join, Reply::Done { answer, .. }) => match sql::decode::<Member>(&answer) {
                Ok(member) => self.came(member.id),
                Err(_) => self.check.fail(String::from("a newcomer was not told who it is")),
            },
            (Move::Join | Move::Remove(_) | Move::Other, Reply::Refused(Refusal::Invalid(_)))
            | (_, Reply::Refused(_) | Reply::Done { .. }) => {}
        }
    }

    /// A newcomer knows that it is one.
    fn came(&mut self, id: NodeId) {
        if !self.moves.is_joining || self.boards.contains_key(&id) {
            return;
        }
        self.moves.is_joining = false;
        self.outcome.moves += 1;
        self.outcome.replaced += u64::from(self.moves.replaces.take().is_some());
        let (seed, pace) = (self.faults.next(), 900 + self.faults.below(201));
        let mut board = Board::new(id, seed, pace, self.plan.kept);
        board.one_copy = self.plan.pair.one_copy;
        if let Err(reason) = board.join() {
            return self.check.fail(format!("board {id} cannot begin: {reason}"));
        }
        self.boards.insert(id, board);
        self.power_on(id);
    }

    /// Any board there ever was, with or without power.
    pub(crate) fn any_board(&mut self) -> NodeId {
        let place = self.faults.below(self.boards.len() as u64);
        self.board_at(place)
    }

    pub(crate) fn board_at(&self, place: u64) -> NodeId {
        let mut ids = self.boards.keys().copied();
        ids.nth(usize::try_from(place).unwrap_or(0)).expect("one of the boards")
    }

    /// The boards of the group in the end, after the word of the one that leads; all
    /// where nobody does.
    pub(crate) fn members_in_the_end(&mut self) -> Vec<NodeId> {
        let running =
            self.boards.iter().filter_map(|(id, board)| Some((id, board.process.as_ref()?)));
        let by_term: BTreeMap<u64, &Membership> = running
            .filter(|(_, process)| process.node.leads())
            .map(|(_, process)| (process.node.term(), process.node.membership()))
            .collect();
        let Some(membership) = by_term.into_values().next_back().cloned() else {
            return self.boards.keys().copied().filter(|id| !self.has_burnt(*id)).collect();
        };
        if !membership.outgoing.is_empty() {
            self.check.fail(String::from("two sets of voters count in the end"));
        }
        let back = self.moves.removed.iter().find(|id| membership.member(**id).is_some());
        if let Some(id) = back {
            self.check.fail(format!("board {id}, whose removal was acknowledged, is a member"));
        }
        let members = membership.members.iter().map(|member| member.id);
        members.filter(|id| self.boards.contains_key(id) && !self.has_burnt(*id)).collect()
    }
}
