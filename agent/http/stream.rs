//! `/readings/stream`: the group's readings as server-sent events, as they come.
//!
//! Each has the place in the log as its id; a listener that gives its last one back
//! (`Last-Event-ID`, or `after=`) goes on behind it, on any board. Where the log no
//! longer goes back so far, or is another group's, the stream begins with an event
//! `gap` that says so, and goes on with what is there; where a board has not come so far, it is refused for
//! now.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::{Answer, Front, Parameters, nodes, text};
use crate::feed::{Ended, Feed, Heard, Place};

/// Words for the road when there is nothing to tell, so that both ends know the other.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// Pieces on their way to a listener that is slow.
pub(super) const PIECES_MAX: usize = 4;

pub(super) async fn stream(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let wanted = parameters.values("sensor").map(String::from).collect();
    let given = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let given = given.or_else(|| parameters.value("after")).filter(|given| !given.is_empty());
    let place = |given: &str| {
        let reason = "the last event's id has three parts with a - between, as it was given; one \
                      of two parts is an older agent's, and nobody can go on behind it";
        Place::parse(given).ok_or_else(|| text(StatusCode::BAD_REQUEST, reason))
    };
    let after = given.map(place).transpose()?;
    nodes::in_group(&front.caller).await?;
    let feed = Feed::begin(front.caller, after, wanted).await;
    let feed = feed.map_err(|words| text(StatusCode::SERVICE_UNAVAILABLE, &words))?;
    let (pieces, listener) = mpsc::channel(PIECES_MAX);
    tokio::spawn(tell(feed, pieces));
    Ok(respond(listener))
}

/// What a listener gets at a time.
pub(super) type Piece = Bytes;

/// Server-sent events, as they come.
pub(super) fn respond(pieces: mpsc::Receiver<Piece>) -> Response {
    let body = Body::new(Events(pieces));
    let mut response = super::respond(StatusCode::OK, "text/event-stream", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells all there is to tell until nobody listens.
async fn tell(mut feed: Feed, pieces: mpsc::Sender<Piece>) {
    // Head and first line leave at once: who connected knows that it listens.
    let mut piece = String::from(": readings\n\n");
    loop {
        if pieces.send(Bytes::from(std::mem::take(&mut piece))).await.is_err() {
            return;
        }
        match tokio::time::timeout(QUIET, feed.next()).await {
            Err(_) => piece.push_str(": nothing new\n\n"),
            Ok(Ok(heard)) => heard.iter().for_each(|heard| write(&mut piece, heard)),
            Ok(Err(Ended::Failed(words))) => {
                let _ = pieces.send(Bytes::from(event("error", &words))).await;
                return;
            }
            Ok(Err(Ended::Another)) => {
                piece = event(
                    "gap",
                    "the last event you had is of another group, or of this one before a board \
                     recovered: from here on what comes is told, and what was stored before is in \
                     the table reading (GET /readings)",
                );
            }
            Ok(Err(Ended::Gone { first })) => {
                feed.skip_to(first);
                piece = event(
                    "gap",
                    &format!(
                        "this board's log begins with entry {first}: what was stored between that \
                         and the last event you had is in the table reading (GET /readings)"
                    ),
                );
            }
        }
    }
}

fn event(kind: &str, words: &str) -> String {
    let data = serde_json::Value::from(words);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn write(piece: &mut String, heard: &Heard) {
    let data = serde_json::to_string(heard).unwrap_or_default();
    piece.push_str(&format!("id: {}\ndata: {data}\n\n", heard.place));
}

/// What a listener gets, as it comes.
struct Events(mpsc::Receiver<Piece>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
