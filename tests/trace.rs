//! Effects and frames in one short line each, for golden scripts.

use std::fmt::Write as _;

use understudy_core::{
    duty::{self, Claim},
    event::{
        Cut, Effect, Entry, EntryKind, Millis, Position, ReadLevel, Reply, Request, SpoolWrite,
        Trust,
    },
    link::Links,
    member::MemberRequest,
    pages::{Answer, Wish, Work},
    readings::Receipt,
    sql,
    wire::{Frame, FrameEntry, RaftFrame, ReadContext},
};

/// Bytes as text where they are short and readable, else their number.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 60 && !text.chars().any(char::is_control) => format!("'{text}'"),
        Ok(_) | Err(_) => format!("{} bytes", bytes.len()),
    }
}

/// `index@term`
#[must_use]
pub fn position(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

/// What a payload says, as far as it holds whole frames.
#[must_use]
pub fn frames(payload: &[u8]) -> Vec<Frame> {
    let read = Links::new(0).receive(Millis(0), 0, payload, &mut Vec::new());
    read.unwrap_or_default().iter().filter_map(|frame| Frame::decode(frame).ok()).collect()
}

/// Heartbeats say nothing that a script is about.
#[must_use]
pub const fn is_dull(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Raft(
            RaftFrame::Heartbeat { context: None, .. }
                | RaftFrame::HeartbeatAnswer { context: None, .. }
        ) | Frame::Presence { .. }
            | Frame::Others { .. }
            | Frame::Invitations { .. }
            | Frame::StartAsk { .. }
            | Frame::StartTell { .. }
            | Frame::Starts { .. }
            | Frame::Runs { .. }
    )
}

/// What a node wants done; dull frames beside others are left out.
#[must_use]
pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, payload } => {
            let said: Vec<_> =
                frames(payload).iter().filter(|frame| !is_dull(frame)).map(frame).collect();
            if said.is_empty() {
                format!("n{to}: {} bytes", payload.len())
            } else {
                format!("n{to}: {}", said.join(" + "))
            }
        }
        Effect::Persist { number, entries, hard_state, memories, trust, cut, spool } => {
            let mut text = format!("persist #{number}: term {}", hard_state.term);
            if hard_state.vote != 0 {
                let _ = write!(text, " vote n{}", hard_state.vote);
            }
            let _ = write!(text, " commit {}", hard_state.commit);
            if !entries.is_empty() {
                let _ = write!(text, ", entries {}", range(entries));
            }
            if !memories.is_empty() {
                let _ = write!(text, ", {} peers", memories.len());
            }
            match cut {
                None => {}
                Some(Cut::UpTo(end)) => text += &format!(", cut up to {}", position(*end)),
                Some(Cut::Coming(at)) => text += &format!(", {} coming", position(*at)),
                Some(Cut::GivenUp(end)) => text += &format!(", given up to {}", position(*end)),
                Some(Cut::Anew(at)) => text += &format!(", anew after {}", position(*at)),
            }
            for write in spool {
                match write {
                    SpoolWrite::Put { place, readings, .. } => {
                        let _ = write!(text, ", spool {readings} readings at {place}");
                    }
                    SpoolWrite::Take { first, last } => {
                        let _ = write!(text, ", unspool {first}..{last}");
                    }
                }
            }
            match trust {
                None => {}
                Some(Trust::Confirmed) => text += ", disk confirmed",
                Some(Trust::Lost) => text += ", disk lost",
                Some(Trust::Copied) => text += ", disk copied",
                Some(Trust::Unconfirmed(peers)) => {
                    let peers: Vec<_> = peers.iter().map(|(id, _)| format!("n{id}")).collect();
                    let _ = write!(text, ", disk not confirmed by {}", peers.join(" "));
                }
            }
            text
        }
        Effect::Fetch { low, high, .. } => format!("fetch {low}..{high}"),
        Effect::FetchSpool { after, .. } => format!("fetch spool after {after}"),
        Effect::Execute { base, requests, .. } => {
            let requests: Vec<_> = requests.iter().map(|request| write_asked(request)).collect();
            format!("execute on {}: {}", position(*base), requests.join(", "))
        }
        Effect::Apply { entries, .. } => format!("apply {}", range(entries)),
        Effect::Query { sql, .. } => format!("query {}", bytes(sql)),
        Effect::Pages { work, .. } => format!("pages: {}", page_work(work)),
        Effect::Reply { id, reply: answer } => format!("reply to {id}: {}", reply(answer)),
        Effect::RoleChanged { leads: true } => "leads".to_owned(),
        Effect::RoleChanged { leads: false } => "leads no longer".to_owned(),
    }
}

/// What is to be written: a grant in words.
fn write_asked(request: &[u8]) -> String {
    let Some(duty::Grant { claim, holder, .. }) = duty::grants(request) else {
        return bytes(request);
    };
    let whom = holder.map_or("nobody".to_owned(), |holder| format!("n{}", holder.board));
    format!("grant {} to {whom}", claims(&[claim]))
}

