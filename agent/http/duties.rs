//! `/duties`: the group's duties as this board sees them, and what is wanted of them.

use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::json;
use understudy_core::{
    event::{Reply, Request},
    sql::{self, SqlRequest, SqlResponse, StatementOutcome},
};

use super::{Answer, Parameters, nodes, text};
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

/// `POST /duties/NAME/pause`, `/resume` and `/transfer?board=NAME`
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
        "transfer" => {
            let status = nodes::seen(&caller).await?;
            let board = match parameters.value("board") {
                Some(board) => duties::id(&status, board).map_err(|why| refused(&why))?,
                None => status.id,
            };
            duties::check_transfer(&status, &name, board).map_err(|why| refused(&why))?;
            duties::transfer(&name, board)
        }
        other => {
            return Err(refused(&format!("{other} is none of pause, resume and transfer")));
        }
    };
    write(&caller, &name, &request).await
}

async fn write(caller: &Caller, name: &str, request: &SqlRequest) -> Answer {
    let unavailable = |words: &str| text(StatusCode::SERVICE_UNAVAILABLE, words);
    let answer = match caller.request(Request::Write(sql::encode(request))).await {
        Some(Reply::Done { answer, .. }) => answer,
        Some(Reply::Refused(refusal)) => return Err(unavailable(&refusal.to_string())),
        None => return Err(unavailable("this board is stopping")),
    };
    let response: Option<SqlResponse> = sql::decode(&answer).ok();
    let first = response.and_then(|response| response.results.into_iter().next());
    match first.map(|result| result.outcome) {
        Some(StatementOutcome::Changed { rows_affected: 1, .. }) => Ok(text(StatusCode::OK, "")),
        _ => Err(unknown(name)),
    }
}

fn refused(why: &str) -> Response {
    text(StatusCode::BAD_REQUEST, why)
}

fn unknown(name: &str) -> Response {
    text(StatusCode::NOT_FOUND, &format!("there is no duty {name}"))
}
