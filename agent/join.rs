//! How a board becomes a member: the conversation between a guest that holds a
//! token and the board that issued it.
//!
//! The guest calls the boards that the token names at all their addresses at once,
//! under the group's key, and asks to be admitted, showing the token's invitation; the
//! first that answers has the group admit its key by a replicated change and answers with the member it became, and with the
//! members it must know, a few at a time. Asking again is harmless: the same key
//! gets the same member, and once it is one any member needs nobody's consent to
//! say so again.
//!
//! Where those addresses stay silent, this network is asked for boards of the group, if
//! it may be, and the boards of the token are called wherever one is found.
//!
//! A member that hears nobody may have been taken out meanwhile: see the seal's `gone`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use understudy_core::{
    error::Refusal,
    event::{NodeId, Reply, Request},
    limits::{MEMBERS_MAX, PAYLOAD_BYTES_MAX},
    member::{Candidate, InvitationId, Member, MemberRequest, Membership, PublicKey},
    sql, versions,
};

use crate::{
    address::{Address, Mailbox},
    driver::{
        clock,
        mdns::{Neighbours, seen},
        road::Road,
    },
    seal::{Keys, Opened, Outgoing, Seal},
    survey::{Place, Sight, Survey},
    token::Token,
};

/// Version of this conversation: it says which version of the group's the guest knows, which
/// a group that goes by more lets nobody in without.
const VERSION: u8 = conversation(versions::VERSION);

/// What a board of the first version answers to any but its own, and that version.
const OTHER_VERSION: &str = "it speaks another version of understudy";
const VERSION_FIRST: u8 = conversation(versions::VERSION_FIRST);

/// How a guest speaks that knows a version.
const fn conversation(version: u32) -> u8 {
    assert!(version < 0xff, "a byte holds it");
    version.to_le_bytes()[0] + 1
}

/// Which version a guest knows that speaks so.
fn version_of(conversation: u8) -> u32 {
    u32::from(conversation).saturating_sub(1)
}

/// A join ends within this: 20 s with what the command line needs for itself.
const JOIN: Duration = Duration::from_secs(19);
const _: () = assert!(JOIN.as_secs() < 20);

/// Between two questions.
const ASK_MS: u64 = 300;

/// Questions to one board that go unanswered before all are asked again.
const UNHEARD_MAX: u32 = 10;

/// So many before this network is asked, and so many more before it counts as asked.
const UNHEARD_LOOK: u32 = 2;
const LOOK_MAX: u32 = 10;

/// Addresses called of a board that is found on this network.
const FOUND_MAX: usize = 4;

/// Members told of at a time; each is cut to what must be known at first.
const MEMBERS_TOLD: usize = 5;

/// Addresses told of per member.
const ADDRESSES_TOLD: usize = 2;

/// Guests whose admission is under way.
const ADMISSIONS_MAX: usize = 4;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    /// The guest asks to be admitted, and for members from this id on.
    Ask(Ask),
    /// It is a member now. `next` is where to ask on, 0 when this was all.
    Accepted { member: Member, members: Vec<Member>, next: NodeId },
    /// It is not, for this reason.
    Refused { reason: String, attempt: u64 },
    /// As [`Word::Ask`], to be admitted as a witness.
    Witness(Ask),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ask {
    version: u8,
    candidate: Candidate,
    from: NodeId,
    invitation: InvitationId,
    replaces: String,
    /// Names this joining: what an earlier one was refused for is not its answer.
    attempt: u64,
}

/// The issuer's side: guests at the door.
#[derive(Default)]
pub struct Doorstep {
    /// From which member on each asks, and in which attempt.
    waiting: BTreeMap<PublicKey, (NodeId, u64)>,
}