/// `duty under token`, of each.
#[must_use]
pub fn claims(claims: &[Claim]) -> String {
    let claims = claims.iter().map(|Claim { duty, token }| format!("duty {duty} under {token}"));
    claims.collect::<Vec<_>>().join(", ")
}

/// What a caller asks.
#[must_use]
pub fn request(request: &Request) -> String {
    match request {
        Request::Readings(arrivals) => format!("{} readings", arrivals.readings.len()),
        Request::Write(sql) => format!("write {}", bytes(sql)),
        Request::Read { level, .. } => match level {
            ReadLevel::None { freshness_ms: None } => "read none".to_owned(),
            ReadLevel::None { freshness_ms: Some(ms) } => format!("read at most {ms} ms old"),
            ReadLevel::Weak => "read weak".to_owned(),
            ReadLevel::Linearizable { timeout_ms: None } => "read linearizable".to_owned(),
            ReadLevel::Linearizable { timeout_ms: Some(ms) } => {
                format!("read linearizable within {ms} ms")
            }
            ReadLevel::Strong => "read strong".to_owned(),
            ReadLevel::Own => "read own".to_owned(),
            ReadLevel::OwnLinearizable => "read own linearizable".to_owned(),
        },
        Request::Admit(candidate) => format!("admit {}", candidate.name),
        Request::Rename { id, name } => format!("rename n{id} {name}"),
        Request::Scrub => "scrub".to_owned(),
        Request::Repair { source } => format!("repair from n{source}"),
        Request::Member(wish) => member(wish),
    }
}

fn member(wish: &MemberRequest) -> String {
    match wish {
        MemberRequest::Join { candidate, .. }
        | MemberRequest::Newcomer { candidate, witness: false, .. } => {
            format!("join {}", candidate.name)
        }
        MemberRequest::Invite(_) => "invite".to_owned(),
        MemberRequest::Revoke => "revoke".to_owned(),
        MemberRequest::Remove(id) => format!("remove n{id}"),
        MemberRequest::Vote { id, voter: true } => format!("promote n{id}"),
        MemberRequest::Vote { id, voter: false } => format!("demote n{id}"),
        MemberRequest::Transfer(to) => format!("transfer to {to:?}"),
        MemberRequest::InstallKey(key) => format!("install key {}", key.number),
        MemberRequest::Witness { candidate, .. }
        | MemberRequest::Newcomer { candidate, witness: true, .. } => {
            format!("join {} as witness", candidate.name)
        }
    }
}

/// What a caller is told.
#[must_use]
pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done { index, answer } => match sql::decode::<Receipt>(answer) {
            Ok(receipt) if *index == 0 => {
                format!("{:?}, {} refused", receipt.level, receipt.refused.len())
            }
            Ok(_) | Err(_) => format!("done at {index}, {}", bytes(answer)),
        },
        Reply::Refused(refusal) => format!("{refusal:?}"),
    }
}

fn range(entries: &[Entry]) -> String {
    match entries {
        [] => "none".to_owned(),
        [one] => position(one.position()),
        [first, .., last] => {
            format!("{}..{}", position(first.position()), position(last.position()))
        }
    }
}

/// What one node says to another.
#[must_use]
pub fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Raft(frame) => raft(frame),
        Frame::Forward(forward) => {
            format!("forward {} in term {}: {}", forward.sequence, forward.term, {
                request(&forward.request)
            })
        }
        Frame::Answer { sequence, reply: answer, .. } => {
            format!("answer to forward {sequence}: {}", reply(answer))
        }
        Frame::PromiseAsk { boot } => format!("what did I promise? (boot {boot})"),
        Frame::PromiseTell { promise, .. } => format!(
            "you promised term {} vote {} matched {}",
            promise.term, promise.vote, promise.matched
        ),
        Frame::Presence { http } => format!("presence {http}"),
        Frame::Wall { wall_us } => format!("wall {wall_us}"),
        Frame::Invitations { left } => format!("{} invitations", left.len()),
        Frame::Others { term, others } => format!("{} others in term {term}", others.len()),
        Frame::PagesAsk { wish, .. } => format!("want {}", page_wish(wish)),
        Frame::PagesTell { answer, .. } => format!("have {}", page_answer(answer)),
        Frame::StartAsk { .. } => String::from("which start?"),
        Frame::StartTell { start, .. } => format!("start {}", start.boot),
        Frame::Starts { met } => format!("{} starts", met.len()),
        Frame::TailAsk { after } => format!("what comes after {}?", position(*after)),
        Frame::TailTell { after, entries } => {
            format!("after {}:{}", position(*after), frame_entries(after.index, entries))
        }
        Frame::Copies { copied } => format!("copies of {copied:?}"),
        Frame::Held { term, index, .. } => format!("held by all up to {index} in term {term}"),
        Frame::Tail { first, is_full, lacks, .. } => {
            let full = if *is_full { ", full" } else { "" };
            format!("tail from {first}{full}, lacks {lacks}")
        }
        Frame::Renew { number, claims: about } => format!("renew {number}: {}", claims(about)),
        Frame::Renewed { number, claims: about } => format!("renewed {number}: {}", claims(about)),
        Frame::Stopped { claims: about } => format!("stopped {}", claims(about)),
        Frame::Yield { claims: about } => format!("yield {}", claims(about)),
        Frame::Ends { start } => format!("start {} ends", start.boot),
        Frame::Runs { runs } => format!("{} boards' releases", runs.len()),
        Frame::Ready { start, duties } => format!("start {} ready for {duties:?}", start.boot),
    }
}

