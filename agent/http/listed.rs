//! Rows of the agent's own tables, asked for and told as JSON or CSV: what `/readings` and
//! `/history` have in common.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use tokio::time::timeout;
use understudy_core::{
    event::{Reply, Request},
    sql::{self, SqlRequest, SqlResponse},
};

use super::{Front, Parameters, level, respond, text};
use crate::call::STOPPING;

const JSON: &str = "application/json; charset=utf-8";
const CSV: &str = "text/csv; charset=utf-8";

/// How rows are to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
}

impl Form {
    /// As `?format=` says, or else what the caller takes.
    pub(super) fn wanted(parameters: &Parameters, headers: &HeaderMap) -> Result<Self, Response> {
        let accepts = headers.get(header::ACCEPT).and_then(|kind| kind.to_str().ok());
        match parameters.value("format") {
            None if accepts.is_some_and(|kind| kind.contains("text/csv")) => Ok(Self::Csv),
            None | Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some(other) => {
                let reason = format!("format is json or csv, not {other}");
                Err(text(StatusCode::BAD_REQUEST, &reason))
            }
        }
    }

    pub(super) fn respond(self, rows: String) -> Response {
        respond(StatusCode::OK, if self == Self::Csv { CSV } else { JSON }, rows)
    }
}

/// Reads, at the level that the caller wants and no longer than it waits.
pub(super) async fn asked(
    front: &Front,
    parameters: &Parameters,
    request: &SqlRequest,
) -> Result<SqlResponse, Response> {
    let level = level(front, parameters).await;
    let request = Request::Read { level, sql: sql::encode(request) };
    let reply = timeout(parameters.timeout, front.caller.request(request)).await;
    responded(reply.map_err(|_| unavailable("timeout"))?)
}

/// What SQL came to, by the agent's reply to it.
pub(super) fn responded(reply: Option<Reply>) -> Result<SqlResponse, Response> {
    match reply {
        Some(Reply::Done { answer, .. }) => {
            sql::decode(&answer).map_err(|_| unavailable("the answer is unreadable"))
        }
        Some(Reply::Refused(refusal)) => Err(unavailable(&refusal.to_string())),
        None => Err(unavailable(STOPPING)),
    }
}

pub(super) fn unavailable(reason: &str) -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, reason)
}
