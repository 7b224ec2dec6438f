//! A board without a group: it answers the command line and HTTP, feeds the
//! watchdog, and ends when it has founded a group or joined one.
//!
//! Nothing here holds the doors up: a join, which may take its 20 s, runs beside
//! them. A board asks to be admitted under a key it has written down before, so
//! that asking again, by this process or the next, makes no second member.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use understudy_core::{
    error::Refusal,
    event::{Millis, NodeId, Reply, Request},
    member::{Member, check_name},
};

use crate::{
    address::Mailbox,
    call::{Call, Followed, KeysNow},
    clock::BoardClock,
    config::RunOptions,
    control::{ControlRequest, ControlResponse},
    driver::{
        clock, control::Wish, mdns::Neighbours, mqtt::Brokers, notify::Notify, random::random,
        road::Road,
    },
    identity::{GroupKey, Identity},
    join::{self, Joined},
    keepers::KeeperCall,
    seal::{Keys, public_key},
    status::Status,
    storage::Storage,
    store::{
        journal::{Journal, Persist},
        restore,
    },
    token::{Token, host_name, own_addresses},
};

/// The id of the board that makes a group.
pub const FOUNDER: NodeId = 1;

/// Between two looks at the watchdog.
const PULSE: Duration = Duration::from_secs(1);

const NO_GROUP: &str = "this board belongs to no group yet: run `understudy init` on the first \
                        board, `understudy join TOKEN` on every other";

/// Where people and programs come in, from the start of the agent to its end.
pub struct Doors {
    /// From the control socket.
    pub wishes: mpsc::Receiver<Wish>,
    /// From HTTP.
    pub calls: mpsc::Receiver<Call>,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// systemd.
    pub notify: Notify,
    /// What stamps readings.
    pub clock: BoardClock,
}

/// Waits until this board belongs to a group.
///
/// # Errors
/// When the control socket is gone.
pub async fn wait(
    options: &RunOptions,
    journal: &mut Journal,
    road: &mut Road,
    doors: &mut Doors,
) -> Result<Identity, String> {
    let mut waiting =
        Waiting { options, doors, bound: road.address(), started: clock::now(), joins: None };
    loop {
        let wanted = waiting.next().await;
        let (wanted, reply) = wanted.ok_or_else(|| String::from("the control socket is gone"))?;
        let response = match wanted {
            Wanted::Found { group, name } => waiting.found(journal, group, name),
            Wanted::Join { token, replaces, name, witness } => {
                waiting.join(journal, road, &token, (replaces, name, witness)).await
            }
        };
        // A command line that went away needs no answer.
        let _ = reply.send(response.unwrap_or_else(ControlResponse::Refused));
        if let Some(identity) = journal.identity() {
            return Ok(identity.clone());
        }
    }
}

/// What ends the waiting.
enum Wanted {
    Found { group: String, name: Option<String> },
    Join { token: String, replaces: Option<String>, name: Option<String>, witness: bool },
}

struct Waiting<'a> {
    options: &'a RunOptions,
    doors: &'a mut Doors,
    /// Where datagrams come in.
    bound: SocketAddr,
    started: Millis,
    /// The group this board asks to be let in to.
    joins: Option<String>,
}

