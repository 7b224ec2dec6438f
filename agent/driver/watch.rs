//! The socket at which an agent's parent hears that commands have ended: one word of a
//! keeper, one JSON line. It is there only once the agent is no more.

use std::{
    io::Write as _,
    os::unix::net::UnixStream as StdUnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{
    control::SYSTEM_SOCKET,
    socket::{self, Kept},
};
use crate::hold::words::KeeperWord;

/// Longest word, bytes.
const LINE_BYTES_MAX: u64 = 4_096;

/// How often a keeper tries to be heard, and the pause between two tries.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// Who says nothing within this is not waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// Where it is: beside the agent's control socket, and for those who may use that.
fn path(control: &Path) -> PathBuf {
    control.with_file_name("watch.sock")
}

/// Binds it, for the parent of the agent that listens at `control`.
///
/// # Errors
/// As [`Kept::bind`].
pub fn bind(control: &Path) -> Result<Kept<UnixListener>, String> {
    Kept::bind(&path(control), 0o660, |own| {
        let listener = UnixListener::bind(own)?;
        if own == path(Path::new(SYSTEM_SOCKET)) {
            socket::give_to_group(own);
        }
        Ok(listener)
    })
}

/// What a keeper has come to say; nothing where that makes no sense.
pub async fn word(keeper: UnixStream) -> Option<KeeperWord> {
    let mut line = Vec::new();
    let mut keeper = BufReader::new(keeper.take(LINE_BYTES_MAX));
    let read = tokio::time::timeout(SILENCE, keeper.read_until(b'\n', &mut line)).await;
    read.ok()?.ok()?;
    serde_json::from_slice(&line).ok()
}

/// The keeper's side: says it to the parent of the agent that listened at `control`, which
/// opens its ears about now. Where nobody listens nobody waits for it either.
pub fn say(control: &Path, word: &KeeperWord) {
    let Ok(mut line) = serde_json::to_vec(word) else { return };
    line.push(b'\n');
    for _ in 0..TRIES {
        let said = StdUnixStream::connect(path(control)).and_then(|mut to| to.write_all(&line));
        if said.is_ok() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}
