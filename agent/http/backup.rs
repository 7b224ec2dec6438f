//! `/db/backup`: this board's database, streamed.
//!
//! Any board answers for itself, after it has made sure, as for a linearizable read,
//! that every write acknowledged before is in the copy (`noleader`: without asking
//! anybody). So `redirect` has nothing to do.
//!
//! A copy that comes to no end is never mistaken for a whole one: the connection ends
//! before the length that was announced, or before the last chunk. A caller that says
//! `TE: trailers` is told the reason, in the trailer `x-understudy-error`.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use hyper::body::{Frame, SizeHint};
use understudy_core::{
    error::Refusal,
    event::{ReadLevel, Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest},
};

use super::{Answer, Front, Parameters, nodes, respond, text};
use crate::call::{Backup, Form, Piece, Pieces, STOPPING};

/// Carries the reason why a copy came to no end.
pub(super) const ERROR: &str = "x-understudy-error";

pub(super) async fn backup(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let form = form(&parameters).map_err(|reason| text(StatusCode::BAD_REQUEST, reason))?;
    let is_sql = matches!(form, Form::Sql { .. });
    nodes::in_group(&front.caller).await?;
    let index = barrier(&front, &parameters).await?;
    let backup = Backup { index, form, compress: parameters.has("compress") };
    let stopping = || text(StatusCode::SERVICE_UNAVAILABLE, STOPPING);
    let taken = front.caller.backup(backup).await.ok_or_else(stopping)?;
    let unavailable = |reason: String| text(StatusCode::SERVICE_UNAVAILABLE, &reason);
    let mut pieces = taken.map_err(unavailable)?;
    let first = match pieces.pieces.recv().await {
        Some(Piece::Failed(reason)) => {
            return Err(text(StatusCode::INTERNAL_SERVER_ERROR, &reason));
        }
        Some(first @ (Piece::Bytes(_) | Piece::End)) => first,
        None => return Err(text(StatusCode::INTERNAL_SERVER_ERROR, LOST)),
    };
    let hears_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|te| te.to_str().is_ok_and(|te| te.to_ascii_lowercase().contains("trailers")));
    let kind = if is_sql { "application/sql" } else { "application/octet-stream" };
    let copy = Copy { first: Some(first), pieces, hears_trailers, ended: false };
    let mut response = respond(StatusCode::OK, kind, Body::new(copy));
    if hears_trailers {
        response.headers_mut().insert(header::TRAILER, HeaderValue::from_static(ERROR));
    }
    Ok(response)
}

const LOST: &str = "the copy was lost on this board: its log may say why";

fn form(parameters: &Parameters) -> Result<Form, &'static str> {
    let format = parameters.value("fmt").unwrap_or_default().to_ascii_lowercase();
    let (vacuum, tables) = (parameters.has("vacuum"), parameters.value("tables"));
    let tables = tables.map(|names| names.split(',').map(String::from).collect());
    match (format.as_str(), tables) {
        ("sql", _) if vacuum => Err("vacuum is for SQLite files, not for SQL text"),
        ("sql", tables) => Ok(Form::Sql { tables: tables.unwrap_or_default() }),
        ("" | "binary" | "delete", Some(_)) => Err("tables is for SQL text (fmt=sql) only"),
        ("" | "binary", None) => Ok(Form::Pages { wal: true, vacuum }),
        ("delete", None) => Ok(Form::Pages { wal: false, vacuum }),
        _ => Err("fmt is one of binary, delete, sql"),
    }
}

/// Up to which entry the copy is to reach at least.
async fn barrier(front: &Front, parameters: &Parameters) -> Result<u64, super::Response> {
    let level = match parameters.has("noleader") {
        true => ReadLevel::None { freshness_ms: None },
        false => ReadLevel::Linearizable { timeout_ms: None },
    };
    let request = SqlRequest::one(RequestKind::Query, Origin::User, "SELECT 1", Vec::new());
    let request = Request::Read { level, sql: sql::encode(&request) };
    let answer = tokio::time::timeout(parameters.timeout, front.caller.request(request)).await;
    let unavailable = |reason: &str| text(StatusCode::SERVICE_UNAVAILABLE, reason);
    match answer {
        Ok(Some(Reply::Done { index, .. })) => Ok(index),
        Ok(Some(Reply::Refused(Refusal::NoLeader))) => Err(unavailable("leader not found")),
        Ok(Some(Reply::Refused(refusal))) => Err(unavailable(&refusal.to_string())),
        Ok(None) => Err(unavailable(STOPPING)),
        Err(_) => Err(unavailable("timeout")),
    }
}

/// The body of a copy.
struct Copy {
    first: Option<Piece>,
    pieces: Pieces,
    hears_trailers: bool,
    ended: bool,
}

impl HttpBody for Copy {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.pieces.pieces.poll_recv(context)),
        };
        let reason = match piece {
            Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            Some(Piece::End) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Some(Piece::Failed(reason)) => reason,
            None => String::from(LOST),
        };
        self.ended = true;
        if !self.hears_trailers {
            return Poll::Ready(Some(Err(reason)));
        }
        let reason = reason.replace(|c: char| !c.is_ascii_graphic() && c != ' ', "?");
        let reason = HeaderValue::from_str(&reason).unwrap_or(HeaderValue::from_static(LOST));
        let error = (HeaderName::from_static(ERROR), reason);
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([error])))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // Trailers go with chunks only, which have no length.
        let announced = self.pieces.bytes.filter(|_| !self.hears_trailers && !self.ended);
        announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
