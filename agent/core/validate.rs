//! Every Raft message from a peer is checked here before raft-rs sees it, so
//! that nothing a peer sends can panic raft-rs 0.7, and translated between our
//! frames and raft-rs's messages.
//!
//! What 0.7.0 would panic on, and where it is stopped: a term of 0, which marks
//! a local message there and skips every check of terms; a heartbeat's commit
//! beyond our log; an append that contradicts what is committed, leaves a gap,
//! or brings terms out of order; an acknowledgement of entries the leader does
//! not have; counters near overflow; a ReadIndex without its context. A round
//! asked under another board's context is stopped too: its answers would count
//! for that board's own. Messages
//! that must not come from a peer at all (proposals, transfers, local ones) cannot
//! be said in a [`RaftFrame`]; of a snapshot the node alone hears (`catchup`).

use alloc::vec::Vec;

use raft::{
    Raft, StateRole,
    prelude::{Message, MessageType},
};

use crate::{
    error::Rejection,
    event::{Entry, NodeId, Position},
    limits::{COUNTER_MAX, READ_ROUNDS_MAX},
    log::{Log, from_raft, to_raft},
    wire::{FrameEntry, RaftFrame, ReadContext},
};

/// raft-rs's mark of a vote asked for by the leader.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// The message in `frame`, if raft-rs may see it in its present state.
///
/// # Errors
/// [`Rejection::Implausible`] for what no correct peer sends to this node now.
pub(crate) fn inbound(
    raft: &Raft<Log>,
    from: NodeId,
    frame: RaftFrame,
) -> Result<Message, Rejection> {
    plausible(raft, from, &frame)?;
    let mut message = translate(frame)?;
    message.from = from;
    message.to = raft.id;
    Ok(message)
}

fn plausible(raft: &Raft<Log>, from: NodeId, frame: &RaftFrame) -> Result<(), Rejection> {
    require(from != raft.id && from != 0)?;
    require(frame.term() != Some(0))?;
    let last_index = raft.raft_log.last_index();
    match frame {
        RaftFrame::Append { term, index, log_term, commit, entries } => {
            counters(&[*term, *index, *log_term, *commit])?;
            from_leader(raft, from, *term)?;
            consecutive(*term, *index, *log_term, entries)?;
            require(agrees_with_committed(raft, *index, entries))
        }
        RaftFrame::AppendAnswer { term, index, commit, refused } => {
            counters(&[*term, *index, *commit])?;
            let (hint, hint_term) = refused.unwrap_or_default();
            counters(&[hint, hint_term])?;
            require(*term != raft.term || refused.is_some() || *index <= last_index)
        }
        RaftFrame::Heartbeat { term, commit, committed, .. } => {
            counters(&[*term, *commit, *committed])?;
            from_leader(raft, from, *term)?;
            require(*term < raft.term || *commit <= last_index)
        }
        RaftFrame::HeartbeatAnswer { term, commit, .. } => counters(&[*term, *commit]),
        RaftFrame::VoteAsk { term, index, log_term, commit, commit_term, .. } => {
            counters(&[*term, *index, *log_term, *commit, *commit_term])
        }
        RaftFrame::VoteAnswer { term, commit, commit_term, .. } => {
            counters(&[*term, *commit, *commit_term])
        }
        RaftFrame::TimeoutNow { term } => {
            counters(&[*term])?;
            require(*term == raft.term && from == raft.leader_id && settled(raft))
        }
        RaftFrame::ReadAsk { context } => {
            require(context.starts_with(&from.to_le_bytes()))?;
            require(raft.read_only.pending_read_index.len() < READ_ROUNDS_MAX)
        }
        RaftFrame::ReadAnswer { term, index, .. } => {
            counters(&[*term, *index])?;
            require(*term < raft.term || from == raft.leader_id)
        }
        // For the node alone: raft-rs learns of a state once the database holds it.
        RaftFrame::Snapshot { .. } => require(false),
    }
}

const fn require(holds: bool) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(Rejection::Implausible) }
}

fn counters(values: &[u64]) -> Result<(), Rejection> {
    require(values.iter().all(|value| *value < COUNTER_MAX))
}

