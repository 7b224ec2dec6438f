//! The loop of a member: the only file that sees both the drivers and the node.
//!
//! One thread takes one event at a time, from whichever driver has one, gives it
//! to the node and carries out every effect, in order, before the next. Nothing
//! here waits: the journal and the database have threads of their own and report
//! by event, datagrams that cannot leave now are dropped, callers wait at their
//! own end of a channel.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::{mpsc, oneshot};
use understudy_core::{
    event::{Effect, Event, Millis, NodeId, Reply, Request, RequestId},
    node::{Effects, Node},
};

use crate::{
    call::Call,
    driver::{clock, database::DatabaseThread, journal::JournalThread, udp::Road},
    join::{Admission, Doorstep},
    seal::{Opened, Outgoing, Seal},
    status::Status,
    view::{self, Facts},
};

/// Events taken from one source before the others get their turn.
const BURST_EVENTS_MAX: usize = 64;

/// Local requests under way; the core's own bound is lower, so that nothing is
/// ever lost between the two.
const CALLERS_MAX: usize = 2_048;

/// A member at work.
pub struct Member {
    node: Node,
    seal: Seal,
    road: Road,
    journal: JournalThread,
    database: DatabaseThread,
    doorstep: Doorstep,
    callers: BTreeMap<RequestId, Waiter>,
    requests: RequestId,
    membership_changes: u64,
    facts: Facts,
    outgoing: Vec<Outgoing>,
}

/// Who waits for a reply.
enum Waiter {
    /// HTTP or the control socket.
    Caller(oneshot::Sender<Reply>),
    /// A board at the doorstep that wants to join.
    Guest(Admission),
}

/// Everything the loop listens to.
pub struct Sources {
    /// From the journal's and the database's threads.
    pub events: mpsc::Receiver<Event>,
    /// From HTTP and the control socket.
    pub calls: mpsc::Receiver<Call>,
    /// Resolves when the process is asked to end.
    pub stop: oneshot::Receiver<()>,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The process was asked to stop.
    Stopped,
}

impl Member {
    /// Runs until the process is asked to stop, and hands leadership over first.
    pub async fn run(mut self, mut sources: Sources, mut alive: impl FnMut(Millis)) -> Ended {
        let mut datagram = vec![0; 2 * understudy_core::limits::DATAGRAM_BYTES_MAX];
        let mut stopping: Option<Millis> = None;
        loop {
            let now = clock::now();
            alive(now);
            if stopping.is_some_and(|since| self.may_end(now, since)) {
                return Ended::Stopped;
            }
            let wake = Duration::from_millis(self.deadline().since(now));
            tokio::select! {
                biased;
                Some(event) = sources.events.recv() => {
                    self.take_events(event, &mut sources.events);
                }
                received = self.road.receive(&mut datagram) => {
                    if let Some((bytes, source)) = received {
                        self.take_datagram(&mut datagram[..bytes], source);
                        self.take_datagrams(&mut datagram);
                    }
                }
                Some(call) = sources.calls.recv() => self.take_calls(call, &mut sources.calls),
                _ = &mut sources.stop, if stopping.is_none() => {
                    stopping = Some(clock::now());
                    self.happen(Event::Stopping);
                }
                () = tokio::time::sleep(wake) => self.take_time(),
            }
        }
    }
}
