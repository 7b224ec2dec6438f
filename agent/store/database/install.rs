//! Another board's state becomes this one's: pages put aside, written in one
//! transaction over those that differ.
//!
//! All that the file would hold is hashed on the way, and it is committed only when it
//! is that state as a whole. Readers keep what they see; whoever reads next reads the
//! schema anew. It counts as installed when no power cut can take it.

use rusqlite::Connection;
use understudy_core::{
    limits::PAGE_BYTES,
    mutant,
    pages::{Done, Summary},
};

use super::{
    Database, Failure,
    aside::Aside,
    authorize::Mode,
    text::words,
    tree::{self, LOCK_PAGE, OWN_FIELDS, Tree, page_hash},
};

impl Database {
    /// Makes the file that state with the pages put aside.
    pub(super) fn install(&mut self, summary: &Summary) -> Result<Done, Failure> {
        if self.is_full() {
            return Ok(Done::Failed(String::from("the disk is full")));
        }
        self.commit()?;
        let aside = match Aside::open(&self.path, self.options.vfs.as_deref()) {
            Ok(aside) => aside,
            Err(error) => return Ok(Done::Failed(words(&error))),
        };
        self.begin()?;
        self.authorizer.enter(Mode::Internal);
        match write_pages(&self.connection, &aside, summary) {
            Ok(true) => {}
            Ok(false) => {
                let undone = self.connection.execute_batch("ROLLBACK");
                undone.map_err(|error| self.failure(&error))?;
                self.reopen()?;
                aside.clear();
                return Ok(Done::Installed(None));
            }
            Err(error) => return Err(self.failure(&error)),
        }
        let scrub = self.last_scrub();
        self.connection.execute_batch("COMMIT").map_err(|error| self.failure(&error))?;
        self.reopen()?;
        self.pass_scrub_over(scrub);
        self.checkpoint_what_came()?;
        aside.clear();
        Ok(Done::Installed(Some(self.membership.clone())))
    }
}

/// Writes what was put aside over what differs; false when that is not the state.
fn write_pages(
    connection: &Connection,
    aside: &Aside,
    summary: &Summary,
) -> rusqlite::Result<bool> {
    let own_pages = tree::page_count(connection)?;
    let own_first = tree::page(connection, 0)?;
    let (mut tree, mut first) = (Tree::builder(), Vec::new());
    for number in 0..summary.pages {
        // A file that was torn is no state.
        let Ok(put_aside) = aside.get(number) else { return Ok(false) };
        let page = match &put_aside {
            Some(page) => page.clone(),
            None if number < own_pages => tree::page(connection, number)?,
            None if number == LOCK_PAGE => vec![0; PAGE_BYTES],
            None => return Ok(false),
        };
        tree.add(number, Some(page_hash(number, &page)));
        if number == 0 {
            first = page;
        } else if put_aside.is_some() && number != LOCK_PAGE {
            write_page(connection, number, &page)?;
        }
    }
    if own_pages > summary.pages {
        // Nothing at a place ends the file before it.
        connection
            .prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, NULL)")?
            .execute([u64::from(summary.pages).cast_signed() + 1])?;
    }
    // Last: it says that the schema is another, and whatever is run after that reads all
    // of it anew.
    write_page(connection, 0, &first_page(first, &own_first))?;
    Ok(tree.finish(summary.pages).root() == summary.root || mutant::is(26))
}

fn write_page(connection: &Connection, number: u32, page: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)")?
        .execute(rusqlite::params![u64::from(number).cast_signed() + 1, page])
        .map(drop)
}

/// Page 1 with this board's own fields. The one that says whether the schema has
/// changed rises: other connections here have read another.
fn first_page(mut page: Vec<u8>, own: &[u8]) -> Vec<u8> {
    for field in OWN_FIELDS {
        if let (Some(to), Some(from)) = (page.get_mut(field.clone()), own.get(field)) {
            to.copy_from_slice(from);
        }
    }
    let [_, cookie, _] = OWN_FIELDS;
    if let Some(bytes) = page.get_mut(cookie)
        && let Ok(number) = <[u8; 4]>::try_from(&*bytes)
    {
        bytes.copy_from_slice(&u32::from_be_bytes(number).wrapping_add(1).to_be_bytes());
    }
    page
}
