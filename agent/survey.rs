//! What is at the addresses of a token: for each, whether its name is known,
//! whether anything listens there, and whether that is a board of the token's
//! group. All are looked at once and again and again, since names and boards
//! come up while a network does.
//!
//! Each address is asked from a socket of its own that is connected to it: only
//! such a socket is told that nothing listens. What is learnt is a hint for
//! people; whom to trust, the seal decides.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};
use understudy_core::limits::ADDRESSES_MAX;

use crate::seal::{Answerer, Keys, Whose};

/// Addresses of a token that are looked at: all that a board announces, its host name,
/// and those of a few others.
const LOOKED_AT_MAX: usize = ADDRESSES_MAX + 5;

/// Addresses taken of one name.
const FOUND_MAX: usize = 4;

/// Names are looked up no longer than this at a time.
const LOOKUP: Duration = Duration::from_secs(5);

/// An answer is waited for no longer than this, and the next question waits as long.
const ANSWER: Duration = Duration::from_millis(500);

/// What was last found at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing was heard from there.
    Silent,
    /// The name has no address.
    Unknown,
    /// There is no way to that network.
    Unreachable,
    /// The machine says that nothing listens there.
    Refused,
    /// A board of another group.
    Foreign,
    /// A board of the token's group.
    Ours,
    /// One that knows a newer key of the group than the token has.
    Rekeyed,
    /// One that does not know the token's key yet.
    Behind,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "no answer",
            Self::Unknown => "the name is not known here",
            Self::Unreachable => "there is no way to that network from here",
            Self::Refused => "refused: no agent listens there",
            Self::Foreign => "wrong group: a board of another group answers there",
            Self::Ours => "a board of this group answers there, but none that the token names",
            Self::Rekeyed => {
                "the group's key was changed since this token was made: make another with \
                 `understudy token` on any board of the group"
            }
            Self::Behind => {
                "a board of this group answers there that has not got the group's newest key yet: \
                 it does by itself when it hears the others; try again then"
            }
        })
    }
}

/// One address of the token and what is known of it.
pub struct Place {
    /// As the token has it.
    pub address: String,
    /// What was last found there.
    pub sight: Sight,
    /// What its name stands for.
    pub found: Vec<SocketAddr>,
}

/// See the module's description. Ends when dropped.
pub struct Survey {
    places: Vec<Place>,
    news: mpsc::Receiver<(usize, News)>,
    _lookouts: JoinSet<()>,
}

enum News {
    Found(Vec<SocketAddr>),
    Seen(Sight),
}

impl Survey {
    /// Begins to look at these addresses for boards of the group of `keys`.
    #[must_use]
    pub fn new(addresses: &[String], keys: &Keys, nonce: [u8; 8]) -> Self {
        let (sender, news) = mpsc::channel(LOOKED_AT_MAX * FOUND_MAX);
        let mut lookouts = JoinSet::new();
        let addresses = addresses.iter().take(LOOKED_AT_MAX);
        let mut places = Vec::new();
        for (number, address) in addresses.enumerate() {
            let lookout = Lookout {
                address: address.clone(),
                whose: Whose::new(keys, nonce),
                number,
                sender: sender.clone(),
            };
            lookouts.spawn(lookout.look());
            let found = address.parse().into_iter().collect();
            places.push(Place { address: address.clone(), sight: Sight::Silent, found });
        }
        Self { places, news, _lookouts: lookouts }
    }

    /// Takes in the next news. Never ends without any.
    pub async fn watch(&mut self) {
        match self.news.recv().await {
            Some((number, News::Found(found))) => self.places[number].found = found,
            Some((number, News::Seen(sight))) => self.places[number].sight = sight,
            None => std::future::pending().await,
        }
    }

    /// Every address of the token.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }
}

struct Lookout {
    address: String,
    whose: Whose,
    number: usize,
    sender: mpsc::Sender<(usize, News)>,
}

impl Lookout {
    async fn look(self) {
        loop {
            let lookup = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(&self.address));
            let found: Vec<SocketAddr> = match lookup.await {
                Ok(Ok(found)) => found.take(FOUND_MAX).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            if found.is_empty() {
                self.tell(News::Seen(Sight::Unknown)).await;
            } else {
                self.tell(News::Found(found.clone())).await;
            }
            for address in found {
                if let Some(sight) = ask(address, &self.whose).await {
                    self.tell(News::Seen(sight)).await;
                }
            }
            tokio::time::sleep(ANSWER).await;
        }
    }

    async fn tell(&self, news: News) {
        // Nobody listens any more once the survey is dropped.
        let _ = self.sender.send((self.number, news)).await;
    }
}

const fn seen(answerer: Answerer) -> Sight {
    match answerer {
        Answerer::Stranger => Sight::Foreign,
        Answerer::Ours => Sight::Ours,
        Answerer::Ahead => Sight::Rekeyed,
        Answerer::Behind => Sight::Behind,
    }
}

/// Asks whose board listens there; `None` when nothing comes back.
async fn ask(address: SocketAddr, whose: &Whose) -> Option<Sight> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let asked = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(address).await?;
        socket.send(&whose.question()).await?;
        let mut answer = [0; 64];
        let bytes = socket.recv(&mut answer).await?;
        Ok::<_, io::Error>(whose.answered(&answer[..bytes]))
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answerer)) => answerer.map(seen),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Some(Sight::Refused),
        Ok(Err(_)) => Some(Sight::Unreachable),
        Err(_) => None,
    }
}
