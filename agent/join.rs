//! How a board becomes a member: the conversation between a guest that holds a
//! token and the board that issued it.
//!
//! The guest calls the issuer at every address of the token at once, under the
//! group's key, and asks to be admitted; the issuer has the group admit its key
//! by a replicated change and answers with the member it became, and with the
//! members it must know, a few at a time. Asking again is harmless: the same key
//! gets the same member.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use understudy_core::{
    event::{NodeId, Reply, Request},
    limits::PAYLOAD_BYTES_MAX,
    member::{Candidate, Member, Membership, PublicKey},
    sql,
};

use crate::{
    driver::{clock, udp::Road},
    seal::{Keys, Opened, Outgoing, Seal, To},
    token::Token,
};

/// Version of this conversation.
const VERSION: u8 = 1;

/// A join ends within this, milliseconds.
const JOIN_MS_MAX: u64 = 20_000;

/// Between two questions.
const ASK_MS: u64 = 300;

/// Members told of at a time; each is cut to what must be known at first.
const MEMBERS_TOLD: usize = 5;

/// Addresses told of per member.
const ADDRESSES_TOLD: usize = 2;

/// Guests whose admission is under way.
const ADMISSIONS_MAX: usize = 4;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// The guest asks to be admitted, and for members from this id on.
    Ask { version: u8, candidate: Candidate, from: NodeId },
    /// It is a member now. `next` is where to ask on, 0 when this was all.
    Accepted { member: Member, members: Vec<Member>, next: NodeId },
    /// It is not, for this reason.
    Refused { reason: String },
}

/// The issuer's side: guests at the door.
#[derive(Default)]
pub struct Doorstep {
    waiting: BTreeMap<PublicKey, NodeId>,
}

/// A guest whose admission is under way.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    key: PublicKey,
    /// Where to answer.
    pub address: SocketAddr,
}

/// What the loop does about a guest's word.
pub enum Knock {
    /// Have the group admit it.
    Admit(Admission, Request),
    /// Tell it this.
    Answer(Vec<u8>),
    /// Nothing.
    Ignore,
}

impl Doorstep {
    /// A guest's payload arrives.
    pub fn knocked(&mut self, key: PublicKey, address: SocketAddr, payload: &[u8]) -> Knock {
        let Ok(Word::Ask { version, candidate, from }) = sql::decode(payload) else {
            return Knock::Ignore;
        };
        if version != VERSION {
            let reason = String::from("it speaks another version of understudy");
            return Knock::Answer(sql::encode(&Word::Refused { reason }));
        }
        if candidate.key != key || self.waiting.len() >= ADMISSIONS_MAX {
            return Knock::Ignore;
        }
        if self.waiting.insert(key, from).is_some() {
            return Knock::Ignore;
        }
        Knock::Admit(Admission { key, address }, Request::Admit(candidate))
    }

    /// The group has decided about a guest: what to tell it.
    pub fn decided(
        &mut self,
        admission: Admission,
        reply: &Reply,
        membership: &Membership,
    ) -> Vec<u8> {
        let from = self.waiting.remove(&admission.key).unwrap_or(0);
        let word = match reply {
            Reply::Refused(refusal) => Word::Refused { reason: refusal.to_string() },
            Reply::Done { answer, .. } => match sql::decode(answer) {
                Ok(member) => accepted(member, membership, from),
                Err(_) => {
                    Word::Refused { reason: String::from("the group's answer is unreadable") }
                }
            },
        };
        sql::encode(&word)
    }
}

impl Admission {
    /// The guest's key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
}

fn accepted(member: Member, membership: &Membership, from: NodeId) -> Word {
    let mut rest = membership.members.iter().filter(|member| member.id >= from).map(briefly);
    let mut members: Vec<Member> = rest.by_ref().take(MEMBERS_TOLD).collect();
    let mut next = rest.next().map_or(0, |member| member.id);
    loop {
        let member = briefly(&member);
        let word = Word::Accepted { member, members: members.clone(), next };
        if sql::encode(&word).len() <= PAYLOAD_BYTES_MAX {
            return word;
        }
        next = members.pop().map_or(0, |member| member.id);
    }
}

fn briefly(member: &Member) -> Member {
    let addresses = member.addresses.iter().take(ADDRESSES_TOLD).cloned().collect();
    Member { addresses, ..member.clone() }
}

