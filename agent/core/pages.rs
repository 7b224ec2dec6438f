//! The database as a tree of pages: what a board that is behind asks another for, and
//! what it gets.
//!
//! A node of the tree stands for [`FAN_OUT`] nodes of the level below, a node of level
//! 0 for one page. The source keeps one state of its database for all who ask, a
//! session; whoever asks compares hashes from the top, goes down only where they
//! differ, and pulls the pages that do. Every question can be asked again.
//!
//! Hashes travel cut to 32 bits, with a salt by which they are cut in another way at
//! each try; that a state is right as a whole is told by all bits of the whole
//! ([`Summary::root`]), before anything of it counts.
//!
//! Left out: who asks whom and when (`catchup`, `source`), and whatever reads or
//! writes pages.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    bytes,
    error::Rejection,
    event::Position,
    limits::{PAGE_BYTES, PAGE_HASH_BYTES, PAGES_ASKED_MAX, PAGES_NODES_ASKED_MAX},
    member::Membership,
};

/// Nodes that one node of the level above stands for.
pub const FAN_OUT: u32 = 16;

/// Levels of a tree over as many pages as a file can have.
pub const LEVELS_MAX: u8 = 8;

/// A state of a database, as its source keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Names the kept state; never used twice by its source.
    pub session: u64,
    /// What is applied in it.
    pub position: Position,
    /// Pages it has.
    pub pages: u32,
    /// Hash over all of them, of 64 bits.
    pub root: u64,
}

impl Summary {
    /// Nodes at this level.
    #[must_use]
    pub const fn nodes(&self, level: u8) -> u32 {
        nodes(self.pages, level)
    }

    /// The lowest level of one node.
    #[must_use]
    pub const fn top(&self) -> u8 {
        let mut level = 1;
        while self.nodes(level) > 1 {
            level += 1;
        }
        level
    }
}

/// Nodes at this level of a tree over so many pages.
#[must_use]
pub const fn nodes(pages: u32, level: u8) -> u32 {
    let mut nodes = pages;
    let mut below = 0;
    while below < level {
        nodes = nodes.div_ceil(FAN_OUT);
        below += 1;
    }
    nodes
}

/// What is asked of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// A state in which this index is applied at least.
    Open {
        /// The index.
        index_min: u64,
    },
    /// The hashes of all nodes below some.
    Hashes {
        /// Of which state.
        session: u64,
        /// How they are cut.
        salt: u32,
        /// Level of the nodes named, 1 at least.
        level: u8,
        /// The nodes, from 0: see [`numbers`].
        #[serde(with = "bytes")]
        nodes: Vec<u8>,
    },
    /// Pages.
    Pages {
        /// Of which state.
        session: u64,
        /// Their numbers, from 0: see [`numbers`].
        #[serde(with = "bytes")]
        pages: Vec<u8>,
    },
    /// Nothing more is wanted of it.
    Close {
        /// Of which state.
        session: u64,
    },
    /// No pages: where it stands, and who belongs to the group there. A witness's.
    Outline {
        /// This index is applied there at least.
        index_min: u64,
    },
}

impl Wish {
    /// Which state it is about, if one is open.
    #[must_use]
    pub const fn session(&self) -> Option<u64> {
        match self {
            Self::Open { .. } | Self::Outline { .. } => None,
            Self::Hashes { session, .. }
            | Self::Pages { session, .. }
            | Self::Close { session } => Some(*session),
        }
    }

    /// What it names, ascending.
    ///
    /// # Errors
    /// When it is no list of ascending numbers within the bounds.
    pub fn numbers(&self) -> Result<Vec<u32>, Rejection> {
        match self {
            Self::Open { .. } | Self::Close { .. } | Self::Outline { .. } => Ok(Vec::new()),
            Self::Hashes { level, .. } if !(1..=LEVELS_MAX).contains(level) => {
                Err(Rejection::Implausible)
            }
            Self::Hashes { nodes, .. } => read_numbers(nodes, PAGES_NODES_ASKED_MAX),
            Self::Pages { pages, .. } => read_numbers(pages, PAGES_ASKED_MAX),
        }
    }
}

