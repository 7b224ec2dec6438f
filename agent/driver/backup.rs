//! A copy on its way out: read on a thread of its own, a few pieces ahead of whoever
//! takes them. While it waits for them to be taken it looks at the copy's limit: a
//! caller who is too slow does not keep the WAL from beginning anew.

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::sync::mpsc::{self, Sender, error::TrySendError};
use tracing::warn;

use super::give_way;
use crate::{
    call::{Backup, Piece, Pieces},
    store::database::{Patience, STACK_BYTES, Snapshot},
};

/// Pieces read ahead.
const PIECES_AHEAD_MAX: usize = 4;

/// Between two looks whether there is room and time while nobody takes a piece: at
/// first, and at the most.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(64);

/// Begins to copy.
pub(super) fn start(snapshot: Snapshot, backup: Backup) -> Result<Pieces, String> {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    let bytes = snapshot.bytes(&backup.form).filter(|_| !backup.compress);
    let pipe = Pipe { sender, limit: snapshot.limit() };
    let copy = move || {
        give_way();
        copy(snapshot, &backup, pipe);
    };
    let named = thread::Builder::new().name(String::from("backup")).stack_size(STACK_BYTES);
    named.spawn(copy).map_err(|error| format!("no thread could be started: {error}"))?;
    Ok(Pieces { bytes, pieces })
}

fn copy(snapshot: Snapshot, backup: &Backup, mut pipe: Pipe) {
    let written = match backup.compress {
        false => snapshot.write(&backup.form, &mut pipe),
        true => {
            let mut gzip = GzEncoder::new(&mut pipe, Compression::fast());
            let written = snapshot.write(&backup.form, &mut gzip);
            written.and_then(|()| gzip.finish().map(drop).map_err(|error| error.to_string()))
        }
    };
    drop(snapshot);
    let last = match written {
        Ok(()) => Piece::End,
        Err(why) => {
            warn!(why, "a copy of the database came to no end");
            Piece::Failed(why)
        }
    };
    pipe.end(last);
}

struct Pipe {
    sender: Sender<Piece>,
    limit: Arc<Patience>,
}

impl Pipe {
    fn end(self, last: Piece) {
        // The database is not read any more: this may wait for as long as the caller.
        // One that has gone away needs no end.
        let _ = self.sender.blocking_send(last);
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut look = LOOK_MIN;
        let mut piece = Piece::Bytes(bytes.to_vec());
        loop {
            if let Some(why) = self.limit.why() {
                return Err(io::Error::other(why));
            }
            piece = match self.sender.try_send(piece) {
                Ok(()) => return Ok(bytes.len()),
                Err(TrySendError::Closed(_)) => {
                    return Err(io::Error::other("the caller went away"));
                }
                Err(TrySendError::Full(piece)) => piece,
            };
            thread::sleep(look);
            look = LOOK_MAX.min(2 * look);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
