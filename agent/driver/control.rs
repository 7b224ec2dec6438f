//! The control socket: a Unix socket in the data directory. One JSON line in,
//! one JSON line out, then the connection ends. Who begins otherwise speaks HTTP:
//! what is too large for a line goes that way, with the socket's own permissions.

use std::{
    io::{self, BufRead, Read, Write},
    os::unix::net::UnixStream as StdUnixStream,
    path::Path,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::socket::{self, GROUP, Kept};
use crate::{
    control::{ControlRequest, ControlResponse, LINE_BYTES_MAX},
    hold::words::Opening,
};

/// Command lines served at the same time.
const CONNECTIONS_MAX: usize = 16;

/// A connection that says nothing ends after this.
const SILENCE: Duration = Duration::from_secs(5);

/// A command line waits no longer than this for its answer, and the agent for a
/// command line to take it.
const ANSWER: Duration = Duration::from_secs(60);

/// Where it is when nobody says otherwise.
pub const SYSTEM_SOCKET: &str = "/run/understudy/control.sock";

/// A wish and where its answer goes.
pub type Wish = (ControlRequest, oneshot::Sender<ControlResponse>);

/// Binds the socket in place of one that a former agent left. That of a system belongs to
/// a group, where there is one of that name.
///
/// # Errors
/// As [`Kept::bind`].
pub fn bind(path: &Path) -> Result<Kept<UnixListener>, String> {
    Kept::bind(path, 0o660, |path| {
        let listener = UnixListener::bind(path)?;
        if path == Path::new(SYSTEM_SOCKET) {
            socket::give_to_group(path);
        }
        Ok(listener)
    })
}

/// Serves for ever; wishes go to `wishes`, who speaks HTTP to `http`, and keepers of
/// commands to `hold`, whose connections take no places.
pub async fn serve<H, F, K, G>(
    mut listener: Kept<UnixListener>,
    wishes: mpsc::Sender<Wish>,
    http: H,
    hold: K,
) where
    H: Fn(BufReader<UnixStream>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
    K: Fn(BufReader<UnixStream>, Opening) -> G + Clone + Send + 'static,
    G: Future<Output = ()> + Send + 'static,
{
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else { return };
        let Ok(stream) = listener.accept().await else {
            tokio::time::sleep(SILENCE).await;
            continue;
        };
        let (wishes, http, hold) = (wishes.clone(), http.clone(), hold.clone());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let first = tokio::time::timeout(SILENCE, stream.fill_buf()).await;
            match first.map(|first| first.map(|bytes| bytes.first().copied())) {
                // As HTTP's methods begin, and no JSON does.
                Ok(Ok(Some(b'A'..=b'Z'))) => http(stream).await,
                Ok(Ok(_)) => {
                    // A command line that goes away is its own affair.
                    if let Ok(Some((stream, opening))) = converse(stream, wishes, ANSWER).await {
                        drop(place);
                        return hold(stream, opening).await;
                    }
                }
                Ok(Err(_)) | Err(_) => {}
            }
            drop(place);
        });
    }
}

/// Answers one wish; who begins to keep a command is given back with that.
async fn converse(
    mut stream: BufReader<UnixStream>,
    wishes: mpsc::Sender<Wish>,
    answer_max: Duration,
) -> io::Result<Option<(BufReader<UnixStream>, Opening)>> {
    let mut line = Vec::new();
    let mut reader = (&mut stream).take(LINE_BYTES_MAX);
    let read = tokio::time::timeout(SILENCE, reader.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return Ok(None);
    }
    if let Ok(opening) = serde_json::from_slice(&line) {
        return Ok(Some((stream, opening)));
    }
    let response = match serde_json::from_slice(&line) {
        Err(error) => ControlResponse::Refused(format!("not a request: {error}")),
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let ended = || ControlResponse::Refused(String::from("the agent is stopping"));
            match wishes.send((request, reply)).await {
                Ok(()) => answer.await.unwrap_or_else(|_| ended()),
                Err(_) => ended(),
            }
        }
    };
    let mut line = serde_json::to_vec(&response).map_err(io::Error::other)?;
    line.push(b'\n');
    // Who asked and does not listen keeps no place.
    tokio::time::timeout(answer_max, stream.write_all(&line)).await??;
    Ok(None)
}

fn how_to_start(path: &Path) -> String {
    match path.parent() {
        Some(folder) if path != Path::new(SYSTEM_SOCKET) => {
            format!("`understudy --dir {} run`", folder.display())
        }
        Some(_) | None => String::from("`understudy run` (or `systemctl start understudy`)"),
    }
}

/// The command line's side.
///
/// # Errors
/// Says what to do when nobody listens, or nobody may ask.
pub fn connect(path: &Path) -> Result<StdUnixStream, String> {
    connect_beside(path, path)
}

/// To another socket of the agent whose control socket is `control`.
///
/// # Errors
/// As [`connect`].
#[expect(clippy::wildcard_enum_match_arm, reason = "other errors speak for themselves")]
pub fn connect_beside(path: &Path, control: &Path) -> Result<StdUnixStream, String> {
    StdUnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no agent is running for {}: start one with {}",
            path.display(),
            how_to_start(control)
        ),
        io::ErrorKind::PermissionDenied => format!(
            "you may not use {}: run this as root, or join the group that owns it and log in anew: \
             `sudo usermod -aG {GROUP} $USER`",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    })
}

/// Asks and waits.
///
/// # Errors
/// As [`connect`], and when there is no answer.
pub fn ask(path: &Path, request: &ControlRequest) -> Result<ControlResponse, String> {
    let mut stream = connect(path)?;
    let broken = |error: io::Error| format!("the agent did not answer: {error}");
    stream.set_read_timeout(Some(ANSWER)).map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    io::BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer).map_err(broken)?;
    if answer.is_empty() {
        return Err(String::from(
            "the agent ended before it answered: its log says why (`journalctl -u understudy`, or \
             the terminal it ran in)",
        ));
    }
    serde_json::from_str(&answer)
        .map_err(|error| format!("the agent's answer is no answer: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_sockets_folder_is_made_and_what_prevents_it_is_said() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/understudy/control.sock");
        let listener = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(listener);
        bind(&path).expect("in place of the one that was left");
        fs::write(folder.path().join("file"), b"").unwrap();
        let error = bind(&folder.path().join("file/control.sock")).unwrap_err();
        assert!(error.contains("/file") && error.contains("--dir"), "{error}");
    }

    #[test]
    fn a_command_line_that_does_not_take_its_answer_keeps_no_place() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut deaf, served) = UnixStream::pair().unwrap();
            deaf.write_all(b"\"Status\"\n").await.unwrap();
            let (wishes, mut wished) = mpsc::channel(1);
            let answering = async {
                let (_, reply): Wish = wished.recv().await.unwrap();
                reply.send(ControlResponse::Token("x".repeat(8 << 20))).unwrap();
            };
            let served = converse(BufReader::new(served), wishes, Duration::from_millis(20));
            let (ended, ()) = tokio::join!(served, answering);
            assert_eq!(ended.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        });
    }

    #[test]
    fn an_agent_that_ends_without_an_answer_is_told_from_one_that_talks_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let agent = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            io::BufReader::new(stream).read_line(&mut String::new()).unwrap();
        });
        let error = ask(&path, &ControlRequest::Status).unwrap_err();
        assert!(error.contains("ended before it answered"), "{error}");
        agent.join().unwrap();
    }
}
