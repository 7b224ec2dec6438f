//! Wishes about the membership: what the leader makes of each. Refused is whatever
//! would leave the group without voters who can decide; a leader that is to go or to
//! follow hands leadership over first, and its successor does it.
//!
//! One entry at a time, on top of all that is applied; one that raft-rs silently
//! replaced by an empty entry is noticed and told.

use alloc::{format, string::String, vec::Vec};

use crate::{
    error::Refusal,
    event::{Millis, NodeId, Position, Reply, Request},
    keys::SealedKey,
    limits,
    log::conf_change,
    member::{
        Candidate, Invitation, InvitationId, Member, MemberRequest, MembershipChange, check_name,
    },
    mutant,
    node::Node,
    roster::voters_wanted,
    sql,
    versions::{VERSION_FIRST, too_old},
    writes::Waiting,
};

/// What becomes of a wish.
enum Verdict {
    /// It is so already.
    Stands(Vec<u8>),
    /// This does it.
    Change(MembershipChange, Vec<u8>),
    /// This is to be done before.
    First(MembershipChange),
    /// Another leader is to do it.
    HandOver,
    /// That board is to lead.
    Transfer(NodeId),
}

type Judged = Result<Verdict, Refusal>;

fn refuse<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why))
}

impl Node {
    /// Does what is to be done with the membership by itself; true when something is,
    /// if not at once.
    pub(crate) fn tend_membership(&mut self, now: Millis) -> bool {
        if self.roster.refused_at == Some(self.ticks) {
            return false;
        }
        let Some(change) = self.next_change(now) else { return false };
        if self.applier.is_idle() {
            match self.propose_change(&change) {
                Ok(Some(at)) => self.proposed(now, at, Vec::new()),
                Ok(None) => {}
                Err(_) => self.roster.refused_at = Some(self.ticks),
            }
        }
        true
    }

    /// Carries out a wish about the membership.
    pub(crate) fn propose_membership(&mut self, now: Millis, waiting: Waiting) {
        match self.judged(now, &waiting.request) {
            Err(refusal) => self.answer(now, (waiting.ticket, Reply::Refused(refusal))),
            Ok(Verdict::Stands(answer)) => {
                let index = self.applier.applied().index;
                self.answer(now, (waiting.ticket, Reply::Done { index, answer }));
            }
            Ok(Verdict::Change(change, answer)) => match self.propose_change(&change) {
                Ok(Some(at)) => self.proposed(now, at, Vec::from([(waiting.ticket, Ok(answer))])),
                Ok(None) => self.give_back(now, Vec::from([waiting])),
                Err(refusal) => self.answer(now, (waiting.ticket, Reply::Refused(refusal))),
            },
            Ok(Verdict::First(change)) => match self.propose_change(&change) {
                Ok(at) => {
                    if let Some(at) = at {
                        self.proposed(now, at, Vec::new());
                    }
                    self.writes.keep(waiting);
                }
                Err(refusal) => self.answer(now, (waiting.ticket, Reply::Refused(refusal))),
            },
            Ok(Verdict::HandOver) => {
                self.hand_over(now);
                self.writes.keep(waiting);
            }
            Ok(Verdict::Transfer(to)) => {
                self.raw.transfer_leader(to);
                self.roster.transfer = Some((waiting.ticket, to));
            }
        }
    }

    /// Where it stands in the log; none when this is not the moment. Where raft-rs finds
    /// fault it puts an empty entry in the place of this one and says nothing.
    fn propose_change(&mut self, change: &MembershipChange) -> Result<Option<Position>, Refusal> {
        if self.raw.raft.has_pending_conf() {
            return Ok(None);
        }
        let step = conf_change(change);
        let at = self.propose(|raw| raw.propose_conf_change(sql::encode(change), step));
        let taken = |at: &Position| self.raw.raft.pending_conf_index == at.index || mutant::is(47);
        match at {
            Some(at) if !taken(&at) => refuse(String::from(
                "another change of the membership is under way; nothing was changed, try again",
            )),
            at => Ok(at),
        }
    }

