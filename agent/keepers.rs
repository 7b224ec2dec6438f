//! The keepers of commands on this board, as its agent knows them: who is ready for which
//! duty, who has been told to act, and until when.
//!
//! A keeper is told of a lease only what the node believes at that moment, and a duty
//! counts as given up only when its keeper has said that the command is gone. Where a
//! keeper is lost with a command that may run, nobody knows: the lease runs out. One that
//! waits is ready only while it goes on saying so: whoever stands still can take nothing.
//!
//! Left out: what is said over the wire (`hold::words`), and how a command is made to end
//! (`hold`).

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, oneshot};
use understudy_core::{
    duty::{Claim, Duty},
    event::{Event, Millis},
    lease::Held,
    limits::DUTIES_MAX,
    node::Node,
};

use crate::{
    checks::{Finding, Health},
    hold::words::{AgentWord, KeeperWord, Opening, SILENT_MS},
    status::CheckStatus,
};

/// Words on their way to a keeper that does not read.
pub const WORDS_MAX: usize = 32;

/// What nobody has done for so long, and for two leases, a slow board takes as well,
/// milliseconds.
const FORSAKEN_MS: u64 = 3_000;

/// A keeper hears of a longer lease when it is longer by so much, milliseconds.
const TELL_MS: u64 = 200;

/// What becomes of a keeper's connection.
#[derive(Debug)]
pub enum KeeperCall {
    /// There is one; it is answered with the number it has from now on, or why it is not
    /// wanted.
    Came {
        /// It is the agent itself: what it does ends with it.
        is_own: bool,
        /// What it said first.
        opening: Opening,
        /// Where it hears.
        words: mpsc::Sender<AgentWord>,
        /// Its number.
        reply: oneshot::Sender<Result<u64, String>>,
    },
    /// It has said something.
    Said(u64, KeeperWord),
    /// It is gone.
    Left(u64),
}

struct Keeper {
    duty: String,
    pid: u32,
    is_own: bool,
    words: mpsc::Sender<AgentWord>,
    cannot: Option<String>,
    is_ready: bool,
    /// It says so again and again while it waits,
    beats: bool,
    /// and was heard last then.
    heard: Millis,
    taken: Option<Taken>,
}

/// What a keeper was told to act under, and until when.
struct Taken {
    claim: Claim,
    until: Millis,
    is_stopping: bool,
}

/// See the module's description.
#[derive(Default)]
pub struct Keepers {
    /// What this board can do, by its configuration,
    capabilities: Vec<String>,
    /// and what as long as a check says so.
    health: Health,
    keepers: BTreeMap<u64, Keeper>,
    last: u64,
    /// Grants under which a command may still run whose keeper was lost, and whose process
    /// that was: when that one comes again the command is gone.
    lost: BTreeMap<Claim, u32>,
    /// What the node knows this board to be ready for.
    ready: Vec<u64>,
    /// As of which change of the node's.
    seen: Option<u64>,
    /// This board is too slow to hold what another could.
    is_slow: bool,
    /// Since when nobody has done which duty.
    forsaken: BTreeMap<u64, Millis>,
    /// The next moment at which one that waits may count as standing still.
    silent_at: Option<Millis>,
    /// The agent is about to end: nothing is to be taken any more.
    is_stopping: bool,
}

impl Keepers {
    /// Of a board that can do this, and more as its checks say.
    #[must_use]
    pub fn new(capabilities: Vec<String>, health: Health) -> Self {
        Self { capabilities, health, ..Self::default() }
    }

    /// A check has come to something else.
    pub fn checked(&mut self, now: Millis, finding: Finding) {
        if self.health.take(now, finding) {
            self.seen = None;
        }
    }

    /// What became of the board's checks.
    #[must_use]
    pub fn checks(&self, now: Millis) -> Vec<CheckStatus> {
        self.health.status(now)
    }

    /// Something happened to a keeper: what the node is to hear of it.
    pub fn take(&mut self, now: Millis, node: &Node, call: KeeperCall) -> Vec<Event> {
        self.seen = None;
        match call {
            KeeperCall::Came { is_own, opening, words, reply } => {
                let (told, events) = match self.welcome(now, node, (opening, is_own), words) {
                    Ok((id, events)) => (Ok(id), events),
                    Err(reason) => (Err(reason), Vec::new()),
                };
                // It may have gone away meanwhile, and says so.
                let _ = reply.send(told);
                events
            }
            KeeperCall::Said(id, word) => self.heard(now, id, word),
            KeeperCall::Left(id) => self.left(id),
        }
    }

