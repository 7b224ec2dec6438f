//! `/db/load` and `/boot`: content from elsewhere, streamed in.
//!
//! As in rqlite a SQLite file takes the place of the whole database, and SQL text is
//! executed. Unlike there, a file goes to all boards through the log, is looked through
//! before anything changes, and readers see the old content until the new is complete;
//! gzip is unpacked; `replace` has SQL text take the place of everything too; and
//! `/boot` does the same as `/db/load` for a file, on a group of any size.

use std::{future::poll_fn, pin::pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use understudy_core::sql::{SqlResponse, StatementOutcome, StatementResult};

use super::{Answer, Front, Parameters, empty, json, limits::patience_ms, nodes, render, text};
use crate::{
    call::Piece,
    driver::clock,
    load::{Failed, Loaded, Wanted},
};

/// Bytes that are listened to after it is known that they are of no use.
const UNWANTED_BYTES_MAX: usize = 16 << 20;

pub(super) async fn load(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?.without_fence()?;
    let replace = parameters.has("replace");
    let wanted = if replace { Wanted::Replacement } else { Wanted::FileOrText };
    let response = match handed_over(&front, wanted, body).await? {
        Ok(Loaded::Replaced) => SqlResponse::default(),
        Ok(Loaded::Executed(response)) => response,
        // As for statements: the request was understood.
        Err(Failed::Statement(words)) if !replace => {
            let outcome = StatementOutcome::Error(words);
            SqlResponse { results: vec![StatementResult { outcome, time_ns: 0 }], error: None }
        }
        Err(Failed::Statement(words) | Failed::Content(words)) => {
            return Err(text(StatusCode::BAD_REQUEST, &words));
        }
        Err(Failed::Group(words)) => return Err(text(StatusCode::SERVICE_UNAVAILABLE, &words)),
    };
    Ok(json(render::response(&response, &parameters.shape, 0)))
}

pub(super) async fn boot(State(front): State<Front>, body: Body) -> Answer {
    match handed_over(&front, Wanted::File, body).await? {
        Ok(Loaded::Replaced | Loaded::Executed(_)) => Ok(empty(StatusCode::OK)),
        Err(Failed::Statement(words) | Failed::Content(words)) => {
            let words = format!("invalid SQLite data: {words}");
            Err(text(StatusCode::BAD_REQUEST, &words))
        }
        Err(Failed::Group(words)) => Err(text(StatusCode::SERVICE_UNAVAILABLE, &words)),
    }
}

/// Hands the body over, piece by piece, as fast as it is taken.
async fn handed_over(
    front: &Front,
    wanted: Wanted,
    body: Body,
) -> Result<Result<Loaded, Failed>, Response> {
    nodes::with_data(&front.caller).await?;
    let unavailable = |words: String| text(StatusCode::SERVICE_UNAVAILABLE, &words);
    let upload = front.loader.begin(wanted).map_err(unavailable)?;
    let (mut body, silence) = (pin!(body), front.silence);
    let (mut bytes, mut unwanted, mut waited_ms) = (0_u64, 0, 0);
    loop {
        // Only the caller's own silence counts, not what the load takes its time for.
        let left = Duration::from_millis(patience_ms(silence, bytes).saturating_sub(waited_ms));
        let since = clock::now();
        let frame = poll_fn(|context| body.as_mut().poll_frame(context));
        let frame = tokio::time::timeout(left, frame).await;
        waited_ms += clock::now().since(since);
        let piece = match frame {
            Err(_) => Piece::Failed(String::from("the body did not arrive to its end")),
            Ok(None) => Piece::End,
            Ok(Some(Err(_))) => Piece::Failed(String::from("the body cannot be read to its end")),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                // Trailers say nothing to us.
                Err(_) => continue,
                Ok(data) => {
                    bytes += data.len() as u64;
                    Piece::Bytes(data.to_vec())
                }
            },
        };
        let (is_last, length) = match &piece {
            Piece::Bytes(bytes) => (false, bytes.len()),
            Piece::End | Piece::Failed(_) => (true, 0),
        };
        // Who takes no more has come to an end; the caller hears it more surely after
        // it has said all.
        if upload.pieces.send(piece).await.is_err() {
            unwanted += length;
        }
        if is_last || unwanted > UNWANTED_BYTES_MAX {
            break;
        }
    }
    let lost = |_| text(StatusCode::INTERNAL_SERVER_ERROR, "the load was lost on this board");
    upload.ended.await.map_err(lost)
}