    /// Whoever waits for another to lead hears how that ended.
    pub(crate) fn end_transfer(&mut self, now: Millis) {
        let under_way = self.leads() && self.raw.raft.lead_transferee.is_some();
        let Some((ticket, to)) = self.roster.transfer.take_if(|_| !under_way) else { return };
        let reply = if self.leads() {
            let name = self.name_of(to);
            Reply::Refused(Refusal::Invalid(format!(
                "{name} did not take leadership over: it may be out of room, or too far behind"
            )))
        } else {
            Reply::Done { index: 0, answer: Vec::new() }
        };
        self.answer(now, (ticket, reply));
    }

    /// The name of a board of this group.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        self.membership.member(id).map_or_else(|| format!("board {id}"), |m| m.name.clone())
    }

    fn judged(&mut self, now: Millis, request: &Request) -> Judged {
        match request {
            Request::Admit(candidate) => self.readdressed(candidate),
            Request::Rename { id, name } => self.renamed(*id, name),
            Request::Member(MemberRequest::Join { candidate, invitation, replaces }) => {
                self.joined(now, (candidate, None), invitation, (replaces, false))
            }
            Request::Member(MemberRequest::Witness { candidate, invitation, replaces }) => {
                self.joined(now, (candidate, None), invitation, (replaces, true))
            }
            Request::Member(MemberRequest::Newcomer {
                version,
                candidate,
                invitation,
                replaces,
                witness,
            }) => self.joined(now, (candidate, Some(*version)), invitation, (replaces, *witness)),
            Request::Member(MemberRequest::Invite(invitation)) => self.invited(invitation),
            Request::Member(MemberRequest::Revoke) => {
                Ok(Verdict::Change(MembershipChange::Revoke(None), Vec::new()))
            }
            Request::Member(MemberRequest::Remove(id)) => self.removed(now, *id),
            Request::Member(MemberRequest::Vote { id, voter: true }) => self.promoted(now, *id),
            Request::Member(MemberRequest::Vote { id, voter: false }) => self.demoted(now, *id),
            Request::Member(MemberRequest::Transfer(to)) => self.transferred(now, *to),
            Request::Member(MemberRequest::InstallKey(key)) => self.rekeyed(now, key),
            Request::Write(_)
            | Request::Read { .. }
            | Request::Scrub
            | Request::Repair { .. }
            | Request::Readings(_) => refuse(String::from("not a membership request")),
        }
    }

    fn known(&self, id: NodeId) -> Result<&Member, Refusal> {
        match self.membership.member(id) {
            Some(member) => Ok(member),
            None => refuse(format!("no member has the id {id}")),
        }
    }

    fn with_row(&self, member: Member) -> Judged {
        let answer = sql::encode(&member);
        if self.membership.member(member.id) == Some(&member) {
            return Ok(Verdict::Stands(answer));
        }
        Ok(Verdict::Change(MembershipChange::Add(member), answer))
    }

    /// A member tells where it can be reached now.
    fn readdressed(&self, candidate: &Candidate) -> Judged {
        check_candidate(candidate)?;
        let member = self.membership.admit(candidate);
        if self.membership.member(member.id).is_none() {
            return refuse(String::from("only a board with a join token becomes a member"));
        }
        self.with_row(member)
    }

    fn renamed(&self, id: NodeId, name: &str) -> Judged {
        check_name("board", name)?;
        let member = self.known(id)?;
        let taken = |other: &Member| other.id != id && other.name == name;
        if self.membership.members.iter().any(taken) {
            return refuse(format!("another board is named {name}"));
        }
        self.with_row(Member { name: String::from(name), ..member.clone() })
    }

    /// Who is to become a member has to know what the group goes by. Its door judges that by what
    /// it has applied, the leader by all that is committed; and a version comes to nothing
    /// where somebody was let in that it was not judged by. So of an admission and a version
    /// that the newcomer does not know one excludes the other.
    fn check_version(&self, known: Option<u32>) -> Result<(), Refusal> {
        let group = self.version();
        if known.unwrap_or(VERSION_FIRST) >= group {
            return Ok(());
        }
        // A door that says nothing of it has yet to apply what the group goes by.
        known.map_or(Err(Refusal::Busy), |_| refuse(too_old(group)))
    }

    /// Who is a member already is told so, whatever it shows. Of a candidate its door may say
    /// which version it knows.
    fn joined(
        &self,
        now: Millis,
        (candidate, known_version): (&Candidate, Option<u32>),
        invitation: &InvitationId,
        (replaces, as_witness): (&str, bool),
    ) -> Judged {
        check_candidate(candidate)?;
        if let Some(known) = self.membership.members.iter().find(|m| m.key == candidate.key) {
            check_kind(known, self.membership.is_witness(known.id), as_witness)?;
            return self.with_row(self.membership.admit(candidate));
        }
        self.check_version(known_version)?;
        if self.membership.removed.iter().any(|(_, key)| *key == candidate.key) {
            return refuse(String::from(
                "this board was removed from the group: run `understudy reset` on it, then join \
                 with a new token",
            ));
        }
        if self.invitation_left(now, invitation).is_none() {
            return refuse(String::from(
                "the token holds no longer: its time is over, it has let in as many boards as it \
                 was made for, it was revoked, or the group's key was changed or the whole group \
                 was restarted since. Make another with `understudy token` on any board of the group",
            ));
        }
        let named = |name: &str| self.membership.members.iter().find(|other| other.name == name);
        if let Some(old) = named(replaces) {
            self.check_place(old, as_witness)?;
            return self.makes_room(now, old);
        }
        if as_witness {
            self.check_no_witness()?;
        }
        if self.membership.members.len() >= limits::MEMBERS_MAX {
            return refuse(format!("the group is full: it has {} boards", limits::MEMBERS_MAX));
        }
        if let Some(old) = named(&candidate.name)
            && !self.is_here(now, old.id)
        {
            let name = &old.name;
            return refuse(format!(
                "{name} is a member that cannot be heard. If this board takes its place: \
                 `understudy join TOKEN --replace {name}`; if it is another: `--name NAME`"
            ));
        }
        let member = self.membership.admit(candidate);
        let answer = sql::encode(&member);
        let change = match as_witness {
            true => MembershipChange::Witness(member, *invitation),
            false => MembershipChange::Admit(member, *invitation),
        };
        Ok(Verdict::Change(change, answer))
    }

    /// Rows that nobody has but the board that goes are not brought back by a witness.
    fn check_place(&self, old: &Member, as_witness: bool) -> Result<(), Refusal> {
        let name = &old.name;
        match (self.membership.is_witness(old.id), as_witness) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => refuse(format!(
                "{name} is a witness, and only another takes its place: `understudy join TOKEN \
                 --witness --replace {name}`; or `understudy remove {name}`, and join without it"
            )),
            (false, true) => refuse(format!(
                "{name} keeps the data, and a witness does not: join without --witness to take its \
                 place"
            )),
        }
    }

    /// One is all a group can use.
    fn check_no_witness(&self) -> Result<(), Refusal> {
        let Some(id) = self.membership.witnesses.first() else { return Ok(()) };
        let name = self.name_of(*id);
        refuse(format!(
            "{name} is the witness of this group, and one is all that it can use. If it is gone: \
             `understudy join TOKEN --witness --replace {name}`"
        ))
    }

    fn makes_room(&self, now: Millis, old: &Member) -> Judged {
        if self.is_here(now, old.id) {
            return refuse(format!(
                "{} can be heard, so nothing takes its place: `understudy remove {}` first, if it \
                 is to go",
                old.name, old.name
            ));
        }
        self.may_do_without(now, old.id, false)?;
        Ok(Verdict::First(MembershipChange::Remove(old.id)))
    }

    /// Would those who vote without this board be able to decide, and keep what they
    /// decide on more than one card, as long as there is more than one?
    fn may_do_without(&self, now: Millis, id: NodeId, stays: bool) -> Result<(), Refusal> {
        let name = self.name_of(id);
        let mut voters = self.membership.voters();
        if !voters.contains(&id) {
            return Ok(());
        }
        voters.retain(|voter| *voter != id);
        let is_witness = |id: NodeId| self.membership.is_witness(id) && !mutant::is(52);
        let holders: Vec<_> = voters.iter().copied().filter(|id| !is_witness(*id)).collect();
        if holders.is_empty() {
            return refuse(format!(
                "{name} is the last board that votes and keeps the data: without it there is no \
                 group. `understudy reset` on it makes it forget the group"
            ));
        }
        let goes = |member: &&Member| member.id == id && !stays;
        let boards = self.membership.members.iter().filter(|member| !goes(member));
        let boards = boards.filter(|member| !is_witness(member.id)).count();
        if let [last] = holders[..]
            && boards > 1
            && !is_witness(id)
        {
            return refuse(format!(
                "without {name} only {} votes, and what is acknowledged would be on its card alone: \
                 see first that another board votes (`understudy promote`)",
                self.name_of(last)
            ));
        }
        if self.can_decide(now, &voters) || mutant::is(44) {
            return Ok(());
        }
        let (here, needed) = (self.here(now, &voters), voters.len() / 2 + 1);
        refuse(format!(
            "without {name} {needed} of {} boards are needed to decide anything, and {here} can be \
             heard: see to the others first",
            voters.len()
        ))
    }

    /// Who leads hands over before it goes or follows.
    fn unless_it_leads(&self, now: Millis, id: NodeId, change: MembershipChange) -> Judged {
        if id != self.config.id || mutant::is(45) {
            return Ok(Verdict::Change(change, Vec::new()));
        }
        if self.able_successors(now).is_empty() {
            return refuse(format!(
                "{} leads, and no other board that votes can be heard to lead in its place",
                self.name_of(id)
            ));
        }
        Ok(Verdict::HandOver)
    }

    fn removed(&self, now: Millis, id: NodeId) -> Judged {
        if self.membership.has_removed(id) {
            return Ok(Verdict::Stands(Vec::new()));
        }
        self.known(id)?;
        self.may_do_without(now, id, false)?;
        self.unless_it_leads(now, id, MembershipChange::Remove(id))
    }

    fn demoted(&self, now: Millis, id: NodeId) -> Judged {
        self.known(id)?;
        if self.membership.resting.contains(&id) {
            return Ok(Verdict::Stands(Vec::new()));
        }
        self.may_do_without(now, id, true)?;
        self.unless_it_leads(now, id, MembershipChange::Rest(id))
    }

    /// It votes now, or, where that cannot be now, is no longer kept from it.
    fn promoted(&self, now: Millis, id: NodeId) -> Judged {
        let member = self.known(id)?;
        if member.voter {
            return Ok(Verdict::Stands(Vec::new()));
        }
        let holders = self.membership.data_voters().len();
        let witness = self.voting_witnesses();
        let is_witness = self.membership.is_witness(id);
        let boards = holders + usize::from(!is_witness);
        let has_witness = is_witness || !witness.is_empty();
        let (wanted, votes) = voters_wanted(boards, has_witness, self.voters_max);
        // A witness beside which it would be one too many gives way.
        let demoted: &[NodeId] = if votes { &[] } else { &witness };
        let voters = boards + usize::from(votes);
        let why_not = if is_witness && !votes {
            Some(format!(
                "{boards} boards that keep the data vote, and a witness votes beside two, four or \
                 six, if `understudy get voters` leaves it the room"
            ))
        } else if wanted == boards {
            None
        } else if voters > self.voters_max {
            Some(format!(
                "as many boards vote as the group has set: `understudy set voters {voters}`, or \
                 `understudy demote` another first"
            ))
        } else if voters > 2 && voters.is_multiple_of(2) {
            Some(format!(
                "{voters} voters stand no more losses than {}, so it follows: add a board, or \
                 `understudy demote` another first",
                voters - 1
            ))
        } else {
            None
        };
        let why_not = why_not.or_else(|| self.why_not_now(now, id));
        let change = self.vote_change(now, &[id], demoted);
        let lacks =
            String::from("not all boards that would vote have what the witness no longer has");
        match why_not.map_or(change.ok_or(lacks), Err) {
            Ok(change) => Ok(Verdict::Change(change, Vec::new())),
            Err(_) if self.membership.resting.contains(&id) => {
                Ok(Verdict::Change(MembershipChange::Wake(id), Vec::new()))
            }
            Err(why) => refuse(format!(
                "{} does not vote yet: {why}. It votes by itself as soon as it can",
                member.name
            )),
        }
    }

    /// Not while a new key is about to be made, which would end it.
    fn invited(&self, invitation: &Invitation) -> Judged {
        if !(1..=limits::INVITATION_MS_MAX).contains(&invitation.lifetime_ms) {
            return refuse(String::from("a token holds for 30 days at the most"));
        }
        if self.owes_key() {
            return Err(Refusal::Busy);
        }
        Ok(Verdict::Change(MembershipChange::Invite(invitation.clone()), Vec::new()))
    }

    /// A key that was made for other members than there are now, or after another than
    /// the newest, is made again by whoever made it.
    fn rekeyed(&self, now: Millis, key: &SealedKey) -> Judged {
        let keys = &self.membership.keys;
        let members = self.membership.members.iter().map(|member| member.id);
        if keys.newest().checked_add(1) != Some(key.number)
            || !members.eq(key.copies.iter().map(|(id, _)| *id))
        {
            return Err(Refusal::Busy);
        }
        if keys.is_full() {
            return refuse(self.too_many_keys(now));
        }
        if !keys.may_install(key) {
            return refuse(String::from("a copy of the key has not the length of one"));
        }
        Ok(Verdict::Change(MembershipChange::KeyInstall(key.clone()), Vec::new()))
    }

    fn why_not_now(&self, now: Millis, id: NodeId) -> Option<String> {
        if !self.is_here(now, id) {
            return Some(String::from("it cannot be heard"));
        }
        let behind = self.entries_behind(id);
        let why = format!("it is {behind} entries behind, or its rows are not known to be right");
        (!self.is_able(now, id)).then_some(why)
    }

    fn transferred(&self, now: Millis, to: Option<NodeId>) -> Judged {
        let able = self.able_successors(now);
        let Some(to) = to.or_else(|| able.first().copied()) else {
            return refuse(String::from("no other board that votes can be heard"));
        };
        let member = self.known(to)?;
        if to == self.config.id {
            return Ok(Verdict::Stands(Vec::new()));
        }
        if self.is_drained(to) {
            return refuse(format!(
                "{0} cannot lead: it is drained (`understudy undrain {0}` ends that)",
                member.name
            ));
        }
        if self.is_here(now, to) && self.successors().iter().any(|(id, _)| *id == to) {
            return Ok(Verdict::Transfer(to));
        }
        let why = match (member.voter, self.is_here(now, to)) {
            _ if self.membership.is_witness(to) => "it is a witness, which keeps no data",
            (false, _) => "it does not vote",
            (true, false) => "it cannot be heard",
            (true, true) => "its rows are wrong",
        };
        refuse(format!("{} cannot lead: {why}", member.name))
    }
}

/// A board that asks again is what it was let in as.
fn check_kind(known: &Member, is_witness: bool, as_witness: bool) -> Result<(), Refusal> {
    let name = &known.name;
    match (is_witness, as_witness) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => refuse(format!(
            "this board was let in as the witness {name} already: join with --witness, or \
             `understudy remove {name}` first"
        )),
        (false, true) => refuse(format!(
            "this board was let in as {name}, one that keeps the data, already: join without \
             --witness, or `understudy remove {name}` first"
        )),
    }
}

fn check_candidate(candidate: &Candidate) -> Result<(), Refusal> {
    check_name("board", &candidate.name)?;
    let addresses = &candidate.addresses;
    if addresses.len() > limits::ADDRESSES_MAX
        || addresses.iter().any(|address| address.len() > limits::NAME_BYTES_MAX)
    {
        return refuse(String::from("too many addresses, or one too long"));
    }
    Ok(())
}
