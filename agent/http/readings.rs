//! `/readings`: readings handed over in lines or as a JSON array, and what is stored of
//! them, as JSON or CSV.
//!
//! Nothing of rqlite's: a write is answered with how far it came and which lines are not
//! stored, by their number (of an array: which items), and the status says the worst of
//! it in short. 200: as far as was asked for; 202: on this board's disk only; 400:
//! nothing in it was acceptable; 503: nothing was taken, for a reason of the board's.

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::json;
use tokio::time::timeout;
use understudy_core::{fence::Fence, readings::Level};

use super::{
    Answer, Front, Parameters,
    body::Taken,
    limits::REFUSED_MAX,
    listed::{self, Form},
    nodes, respond, text,
};
use crate::{
    call::{Caller, STOPPING},
    readings::{
        desk::{Message, Told},
        json,
        moment::Unit,
        query::{self, Range},
        stream::level_name,
    },
};

/// `POST /readings`.
pub(super) async fn write(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, &reason);
    let until = match parameters.value("until") {
        None | Some("committed") => Level::Committed,
        Some("spooled") => Level::Spooled,
        Some(other) => return Err(bad(format!("until is committed or spooled, not {other}"))),
    };
    let precision = match parameters.value("precision") {
        None => None,
        Some(name) => Some(
            Unit::named(name)
                .ok_or_else(|| bad(format!("precision is s, ms, us or ns, not {name}")))?,
        ),
    };
    let token = match &parameters.fence {
        None => None,
        Some(fence) => Some(token_of(&front.caller, fence).await?),
    };
    let Taken { bytes, room } = front.bodies.read(body).await?;
    let is_json = is_json(&headers, &bytes);
    let mut outcome = Outcome {
        message: Message::under(token),
        level: Level::Committed,
        stored: 0,
        refused: Vec::new(),
        refused_count: 0,
        is_handed_over: false,
        refusal: None,
    };
    let handed = async {
        if is_json {
            let items = json::items(&bytes).map_err(bad)?;
            for (number, item) in (1..).zip(items) {
                outcome.parse(number, json::parse(item, precision).map(|draft| vec![draft]));
                outcome.hand_over(&front, until, false).await?;
            }
        } else {
            for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
                outcome.message.line(number, line, precision);
                outcome.hand_over(&front, until, false).await?;
            }
        }
        outcome.hand_over(&front, until, true).await
    };
    match timeout(parameters.timeout, handed).await {
        Ok(handed) => handed?,
        Err(_) => {
            let reason = "timeout; it is not known what of these readings is stored";
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, reason));
        }
    }
    drop(room);
    outcome.answer(until, if is_json { "item" } else { "line" })
}

/// The token alone says which duty: no two ever have the same. Whether it is the duty's
/// still is decided where the readings are stored.
async fn token_of(caller: &Caller, fence: &Fence) -> Result<u64, Response> {
    let status = nodes::seen(caller).await?;
    let of_another =
        status.duties.iter().find(|duty| duty.token == fence.token && duty.name != fence.duty);
    match of_another {
        Some(duty) => {
            let reason =
                format!("token {} is that of {}, not of {}", fence.token, duty.name, fence.duty);
            Err(text(StatusCode::BAD_REQUEST, &reason))
        }
        None => Ok(fence.token),
    }
}

/// Said to be, or an array that is not said to be text.
fn is_json(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    kind.contains("json")
        || (!kind.starts_with("text/plain") && body.trim_ascii_start().starts_with(b"["))
}

/// What has become of a body so far.
struct Outcome {
    message: Message,
    level: Level,
    stored: usize,
    refused: Vec<(u64, String)>,
    refused_count: usize,
    /// Some reading was handed to the loop.
    is_handed_over: bool,
    /// Why none of those was taken, when that is no fault of theirs.
    refusal: Option<String>,
}

impl Outcome {
    fn parse(&mut self, number: u64, parsed: Result<Vec<crate::readings::Draft>, String>) {
        match parsed {
            Ok(drafts) => drafts.into_iter().for_each(|draft| self.message.draft(number, draft)),
            Err(reason) => self.message.error(number, reason),
        }
    }

    /// Hands over what has come, as soon as it is as much as travels together.
    async fn hand_over(
        &mut self,
        front: &Front,
        until: Level,
        is_last: bool,
    ) -> Result<(), Response> {
        if self.message.is_empty() || !(is_last || self.message.is_full()) {
            return Ok(());
        }
        let next = self.message.next();
        let message = std::mem::replace(&mut self.message, next);
        self.is_handed_over |= message.readings_count() > 0;
        let Some(told) = front.desk.store(message, until).await else {
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, STOPPING));
        };
        let Told { level, stored, refused, refusal } = told;
        if stored > 0 {
            self.level = self.level.min(level);
        }
        self.stored += stored;
        self.refusal = refusal.or(self.refusal.take());
        self.refused_count += refused.len();
        let room = REFUSED_MAX.saturating_sub(self.refused.len());
        self.refused.extend(refused.into_iter().take(room));
        Ok(())
    }

    fn answer(mut self, until: Level, part: &str) -> Answer {
        if self.stored == 0 && self.refused_count == 0 {
            return Err(text(StatusCode::BAD_REQUEST, "there is no reading in the body"));
        }
        let status = match self.stored {
            0 if self.is_handed_over => StatusCode::SERVICE_UNAVAILABLE,
            0 => StatusCode::BAD_REQUEST,
            _ if self.level < until => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        };
        let mut answer = json!({"stored": self.stored});
        if self.stored > 0 {
            answer["level"] = json!(level_name(self.level));
        }
        if let (0, Some(reason)) = (self.stored, self.refusal) {
            self.refused.retain(|(_, other)| *other != reason);
            answer["error"] = json!(reason);
        }
        let refused = self.refused.iter();
        let refused: Vec<_> =
            refused.map(|(number, error)| json!({part: number, "error": error})).collect();
        if self.refused_count > REFUSED_MAX {
            answer["refused_count"] = json!(self.refused_count);
        }
        answer["refused"] = json!(refused);
        Ok(respond(status, JSON, answer.to_string()))
    }
}

const JSON: &str = "application/json; charset=utf-8";

/// `GET /readings`.
pub(super) async fn read(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, &reason);
    let range = range(&parameters).map_err(bad)?;
    let form = Form::wanted(&parameters, &headers)?;
    let response = listed::asked(&front, &parameters, &query::request(&range)).await?;
    let rows = query::rows(response).map_err(|reason| listed::unavailable(&reason))?;
    Ok(form.respond(match form {
        Form::Csv => query::csv(&rows),
        Form::Json => query::json(&rows),
    }))
}

fn range(parameters: &Parameters) -> Result<Range, String> {
    Range::new(
        parameters.values("sensor").map(String::from).collect(),
        parameters.value("since"),
        parameters.value("until"),
        parameters.value("limit"),
    )
}
