//! `GET /history`: what became of the group's boards and duties, as JSON or CSV.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
};

use super::{
    Answer, Front, Parameters,
    listed::{self, Form},
    nodes, text,
};
use crate::history::query::{self, Range};

/// `?since=`, `duty`, `board`, `limit`, `format=csv`
pub(super) async fn read(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    nodes::with_data(&front.caller).await?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, &reason);
    let named = |name| parameters.value(name).map(String::from);
    let (since, limit) = (parameters.value("since"), parameters.value("limit"));
    let range = Range::new(named("duty"), named("board"), since, limit).map_err(bad)?;
    let form = Form::wanted(&parameters, &headers)?;
    let response = listed::asked(&front, &parameters, &query::request(&range)).await?;
    let rows = query::rows(response).map_err(|reason| listed::unavailable(&reason))?;
    Ok(form.respond(match form {
        Form::Csv => query::csv(&rows),
        Form::Json => query::json(&rows),
    }))
}
