//! What a board that pulls pages has of another's state: its own pages, as of when it
//! began, and those put aside; where they differ from the other's; and what it wants
//! next.
//!
//! It goes down the other's tree, depth first, so what it has to remember stays small:
//! the way down, and the pages of a few questions.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use rusqlite::Connection;
use understudy_core::{
    limits::{PAGE_BYTES, PAGE_HASH_BYTES, PAGES_ASKED_MAX, PAGES_NODES_ASKED_MAX},
    mutant,
    pages::{Answer, Done, Summary, Wish, numbers},
};

use super::{
    aside::Aside,
    tree::{self, LOCK_PAGE, Tree, children, cut, page_hash},
};

/// See the module's description.
pub(super) struct Puller {
    own: Connection,
    own_pages: u32,
    aside: Aside,
    summary: Summary,
    salt: u32,
    tree: Tree,
    /// Nodes that differ and have not been asked for: level and place.
    nodes: Vec<(u8, u32)>,
    /// Pages that differ and have not been asked for, each with its hash.
    wanted: BTreeMap<u32, u32>,
    /// And those that have been.
    asked: BTreeMap<u32, u32>,
}

/// Why pulling does not go on, in words.
type Trouble = String;

fn words(error: rusqlite::Error) -> Trouble {
    super::text::words(&error)
}

impl Puller {
    /// Compares with that state, from the top.
    pub(super) fn new(
        own: Connection,
        aside: Aside,
        summary: Summary,
        salt: u32,
    ) -> Result<Self, Trouble> {
        let own_pages = tree::page_count(&own).map_err(words)?;
        let goes_on = AtomicBool::new(false);
        let hash_of = |number| hash_here(&own, own_pages, &aside, number);
        let tree = Tree::build(summary.pages, &goes_on, hash_of).map_err(words)?;
        let tree = tree.ok_or("nobody ends it")?;
        let differs = tree.root() != summary.root;
        let nodes = if differs { vec![(summary.top(), 0)] } else { Vec::new() };
        let (wanted, asked) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { own, own_pages, aside, summary, salt, tree, nodes, wanted, asked })
    }

    /// What to ask next, and whether that is all.
    pub(super) fn next(&mut self, room: usize) -> Done {
        let mut wishes = Vec::new();
        while wishes.len() < room {
            let Some(wish) = self.next_wish() else { break };
            wishes.push(wish);
        }
        let is_last = self.wanted.is_empty() && self.nodes.is_empty();
        Done::Wants { wishes, is_last }
    }

    fn next_wish(&mut self) -> Option<Wish> {
        let session = self.summary.session;
        let mut pages = Vec::new();
        while pages.len() < PAGES_ASKED_MAX
            && let Some((page, hash)) = self.wanted.pop_first()
        {
            self.asked.insert(page, hash);
            pages.push(page);
        }
        if !pages.is_empty() {
            return Some(Wish::Pages { session, pages: numbers(&pages) });
        }
        let (level, node) = self.nodes.pop()?;
        let mut nodes = vec![node];
        while nodes.len() < PAGES_NODES_ASKED_MAX
            && let Some((_, node)) = self.nodes.pop_if(|(other, _)| *other == level)
        {
            nodes.push(node);
        }
        nodes.sort_unstable();
        Some(Wish::Hashes { session, salt: self.salt, level, nodes: numbers(&nodes) })
    }

    /// An answer came.
    pub(super) fn take(&mut self, wish: &Wish, answer: &Answer) -> Result<(), Trouble> {
        let asked = wish.numbers().map_err(|_| "a question of its own it cannot read")?;
        match (wish, answer) {
            (Wish::Hashes { level, .. }, Answer::Hashes(hashes)) => {
                self.take_hashes(*level, &asked, hashes)
            }
            (Wish::Pages { .. }, Answer::Pages(pages)) => self.take_pages(&asked, pages),
            (_, _) => Err(Trouble::from("an answer to another question")),
        }
    }

    fn take_hashes(&mut self, level: u8, asked: &[u32], hashes: &[u8]) -> Result<(), Trouble> {
        let below = asked.iter().flat_map(|node| children(self.summary.pages, level, *node));
        let below: Vec<u32> = below.collect();
        if hashes.len() != below.len() * PAGE_HASH_BYTES {
            return Err(Trouble::from("an answer with more or fewer hashes than asked for"));
        }
        let mut differing = Vec::new();
        for (node, bytes) in below.into_iter().zip(hashes.chunks_exact(PAGE_HASH_BYTES)) {
            let theirs = u32::from_le_bytes(bytes.try_into().map_err(|_| "a short hash")?);
            if level > 1 {
                if cut(self.tree.node(level - 1, node), self.salt) != theirs {
                    differing.push((level - 1, node));
                }
            } else if node != LOCK_PAGE && !self.has(node, theirs).map_err(words)? {
                self.wanted.insert(node, theirs);
            }
        }
        // The first of them is asked for first.
        self.nodes.extend(differing.into_iter().rev());
        Ok(())
    }

    /// Is the page here, put aside or the board's own?
    fn has(&self, number: u32, theirs: u32) -> rusqlite::Result<bool> {
        let is_theirs = |page: &[u8]| cut(page_hash(number, page), self.salt) == theirs;
        if let Some(page) = self.aside.get(number)? {
            if is_theirs(&page) || mutant::is(26) {
                return Ok(true);
            }
            self.aside.remove(number)?;
        }
        Ok(number < self.own_pages && is_theirs(&tree::page(&self.own, number)?))
    }

    /// Pages that are not what their hashes said are asked for again.
    fn take_pages(&mut self, asked: &[u32], pages: &[u8]) -> Result<(), Trouble> {
        if pages.len() != asked.len() * PAGE_BYTES {
            return Err(Trouble::from("an answer with more or fewer pages than asked for"));
        }
        let mut good = Vec::new();
        for (number, page) in asked.iter().zip(pages.chunks_exact(PAGE_BYTES)) {
            let Some(hash) = self.asked.remove(number) else { continue };
            if cut(page_hash(*number, page), self.salt) == hash {
                good.push((*number, page));
            } else {
                self.wanted.insert(*number, hash);
            }
        }
        self.aside.put(&good).map_err(words)
    }

    /// Forgets what was put aside.
    pub(super) fn forget(&self) {
        self.aside.clear();
    }
}

/// The page's hash, of what was put aside where something was.
fn hash_here(
    own: &Connection,
    own_pages: u32,
    aside: &Aside,
    number: u32,
) -> rusqlite::Result<Option<u64>> {
    if let Some(page) = aside.get(number)? {
        return Ok(Some(page_hash(number, &page)));
    }
    if number >= own_pages {
        return Ok(None);
    }
    tree::page(own, number).map(|page| Some(page_hash(number, &page)))
}