/// What a joining board wishes for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its name, if it is free.
    pub name: String,
    /// Where it can be reached.
    pub addresses: Vec<String>,
}

/// What it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Itself.
    pub member: Member,
    /// The members it was told of.
    pub members: Vec<Member>,
}

/// Why a board did not become a member: per address, what happened.
#[derive(Debug)]
pub struct JoinError {
    refused: Option<String>,
    tried: Vec<(String, String)>,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.refused {
            return write!(f, "the group refused: {reason}");
        }
        writeln!(f, "no board of the group answered within {} s:", JOIN_MS_MAX / 1_000)?;
        for (address, what) in &self.tried {
            writeln!(f, "  {address}: {what}")?;
        }
        write!(
            f,
            "Is the board that made the token running (`understudy status` there)? Does a \
             firewall let UDP pass?\nIs the token of this group, and was it made by a board that \
             still exists?"
        )
    }
}

/// Asks until the group has decided.
///
/// # Errors
/// [`JoinError`] after [`JOIN_MS_MAX`], or at once when refused.
pub async fn join(
    token: &Token,
    wish: &Wish,
    private_key: [u8; 32],
    road: &mut Road,
) -> Result<Joined, JoinError> {
    let keys = Keys { group: token.group, group_key: token.group_key, private_key };
    let salt =
        u32::from_le_bytes([private_key[0], private_key[9], private_key[18], private_key[27]]);
    let mut asking = Asking {
        seal: Seal::new(keys, salt),
        token,
        wish,
        addresses: Vec::new(),
        tried: Vec::new(),
        answered: None,
        members: Vec::new(),
        from: 0,
    };
    let start = clock::now();
    let mut datagram = vec![0; 2 * understudy_core::limits::DATAGRAM_BYTES_MAX];
    while clock::now().since(start) < JOIN_MS_MAX {
        asking.resolve().await;
        asking.ask(road);
        let pause = tokio::time::sleep(Duration::from_millis(ASK_MS));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                received = road.receive(&mut datagram) => {
                    let Some((bytes, source)) = received else { continue };
                    match asking.hear(&datagram[..bytes], source, road) {
                        Heard::Nothing => {}
                        Heard::More => break,
                        Heard::Joined(joined) => return Ok(joined),
                        Heard::Refused(reason) => {
                            return Err(JoinError { refused: Some(reason), tried: asking.tried });
                        }
                    }
                }
            }
        }
    }
    Err(asking.given_up())
}

struct Asking<'a> {
    seal: Seal,
    token: &'a Token,
    wish: &'a Wish,
    addresses: Vec<SocketAddr>,
    tried: Vec<(String, String)>,
    /// The address that answered.
    answered: Option<SocketAddr>,
    members: Vec<Member>,
    from: NodeId,
}

enum Heard {
    Nothing,
    /// Ask for the next members at once.
    More,
    Joined(Joined),
    Refused(String),
}

