//! A member answers the command line, and tells the group when it can be reached
//! under new addresses.

use std::{net::SocketAddr, time::Duration};

use tokio::sync::mpsc;
use understudy_core::{
    error::Refusal,
    event::{ReadLevel, Reply, Request},
    member::{Candidate, Invitation, MemberRequest},
    sql::{self, SqlResponse, StatementOutcome},
};

use crate::{
    call::Caller,
    clock::BoardClock,
    config::RunOptions,
    control::{ControlRequest, ControlResponse, ProbedBoard},
    driver::{control::Wish, random::random},
    duties,
    identity::{GroupKey, Identity},
    probe::{Probed, Step},
    seal::public_key,
    status::Status,
    token::{Token, own_addresses},
};

/// Between two looks at this machine's addresses: rare enough that a network
/// that comes and goes writes little.
const LOOK: Duration = Duration::from_secs(60);

/// Who this board is and where it can be reached.
#[derive(Clone)]
pub struct Home {
    /// Who.
    pub identity: Identity,
    /// What it was told.
    pub options: RunOptions,
    /// Where datagrams come in.
    pub bound: SocketAddr,
    /// What stamps readings.
    pub clock: BoardClock,
}

/// Answers the command line, several wishes at a time, until the agent ends.
pub async fn serve(mut wishes: mpsc::Receiver<Wish>, caller: Caller, home: Home) {
    tokio::spawn(keep_addresses(caller.clone(), home.clone()));
    while let Some((request, reply)) = wishes.recv().await {
        let (caller, home) = (caller.clone(), home.clone());
        tokio::spawn(async move {
            let response = answer(&caller, request, &home).await;
            // A command line that went away needs no answer.
            let _ = reply.send(response.unwrap_or_else(ControlResponse::Refused));
        });
    }
}

/// Keeps this board's row of the membership to its addresses: Wi-Fi may come up
/// after the agent, and leases change. What the group knows already costs no
/// entry, and an address that is gone is no news.
async fn keep_addresses(caller: Caller, home: Home) {
    let key = public_key(&home.identity.private_key);
    let mut told: Vec<String> = Vec::new();
    loop {
        let addresses = own_addresses(&home.options, home.bound);
        if addresses.iter().any(|address| !told.contains(address)) {
            let Some(status) = caller.status().await else { return };
            let candidate = Candidate { name: status.board, key, addresses: addresses.clone() };
            match caller.request(Request::Admit(candidate)).await {
                Some(Reply::Done { .. }) => told = addresses,
                Some(Reply::Refused(_)) => {}
                None => return,
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn answer_sql(caller: &Caller, request: Request) -> Result<ControlResponse, String> {
    let answer = done(caller, request).await?;
    let response = sql::decode(&answer).map_err(|error| error.to_string())?;
    Ok(ControlResponse::Sql(response))
}

async fn answer(
    caller: &Caller,
    request: ControlRequest,
    home: &Home,
) -> Result<ControlResponse, String> {
    match request {
        ControlRequest::Status => {
            let status = caller.status().await.ok_or_else(stopping)?;
            Ok(ControlResponse::Status(Box::new(status)))
        }
        ControlRequest::Init { .. } | ControlRequest::Join { .. } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            if status.removed {
                return Err(format!(
                    "this board was removed from the group \"{}\": `understudy reset` makes it \
                     forget that group, then it can join again, as a new board",
                    status.group
                ));
            }
            Err(format!(
                "this board is {}, a member of the group \"{}\", already: `understudy leave` takes \
                 it out",
                status.board, status.group
            ))
        }
        ControlRequest::Token { lifetime_ms, uses } => token(caller, home, lifetime_ms, uses).await,
        ControlRequest::RevokeTokens => member(caller, MemberRequest::Revoke).await,
        ControlRequest::RotateKey => rotate_key(caller).await,
        ControlRequest::Remove { board } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            member(caller, MemberRequest::Remove(id_of(&status, &board)?)).await
        }
        ControlRequest::Transfer { board } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            let to = board.map(|board| id_of(&status, &board)).transpose()?;
            member(caller, MemberRequest::Transfer(to)).await
        }
        ControlRequest::Vote { board, voter } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            member(caller, MemberRequest::Vote { id: id_of(&status, &board)?, voter }).await
        }
        ControlRequest::Leave => leave(caller, home).await,
        ControlRequest::Reset => forget(caller).await,
        ControlRequest::Left { duty } => {
            let sql = sql::encode(&duties::left(&duty));
            answer_sql(caller, Request::Read { level: ReadLevel::Own, sql }).await
        }
        ControlRequest::Sql { request, read } => {
            let sql = sql::encode(&request);
            let level = ReadLevel::Linearizable { timeout_ms: None };
            let wish = if read { Request::Read { level, sql } } else { Request::Write(sql) };
            answer_sql(caller, wish).await
        }
        ControlRequest::Rename { board, name } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            let board = board.unwrap_or_else(|| status.board.clone());
            done(caller, Request::Rename { id: id_of(&status, &board)?, name }).await?;
            Ok(ControlResponse::Done)
        }
        ControlRequest::Scrub => {
            let answer = done(caller, Request::Scrub).await?;
            scrub_number(&answer).map(ControlResponse::Scrub)
        }
        ControlRequest::Probe => probe(caller).await.map(ControlResponse::Probed),
        ControlRequest::Clock { confirm } => home.clock.answer(confirm).map(ControlResponse::Clock),
        ControlRequest::Repair { board } => {
            let status = caller.status().await.ok_or_else(stopping)?;
            done(caller, Request::Repair { source: id_of(&status, &board)? }).await?;
            Ok(ControlResponse::Done)
        }
    }
}

