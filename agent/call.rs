//! What the front doors (HTTP, control socket) hand to the loop, and how they
//! get their answer: one bounded channel in, a oneshot back.

use tokio::sync::{mpsc, oneshot};
use understudy_core::event::{Reply, Request};

use crate::{status::Status, token::Host};

/// Calls waiting for the loop; a front door that finds it full answers "busy".
pub const CALLS_WAITING_MAX: usize = 256;

/// One caller's wish.
#[derive(Debug)]
pub enum Call {
    /// For the node; answered when it is done or refused.
    Request(Request, oneshot::Sender<Reply>),
    /// The state of this board and its group as this board sees it.
    Status(oneshot::Sender<Status>),
    /// Other boards that can let a newcomer in, as far as they can be heard.
    Hosts(oneshot::Sender<Vec<Host>>),
    /// Forget the group; answered when what was of it is gone from the disk.
    Forget(oneshot::Sender<()>),
}

/// The front doors' end of the channel.
#[derive(Clone, Debug)]
pub struct Caller(mpsc::Sender<Call>);

impl Caller {
    /// A channel: the front doors clone the first, the loop keeps the second.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Call>) {
        let (sender, receiver) = mpsc::channel(CALLS_WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Asks the node and waits; `None` when the loop has ended.
    pub async fn request(&self, request: Request) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Call::Request(request, reply)).await.ok()?;
        answer.await.ok()
    }

    /// Asks for the status; `None` when the loop has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Call::Status(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Other boards that can let a newcomer in; none when the loop has ended.
    pub async fn hosts(&self) -> Vec<Host> {
        let (reply, answer) = oneshot::channel();
        // A loop that has ended knows of none.
        let _ = self.0.send(Call::Hosts(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Has this board forget its group; `None` when the loop has ended before.
    pub async fn forget(&self) -> Option<()> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Call::Forget(reply)).await.ok()?;
        answer.await.ok()
    }
}
