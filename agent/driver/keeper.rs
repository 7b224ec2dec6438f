//! One connection of a keeper of a command: its words to the loop, and the loop's to it.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::mpsc,
};

use crate::{
    call::Caller,
    hold::words::{AgentWord, KeeperWord, Opening},
    keepers::WORDS_MAX,
};

/// Longest line of a keeper's, bytes.
const LINE_BYTES_MAX: usize = 4_096;

/// Serves one until either end has enough.
pub async fn serve(mut stream: BufReader<UnixStream>, opening: Opening, caller: Caller) {
    let (words, mut heard) = mpsc::channel(WORDS_MAX);
    match caller.keeper(opening, words).await {
        None => {}
        Some(Err(reason)) => {
            // It may not listen any more.
            let _ = say(&mut stream, &AgentWord::Refused(reason)).await;
        }
        Some(Ok(keeper)) => {
            converse(&mut stream, keeper, &mut heard, &caller).await;
            // The loop may have ended, and everything with it.
            let _ = caller.keeper_said(keeper, None).await;
        }
    }
}

async fn converse(
    stream: &mut BufReader<UnixStream>,
    keeper: u64,
    heard: &mut mpsc::Receiver<AgentWord>,
    caller: &Caller,
) {
    let mut line = Vec::new();
    loop {
        tokio::select! {
            word = heard.recv() => {
                let Some(word) = word else { return };
                if say(stream, &word).await.is_err() {
                    return;
                }
            }
            read = stream.fill_buf() => {
                let Ok(bytes) = read else { return };
                let end = bytes.iter().position(|byte| *byte == b'\n').map(|place| place + 1);
                let taken = end.unwrap_or(bytes.len());
                line.extend_from_slice(&bytes[..taken]);
                stream.consume(taken);
                if taken == 0 || line.len() > LINE_BYTES_MAX {
                    return;
                }
                if end.is_none() {
                    continue;
                }
                let Ok(word) = serde_json::from_slice::<KeeperWord>(&line) else { return };
                line.clear();
                if caller.keeper_said(keeper, Some(word)).await.is_none() {
                    return;
                }
            }
        }
    }
}

async fn say(stream: &mut BufReader<UnixStream>, word: &AgentWord) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