    fn welcome(
        &mut self,
        now: Millis,
        node: &Node,
        (opening, is_own): (Opening, bool),
        words: mpsc::Sender<AgentWord>,
    ) -> Result<(u64, Vec<Event>), String> {
        let (duty, pid, cannot, beats) = match opening {
            Opening::Hold { duty, pid, beats } => (duty, pid, None, beats),
            Opening::Cannot { duty, pid, why } => (duty, pid, Some(why), false),
        };
        let Some(row) = node.duties().iter().find(|row| row.name == duty) else {
            return Err(no_duty(node, &duty));
        };
        if let Some(other) = self.keepers.values().find(|keeper| keeper.duty == duty) {
            return Err(format!(
                "process {} keeps a command for {duty} on this board already",
                other.pid
            ));
        }
        if self.keepers.len() >= DUTIES_MAX {
            return Err(format!("{DUTIES_MAX} commands are kept on this board already"));
        }
        let is_his = |claim: &Claim, lost: &u32| claim.duty == row.id && *lost == pid;
        let gone = self.lost.iter().filter(|(claim, lost)| is_his(claim, lost));
        let events = gone.map(|(claim, _)| Event::GaveUp(*claim)).collect();
        self.lost.retain(|claim, lost| !is_his(claim, lost));
        self.last += 1;
        let is_ready = cannot.is_none();
        let (heard, taken) = (now, None);
        let keeper = Keeper { duty, pid, is_own, words, cannot, is_ready, beats, heard, taken };
        keeper.say(AgentWord::Waits);
        self.keepers.insert(self.last, keeper);
        Ok((self.last, events))
    }

    fn heard(&mut self, now: Millis, id: u64, word: KeeperWord) -> Vec<Event> {
        let Some(keeper) = self.keepers.get_mut(&id) else { return Vec::new() };
        keeper.heard = now;
        match word {
            KeeperWord::Ready(is_ready) => {
                keeper.is_ready = is_ready && keeper.cannot.is_none();
                Vec::new()
            }
            KeeperWord::Gone { token, failed } => {
                keeper.is_ready &= !failed;
                let taken = keeper.taken.take_if(|taken| taken.claim.token == token);
                taken.map(|taken| Event::GaveUp(taken.claim)).into_iter().collect()
            }
        }
    }

    fn left(&mut self, id: u64) -> Vec<Event> {
        let Some(Keeper { pid, taken: Some(taken), .. }) = self.keepers.remove(&id) else {
            return Vec::new();
        };
        if self.lost.len() < DUTIES_MAX {
            self.lost.insert(taken.claim, pid);
        }
        vec![Event::LostTouch(taken.claim)]
    }

    /// The agent is about to end: so is all that is done here.
    pub const fn stop(&mut self) {
        (self.is_stopping, self.seen) = (true, None);
    }

    /// This board is too slow for the group's timing, or is not: while it is it takes only
    /// what nobody else has for a while.
    pub fn set_slow(&mut self, now: Millis, node: &Node, is_slow: bool) {
        if !is_slow && !self.is_slow {
            return;
        }
        (self.is_slow, self.seen) = (is_slow, None);
        if !is_slow {
            return self.forsaken.clear();
        }
        // What has come here just now others withdraw from first.
        let own = node.incarnation();
        let has_come = |duty: &Duty| {
            let since = self.forsaken.get(&duty.id).copied();
            let is_early = since.is_some_and(|since| {
                now.since(since) < 2 * FORSAKEN_MS.max(2 * duty.lease_ms) + FORSAKEN_MS
            });
            duty.holder == Some(own) && is_early
        };
        let is_so = |duty: &&Duty| node.is_forsaken(now, duty) || has_come(duty);
        let forsaken: BTreeSet<u64> =
            node.duties().iter().filter(is_so).map(|duty| duty.id).collect();
        self.forsaken.retain(|duty, _| forsaken.contains(duty));
        for duty in forsaken {
            self.forsaken.entry(duty).or_insert(now);
        }
    }

    /// Has anything changed since they were told?
    #[must_use]
    pub fn is_news(&self, now: Millis, node: &Node) -> bool {
        let is_silent = self.silent_at.is_some_and(|at| at <= now);
        is_silent || self.seen != Some(node.duty_changes())
    }

