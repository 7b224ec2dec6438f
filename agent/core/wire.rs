//! Frames: what one node says to another, bytes to [`Frame`] and back, nothing
//! else. Sender and receiver are known from the seal around it and stand in no
//! frame; Raft's own protobuf never travels.
//!
//! A frame is one version byte and a postcard enum. Enums only grow at the end; a
//! field more or less makes another version, which is rejected and counted, never
//! guessed at.

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    bytes,
    duty::Claim,
    error::Rejection,
    event::{EntryKind, NodeId, Position, Promise, Reply, Request, Start},
    limits,
    member::InvitationId,
    pages::{Answer, Wish},
    versions::Runs,
};

/// First byte of every frame.
pub const FRAME_VERSION: u8 = 4;

/// Bytes of a ReadIndex context: who asks, its boot counter and its round, 8 each.
pub const READ_CONTEXT_BYTES: usize = 24;

/// Ties a ReadIndex answer to its question: never used twice, by any board.
pub type ReadContext = [u8; READ_CONTEXT_BYTES];

/// The context of a board's round.
#[must_use]
pub fn read_context(node: NodeId, boot: u64, round: u64) -> ReadContext {
    let mut context = ReadContext::default();
    for (place, number) in context.chunks_exact_mut(8).zip([node, boot, round]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    context
}

/// Everything a node may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Consensus.
    Raft(RaftFrame),
    /// A follower hands a caller's request to the leader.
    Forward(Forward),
    /// The leader's answer to a forwarded request.
    Answer {
        /// Whose, as in the forward.
        session: Session,
        /// The forward's number.
        sequence: u64,
        /// What came of it.
        reply: Reply,
    },
    /// A starting voter asks what it promised.
    PromiseAsk {
        /// The asker's boot, given back with the answer.
        boot: u64,
    },
    /// What the sender remembers of the asker's promises.
    PromiseTell {
        /// As asked.
        boot: u64,
        /// The strongest it saw; zero where it saw none.
        promise: Promise,
    },
    /// What a peer shows people of this board.
    Presence {
        /// Its HTTP address, empty when it has none.
        http: String,
    },
    /// What the leader shows a follower of the boards that one does not hear.
    Others {
        /// The term in which the sender leads.
        term: u64,
        /// Of all but the two of them, those it knows something of.
        others: Vec<Other>,
    },
    /// For how long invitations still hold, as the sender counts.
    Invitations {
        /// Each with the milliseconds that are left.
        left: Vec<(InvitationId, u64)>,
    },
    /// What a board wants of another's database.
    PagesAsk {
        /// Rises by each of the asker's questions; given back with the answer.
        ask: u64,
        /// What.
        wish: Wish,
    },
    /// What it gets.
    PagesTell {
        /// As asked.
        ask: u64,
        /// What.
        answer: Answer,
    },
    /// Which start are you in?
    StartAsk {
        /// Given back with the answer; never used twice by one start of the asker.
        number: u64,
    },
    /// In this one.
    StartTell {
        /// As asked.
        number: u64,
        /// Which.
        start: Start,
    },
    /// Starts that the sender has met, or heard that somebody has, while they were alive.
    Starts {
        /// Of members, the receiver left out.
        met: Vec<(NodeId, Start)>,
    },
    /// Of these boards' disks the sender has met copies, or heard that somebody has.
    Copies {
        /// Members.
        copied: Vec<NodeId>,
    },
    /// A board lacks what it sent as a leader: what comes after this?
    TailAsk {
        /// Where its log ends.
        after: Position,
    },
    /// This does.
    TailTell {
        /// As asked.
        after: Position,
        /// Consecutive, at most [`limits::APPEND_ENTRIES_MAX`].
        #[serde(deserialize_with = "few_entries")]
        entries: Vec<FrameEntry>,
    },
    /// What the leader tells a witness.
    Held {
        /// The term in which the sender leads.
        term: u64,
        /// All that vote and keep the users' rows hold everything up to here for good.
        index: u64,
        /// What the group has set, by name: no more than [`limits::SETTINGS_MAX`].
        settings: Vec<(String, String)>,
    },
    /// What a witness tells the leader of its log.
    Tail {
        /// The term in which the receiver leads.
        term: u64,
        /// First index.
        first: u64,
        /// It takes more than it may.
        is_full: bool,
        /// Before this index it lacks what others may lack too; 0 for no.
        lacks: u64,
    },
    /// The time of day by the sender's clock, which is set.
    Wall {
        /// Microseconds since 1970.
        wall_us: i64,
    },
    /// A holder asks the leader for another lease.
    Renew {
        /// Given back with the answer; never used twice by one start of the asker.
        number: u64,
        /// Grants to it, at most [`limits::DUTIES_MAX`].
        claims: Vec<Claim>,
    },
    /// The leader lets it act from when it asked.
    Renewed {
        /// As asked.
        number: u64,
        /// Those of the grants that stand.
        claims: Vec<Claim>,
    },
    /// The sender acts no more under these grants, and never will again.
    Stopped {
        /// At most [`limits::DUTIES_MAX`].
        claims: Vec<Claim>,
    },
    /// The leader wants these duties to go elsewhere: the holder is to come to an end.
    Yield {
        /// Grants to the receiver, at most [`limits::DUTIES_MAX`].
        claims: Vec<Claim>,
    },
    /// What the sender is ready for.
    Ready {
        /// In this start.
        start: Start,
        /// Numbers of duties, at most [`limits::DUTIES_MAX`].
        duties: Vec<u64>,
    },
    /// The sender comes to its end, as it was asked to.
    Ends {
        /// In this start.
        start: Start,
    },
    /// What the sender runs and, where it leads, what the others do.
    Runs {
        /// At most [`limits::MEMBERS_MAX`].
        runs: Vec<Runs>,
    },
}