/// A guest whose admission is under way.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    key: PublicKey,
    /// Where to answer.
    pub address: Address,
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
    /// A guest's payload arrives. Who is a member already is told so even where
    /// the group cannot decide anything: it may be the one that is missing.
    pub fn knocked(
        &mut self,
        key: PublicKey,
        address: Address,
        payload: &[u8],
        (membership, group_version): (&Membership, u32),
    ) -> Knock {
        let (ask, as_witness) = match sql::decode(payload) {
            Ok(Word::Ask(ask)) => (ask, false),
            Ok(Word::Witness(ask)) => (ask, true),
            Ok(Word::Accepted { .. } | Word::Refused { .. }) | Err(_) => return Knock::Ignore,
        };
        let Ask { version, candidate, from, invitation, replaces, attempt } = ask;
        if version < conversation(group_version) {
            let reason = versions::too_old(group_version);
            return Knock::Answer(sql::encode(&Word::Refused { reason, attempt }));
        }
        if candidate.key != key {
            return Knock::Ignore;
        }
        let is_so = |id| membership.is_witness(id) == as_witness;
        let known = membership.members.iter().find(|member| member.key == key);
        if let Some(member) = known.filter(|member| is_so(member.id)) {
            return Knock::Answer(sql::encode(&accepted(member, membership, from)));
        }
        if self.waiting.len() >= ADMISSIONS_MAX {
            return Knock::Ignore;
        }
        if self.waiting.insert(key, (from, attempt)).is_some() {
            return Knock::Ignore;
        }
        // A leader of the first release does not know the first of these.
        let join = if group_version > versions::VERSION_FIRST {
            let (version, witness) = (version_of(version), as_witness);
            MemberRequest::Newcomer { version, candidate, invitation, replaces, witness }
        } else if as_witness {
            MemberRequest::Witness { candidate, invitation, replaces }
        } else {
            MemberRequest::Join { candidate, invitation, replaces }
        };
        Knock::Admit(Admission { key, address }, Request::Member(join))
    }

    /// The group has decided about a guest: what to tell it. Nothing where it
    /// could not decide: the guest asks again.
    pub fn decided(
        &mut self,
        admission: Admission,
        reply: &Reply,
        membership: &Membership,
    ) -> Option<Vec<u8>> {
        let (from, attempt) = self.waiting.remove(&admission.key).unwrap_or_default();
        let word = match reply {
            Reply::Refused(refusal) if refusal.is_passing() => return None,
            // It speaks for no group any more.
            Reply::Refused(Refusal::TakesNoPart) => return None,
            Reply::Refused(refusal) => Word::Refused { reason: refusal.to_string(), attempt },
            Reply::Done { answer, .. } => match sql::decode(answer) {
                Ok(member) => accepted(&member, membership, from),
                Err(_) => {
                    let reason = String::from("the group's answer is unreadable");
                    Word::Refused { reason, attempt }
                }
            },
        };
        Some(sql::encode(&word))
    }
}

impl Admission {
    /// The guest's key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }
}

fn accepted(member: &Member, membership: &Membership, from: NodeId) -> Word {
    let mut rest = membership.members.iter().filter(|member| member.id >= from).map(briefly);
    let mut members: Vec<Member> = rest.by_ref().take(MEMBERS_TOLD).collect();
    let mut next = rest.next().map_or(0, |member| member.id);
    loop {
        let member = briefly(member);
        let word = Word::Accepted { member, members: members.clone(), next };
        if sql::encode(&word).len() <= PAYLOAD_BYTES_MAX {
            return word;
        }
        next = members.pop().map_or(0, |member| member.id);
    }
}

/// The question, with as many addresses as it has room for: once it is a member
/// the board tells the group all of them.
fn asked(
    wish: &Wish,
    key: PublicKey,
    (invitation, attempt): (InvitationId, u64),
    (from, version): (NodeId, u8),
) -> Vec<u8> {
    let Wish { name, addresses, replaces, witness } = wish.clone();
    let candidate = Candidate { name, key, addresses };
    let mut ask = Ask { version, candidate, from, invitation, replaces, attempt };
    loop {
        let asked = ask.clone();
        let word = sql::encode(&if witness { Word::Witness(asked) } else { Word::Ask(asked) });
        if word.len() <= PAYLOAD_BYTES_MAX || ask.candidate.addresses.pop().is_none() {
            return word;
        }
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
    /// The member whose place it takes, by name; empty for none.
    pub replaces: String,
    /// It keeps none of the users' rows.
    pub witness: bool,
}

/// What makes one joining differ from all others.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Counts the starts of this board's disk.
    pub boot: u64,
    /// Bytes nobody can foresee.
    pub salt: [u8; 8],
}

/// What it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Itself.
    pub member: Member,
    /// The members it was told of.
    pub members: Vec<Member>,
}

