//! Boards come and go while everything else happens: they join, are removed, promoted,
//! demoted, asked to lead; the oldest go first, so that in a long run all are replaced.
//!
//! A seed that moves boards damages none and changes no rows behind their backs: with
//! those there must be two sound boards of three, and here there may be two in all.

use std::collections::{BTreeMap, BTreeSet};

use understudy_core::{
    error::Refusal,
    event::{Event, NodeId, Reply, Request},
    member::{Candidate, Invitation, Member, MemberRequest, Membership},
    sql,
};

use super::{agenda::Happening, board::Board, calls::Asked, world::World};

const TOKEN: [u8; 16] = [9; 16];

/// Boards that ever join in a run, and members at a time.
const NEWCOMERS_MAX: u64 = 5;
const MEMBERS_MAX: usize = 5;

/// What has been moved.
#[derive(Default)]
pub(crate) struct Moves {
    /// Newcomers so far; the key of the last is not admitted yet, as far as it knows.
    newcomers: u64,
    is_joining: bool,
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
        let id = self.any_board();
        let Some(process) = &self.boards[&id].process else { return };
        if self.boards[&id].paused_since.is_some() {
            return;
        }
        let members = process.node.membership().members.iter().map(|member| member.id);
        let members: Vec<NodeId> = members.collect();
        let (wish, moves) = self.wish(&members);
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

    fn join(&self) -> MemberRequest {
        let number = 10 + self.moves.newcomers;
        let candidate = Candidate {
            name: format!("newcomer-{number}"),
            key: [u8::try_from(number).unwrap_or(0); 32],
            addresses: Vec::new(),
        };
        MemberRequest::Join { candidate, invitation: TOKEN, replaces: String::new() }
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