    /// Tells keepers what has changed for them, and the node what it is to hear of that.
    pub fn follow(&mut self, now: Millis, node: &Node) -> Vec<Event> {
        self.seen = Some(node.duty_changes());
        let silent_at = self.keepers.values().filter_map(Keeper::silent_at);
        self.silent_at = silent_at.filter(|at| *at > now).min();
        // Of what was granted anew since, the lease is long over.
        let stands = |claim: &Claim| node.duties().iter().any(|duty| duty.claim() == *claim);
        self.lost.retain(|claim, _| stands(claim));
        let stops = self.is_stopping;
        let held: Vec<Held> = node.held_duties(now).collect();
        let mut events = Vec::new();
        for held in &held {
            let name = node.duties().iter().find(|duty| duty.id == held.claim.duty);
            let keeper = name.and_then(|duty| self.keeper_of(&duty.name));
            let is_wanted =
                |keeper: &&mut Keeper| keeper.taken.is_some() || keeper.is_ready(now) && !stops;
            match keeper.filter(is_wanted) {
                Some(keeper) => keeper.hold(*held),
                // It left just when the duty came: nothing was ever done under this grant.
                None => events.push(Event::GaveUp(held.claim)),
            }
        }
        for keeper in self.keepers.values_mut() {
            keeper.end_what_is_over(node, &held, stops);
        }
        let ready = self.ready_for(now, node.duties());
        if ready != self.ready {
            self.ready.clone_from(&ready);
            events.push(Event::Ready(ready));
        }
        events
    }

    /// Tokens under which commands may run, or are about to: those of what this board
    /// holds, and of what is not known to be at an end.
    #[must_use]
    pub fn acting(&self, now: Millis, node: &Node) -> BTreeSet<u64> {
        let named = |held: Held| {
            let duty = node.duties().iter().find(|duty| duty.id == held.claim.duty);
            (held.claim, duty.map_or("", |duty| duty.name.as_str()))
        };
        self.acting_beside(node.held_duties(now).map(named))
    }

    /// The same, of what is held, each with its duty's name: what the agent does itself ends
    /// with it.
    fn acting_beside<'n>(&self, held: impl Iterator<Item = (Claim, &'n str)>) -> BTreeSet<u64> {
        let is_own = |duty: &str| self.keepers.values().any(|it| it.is_own && it.duty == duty);
        let held = held.filter(|(_, duty)| !is_own(duty)).map(|(claim, _)| claim);
        let others = self.keepers.values().filter(|keeper| !keeper.is_own);
        let taken = others.filter_map(|keeper| keeper.taken.as_ref()).map(|taken| taken.claim);
        let known = taken.chain(self.lost.keys().copied());
        known.chain(held).map(|claim| claim.token).collect()
    }

    /// Why commands that are to be kept here are not, by duties: of those that the
    /// configuration names, and of any that has a keeper.
    #[must_use]
    pub fn not_kept(
        &self,
        now: Millis,
        node: &Node,
        configured: &[String],
    ) -> BTreeMap<String, String> {
        let exists = |name: &&String| node.duties().iter().any(|duty| duty.name == **name);
        let unknown = configured.iter().filter(|name| !exists(name));
        let unknown = unknown.map(|name| (name.clone(), no_duty(node, name)));
        let cannot = self.keepers.values();
        let cannot =
            cannot.filter_map(|keeper| Some((keeper.duty.clone(), keeper.cannot.clone()?)));
        let lacking = self.keepers.values().filter_map(|keeper| {
            let duty = node.duties().iter().find(|duty| duty.name == keeper.duty)?;
            let need = self.lacks(duty)?;
            let why = self.health.why_not(need);
            let why = why.unwrap_or_else(|| String::from("`capabilities`"));
            Some((keeper.duty.clone(), format!("this board lacks {need}: {why}")))
        });
        let slow = self.keepers.values().filter(|_| self.is_slow);
        let slow = slow.map(|keeper| {
            (
                keeper.duty.clone(),
                String::from("this board is too slow, and takes only what nobody else does"),
            )
        });
        let silent = self.keepers.values().filter(|keeper| keeper.is_silent(now));
        let silent = silent.map(|keeper| {
            let (pid, silent_s) = (keeper.pid, SILENT_MS / 1_000);
            let why = format!("its keeper, process {pid}, has said nothing for {silent_s} s");
            (keeper.duty.clone(), why)
        });
        let is_drained = node.is_drained(node.incarnation().board);
        let drained = self.keepers.values().filter(|_| is_drained).map(|keeper| {
            let why = "this board is drained (`understudy undrain` ends that)";
            (keeper.duty.clone(), why.to_owned())
        });
        let of_board = slow.chain(drained).chain(lacking);
        of_board.chain(silent).chain(unknown).chain(cannot).collect()
    }

    /// What this board cannot do that a duty needs, if anything.
    fn lacks<'d>(&self, duty: &'d Duty) -> Option<&'d String> {
        let has = |need: &String| self.capabilities.contains(need) || self.health.gives(need);
        duty.rules.needs.iter().find(|need| !has(need))
    }

    fn keeper_of(&mut self, duty: &str) -> Option<&mut Keeper> {
        self.keepers.values_mut().find(|keeper| keeper.duty == duty)
    }

    /// Has nobody done this duty for longer than a quick board takes to take it over?
    fn has_nobody_else(&self, now: Millis, duty: &Duty) -> bool {
        let since = self.forsaken.get(&duty.id);
        since.is_some_and(|since| now.since(*since) >= FORSAKEN_MS.max(2 * duty.lease_ms))
    }

    /// Duties that a keeper here would take now, by their numbers.
    fn ready_for(&self, now: Millis, duties: &[Duty]) -> Vec<u64> {
        let is_ready = |duty: &&Duty| {
            let mut keepers = self.keepers.values();
            let can = !self.is_stopping && self.lacks(duty).is_none();
            let can = can && (!self.is_slow || self.has_nobody_else(now, duty));
            can && keepers.any(|keeper| keeper.duty == duty.name && keeper.is_ready(now))
        };
        duties.iter().filter(is_ready).map(|duty| duty.id).collect()
    }
}