async fn member(caller: &Caller, request: MemberRequest) -> Result<ControlResponse, String> {
    done(caller, Request::Member(request)).await?;
    Ok(ControlResponse::Done)
}

async fn token(
    caller: &Caller,
    home: &Home,
    lifetime_ms: u64,
    uses: u32,
) -> Result<ControlResponse, String> {
    let invitation = Invitation { id: random()?, lifetime_ms, uses };
    let id = invitation.id;
    let index = invited(caller, invitation).await?;
    let keys = keys_at(caller, index).await?;
    let with = (keys, caller.hosts().await);
    let token = Token::issue(&home.identity, &home.options, home.bound, id, with);
    Ok(ControlResponse::Token(token.encode()))
}

/// The entry of an invitation; where a new key of the group is on its way, which would
/// end it, that comes first.
async fn invited(caller: &Caller, invitation: Invitation) -> Result<u64, String> {
    let mut tries = 0;
    loop {
        let invite = Request::Member(MemberRequest::Invite(invitation.clone()));
        match caller.request(invite).await {
            Some(Reply::Done { index, .. }) => return Ok(index),
            Some(Reply::Refused(Refusal::Busy)) if tries < ROTATIONS_MAX => tries += 1,
            Some(Reply::Refused(refusal)) => return Err(refusal.to_string()),
            None => return Err(stopping()),
        }
        tokio::time::sleep(ROTATE_AGAIN).await;
    }
}

/// Between two looks whether this board has applied an entry, and looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOKS_MAX: u32 = 500;