/// A board as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Which.
    pub id: NodeId,
    /// It was heard lately.
    pub heard: bool,
    /// Its HTTP address as it last said, empty when it has none.
    pub http: String,
}

/// A start of a board, as what it forwards is told from what its other starts did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The boot counter.
    pub boot: u64,
    /// Drawn by each start: an old card that was put back counts the same again.
    pub mark: [u8; 3],
}

impl Session {
    pub(crate) const fn new(boot: u64, nonce: u64) -> Self {
        let [a, b, c, ..] = nonce.to_le_bytes();
        Self { boot, mark: [a, b, c] }
    }
}

/// A caller's request on its way to the leader. The same (session, sequence) is
/// executed once, however often it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The start of the board that it is from.
    pub session: Session,
    /// Rises by each request of that start.
    pub sequence: u64,
    /// Everything below has been answered and may be forgotten.
    pub floor: u64,
    /// The term in which the receiver was seen to lead; in any other it is dropped.
    pub term: u64,
    /// What is wanted.
    pub request: Request,
}

/// A Raft message; only what may travel can be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftFrame {
    /// Leader to follower: entries after `index`.
    Append {
        /// Sender's term.
        term: u64,
        /// Index before the entries.
        index: u64,
        /// Term at that index.
        log_term: u64,
        /// Leader's commit index.
        commit: u64,
        /// Consecutive, at most [`limits::APPEND_ENTRIES_MAX`].
        #[serde(deserialize_with = "few_entries")]
        entries: Vec<FrameEntry>,
    },
    /// Follower to leader.
    AppendAnswer {
        /// Sender's term.
        term: u64,
        /// Last index that matches, or the index refused.
        index: u64,
        /// Sender's commit index.
        commit: u64,
        /// Where to try next: (index, term there), when refused.
        refused: Option<(u64, u64)>,
    },
    /// Leader to follower.
    Heartbeat {
        /// Sender's term.
        term: u64,
        /// Committed and known to match.
        commit: u64,
        /// Of a ReadIndex round.
        context: Option<ReadContext>,
        /// All that is committed, known to match or not: how old the receiver is.
        committed: u64,
    },
    /// Follower to leader.
    HeartbeatAnswer {
        /// Sender's term.
        term: u64,
        /// Sender's commit index.
        commit: u64,
        /// As asked.
        context: Option<ReadContext>,
        /// It turned no entries away that it would turn away still.
        has_room: bool,
    },
    /// Candidate to voter.
    VoteAsk {
        /// A trial that raises no term.
        pre: bool,
        /// The term campaigned for.
        term: u64,
        /// Candidate's last index.
        index: u64,
        /// Term there.
        log_term: u64,
        /// Candidate's commit index.
        commit: u64,
        /// Term there.
        commit_term: u64,
        /// The leader asked for this election.
        transfer: bool,
    },
    /// Voter to candidate.
    VoteAnswer {
        /// Of a trial.
        pre: bool,
        /// Term of the answer.
        term: u64,
        /// No.
        refused: bool,
        /// Voter's commit index, with a refusal.
        commit: u64,
        /// Term there.
        commit_term: u64,
        /// For how long the voter has acknowledged no leader, itself included,
        /// milliseconds by its boot clock.
        quiet_ms: u64,
    },
    /// Leader to its chosen successor: campaign now.
    TimeoutNow {
        /// Sender's term.
        term: u64,
    },
    /// Follower to leader: from where may I read?
    ReadAsk {
        /// Fresh for every round, the asker's own.
        context: ReadContext,
    },
    /// Leader to follower.
    ReadAnswer {
        /// Sender's term.
        term: u64,
        /// Read at or after this index.
        index: u64,
        /// As asked.
        context: ReadContext,
    },
    /// Leader to follower: what comes next for it is no longer in the log. It is to
    /// take a state of the database, with this entry applied at least.
    Snapshot {
        /// Sender's term.
        term: u64,
        /// What the sender has applied.
        index: u64,
        /// Term at that index.
        log_term: u64,
        /// First index in the sender's log.
        first: u64,
    },
}