fn raft(frame: &RaftFrame) -> String {
    match frame {
        RaftFrame::Append { term, index, log_term, commit, entries } => {
            let sent = frame_entries(*index, entries);
            format!("append term {term} after {index}@{log_term} commit {commit}{sent}")
        }
        RaftFrame::AppendAnswer { term, index, refused: None, .. } => {
            format!("append answer term {term} matched {index}")
        }
        RaftFrame::AppendAnswer { term, index, refused: Some((hint, hint_term)), .. } => {
            format!("append answer term {term} refused {index}, try {hint}@{hint_term}")
        }
        RaftFrame::Heartbeat { term, commit, context, .. } => {
            format!("heartbeat term {term} commit {commit}{}", round(*context))
        }
        RaftFrame::HeartbeatAnswer { term, context, .. } => {
            format!("heartbeat answer term {term}{}", round(*context))
        }
        RaftFrame::VoteAsk { pre, term, index, log_term, transfer, .. } => format!(
            "{}vote ask term {term} last {index}@{log_term}{}",
            trial(*pre),
            if *transfer { " by transfer" } else { "" }
        ),
        RaftFrame::VoteAnswer { pre, term, refused, .. } => format!(
            "{}vote answer term {term} {}",
            trial(*pre),
            if *refused { "refused" } else { "granted" }
        ),
        RaftFrame::TimeoutNow { term } => format!("campaign now, term {term}"),
        RaftFrame::ReadAsk { context } => format!("read index ask{}", round(Some(*context))),
        RaftFrame::ReadAnswer { term, index, context } => {
            format!("read index answer term {term} index {index}{}", round(Some(*context)))
        }
        RaftFrame::Snapshot { term, index, log_term, first } => {
            format!("take pages term {term} at {index}@{log_term} log from {first}")
        }
    }
}

fn page_work(work: &Work) -> String {
    match work {
        Work::Keep { .. } => "keep a state".to_owned(),
        Work::Serve { wish } => format!("serve {}", page_wish(wish)),
        Work::Release => "keep it no longer".to_owned(),
        Work::Compare { summary, .. } => format!("compare with {}", position(summary.position)),
        Work::Take { wish, .. } => format!("take {}", page_wish(wish)),
        Work::Drop { .. } => "pull no longer".to_owned(),
        Work::Install { summary } => format!("install {}", position(summary.position)),
        Work::Stand { position: at, .. } => format!("stand at {}", position(*at)),
        Work::Settings { settings } => format!("{} settings", settings.len()),
    }
}

fn page_wish(wish: &Wish) -> String {
    let count = wish.numbers().map_or(0, |numbers| numbers.len());
    match wish {
        Wish::Open { index_min } => format!("a state from {index_min} on"),
        Wish::Hashes { level, .. } => format!("hashes below {count} nodes of level {level}"),
        Wish::Pages { .. } => format!("{count} pages"),
        Wish::Close { .. } => "no more".to_owned(),
        Wish::Outline { index_min } => format!("an outline from {index_min} on"),
    }
}

fn page_answer(answer: &Answer) -> String {
    match answer {
        Answer::Opened(summary) => format!("a state at {}", position(summary.position)),
        Answer::Hashes(bytes) => format!("{} bytes of hashes", bytes.len()),
        Answer::Pages(bytes) => format!("{} bytes of pages", bytes.len()),
        Answer::Gone => "no state".to_owned(),
        Answer::Outline { position: at, .. } => format!("an outline at {}", position(*at)),
    }
}

const fn trial(pre: bool) -> &'static str {
    if pre { "pre-" } else { "" }
}

fn round(context: Option<ReadContext>) -> String {
    let Some(context) = context else { return String::new() };
    let numbers: Vec<_> = context
        .chunks_exact(8)
        .map(|number| u64::from_le_bytes(number.try_into().expect("pieces of 8 bytes")))
        .collect();
    format!(" round n{}.{}.{}", numbers[0], numbers[1], numbers[2])
}

fn frame_entries(before: u64, entries: &[FrameEntry]) -> String {
    let mut text = String::new();
    for (entry, index) in entries.iter().zip(before + 1..) {
        let kind = match entry.kind {
            EntryKind::Change if entry.data.is_empty() => "empty",
            EntryKind::Change => "change",
            EntryKind::Membership => "membership",
        };
        let _ = write!(text, ", {index}@{} {kind}", entry.term);
    }
    text
}