/// What a source answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// This state is open.
    Opened(Summary),
    /// Of each node asked for, the hashes of those below, four bytes each, little-endian.
    Hashes(#[serde(with = "bytes")] Vec<u8>),
    /// The pages asked for, one behind the other.
    Pages(#[serde(with = "bytes")] Vec<u8>),
    /// It has no such state, or has it no longer.
    Gone,
    /// This is applied there, and with it the group is this.
    Outline {
        /// What is applied.
        position: Position,
        /// Who belongs to the group.
        membership: Box<Membership>,
    },
}

impl Answer {
    /// Is it as long as one may be?
    ///
    /// # Errors
    /// When it is longer.
    pub fn check(&self) -> Result<(), Rejection> {
        let fits = match self {
            Self::Opened(summary) => summary.pages > 0,
            Self::Hashes(bytes) => {
                bytes.len() <= PAGES_NODES_ASKED_MAX * FAN_OUT as usize * PAGE_HASH_BYTES
            }
            Self::Pages(bytes) => bytes.len() <= PAGES_ASKED_MAX * PAGE_BYTES,
            Self::Gone => true,
            Self::Outline { membership, .. } => membership.is_plausible(),
        };
        if fits { Ok(()) } else { Err(Rejection::Implausible) }
    }
}

/// Ascending numbers, each as what it is more than the one before.
#[must_use]
pub fn numbers(ascending: &[u32]) -> Vec<u8> {
    let mut next = 0;
    let mut bytes = Vec::new();
    for number in ascending {
        let step = number - next;
        bytes = postcard::to_extend(&step, bytes).expect("a number always encodes");
        next = number.saturating_add(1);
    }
    bytes
}

fn read_numbers(mut bytes: &[u8], count_max: usize) -> Result<Vec<u32>, Rejection> {
    let mut read: Vec<u32> = Vec::new();
    while !bytes.is_empty() {
        let (step, rest): (u32, _) =
            postcard::take_from_bytes(bytes).map_err(|_| Rejection::Malformed)?;
        let next = read.last().map_or(Some(0), |last| last.checked_add(1));
        let number = next.and_then(|next| next.checked_add(step)).ok_or(Rejection::Malformed)?;
        if read.len() == count_max {
            return Err(Rejection::TooLarge);
        }
        read.push(number);
        bytes = rest;
    }
    Ok(read)
}

/// Work on pages: of a source first, then of a board that pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Keep what is applied now, under this name; ends with [`Done::Kept`].
    Keep {
        /// The name.
        session: u64,
    },
    /// Answer from what is kept; ends with [`Done::Served`].
    Serve {
        /// What is asked.
        wish: Wish,
    },
    /// Keep it no longer; has no end of its own.
    Release,
    /// Compare what is here with that state, from the top; ends with [`Done::Wants`].
    /// The database changes no more until the pages are in it, or dropped.
    Compare {
        /// The state.
        summary: Summary,
        /// How hashes are cut.
        salt: u32,
        /// Wishes that there is room for.
        room: usize,
    },
    /// An answer came; ends with [`Done::Wants`].
    Take {
        /// To what.
        wish: Wish,
        /// The answer.
        answer: Answer,
        /// Wishes that there is room for.
        room: usize,
    },
    /// Pull no longer; has no end of its own.
    Drop {
        /// What was pulled stays, for the next comparison.
        keeps: bool,
    },
    /// Make the database that state, in one transaction, with the pages pulled; ends with
    /// [`Done::Installed`].
    Install {
        /// The state.
        summary: Summary,
    },
    /// Have a witness's database stand there, with that membership; ends with
    /// [`Done::Installed`].
    Stand {
        /// Where.
        position: Position,
        /// Who belongs to the group there.
        membership: Box<Membership>,
    },
    /// Put these settings in the place of those in a witness's database; ends with
    /// [`Done::Put`].
    Settings {
        /// All of them.
        settings: Vec<(String, String)>,
    },
}

/// How work on pages ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The state that is kept; none when it could not be.
    Kept(Option<Summary>),
    /// The answer.
    Served(Answer),
    /// What is to be asked next.
    Wants {
        /// The wishes, within the room there was.
        wishes: Vec<Wish>,
        /// Everything that differs is either here or asked for.
        is_last: bool,
    },
    /// It cannot be compared or pulled here: the words are for the log.
    Failed(String),
    /// The database holds that state, with this membership; none when what was pulled is
    /// not that state.
    Installed(Option<Membership>),
    /// The settings are there.
    Put,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_are_short_where_they_are_close() {
        let list = [0, 1, 2, 40, 41, 100_000, u32::MAX];
        let bytes = numbers(&list);
        assert_eq!(read_numbers(&bytes, 9), Ok(list.to_vec()));
        assert_eq!(numbers(&[7, 8, 9, 10]).len(), 4);
        assert_eq!(read_numbers(&bytes, 6), Err(Rejection::TooLarge));
        let over = [&numbers(&[u32::MAX])[..], &[0]].concat();
        assert_eq!(read_numbers(&over, 9), Err(Rejection::Malformed));
        assert_eq!(read_numbers(&[0x80], 9), Err(Rejection::Malformed));
    }

    #[test]
    fn a_tree_has_one_top() {
        let summary = |pages| Summary { session: 1, position: Position::default(), pages, root: 0 };
        for (pages, top) in [(1, 1), (16, 1), (17, 2), (256, 2), (257, 3), (u32::MAX, 8)] {
            assert_eq!(summary(pages).top(), top, "{pages}");
            assert_eq!(summary(pages).nodes(top), 1);
        }
    }
}