impl Asking<'_> {
    /// Names may get other addresses while a network comes up.
    async fn resolve(&mut self) {
        self.addresses.clear();
        self.tried.clear();
        for address in &self.token.addresses {
            let lookup = tokio::net::lookup_host(address.as_str());
            let found = tokio::time::timeout(Duration::from_secs(2), lookup).await;
            let what = match found {
                Ok(Ok(found)) => {
                    self.addresses.extend(found);
                    "no answer"
                }
                Ok(Err(_)) | Err(_) => "the name is not known here",
            };
            self.tried.push((address.clone(), what.to_owned()));
        }
        self.addresses.sort_unstable();
        self.addresses.dedup();
    }

    fn ask(&mut self, road: &mut Road) {
        let candidate = Candidate {
            name: self.wish.name.clone(),
            key: self.seal.public_key(),
            addresses: self.wish.addresses.clone(),
        };
        let word = Word::Ask { version: VERSION, candidate, from: self.from };
        let addresses = match self.answered {
            Some(address) => vec![address],
            None => self.addresses.clone(),
        };
        let Some(first) = addresses.first() else { return };
        let mut out = Vec::new();
        let payload = sql::encode(&word);
        let to = To::Address(*first);
        self.seal.seal_for(clock::now(), self.token.issuer, to, &payload, &mut out);
        for outgoing in out {
            for address in &addresses {
                road.send_to(*address, &outgoing.datagram);
            }
        }
    }

    fn hear(&mut self, datagram: &[u8], source: SocketAddr, road: &mut Road) -> Heard {
        let mut out = Vec::new();
        let opened = self.seal.open(clock::now(), datagram, source, &mut out);
        for Outgoing { datagram, .. } in out {
            self.answered = Some(source);
            road.send_to(source, &datagram);
        }
        let Opened::Guest { payload, .. } = opened else { return Heard::Nothing };
        self.answered = Some(source);
        match sql::decode(&payload) {
            Ok(Word::Accepted { member, members, next }) => {
                self.members.extend(members);
                if next != 0 {
                    self.from = next;
                    return Heard::More;
                }
                let members = std::mem::take(&mut self.members);
                Heard::Joined(Joined { member, members })
            }
            Ok(Word::Refused { reason }) => Heard::Refused(reason),
            Ok(Word::Ask { .. }) | Err(_) => Heard::Nothing,
        }
    }

    fn given_up(mut self) -> JoinError {
        if let Some(address) = self.answered {
            let what = "it answered, but the group did not decide: has it a majority running?";
            self.tried = vec![(address.to_string(), what.to_owned())];
        }
        JoinError { refused: None, tried: self.tried }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::error::Refusal;

    use super::*;
    use crate::seal::public_key;

    fn member(id: NodeId) -> Member {
        Member {
            id,
            name: format!("a-board-with-a-rather-long-name-{id}"),
            key: [9; 32],
            addresses: vec!["192.0.2.200:4002".into(); 12],
            voter: true,
        }
    }

    /// An issuer of a group of `members`, answering on `road` for ever.
    async fn issue(mut road: Road, keys: Keys, members: u64, refusal: Option<Refusal>) {
        let mut seal = Seal::new(keys, 1);
        let mut doorstep = Doorstep::default();
        let members: Vec<_> = (1..=members).map(member).collect();
        let membership = Membership { last_id: members.len() as u64, members };
        let mut datagram = [0; 2_048];
        loop {
            let Some((bytes, source)) = road.receive(&mut datagram).await else { continue };
            let now = clock::now();
            let mut out = Vec::new();
            let opened = seal.open(now, &datagram[..bytes], source, &mut out);
            if let Opened::Guest { key, payload } = opened
                && let Knock::Admit(admission, Request::Admit(candidate)) =
                    doorstep.knocked(key, source, &payload)
            {
                let answer = sql::encode(&membership.admit(&candidate));
                let reply = match &refusal {
                    Some(refusal) => Reply::Refused(refusal.clone()),
                    None => Reply::Done { index: 1, answer },
                };
                let answer = doorstep.decided(admission, &reply, &membership);
                seal.seal_for(now, key, To::Address(source), &answer, &mut out);
            }
            for outgoing in out {
                road.send_to(source, &outgoing.datagram);
            }
        }
    }

    fn join_one(
        members: u64,
        refusal: Option<Refusal>,
        group_key: [u8; 32],
    ) -> Result<Joined, JoinError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let road = Road::bind(loopback).unwrap();
            let token = Token {
                group: [1; 16],
                group_name: "g".into(),
                group_key,
                issuer: public_key(&[5; 32]),
                addresses: vec!["no-such-host.invalid:4002".into(), road.address().to_string()],
            };
            let keys = Keys { group: [1; 16], group_key: [2; 32], private_key: [5; 32] };
            let issuer = tokio::spawn(issue(road, keys, members, refusal));
            let mut road = Road::bind(loopback).unwrap();
            let wish = Wish { name: "new".into(), addresses: vec!["192.0.2.1:4002".into()] };
            let joined = join(&token, &wish, [6; 32], &mut road).await;
            issuer.abort();
            joined
        })
    }

    #[test]
    fn a_guest_becomes_a_member_and_is_told_of_all_others() {
        let joined = join_one(12, None, [2; 32]).unwrap();
        assert_eq!((joined.member.id, joined.member.name.as_str()), (13, "new"));
        assert_eq!(joined.member.key, public_key(&[6; 32]));
        let ids: Vec<_> = joined.members.iter().map(|member| member.id).collect();
        assert_eq!(ids, (1..=12).collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_is_told_at_once() {
        let error = join_one(1, Some(Refusal::Invalid("the group is full".into())), [2; 32]);
        assert!(error.unwrap_err().to_string().contains("the group is full"));
    }
}
