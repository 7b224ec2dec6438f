//! What an agent leaves with its parent while it lives: the words on its end, sealed for
//! each board and with where that board was last heard, and under which grants commands
//! run that its parent does not see. One JSON line each, over a socket between the two.
//!
//! A grant is named before its command begins to run, so that an agent that ends leaves
//! none behind unsaid.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    net::SocketAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use serde::{Deserialize, Serialize};
use tracing::warn;
use understudy_core::{
    event::Millis,
    member::{Member, PublicKey},
};

use crate::{address::Mailbox, driver::road::Road, seal::Seal};

/// Between two looks at where the others are.
const LOOK_MS: u64 = 1_000;

/// What the agent says to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bequest {
    /// These are to be sent when it has ended, in place of any before.
    Letters(Vec<Letter>),
    /// Commands may run under these tokens.
    Acting(BTreeSet<u64>),
    /// Where there are brokers letters are posted too: in the group of this tag, from here.
    Post([u8; 4], Mailbox),
}

/// For one board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Where it was last heard by UDP, if it was.
    pub to: Option<SocketAddr>,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// The agent has ended.
    pub fell: Vec<u8>,
    /// And all that it ran.
    pub ended: Vec<u8>,
}

/// The agent's end of the socket; nothing where it has no parent.
#[derive(Default)]
pub struct Will {
    parent: Option<UnixStream>,
    places: Vec<(Option<SocketAddr>, PublicKey)>,
    acting: BTreeSet<u64>,
    looked: Millis,
}

impl Will {
    /// Over what its parent has put in the place of standard input.
    ///
    /// # Errors
    /// When there is no such socket.
    pub fn over_stdin() -> io::Result<Self> {
        let parent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        parent.set_nonblocking(true)?;
        Ok(Self { parent: Some(parent), ..Self::default() })
    }

    /// Leaves word for the boards where they are heard now.
    pub fn write_letters(
        &mut self,
        now: Millis,
        (seal, road): (&Seal, &Road),
        members: &[Member],
        start: (u64, u64),
    ) {
        if self.parent.is_none() || now.since(self.looked) < LOOK_MS {
            return;
        }
        self.looked = now;
        let heard = members.iter().filter(|member| road.last_heard(member.id).is_some());
        let places: Vec<_> =
            heard.map(|member| (road.last_address(member.id), member.key)).collect();
        if places == self.places {
            return;
        }
        let letter = |(to, key): &(Option<SocketAddr>, PublicKey)| {
            let fell = seal.obituary(key, start, false)?;
            let (to, mailbox) = (*to, Mailbox::of(key));
            Some(Letter { to, mailbox, fell, ended: seal.obituary(key, start, true)? })
        };
        let letters = places.iter().filter_map(letter).collect();
        self.places = places;
        self.leave(&Bequest::Letters(letters));
    }

    /// Letters are posted in the group of this tag, from this mailbox.
    pub fn name_post(&mut self, tag: [u8; 4], from: Mailbox) {
        self.leave(&Bequest::Post(tag, from));
    }

    /// Commands are about to run under these tokens, and no others.
    pub fn name_acting(&mut self, acting: BTreeSet<u64>) {
        if acting != self.acting {
            self.leave(&Bequest::Acting(acting.clone()));
            self.acting = acting;
        }
    }

    fn leave(&mut self, bequest: &Bequest) {
        let Some(parent) = &mut self.parent else { return };
        let line = serde_json::to_vec(bequest).map(|mut line| {
            line.push(b'\n');
            line
        });
        let written = line.map_err(io::Error::from).and_then(|line| parent.write_all(&line));
        if let Err(error) = written {
            // Half a line would make nonsense of the next.
            warn!(%error, "the parent does not listen: nobody will say when this agent ends");
            self.parent = None;
        }
    }
}
