//! `GET /history`: what became of the group's boards and duties, as JSON or CSV.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
};
use tokio::time::timeout;
use understudy_core::{
    event::{Reply, Request},
    sql,
};

use super::{Answer, Front, Parameters, level, nodes, respond, text};
use crate::history::query::{self, Range};

const JSON: &str = "application/json; charset=utf-8";

/// `?since=`, `duty`, `board`, `limit`, `format=csv`
pub(super) async fn read(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    nodes::with_data(&front.caller).await?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, &reason);
    let accepts = headers.get(header::ACCEPT).and_then(|kind| kind.to_str().ok());
    let is_csv = match parameters.value("format") {
        None => accepts.is_some_and(|kind| kind.contains("text/csv")),
        Some("json") => false,
        Some("csv") => true,
        Some(other) => return Err(bad(format!("format is json or csv, not {other}"))),
    };
    let named = |name| parameters.value(name).map(String::from);
    let (since, limit) = (parameters.value("since"), parameters.value("limit"));
    let range = Range::new(named("duty"), named("board"), since, limit).map_err(bad)?;
    let level = level(&front, &parameters).await;
    let request = Request::Read { level, sql: sql::encode(&query::request(&range)) };
    let unavailable = |reason: &str| text(StatusCode::SERVICE_UNAVAILABLE, reason);
    let answer = match timeout(parameters.timeout, front.caller.request(request)).await {
        Ok(Some(Reply::Done { answer, .. })) => answer,
        Ok(Some(Reply::Refused(refusal))) => return Err(unavailable(&refusal.to_string())),
        Ok(None) => return Err(unavailable("this board is stopping")),
        Err(_) => return Err(unavailable("timeout")),
    };
    let response = sql::decode(&answer).map_err(|_| unavailable("the answer is unreadable"))?;
    let rows = query::rows(response).map_err(|reason| unavailable(&reason))?;
    Ok(if is_csv {
        respond(StatusCode::OK, "text/csv; charset=utf-8", query::csv(&rows))
    } else {
        respond(StatusCode::OK, JSON, query::json(&rows))
    })
}
