//! `/duties/stream`: how the group's duties stand, as server-sent events: one for each duty
//! at first, then one with each change. An event's id is the duty's fencing token, so who
//! listens knows what to refuse whatever comes under an older one.
//!
//! Who comes again is told all anew: there is nothing to go on behind.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::{
    Answer, Parameters, duties, listed, nodes,
    stream::{PIECES_MAX, Piece, QUIET, respond},
};
use crate::{
    bulletin::{DutyNews, Listening},
    call::{Caller, STOPPING},
};

/// `GET /duties/stream`, of all duties or of each `?duty=NAME`.
pub(super) async fn stream(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    nodes::with_data(&caller).await?;
    let listening = listen(&caller).await?;
    let wanted: Vec<String> = parameters.values("duty").map(String::from).collect();
    let is_known = |name: &&String| listening.all.iter().any(|duty| duty.name == **name);
    if let Some(name) = wanted.iter().find(|name| !is_known(name)) {
        return Err(duties::unknown(name));
    }
    let (pieces, listener) = mpsc::channel(PIECES_MAX);
    tokio::spawn(tell(caller, listening, wanted, pieces));
    Ok(respond(listener))
}

async fn listen(caller: &Caller) -> Result<Listening, Response> {
    let stopping = || listed::unavailable(STOPPING);
    let listening = caller.listen_to_duties().await.ok_or_else(stopping)?;
    listening.map_err(|why| listed::unavailable(&why))
}

/// Tells all there is to tell until nobody listens.
async fn tell(
    caller: Caller,
    mut listening: Listening,
    wanted: Vec<String>,
    pieces: mpsc::Sender<Piece>,
) {
    let is_wanted = |news: &DutyNews| wanted.is_empty() || wanted.contains(&news.name);
    // Head and first line leave at once: who connected knows that it listens.
    let mut piece = String::from(": duties\n\n");
    listening.all.iter().filter(|news| is_wanted(news)).for_each(|news| write(&mut piece, news));
    loop {
        let text = std::mem::take(&mut piece);
        if !text.is_empty() && pieces.send(Piece::from(text)).await.is_err() {
            return;
        }
        match tokio::time::timeout(QUIET, listening.changes.recv()).await {
            Err(_) => piece.push_str(": nothing new\n\n"),
            Ok(Ok(news)) if is_wanted(&news) => write(&mut piece, &news),
            Ok(Ok(_)) => {}
            Ok(Err(RecvError::Lagged(_))) => {
                let Ok(again) = listen(&caller).await else { return };
                listening = again;
                let all = listening.all.iter().filter(|news| is_wanted(news));
                all.for_each(|news| write(&mut piece, news));
            }
            Ok(Err(RecvError::Closed)) => return,
        }
    }
}

fn write(piece: &mut String, news: &DutyNews) {
    let data = serde_json::to_string(news).unwrap_or_default();
    piece.push_str(&format!("id: {}\ndata: {data}\n\n", news.token));
}