/// Why a board did not become a member.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The group's word.
    Refused(String),
    /// Nobody let it in: per address, what happened.
    Unanswered(Vec<(String, String)>),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = match self {
            Self::Refused(reason) => return write!(f, "the group refused: {reason}"),
            Self::Unanswered(tried) => tried,
        };
        writeln!(f, "no board of the group let this one in:")?;
        for (address, what) in tried {
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
/// [`JoinError`] after [`JOIN`], or at once when refused, or when every address
/// of the token is another group's and no board is found on this network, or the
/// group's key was changed since.
pub async fn join(
    token: &Token,
    wish: &Wish,
    keys: Keys,
    (road, neighbours): (&mut Road, Option<Neighbours>),
    seeds: Seeds,
) -> Result<Joined, JoinError> {
    let survey = Survey::new(&token.addresses(), &keys, seeds.salt);
    let [a, b, c, d, ..] = seeds.salt;
    let mut asking = Asking {
        seal: Seal::new(keys, seeds.boot, u32::from_le_bytes([a, b, c, d])),
        token,
        wish,
        survey,
        neighbours,
        posts: road.posts(),
        found: BTreeMap::new(),
        attempt: u64::from_le_bytes(seeds.salt),
        version: VERSION,
        answered: None,
        unheard: 0,
        members: Vec::new(),
        from: 0,
    };
    match tokio::time::timeout(JOIN, asking.converse(road)).await {
        Ok(Ok(joined)) => Ok(joined),
        Ok(Err(Some(reason))) => Err(JoinError::Refused(reason)),
        Ok(Err(None)) | Err(_) => Err(asking.given_up()),
    }
}

struct Asking<'a> {
    seal: Seal,
    token: &'a Token,
    wish: &'a Wish,
    survey: Survey,
    /// Where this network may be asked.
    neighbours: Option<Neighbours>,
    /// There are brokers to post to.
    posts: bool,
    /// Boards of the group found there.
    found: BTreeMap<NodeId, Vec<SocketAddr>>,
    attempt: u64,
    /// How it speaks.
    version: u8,
    /// Who answered, and from where.
    answered: Option<(PublicKey, Address)>,
    /// Questions since it last said something.
    unheard: u32,
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
    /// Ends with the group's decision; with no reason when nobody is there who
    /// could decide.
    async fn converse(&mut self, road: &mut Road) -> Result<Joined, Option<String>> {
        let mut datagram = vec![0; 2 * understudy_core::limits::DATAGRAM_BYTES_MAX];
        while !self.is_hopeless() {
            self.ask(road);
            let pause = tokio::time::sleep(Duration::from_millis(ASK_MS));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = self.survey.watch() => {}
                    (board, addresses) = seen(&mut self.neighbours) => {
                        self.found(board, addresses);
                    }
                    received = road.receive(&mut datagram) => {
                        let Some((bytes, source)) = received else { continue };
                        match self.hear(&datagram[..bytes], source, road) {
                            Heard::Nothing => {}
                            Heard::More => break,
                            Heard::Joined(joined) => return Ok(joined),
                            Heard::Refused(reason) => return Err(Some(reason)),
                        }
                    }
                }
            }
        }
        Err(None)
    }

    /// At every address of the token is another group's board, and this network knows of
    /// none; or one that hears nobody under the token's key any more.
    fn is_hopeless(&self) -> bool {
        let sees = |sight: Sight| self.survey.places().iter().any(|place| place.sight == sight);
        let in_vain = |place: &Place| matches!(place.sight, Sight::Foreign | Sight::Rekeyed);
        let asked = self.neighbours.is_none() || self.unheard >= UNHEARD_LOOK + LOOK_MAX;
        self.answered.is_none()
            && !self.posts
            && self.survey.places().iter().all(in_vain)
            && (sees(Sight::Rekeyed) || asked && self.found.is_empty())
    }

    fn found(&mut self, board: NodeId, mut addresses: Vec<SocketAddr>) {
        addresses.truncate(FOUND_MAX);
        if self.found.len() < MEMBERS_MAX || self.found.contains_key(&board) {
            self.found.insert(board, addresses);
        }
    }

    fn ask(&mut self, road: &mut Road) {
        self.unheard += 1;
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.ask(self.unheard > UNHEARD_LOOK);
        }
        // One that says nothing may be cut off from the others.
        self.answered.take_if(|_| self.unheard > UNHEARD_MAX);
        let key = self.seal.public_key();
        let invitation = (self.token.invitation, self.attempt);
        let payload = asked(self.wish, key, invitation, (self.from, self.version));
        for (host, addresses) in self.asked_now() {
            let Some(first) = addresses.first() else { continue };
            let mut out = Vec::new();
            self.seal.seal_guest(clock::now(), host, *first, &payload, &mut out);
            for outgoing in out {
                for address in &addresses {
                    road.send_to(*address, &outgoing.datagram);
                }
            }
        }
    }

    /// Who is asked, and where: all that the token names, there and where boards of the
    /// group are found, until one answers.
    fn asked_now(&self) -> Vec<(PublicKey, Vec<Address>)> {
        if let Some((host, address)) = self.answered {
            return vec![(host, vec![address])];
        }
        let places = self.survey.places();
        let hosts = self.token.hosts.iter().map(|host| {
            let named = places.iter().filter(|place| host.addresses.contains(&place.address));
            let found = named.flat_map(|place| place.found.iter());
            let found = found.chain(self.found.values().flatten());
            let mut found: Vec<Address> = found.copied().map(Address::Udp).collect();
            found.extend(self.posts.then(|| Address::Mqtt(Mailbox::of(&host.key))));
            found.sort_unstable();
            found.dedup();
            (host.key, found)
        });
        hosts.collect()
    }

    fn hear(&mut self, datagram: &[u8], source: Address, road: &mut Road) -> Heard {
        let mut out = Vec::new();
        let hosts = || self.token.hosts.iter().map(|host| host.key);
        let before: Vec<_> = hosts().filter(|key| self.seal.has_host(*key)).collect();
        let opened = self.seal.open(clock::now(), datagram, source, &mut out);
        let new = hosts().find(|key| self.seal.has_host(*key) && !before.contains(key));
        for Outgoing { datagram, .. } in out {
            road.send_to(source, &datagram);
        }
        if let Some(key) = new.filter(|_| self.answered.is_none()) {
            (self.answered, self.unheard) = (Some((key, source)), 0);
        }
        let Opened::Guest { key, payload } = opened else { return Heard::Nothing };
        if self.token.hosts.iter().all(|host| host.key != key) {
            // Anybody who has a token may say things, but not in a member's name.
            return Heard::Nothing;
        }
        (self.answered, self.unheard) = (Some((key, source)), 0);
        match sql::decode(&payload) {
            Ok(Word::Accepted { member, members, next }) => {
                // An answer may come twice.
                self.members.retain(|known| members.iter().all(|told| told.id != known.id));
                self.members.extend(members);
                if next != 0 {
                    self.from = next;
                    return Heard::More;
                }
                let members = std::mem::take(&mut self.members);
                Heard::Joined(Joined { member, members })
            }
            Ok(Word::Refused { reason, attempt }) if attempt == self.attempt => {
                self.refused(reason)
            }
            Ok(Word::Refused { .. } | Word::Ask(_) | Word::Witness(_)) | Err(_) => Heard::Nothing,
        }
    }

    /// A board of an earlier release is asked again as that release asks: while its group has
    /// such boards this one can be one too.
    fn refused(&mut self, reason: String) -> Heard {
        if reason == OTHER_VERSION && self.version != VERSION_FIRST {
            self.version = VERSION_FIRST;
            self.attempt = self.attempt.wrapping_add(1);
            return Heard::More;
        }
        Heard::Refused(reason)
    }

    fn given_up(&self) -> JoinError {
        let undecided = "it answered, but the group did not decide: has it a majority running?";
        let mut tried = Vec::new();
        let mut answered = self.answered.map(|(_, address)| address);
        for Place { address, sight, found } in self.survey.places() {
            let is_there =
                |answered: &Address| found.iter().any(|at| Address::Udp(*at) == *answered);
            let what = match answered.take_if(|answered| is_there(answered)) {
                Some(_) => undecided.to_owned(),
                None => sight.to_string(),
            };
            tried.push((address.clone(), what));
        }
        let asked_too =
            self.found.values().flatten().filter(|at| answered != Some(Address::Udp(**at)));
        let silent = "found on this network: no board that the token names answers there";
        tried.extend(asked_too.map(|address| (address.to_string(), silent.to_owned())));
        tried.extend(answered.map(|address| (address.to_string(), undecided.to_owned())));
        JoinError::Unanswered(tried)
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::{limits::NAME_BYTES_MAX, member::MembershipChange};

    use super::*;
    use crate::{driver::heard::Transport, identity::GroupKey, seal::public_key, token::Host};

    const KEY: GroupKey = GroupKey { number: 3, key: [2; 32] };

    fn member(id: NodeId) -> Member {
        Member {
            id,
            name: format!("a-board-with-a-rather-long-name-{id}"),
            key: [9; 32],
            addresses: vec!["192.0.2.200:4002".into(); 12],
            voter: true,
        }
    }

    /// What an issuer is like.
    #[derive(Clone, Default)]
    struct Issuer {
        members: u64,
        refusal: Option<Refusal>,
        /// What its group goes by; 0 for a release that knows of no versions.
        version: u32,
        /// Answers lost before the first that arrives.
        lost: usize,
    }

    impl Issuer {
        /// Answers on `road` for ever; the group decides at once, and only once.
        async fn issue(mut self, mut road: Road, keys: Keys) {
            let mut seal = Seal::new(keys, 1, 1);
            let mut doorstep = Doorstep::default();
            let members: Vec<_> = (1..=self.members).map(member).collect();
            let mut membership =
                Membership { last_id: self.members, members, ..Membership::default() };
            let mut datagram = [0; 2_048];
            loop {
                let Some((bytes, source)) = road.receive(&mut datagram).await else { continue };
                let now = clock::now();
                let mut out = Vec::new();
                let opened = seal.open(now, &datagram[..bytes], source, &mut out);
                for outgoing in out.drain(..) {
                    road.send_to(source, &outgoing.datagram);
                }
                let Opened::Guest { key, payload } = opened else { continue };
                let group = (&membership, self.version);
                let answer = match self.as_a_release_before(&payload) {
                    Some(knock) => knock,
                    None => doorstep.knocked(key, source, &payload, group),
                };
                let answer = match answer {
                    Knock::Admit(admission, Request::Member(wish)) => {
                        let candidate = self.wished(wish);
                        let reply = self.admit(&mut membership, &candidate);
                        seal.set_members(now, &membership.members);
                        doorstep.decided(admission, &reply, &membership)
                    }
                    Knock::Answer(answer) => Some(answer),
                    Knock::Admit(..) | Knock::Ignore => None,
                };
                let Some(answer) = answer else { continue };
                if self.lost > 0 {
                    self.lost -= 1;
                    continue;
                }
                seal.seal_guest(now, key, source, &answer, &mut out);
                for outgoing in out {
                    road.send_to(source, &outgoing.datagram);
                }
            }
        }

        /// A release that knows of no versions answers like this to others than its own.
        fn as_a_release_before(&self, payload: &[u8]) -> Option<Knock> {
            let Ok(Word::Ask(Ask { version, attempt, .. })) = sql::decode(payload) else {
                return None;
            };
            let reason = OTHER_VERSION.into();
            (self.version == 0 && version != VERSION_FIRST)
                .then(|| Knock::Answer(sql::encode(&Word::Refused { reason, attempt })))
        }

        /// The leader hears what a guest knows, unless it may be of the first release.
        fn wished(&self, wish: MemberRequest) -> Candidate {
            let says = matches!(wish, MemberRequest::Newcomer { version: versions::VERSION, .. });
            assert_eq!(says, self.version > versions::VERSION_FIRST, "{wish:?}");
            let (MemberRequest::Join { candidate, .. } | MemberRequest::Newcomer { candidate, .. }) =
                wish
            else {
                panic!("it was asked for something else")
            };
            candidate
        }

        fn admit(&mut self, membership: &mut Membership, candidate: &Candidate) -> Reply {
            if let Some(refusal) = self.refusal.take() {
                return Reply::Refused(refusal);
            }
            let member = membership.admit(candidate);
            let answer = sql::encode(&member);
            membership.change(&MembershipChange::Add(member));
            Reply::Done { index: 1, answer }
        }
    }

    fn join_one(issuer: Issuer, group_key: GroupKey) -> Result<Joined, JoinError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let road = Road::bind(loopback, Transport::Udp).unwrap();
            let token = Token {
                group: [1; 16],
                group_name: "g".into(),
                group_keys: vec![group_key],
                invitation: [8; 16],
                hosts: vec![Host {
                    key: public_key(&[5; 32]),
                    addresses: vec![road.address().to_string()],
                }],
            };
            let keys = Keys::of_one([1; 16], KEY, [5; 32]);
            let issuer = tokio::spawn(issuer.issue(road, keys));
            let mut road = Road::bind(loopback, Transport::Udp).unwrap();
            let keys = Keys::of_one(token.group, group_key, [6; 32]);
            let (name, replaces) = (String::from("new"), String::new());
            let addresses = vec!["192.0.2.1:4002".into()];
            let wish = Wish { name, addresses, replaces, witness: false };
            let joined =
                join(&token, &wish, keys, (&mut road, None), Seeds { boot: 1, salt: [77; 8] })
                    .await;
            issuer.abort();
            joined
        })
    }

    #[test]
    fn a_guest_becomes_a_member_and_is_told_of_all_others_whatever_answers_are_lost() {
        for lost in [0, 3] {
            let issuer = Issuer { members: 12, lost, ..Issuer::default() };
            let joined = join_one(issuer, KEY).unwrap();
            assert_eq!((joined.member.id, joined.member.name.as_str()), (13, "new"));
            assert_eq!(joined.member.key, public_key(&[6; 32]));
            let ids: Vec<_> = joined.members.iter().map(|member| member.id).collect();
            assert_eq!(ids, (1..=13).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_question_fits_a_datagram_whatever_is_announced() {
        let address = format!("{}:4002", "a".repeat(NAME_BYTES_MAX - 5));
        let name = "n".repeat(NAME_BYTES_MAX);
        let (replaces, addresses) = (name.clone(), vec![address; 16]);
        let wish = Wish { replaces, name, addresses, witness: true };
        let question = asked(&wish, [1; 32], ([2; 16], u64::MAX), (NodeId::MAX, VERSION));
        assert!(question.len() <= PAYLOAD_BYTES_MAX, "{}", question.len());
        let Ok(Word::Witness(Ask { candidate, .. })) = sql::decode(&question) else {
            panic!("a question")
        };
        assert!(candidate.addresses.len() >= 5 && candidate.name == wish.name);
    }

    #[test]
    fn a_guest_goes_on_asking_while_the_group_chooses_a_leader() {
        let issuer = Issuer { members: 3, refusal: Some(Refusal::NoLeader), ..Issuer::default() };
        assert_eq!(join_one(issuer, KEY).unwrap().member.id, 4);
    }

    #[test]
    fn a_refusal_is_told_at_once() {
        let refusal = Some(Refusal::Invalid("the group is full".into()));
        let error = join_one(Issuer { members: 1, refusal, ..Issuer::default() }, KEY);
        assert!(error.unwrap_err().to_string().contains("the group is full"));
    }

    #[test]
    fn a_group_that_goes_by_more_names_the_release_that_its_guests_need() {
        for version in [0, versions::VERSION_FIRST, versions::VERSION] {
            let joined = join_one(Issuer { members: 1, version, ..Issuer::default() }, KEY);
            assert_eq!(joined.unwrap().member.id, 2, "version {version}");
        }
        let version = versions::VERSION + 1;
        let refused = join_one(Issuer { members: 1, version, ..Issuer::default() }, KEY);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("too old for it: install 0.2.0 or newer here"), "{refused}");
    }

    #[test]
    fn boards_found_on_this_network_are_called_are_few_enough_and_are_told_of() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let keys = || Keys::of_one([1; 16], KEY, [6; 32]);
            let host = Host { key: public_key(&[5; 32]), addresses: Vec::new() };
            let token = Token {
                group: [1; 16],
                group_name: "g".into(),
                group_keys: vec![KEY],
                invitation: [8; 16],
                hosts: vec![host],
            };
            let (name, addresses, replaces) = ("new".into(), Vec::new(), String::new());
            let wish = Wish { name, addresses, replaces, witness: false };
            let mut asking = Asking {
                seal: Seal::new(keys(), 1, 1),
                token: &token,
                wish: &wish,
                survey: Survey::new(&[], &keys(), [0; 8]),
                neighbours: None,
                posts: false,
                found: BTreeMap::new(),
                attempt: 0,
                version: VERSION,
                answered: None,
                unheard: 0,
                members: Vec::new(),
                from: 0,
            };
            assert!(asking.is_hopeless());
            let address = SocketAddr::from(([192, 0, 2, 7], 4_002));
            for board in 1..100 {
                asking.found(board, vec![address; 100]);
            }
            assert!(!asking.is_hopeless());
            let asked = asking.asked_now();
            assert_eq!(asked, [(token.hosts[0].key, vec![Address::Udp(address)])]);
            assert_eq!(asking.found.len(), MEMBERS_MAX);
            assert!(asking.found.values().all(|addresses| addresses.len() == FOUND_MAX));
            let said = asking.given_up().to_string();
            assert!(said.contains("192.0.2.7:4002: found on this network"), "{said}");
        });
    }

    #[test]
    fn a_token_of_before_a_change_of_the_key_is_told_from_a_board_that_is_not_there() {
        let before = GroupKey { number: 2, key: [3; 32] };
        let error = join_one(Issuer { members: 1, ..Issuer::default() }, before).unwrap_err();
        let words = ": the group's key was changed since this token was made";
        assert!(error.to_string().contains(words), "{error}");
    }
}