/// A term has one leader: whoever claims ours must be the one we know.
fn from_leader(raft: &Raft<Log>, from: NodeId, term: u64) -> Result<(), Rejection> {
    require(term != raft.term || raft.state != StateRole::Leader)?;
    require(term != raft.term || raft.leader_id == 0 || raft.leader_id == from)
}

fn consecutive(
    term: u64,
    index: u64,
    log_term: u64,
    entries: &[FrameEntry],
) -> Result<(), Rejection> {
    require((index == 0) == (log_term == 0))?;
    require(index + (entries.len() as u64) < COUNTER_MAX)?;
    let mut before = log_term;
    for entry in entries {
        require(entry.term >= before && entry.term <= term && entry.term > 0)?;
        before = entry.term;
    }
    Ok(())
}

/// raft-rs looks for conflicts only from the append's own index on, and only
/// when that index matches; below the commit index nothing may differ.
fn agrees_with_committed(raft: &Raft<Log>, index: u64, entries: &[FrameEntry]) -> bool {
    let committed = raft.raft_log.committed;
    (index + 1..)
        .zip(entries)
        .take_while(|(index, _)| *index <= committed)
        .all(|(index, entry)| raft.raft_log.term(index).is_ok_and(|term| term == entry.term))
}

/// Everything this node appended is on its disk: raft-rs 0.7 asserts it when a
/// node becomes leader.
pub(crate) fn settled(raft: &Raft<Log>) -> bool {
    raft.raft_log.persisted == raft.raft_log.last_index()
}

fn translate(frame: RaftFrame) -> Result<Message, Rejection> {
    let mut message = Message::default();
    match frame {
        RaftFrame::Append { term, index, log_term, commit, entries } => {
            message.set_msg_type(MessageType::MsgAppend);
            message.term = term;
            message.index = index;
            message.log_term = log_term;
            message.commit = commit;
            message.entries = append_entries(index, entries)?.into();
        }
        RaftFrame::AppendAnswer { term, index, commit, refused } => {
            message.set_msg_type(MessageType::MsgAppendResponse);
            message.term = term;
            message.index = index;
            message.commit = commit;
            message.reject = refused.is_some();
            (message.reject_hint, message.log_term) = refused.unwrap_or_default();
        }
        RaftFrame::Heartbeat { term, commit, context, committed: _ } => {
            message.set_msg_type(MessageType::MsgHeartbeat);
            message.term = term;
            message.commit = commit;
            message.context = context_bytes(context).into();
        }
        RaftFrame::HeartbeatAnswer { term, commit, context, has_room: _ } => {
            message.set_msg_type(MessageType::MsgHeartbeatResponse);
            message.term = term;
            message.commit = commit;
            message.context = context_bytes(context).into();
        }
        RaftFrame::VoteAsk { .. } | RaftFrame::VoteAnswer { .. } => {
            translate_vote(&mut message, &frame);
        }
        RaftFrame::TimeoutNow { term } => {
            message.set_msg_type(MessageType::MsgTimeoutNow);
            message.term = term;
        }
        RaftFrame::ReadAsk { context } => {
            message.set_msg_type(MessageType::MsgReadIndex);
            message.entries = read_entry(context).into();
        }
        RaftFrame::ReadAnswer { term, index, context } => {
            message.set_msg_type(MessageType::MsgReadIndexResp);
            message.term = term;
            message.index = index;
            message.entries = read_entry(context).into();
        }
        RaftFrame::Snapshot { .. } => return Err(Rejection::Implausible),
    }
    Ok(message)
}

