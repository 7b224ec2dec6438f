//! `/duties`: the group's duties as this board sees them, and what is wanted of them.

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::json;
use understudy_core::{
    event::{ReadLevel, Request},
    fence::Fence,
    sql::{self, SqlRequest, SqlResponse, StatementOutcome},
};

use super::{Answer, Front, Parameters, body::Taken, listed, nodes, respond, text};
use crate::{call::Caller, duties};

/// `GET /duties`
pub(super) async fn all(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let status = nodes::seen(&caller).await?;
    Ok(nodes::written(&json!(status.duties), parameters.shape.pretty))
}

/// `GET /duties/NAME`
pub(super) async fn one(
    State(caller): State<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let status = nodes::seen(&caller).await?;
    let duty = status.duties.iter().find(|duty| duty.name == name);
    let duty = duty.ok_or_else(|| unknown(&name))?;
    Ok(nodes::written(&json!(duty), parameters.shape.pretty))
}

/// `GET /duties/NAME/checkpoint`: what its holder left last.
pub(super) async fn left(State(caller): State<Caller>, Path(name): Path<String>) -> Answer {
    nodes::with_data(&caller).await?;
    let level = ReadLevel::Linearizable { timeout_ms: None };
    let request = Request::Read { level, sql: sql::encode(&duties::left(&name)) };
    let response = asked(&caller, request).await?;
    let left = duties::what_was_left(response).map_err(|why| refused(&why))?;
    let none = || format!("nothing was left for {name}, or there is no such duty");
    let left = left.ok_or_else(|| text(StatusCode::NOT_FOUND, &none()))?;
    Ok(respond(StatusCode::OK, "application/octet-stream", left))
}

/// `PUT` or `POST /duties/NAME/checkpoint?token=N`: leaves the body to the next holder.
pub(super) async fn leave(
    State(front): State<Front>,
    Path(duty): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    nodes::with_data(&front.caller).await?;
    let token = parameters.value("token").and_then(|token| token.parse().ok());
    let token = token.ok_or_else(|| refused("?token=N is missing, the duty's fencing token"))?;
    let Taken { bytes, room } = front.bodies.read(body).await?;
    let request = duties::leave(Fence { duty, token }, bytes)
        .map_err(|why| text(StatusCode::PAYLOAD_TOO_LARGE, &why))?;
    let response = asked(&front.caller, Request::Write(sql::encode(&request))).await?;
    drop(room);
    match response.failure() {
        Some(why) => Err(text(StatusCode::CONFLICT, why)),
        None => Ok(text(StatusCode::OK, "")),
    }
}

/// `POST /duties/NAME/pause`, `/resume`, `/take`, `/release` and `/transfer?board=NAME`
pub(super) async fn change(
    State(caller): State<Caller>,
    Path((name, what)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    nodes::with_data(&caller).await?;
    let request = match what.as_str() {
        "pause" => duties::pause(&name, true),
        "resume" => duties::pause(&name, false),
        "release" => duties::release(&name),
        "transfer" | "take" => {
            let status = nodes::seen(&caller).await?;
            let board = match parameters.value("board") {
                Some(board) => duties::id(&status, board).map_err(|why| refused(&why))?,
                None => status.id,
            };
            duties::check_transfer(&status, &name, board).map_err(|why| refused(&why))?;
            duties::transfer(&name, board)
        }
        other => {
            return Err(refused(&format!(
                "{other} is none of pause, resume, take, release and transfer"
            )));
        }
    };
    write(&caller, &name, &request).await
}

async fn asked(caller: &Caller, request: Request) -> Result<SqlResponse, Response> {
    listed::responded(caller.request(request).await)
}

async fn write(caller: &Caller, name: &str, request: &SqlRequest) -> Answer {
    let response = asked(caller, Request::Write(sql::encode(request))).await?;
    let first = response.results.into_iter().next();
    match first.map(|result| result.outcome) {
        Some(StatementOutcome::Changed { rows_affected: 1, .. }) => Ok(text(StatusCode::OK, "")),
        _ => Err(unknown(name)),
    }
}

fn refused(why: &str) -> Response {
    text(StatusCode::BAD_REQUEST, why)
}

pub(super) fn unknown(name: &str) -> Response {
    text(StatusCode::NOT_FOUND, &format!("there is no duty {name}"))
}