/// An entry inside an append; its index follows from its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameEntry {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What the data is.
    pub kind: EntryKind,
    /// As journalled.
    #[serde(with = "bytes")]
    pub data: Vec<u8>,
}

impl RaftFrame {
    /// The sender's term, or the one it campaigns for; a question for a read
    /// index has none.
    #[must_use]
    pub const fn term(&self) -> Option<u64> {
        match self {
            Self::Append { term, .. }
            | Self::AppendAnswer { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatAnswer { term, .. }
            | Self::VoteAsk { term, .. }
            | Self::VoteAnswer { term, .. }
            | Self::TimeoutNow { term }
            | Self::ReadAnswer { term, .. }
            | Self::Snapshot { term, .. } => Some(*term),
            Self::ReadAsk { .. } => None,
        }
    }
}

/// Entries of an append. An empty one is three bytes on the wire and many times
/// that in memory: the bound holds while they are read.
fn few_entries<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<FrameEntry>, D::Error> {
    deserializer.deserialize_seq(FewEntries)
}

struct FewEntries;

impl<'a> Visitor<'a> for FewEntries {
    type Value = Vec<FrameEntry>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {} entries", limits::APPEND_ENTRIES_MAX)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = sequence.next_element()? {
            if entries.len() == limits::APPEND_ENTRIES_MAX {
                return Err(de::Error::invalid_length(entries.len() + 1, &self));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl Frame {
    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bytes = Vec::from([FRAME_VERSION]);
        postcard::to_extend(self, bytes).expect("plain data always encodes")
    }

    /// Reads what [`Frame::encode`] wrote.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`] above [`limits::FRAME_BYTES_MAX`],
    /// [`Rejection::Malformed`] for anything else that is no frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > limits::FRAME_BYTES_MAX {
            return Err(Rejection::TooLarge);
        }
        match bytes.split_first() {
            Some((&FRAME_VERSION, rest)) => {
                crate::sql::decode(rest).map_err(|_| Rejection::Malformed)
            }
            Some(_) | None => Err(Rejection::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        error::Refusal,
        event::Position,
        member::{Candidate, MemberRequest, Membership},
        versions::Build,
    };

    use super::*;

    fn heartbeat() -> Frame {
        Frame::Raft(RaftFrame::Heartbeat { term: 3, commit: 260, context: None, committed: 261 })
    }

    #[test]
    fn bytes_of_this_version_stay_what_they_are() {
        assert_eq!(heartbeat().encode(), [4, 0, 2, 3, 0x84, 2, 0, 0x85, 2]);
        let append = Frame::Raft(RaftFrame::Append {
            term: 2,
            index: 7,
            log_term: 2,
            commit: 6,
            entries: Vec::from([FrameEntry {
                term: 2,
                kind: EntryKind::Change,
                data: Vec::from([9, 8]),
            }]),
        });
        assert_eq!(append.encode(), [4, 0, 0, 2, 7, 2, 6, 1, 2, 0, 2, 9, 8]);
        let (term, commit, context) = (3, 260, None);
        let answer = RaftFrame::HeartbeatAnswer { term, commit, context, has_room: true };
        assert_eq!(Frame::Raft(answer).encode(), [4, 0, 3, 3, 0x84, 2, 0, 1]);
        let presence = Frame::Presence { http: "h".into() };
        assert_eq!(presence.encode(), [4, 5, 1, b'h']);
        let other = Other { id: 3, heard: true, http: "h".into() };
        let others = Frame::Others { term: 2, others: Vec::from([other]) };
        assert_eq!(others.encode(), [4, 6, 2, 1, 3, 1, 1, b'h']);
        let snapshot = RaftFrame::Snapshot { term: 2, index: 7, log_term: 2, first: 5 };
        assert_eq!(Frame::Raft(snapshot).encode(), [4, 0, 9, 2, 7, 2, 5]);
        let wish = Wish::Pages { session: 9, pages: crate::pages::numbers(&[1, 2]) };
        let left = Vec::from([([4; 16], 300)]);
        let id = [4; 16];
        assert_eq!(
            Frame::Invitations { left }.encode(),
            [[4, 7, 1].as_slice(), &id, &[0xac, 2]].concat()
        );
        assert_eq!(Frame::PagesAsk { ask: 3, wish }.encode(), [4, 8, 3, 2, 9, 2, 1, 0]);
        let gone = Frame::PagesTell { ask: 3, answer: Answer::Gone };
        assert_eq!(gone.encode(), [4, 9, 3, 3]);
        assert_eq!(Frame::StartAsk { number: 300 }.encode(), [4, 10, 0xac, 2]);
        let start = Start { boot: 5, nonce: 7 };
        assert_eq!(Frame::StartTell { number: 3, start }.encode(), [4, 11, 3, 5, 7]);
        let copied = Vec::from([2, 3]);
        assert_eq!(Frame::Copies { copied }.encode(), [4, 13, 2, 2, 3]);
        let after = Position { term: 2, index: 300 };
        assert_eq!(Frame::TailAsk { after }.encode(), [4, 14, 2, 0xac, 2]);
        let tail = Frame::TailTell { after, entries: Vec::new() };
        assert_eq!(tail.encode(), [4, 15, 2, 0xac, 2, 0]);
        assert_eq!(Frame::Starts { met: Vec::from([(3, start)]) }.encode(), [4, 12, 1, 3, 5, 7]);
        let settings = Vec::from([("a".into(), "b".into())]);
        let held = Frame::Held { term: 2, index: 7, settings };
        assert_eq!(held.encode(), [4, 16, 2, 7, 1, 1, b'a', 1, b'b']);
        let tail = Frame::Tail { term: 2, first: 5, is_full: true, lacks: 0 };
        assert_eq!(tail.encode(), [4, 17, 2, 5, 1, 0]);
        assert_eq!(Frame::Wall { wall_us: -3 }.encode(), [4, 18, 5]);
        let outline = Frame::PagesAsk { ask: 3, wish: Wish::Outline { index_min: 9 } };
        assert_eq!(outline.encode(), [4, 8, 3, 4, 9]);
        let membership = Membership { last_id: 3, ..Membership::default() };
        let membership = alloc::boxed::Box::new(membership);
        let position = Position { term: 2, index: 9 };
        let answer = Answer::Outline { position, membership };
        let bytes = [4, 9, 3, 4, 2, 9, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Frame::PagesTell { ask: 3, answer }.encode(), bytes);
        let refused = Reply::Refused(Refusal::OneCopy);
        let session = Session { boot: 1, mark: [7, 8, 9] };
        let answer = Frame::Answer { session, sequence: 2, reply: refused };
        assert_eq!(answer.encode(), [4, 2, 1, 7, 8, 9, 2, 1, 13]);
    }

    #[test]
    fn bytes_about_newcomers_stay_what_they_are() {
        let candidate = || Candidate { name: "n".into(), key: [5; 32], addresses: Vec::new() };
        let (invitation, replaces) = ([4; 16], String::new);
        let session = Session { boot: 1, mark: [7, 8, 9] };
        let forward = |wish| {
            let (sequence, floor, term, request) = (2, 1, 3, Request::Member(wish));
            Frame::Forward(Forward { session, sequence, floor, term, request }).encode()
        };
        let (head, rest) = ([4, 1, 1, 7, 8, 9, 2, 1, 3, 6], [&[5; 32][..], &[0], &[4; 16], &[0]]);
        let witness =
            MemberRequest::Witness { candidate: candidate(), invitation, replaces: replaces() };
        assert_eq!(forward(witness), [&head[..], &[7, 1, b'n'], &rest.concat()].concat());
        let newcomer = MemberRequest::Newcomer {
            version: 2,
            candidate: candidate(),
            invitation,
            replaces: replaces(),
            witness: true,
        };
        let bytes = [&head[..], &[8, 2, 1, b'n'], &rest.concat(), &[1]].concat();
        assert_eq!(forward(newcomer), bytes);
    }

    #[test]
    fn bytes_about_duties_stay_what_they_are() {
        let claims = || Vec::from([Claim { duty: 1, token: 300 }]);
        assert_eq!(
            Frame::Renew { number: 4, claims: claims() }.encode(),
            [4, 19, 4, 1, 1, 0xac, 2]
        );
        assert_eq!(
            Frame::Renewed { number: 4, claims: claims() }.encode(),
            [4, 20, 4, 1, 1, 0xac, 2]
        );
        assert_eq!(Frame::Stopped { claims: claims() }.encode(), [4, 21, 1, 1, 0xac, 2]);
        assert_eq!(Frame::Yield { claims: claims() }.encode(), [4, 22, 1, 1, 0xac, 2]);
        let ready = Frame::Ready { start: Start { boot: 5, nonce: 7 }, duties: Vec::from([1, 2]) };
        assert_eq!(ready.encode(), [4, 23, 5, 7, 2, 1, 2]);
    }

    #[test]
    fn bytes_about_starts_stay_what_they_are() {
        let start = Start { boot: 5, nonce: 7 };
        assert_eq!(Frame::Ends { start }.encode(), [4, 24, 5, 7]);
        let build = Build { version: 2, release: [0, 300, 1] };
        let runs = Vec::from([Runs { id: 3, boot: 5, build }]);
        assert_eq!(Frame::Runs { runs }.encode(), [4, 25, 1, 3, 5, 2, 0, 0xac, 2, 1]);
    }

    #[test]
    fn a_frame_reads_back_and_nothing_longer_or_shorter_does() {
        let bytes = heartbeat().encode();
        assert_eq!(Frame::decode(&bytes), Ok(heartbeat()));
        for end in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..end]), Err(Rejection::Malformed));
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Frame::decode(&longer), Err(Rejection::Malformed));
    }

    #[test]
    fn an_append_of_more_entries_than_the_bound_is_rejected() {
        let append = |count| {
            let entry = FrameEntry { term: 1, kind: EntryKind::Change, data: Vec::new() };
            let entries = alloc::vec![entry; count];
            Frame::Raft(RaftFrame::Append { term: 1, index: 0, log_term: 0, commit: 0, entries })
        };
        let most = append(limits::APPEND_ENTRIES_MAX);
        assert_eq!(Frame::decode(&most.encode()), Ok(most));
        let more = append(limits::APPEND_ENTRIES_MAX + 1).encode();
        assert_eq!(Frame::decode(&more), Err(Rejection::Malformed));
    }

    #[test]
    fn another_version_is_rejected() {
        let mut bytes = heartbeat().encode();
        bytes[0] = FRAME_VERSION + 1;
        assert_eq!(Frame::decode(&bytes), Err(Rejection::Malformed));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_rejected_without_allocating_it() {
        let mut bytes = Vec::from([2, 0, 0, 2, 7, 2, 6, 1, 2, 0]);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(Frame::decode(&bytes), Err(Rejection::Malformed));
    }
}