fn translate_vote(message: &mut Message, frame: &RaftFrame) {
    if let RaftFrame::VoteAsk { pre, term, index, log_term, commit, commit_term, transfer } = frame
    {
        message.set_msg_type(if *pre {
            MessageType::MsgRequestPreVote
        } else {
            MessageType::MsgRequestVote
        });
        message.term = *term;
        message.index = *index;
        message.log_term = *log_term;
        message.commit = *commit;
        message.commit_term = *commit_term;
        if *transfer {
            message.context = TRANSFER.into();
        }
    }
    if let RaftFrame::VoteAnswer { pre, term, refused, commit, commit_term, quiet_ms: _ } = frame {
        message.set_msg_type(if *pre {
            MessageType::MsgRequestPreVoteResponse
        } else {
            MessageType::MsgRequestVoteResponse
        });
        message.term = *term;
        message.reject = *refused;
        message.commit = *commit;
        message.commit_term = *commit_term;
    }
}

/// Entries that come after `last` in a log whose latest term is `term`.
pub(crate) fn after(
    last: Position,
    term: u64,
    entries: Vec<FrameEntry>,
) -> Result<Vec<raft::prelude::Entry>, Rejection> {
    consecutive(term, last.index, last.term, &entries)?;
    append_entries(last.index, entries)
}

fn append_entries(
    index: u64,
    entries: Vec<FrameEntry>,
) -> Result<Vec<raft::prelude::Entry>, Rejection> {
    let entries = (index + 1..).zip(entries);
    entries
        .map(|(index, entry)| {
            to_raft(Entry { index, term: entry.term, kind: entry.kind, data: entry.data })
        })
        .collect()
}

fn context_bytes(context: Option<ReadContext>) -> Vec<u8> {
    context.map(Vec::from).unwrap_or_default()
}

fn read_entry(context: ReadContext) -> Vec<raft::prelude::Entry> {
    let data = Vec::from(context).into();
    Vec::from([raft::prelude::Entry { data, ..raft::prelude::Entry::default() }])
}

/// What raft-rs wants said, as a frame, by a node that knows `committed`,
/// `has_room` for entries or not, and was `quiet_ms` without a leader; `None` for what
/// must not leave the node: proposals are never forwarded by raft-rs (ours are, before
/// execution).
pub(crate) fn outbound(
    message: &Message,
    committed: u64,
    has_room: bool,
    quiet_ms: u64,
) -> Option<RaftFrame> {
    let Message { term, index, log_term, commit, commit_term, .. } = *message;
    match message.get_msg_type() {
        MessageType::MsgAppend => Some(RaftFrame::Append {
            term,
            index,
            log_term,
            commit,
            entries: message.entries.iter().map(frame_entry).collect(),
        }),
        MessageType::MsgAppendResponse => Some(RaftFrame::AppendAnswer {
            term,
            index,
            commit,
            refused: message.reject.then_some((message.reject_hint, log_term)),
        }),
        MessageType::MsgHeartbeat => {
            let context = read_context(&message.context);
            Some(RaftFrame::Heartbeat { term, commit, context, committed })
        }
        MessageType::MsgHeartbeatResponse => Some(RaftFrame::HeartbeatAnswer {
            term,
            commit,
            context: read_context(&message.context),
            has_room,
        }),
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            Some(RaftFrame::VoteAsk {
                pre: kind == MessageType::MsgRequestPreVote,
                term,
                index,
                log_term,
                commit,
                commit_term,
                transfer: message.context.as_ref() == TRANSFER,
            })
        }
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            Some(RaftFrame::VoteAnswer {
                pre: kind == MessageType::MsgRequestPreVoteResponse,
                term,
                refused: message.reject,
                commit,
                commit_term,
                quiet_ms,
            })
        }
        MessageType::MsgTimeoutNow => Some(RaftFrame::TimeoutNow { term }),
        MessageType::MsgReadIndex => {
            Some(RaftFrame::ReadAsk { context: read_context(&message.entries.first()?.data)? })
        }
        MessageType::MsgReadIndexResp => Some(RaftFrame::ReadAnswer {
            term,
            index,
            context: read_context(&message.entries.first()?.data)?,
        }),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgSnapshot
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => None,
    }
}

pub(crate) fn frame_entry(entry: &raft::prelude::Entry) -> FrameEntry {
    let Entry { term, kind, data, .. } = from_raft(entry);
    FrameEntry { term, kind, data }
}

fn read_context(bytes: &[u8]) -> Option<ReadContext> {
    bytes.try_into().ok()
}