/// The group's keys as of that entry or a later one: an invitation lets nobody in under
/// a key from before it.
async fn keys_at(caller: &Caller, index: u64) -> Result<Vec<GroupKey>, String> {
    for _ in 0..LOOKS_MAX {
        let now = caller.keys().await.ok_or_else(stopping)?;
        if now.applied >= index && now.keys.last().is_some_and(|key| key.number == now.newest) {
            return Ok(now.keys);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(String::from("this board has not got the group's newest key yet: try again, or on another"))
}

/// Between two tries to change the group's key, and tries.
const ROTATE_AGAIN: Duration = Duration::from_millis(300);
const ROTATIONS_MAX: u32 = 30;

/// A key made for members that are others by now is made anew.
async fn rotate_key(caller: &Caller) -> Result<ControlResponse, String> {
    let (mut last, mut doubtful) = (Refusal::Busy, None);
    for _ in 0..ROTATIONS_MAX {
        let newest = caller.keys().await.ok_or_else(stopping)?.newest;
        if doubtful.is_some_and(|number| number <= newest) {
            return Ok(ControlResponse::Done);
        }
        let key = caller.new_key().await.ok_or_else(stopping)??;
        let number = key.number;
        let install = Request::Member(MemberRequest::InstallKey(key));
        match caller.request(install).await.ok_or_else(stopping)? {
            Reply::Done { .. } => return Ok(ControlResponse::Done),
            Reply::Refused(refusal) if refusal.is_passing() => {
                if refusal == Refusal::OutcomeUnknown {
                    doubtful = Some(number);
                }
                last = refusal;
            }
            Reply::Refused(refusal) => return Err(refusal.to_string()),
        }
        tokio::time::sleep(ROTATE_AGAIN).await;
    }
    Err(last.to_string())
}

/// Between two looks whether the group has let this board go.
const GO: Duration = Duration::from_secs(1);

/// The group's answer may be the first thing that a board out of it no longer hears:
/// then it asks, and is told that it is none of them.
async fn leave(caller: &Caller, home: &Home) -> Result<ControlResponse, String> {
    let mut tries = 0;
    loop {
        let go = Request::Member(MemberRequest::Remove(home.identity.node));
        let left = caller.request(go).await;
        let status = caller.status().await;
        let is_out = status.is_none_or(|status| status.removed);
        match left {
            Some(Reply::Done { .. }) => return forget(caller).await,
            _ if is_out => return forget(caller).await,
            Some(Reply::Refused(Refusal::OutcomeUnknown)) if tries == 0 => tries += 1,
            Some(Reply::Refused(refusal)) => return Err(refusal.to_string()),
            None => return Err(stopping()),
        }
        tokio::time::sleep(GO).await;
    }
}

async fn forget(caller: &Caller) -> Result<ControlResponse, String> {
    let forgotten = caller.forget().await;
    forgotten.ok_or_else(stopping)?;
    Ok(ControlResponse::Done)
}

/// Rounds of probes, of a small and a large one each, and small ones that tell of the last.
const ROUNDS: usize = 20;
const LAST: usize = 5;

/// Sessions come about before the first, and answers after the last, within this.
const SETTLE: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(3);

/// Between two rounds, at the least and for each other board: no network is to be filled.
const ROUND: Duration = Duration::from_millis(50);
const ROUND_EACH: Duration = Duration::from_millis(10);

/// Looks whether datagrams get to the other boards, and back.
async fn probe(caller: &Caller) -> Result<Vec<ProbedBoard>, String> {
    let take = async |step| caller.probe(step).await.ok_or_else(stopping)?;
    let peers = u32::try_from(take(Step::Begin).await?.len()).unwrap_or(u32::MAX);
    let pause = ROUND.max(ROUND_EACH.saturating_mul(peers));
    tokio::time::sleep(SETTLE).await;
    for step in [[Step::Both].repeat(ROUNDS), [Step::Small].repeat(LAST)].concat() {
        take(step).await?;
        tokio::time::sleep(pause).await;
    }
    let is_back = |it: &Probed| it.small.back == it.small.sent && it.large.back == it.large.sent;
    for _ in 0..LATE.as_millis() / pause.as_millis() {
        if take(Step::Look).await?.values().all(is_back) {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    let probed = take(Step::End).await?;
    let status = caller.status().await.ok_or_else(stopping)?;
    let board = |(id, probed)| {
        let member = status.members.iter().find(|member| member.id == id)?;
        let heard = (!member.unknown).then_some(member.reachable);
        Some(ProbedBoard { board: member.name.clone(), heard, probed })
    };
    Ok(probed.into_iter().filter_map(board).collect())
}

fn id_of(status: &Status, board: &str) -> Result<u64, String> {
    let member = status.members.iter().find(|member| member.name == board);
    let names = || status.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>();
    let unknown = || format!("no board is named {board}; there are: {}", names().join(", "));
    member.map(|member| member.id).ok_or_else(unknown)
}

/// The number of the row that was put, which is the scrub's.
fn scrub_number(answer: &[u8]) -> Result<u64, String> {
    let response: SqlResponse = sql::decode(answer).map_err(|error| error.to_string())?;
    match response.results.last().map(|result| &result.outcome) {
        Some(StatementOutcome::Changed { last_insert_id, .. }) => {
            Ok(last_insert_id.cast_unsigned())
        }
        Some(StatementOutcome::Error(reason)) => Err(reason.clone()),
        Some(StatementOutcome::Rows { .. }) | None => {
            Err(response.error.unwrap_or_else(|| String::from("the scrub was not begun")))
        }
    }
}

/// The loop has ended, and answers nobody.
fn stopping() -> String {
    String::from("the agent is stopping")
}

async fn done(caller: &Caller, request: Request) -> Result<Vec<u8>, String> {
    match caller.request(request).await {
        Some(Reply::Done { answer, .. }) => Ok(answer),
        Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
        None => Err(stopping()),
    }
}