fn no_duty(node: &Node, name: &str) -> String {
    if node.is_witness() {
        return String::from("it is the witness, which holds no duty");
    }
    format!("there is no duty {name} in this group: `understudy duty add {name}` makes it")
}

impl Keeper {
    /// From when on it stands still, where it says nothing more: one that runs something is
    /// watched by its guard.
    fn silent_at(&self) -> Option<Millis> {
        let waits = self.beats && self.taken.is_none();
        waits.then(|| self.heard.plus(SILENT_MS))
    }

    fn is_silent(&self, now: Millis) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    fn is_ready(&self, now: Millis) -> bool {
        self.is_ready && !self.is_silent(now)
    }

    /// Where it does not read it hears nothing; what it was told last ends by itself.
    fn say(&self, word: AgentWord) {
        let _ = self.words.try_send(word);
    }

    /// This board holds its duty until then.
    fn hold(&mut self, Held { claim, until }: Held) {
        let (token, until_ms) = (claim.token, until.0);
        match &mut self.taken {
            None => {
                self.taken = Some(Taken { claim, until, is_stopping: false });
                self.say(AgentWord::Take { token, until_ms });
            }
            Some(taken) if taken.claim == claim && until.since(taken.until) >= TELL_MS => {
                taken.until = until;
                self.say(AgentWord::Until { token, until_ms });
            }
            Some(_) => {}
        }
    }

    /// It is to end what this board does not hold any longer, or is to pass on.
    fn end_what_is_over(&mut self, node: &Node, held: &[Held], stops: bool) {
        let Some(taken) = self.taken.as_mut().filter(|taken| !taken.is_stopping) else { return };
        let why = match held.iter().any(|held| held.claim == taken.claim) {
            false => "this board does not hold it any longer",
            true if stops => "the agent stops",
            true if node.yields(taken.claim) => "it is to go elsewhere",
            true => return,
        };
        taken.is_stopping = true;
        let token = taken.claim.token;
        self.say(AgentWord::Stop { token, why: why.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(duty: &str, token: u64, is_own: bool) -> Keeper {
        let (words, _nobody_listens) = mpsc::channel(1);
        let claim = Claim { duty: token, token };
        Keeper {
            duty: duty.to_owned(),
            pid: 7,
            is_own,
            words,
            cannot: None,
            is_ready: true,
            beats: false,
            heard: Millis(0),
            taken: Some(Taken { claim, until: Millis(1), is_stopping: false }),
        }
    }

    #[test]
    fn what_the_agent_does_itself_is_named_to_nobody_as_it_ends_with_it() {
        let mut keepers = Keepers::default();
        keepers.keepers.insert(1, keeper("mqtt-out", 5, true));
        keepers.keepers.insert(2, keeper("pump", 7, false));
        keepers.lost.insert(Claim { duty: 1, token: 3 }, 8);
        let claim = |token| Claim { duty: token, token };
        let held = [(claim(5), "mqtt-out"), (claim(7), "pump"), (claim(9), "fan")];
        assert_eq!(keepers.acting_beside(held.into_iter()), BTreeSet::from([3, 7, 9]));
    }
}
