//! What the front doors ask of a member, and what they are answered.

use std::collections::BTreeMap;

use understudy_core::{
    error::Refusal,
    event::{Event, Millis, NodeId, Reply},
    member::Member as Row,
};

use super::{CALLERS_MAX, Member, Waiter};
use crate::{
    call::{Call, Followed, KeysNow},
    driver::{clock, journal::FOLLOWS_MAX, random::random},
    probe::{Probed, Step},
    status::Status,
    view,
};

impl Member {
    /// Other boards that can let a newcomer in: those who vote first.
    fn hosts(&self) -> Vec<Row> {
        let status = self.node.status(clock::now());
        let heard =
            |id: &NodeId| status.peers.get(id).is_some_and(|peer| peer.reachable == Some(true));
        let mut members = self.node.membership().members.clone();
        members.retain(|member| heard(&member.id));
        members.sort_by_key(|member| !member.voter);
        for member in &mut members {
            let last = self.drivers.road.last_address(member.id);
            member.addresses.splice(..0, last.map(|address| address.to_string()));
            member.addresses.dedup();
        }
        members
    }

    /// A probe of another board's, or its answer to one of ours.
    pub(super) fn take_probe(&mut self, now: Millis, from: NodeId, payload: &[u8]) {
        if let Some(answer) = self.probes.take((now, clock::nanoseconds()), from, payload) {
            self.send(now, from, &answer);
        }
    }

    fn probe(&mut self, step: Step) -> Result<BTreeMap<NodeId, Probed>, String> {
        let now = clock::now();
        let own = self.facts.identity.node;
        let members = view::members(&self.node, &self.facts);
        let peers: Vec<NodeId> = members.iter().map(|it| it.id).filter(|id| *id != own).collect();
        let run = u32::from_le_bytes(random()?).max(1);
        for (to, payload) in self.probes.step((now, clock::nanoseconds()), step, run, &peers)? {
            self.send(now, to, &payload);
        }
        let probed = self.probes.probed();
        if step == Step::End {
            self.probes.end();
        }
        Ok(probed)
    }

    pub(super) fn take_call(&mut self, call: Call) {
        match call {
            Call::Hosts(reply) => {
                // A caller that went away needs no answer.
                let _ = reply.send(self.hosts());
            }
            Call::Keys(reply) => {
                let keys = KeysNow {
                    keys: self.keyring.token_keys(),
                    newest: self.node.membership().keys.newest(),
                    applied: self.node.applied().index,
                };
                // A caller that went away needs no answer.
                let _ = reply.send(keys);
            }
            Call::NewKey(reply) => {
                // A caller that went away needs no answer.
                let _ = reply.send(self.keyring.make(&self.node.membership().members));
            }
            Call::Follow(_, reply) if self.follows.len() >= FOLLOWS_MAX => {
                let _ = reply.send(Followed::Busy);
            }
            Call::Follow(low, reply) => {
                self.follows.push((low, reply));
                self.let_follow();
            }
            Call::Keeper(call) => {
                let events = self.keepers.take(clock::now(), &self.node, call);
                events.into_iter().for_each(|event| self.happen(event));
                self.tell_keepers();
            }
            Call::Listen(reply) => {
                let duties = view::duties(clock::now(), &self.node, &self.facts);
                // A caller that went away needs no answer.
                let _ = reply.send(self.bulletin.listen(duties));
            }
            Call::Checked(finding) => {
                self.keepers.checked(clock::now(), finding);
                self.tell_keepers();
            }
            Call::Probe(step, reply) => {
                // A caller that went away needs no answer.
                let _ = reply.send(self.probe(step));
            }
            Call::Forget(reply) => self.forgets = Some(reply),
            Call::Status(reply) => {
                let drops = self.seal.drops();
                let not_kept = self.keepers.not_kept(clock::now(), &self.node, &self.facts.kept);
                let seen =
                    view::status(clock::now(), &self.node, &self.facts, drops, &self.drivers.road);
                let checks = self.keepers.checks(clock::now());
                let slow = self.watching.slowness.why().cloned();
                let (forgets, budgets) = (self.facts.forgets.clone(), self.facts.budgets.status());
                let status = Status { not_kept, checks, slow, forgets, budgets, ..seen };
                // A caller that went away needs no answer.
                let _ = reply.send(status);
            }
            Call::Request(_, reply) if self.callers.len() >= CALLERS_MAX => {
                let _ = reply.send(Reply::Refused(Refusal::Busy));
            }
            Call::Backup(backup, reply) => {
                self.drivers.database.copy(backup, reply);
            }
            Call::Request(request, reply) => {
                let id = self.wait(Waiter::Caller(reply));
                self.happen(Event::Requested { id, request });
            }
        }
    }
}