impl Waiting<'_> {
    /// Answers everybody until somebody wants the waiting to end.
    async fn next(&mut self) -> Option<(Wanted, oneshot::Sender<ControlResponse>)> {
        loop {
            self.doors.notify.alive(clock::now(), |_| None);
            let (request, reply) = tokio::select! {
                () = tokio::time::sleep(PULSE) => continue,
                Some(call) = self.doors.calls.recv() => {
                    self.take_call(call);
                    continue;
                }
                wish = self.doors.wishes.recv() => wish?,
            };
            let response = match (request, &self.joins) {
                (ControlRequest::Status, _) => ControlResponse::Status(Box::new(self.status())),
                (ControlRequest::Init { .. } | ControlRequest::Join { .. }, Some(group)) => {
                    ControlResponse::Refused(format!(
                        "this board is asking the group {group} to let it in"
                    ))
                }
                (ControlRequest::Clock { confirm }, _) => {
                    let told = self.doors.clock.answer(confirm);
                    told.map_or_else(ControlResponse::Refused, ControlResponse::Clock)
                }
                (ControlRequest::Init { group, name }, None) => {
                    return Some((Wanted::Found { group, name }, reply));
                }
                (ControlRequest::Join { token, replaces, name, witness }, None) => {
                    return Some((Wanted::Join { token, replaces, name, witness }, reply));
                }
                (
                    ControlRequest::Sql { .. }
                    | ControlRequest::Left { .. }
                    | ControlRequest::Rename { .. }
                    | ControlRequest::Token { .. }
                    | ControlRequest::RevokeTokens
                    | ControlRequest::RotateKey
                    | ControlRequest::Remove { .. }
                    | ControlRequest::Transfer { .. }
                    | ControlRequest::Vote { .. }
                    | ControlRequest::Leave
                    | ControlRequest::Reset
                    | ControlRequest::Scrub
                    | ControlRequest::Probe
                    | ControlRequest::Repair { .. },
                    _,
                ) => ControlResponse::Refused(NO_GROUP.to_owned()),
            };
            // A command line that went away needs no answer.
            let _ = reply.send(response);
        }
    }

    fn take_call(&self, call: Call) {
        // A caller that went away needs no answer.
        match call {
            Call::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Call::Request(Request::Readings(_), reply) => {
                let _ = reply.send(Reply::Refused(Refusal::Invalid(NO_GROUP.to_owned())));
            }
            Call::Request(_, reply) => {
                let _ = reply.send(Reply::Refused(Refusal::NoLeader));
            }
            Call::Backup(_, reply) => {
                let _ = reply.send(Err(String::from(NO_GROUP)));
            }
            Call::Hosts(reply) => {
                let _ = reply.send(Vec::new());
            }
            Call::Keys(reply) => {
                let _ = reply.send(KeysNow::default());
            }
            Call::NewKey(reply) => {
                let _ = reply.send(Err(String::from(NO_GROUP)));
            }
            Call::Follow(_, reply) => {
                let _ = reply.send(Followed::Busy);
            }
            Call::Probe(_, reply) => {
                let _ = reply.send(Err(String::from(NO_GROUP)));
            }
            Call::Listen(reply) => {
                let _ = reply.send(Err(String::from(NO_GROUP)));
            }
            Call::Keeper(KeeperCall::Came { reply, .. }) => {
                let _ = reply.send(Err(String::from(NO_GROUP)));
            }
            Call::Checked(_) | Call::Keeper(KeeperCall::Said(..) | KeeperCall::Left(_)) => {}
            Call::Forget(reply) => {
                let _ = reply.send(());
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            role: String::from("waiting"),
            http: Some(self.doors.http.to_string()),
            http_open: self.options.http_open,
            udp: self.bound.to_string(),
            agent_pid: std::process::id(),
            parent_pid: self.options.parent,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: clock::now().since(self.started),
            directory: self.options.directory.display().to_string(),
            forgets: Storage::of(Path::new("/"), &self.options.directory)
                .and_then(|storage| storage.forgets),
            ..Status::default()
        }
    }

    /// What was said with the command counts more than what the agent was
    /// started with, that more than the machine's own name.
    fn name(&self, given: Option<String>) -> Result<String, String> {
        let name = given.or_else(|| self.options.name.clone()).or_else(host_name);
        let name = name.ok_or_else(|| {
            String::from("this machine has no host name: give the board one with --name NAME")
        })?;
        check_name("board", &name).map_err(|refusal| format!("{name:?}: {refusal}"))?;
        Ok(name)
    }

    fn found(
        &self,
        journal: &mut Journal,
        group_name: String,
        name: Option<String>,
    ) -> Result<ControlResponse, String> {
        check_name("group", &group_name).map_err(|refusal| format!("{group_name:?}: {refusal}"))?;
        let name = self.name(name)?;
        let identity = Identity {
            group: random()?,
            group_name,
            group_keys: vec![GroupKey { number: 0, key: random()? }],
            node: FOUNDER,
            private_key: random()?,
            disk: random()?,
            acquaintances: Vec::new(),
        };
        let founder = Member {
            id: FOUNDER,
            name,
            key: public_key(&identity.private_key),
            addresses: own_addresses(self.options, self.bound),
            voter: true,
        };
        journal.set_witness(false).map_err(|error| error.to_string())?;
        restore::found(journal, &identity, founder).map_err(|error| error.to_string())?;
        info!(group = identity.group_name, "a new group");
        Ok(ControlResponse::Done)
    }

    async fn join(
        &mut self,
        journal: &mut Journal,
        road: &mut Road,
        token: &str,
        (replaces, name, witness): (Option<String>, Option<String>, bool),
    ) -> Result<ControlResponse, String> {
        let token = Token::decode(token)?;
        let name = self.name(name.or_else(|| replaces.clone()))?;
        let private_key =
            journal.candidate_key(token.group, random()?).map_err(|error| error.to_string())?;
        let addresses = own_addresses(self.options, self.bound);
        let replaces = replaces.unwrap_or_default();
        let wish = join::Wish { name, addresses, replaces, witness };
        let seeds = join::Seeds { boot: journal.boot(), salt: random()? };
        let group_key = token.group_keys.last().copied();
        let group_key = group_key.ok_or_else(|| String::from("the token has no key"))?;
        let keys = Keys::of_one(token.group, group_key, private_key);
        let neighbours = neighbours(self.options, &keys);
        road.attach(Brokers::open(
            self.options.posts(),
            keys.tag(),
            Mailbox::of(&public_key(&private_key)),
        ));
        let joining = join::join(&token, &wish, keys, (road, neighbours), seeds);
        tokio::pin!(joining);
        self.joins = Some(token.group_name.clone());
        let joined = loop {
            tokio::select! {
                joined = &mut joining => break joined,
                // Others are answered; who wants to found or join is refused.
                wanted = self.next() => {
                    let gone = || String::from("the control socket is gone");
                    wanted.map(drop).ok_or_else(gone)?;
                }
            }
        };
        self.joins = None;
        let Joined { member, members } = joined.map_err(|error| error.to_string())?;
        let response = ControlResponse::Joined {
            group: token.group_name.clone(),
            name: member.name.clone(),
            wished: wish.name.clone(),
            members: members.len(),
            witness,
        };
        let identity = Identity {
            group: token.group,
            group_name: token.group_name.clone(),
            group_keys: token.group_keys.clone(),
            node: member.id,
            private_key,
            disk: random()?,
            acquaintances: members,
        };
        journal.set_witness(witness).map_err(|error| error.to_string())?;
        journal.found(&identity, &Persist::default()).map_err(|error| error.to_string())?;
        info!(group = identity.group_name, board = member.name, "joined");
        Ok(response)
    }
}

/// Boards of the group of `keys` on this network, where it may be asked.
fn neighbours(options: &RunOptions, keys: &Keys) -> Option<Neighbours> {
    if !options.looks_for_boards() {
        return None;
    }
    let found = Neighbours::of(keys.tag());
    found.inspect_err(|reason| warn!(reason, "boards on this network are not looked for")).ok()
}
