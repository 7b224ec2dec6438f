//! rqlite's HTTP API: what its clients send is understood, what they expect is
//! answered, byte for byte where they depend on it.
//!
//! Differences, all on the safe side: writes are replicated as rows, so nothing
//! is rewritten (`norwrandom`, `norwtime` and `noparse` are accepted and have
//! nothing to do); every board answers, so `redirect` and `retries` have nothing
//! to do either; `queue` is a durable write like any other and its sequence
//! number is the log index. A request that could not be carried out answers 200
//! with a top-level `error`, as rqlite does, except that no leader is 503.
//!
//! Left out as yet: backup, load, boot, remove, snapshot, accounts, TLS.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use tokio::net::TcpListener;
use understudy_core::{
    error::Refusal,
    event::{ReadLevel, Reply, Request},
    limits::REQUEST_BYTES_MAX,
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Statement},
};

use self::{
    parameters::{Level, Parameters},
    render::Shape,
};
use crate::call::Caller;

mod nodes;
mod parameters;
mod parse;
mod render;

/// Bodies above this are read on another thread, bytes.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// Refuses to open HTTP to the network unless told so.
///
/// # Errors
/// Says how to open it, and how to do without.
pub fn check_address(address: SocketAddr, open: bool) -> Result<(), String> {
    if open || address.ip().is_loopback() {
        return Ok(());
    }
    let port = if address.port() == 0 { crate::config::HTTP_PORT } else { address.port() };
    Err(format!(
        "HTTP on {address} would be open to everybody on that network: there are no accounts yet.\n\
         Keep it on 127.0.0.1 and reach it through ssh:  ssh -L {port}:127.0.0.1:{port} THIS-BOARD\n\
         or open it knowingly with --http-open."
    ))
}

/// All endpoints.
pub fn router(caller: Caller) -> Router {
    Router::new()
        .route("/db/execute", post(execute))
        .route("/db/query", get(query_get).post(query_post))
        .route("/db/request", post(request))
        .route("/status", get(nodes::status))
        .route("/nodes", get(nodes::nodes))
        .route("/readyz", get(nodes::readyz))
        .fallback(|| async { empty(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { empty(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(axum::middleware::from_fn(refuse_announced))
        .with_state(caller)
}

/// A body that announces itself as too large is not waited for.
async fn refuse_announced(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > REQUEST_BYTES_MAX as u64) {
        return too_large();
    }
    next.run(request).await
}

fn too_large() -> Response {
    let reason = format!("the request is larger than {REQUEST_BYTES_MAX} bytes");
    text(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, router: Router) {
    use axum::serve::ListenerExt;
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
    });
    // It ends only with the runtime.
    let _ = axum::serve(listener, router).await;
}

type Answer = Result<Response, Response>;

async fn execute(
    State(caller): State<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let answer = async {
        let parameters = Parameters::parse(query.as_deref())?;
        let statements = statements(&headers, body, true).await?;
        let request = sql_request(RequestKind::Execute, &parameters, statements);
        run(&caller, Request::Write(sql::encode(&request)), &parameters).await
    };
    settle(answer.await)
}

async fn query_get(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Response {
    let answer = async {
        let parameters = Parameters::parse(query.as_deref())?;
        let statements = parameters.q.iter().map(|sql| parse::plain(sql)).collect();
        read(&caller, RequestKind::Query, parameters, statements).await
    };
    settle(answer.await)
}

async fn query_post(
    State(caller): State<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let answer = async {
        let parameters = Parameters::parse(query.as_deref())?;
        let statements = statements(&headers, body, true).await?;
        read(&caller, RequestKind::Query, parameters, statements).await
    };
    settle(answer.await)
}

async fn request(
    State(caller): State<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    let answer = async {
        let parameters = Parameters::parse(query.as_deref())?;
        let statements = statements(&headers, body, false).await?;
        if statements.iter().all(|statement| parse::only_reads(&statement.sql)) {
            return read(&caller, RequestKind::Mixed, parameters, statements).await;
        }
        let request = sql_request(RequestKind::Mixed, &parameters, statements);
        run(&caller, Request::Write(sql::encode(&request)), &parameters).await
    };
    settle(answer.await)
}

fn settle(answer: Answer) -> Response {
    answer.unwrap_or_else(|refused| refused)
}

async fn statements(
    headers: &HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
    takes_text: bool,
) -> Result<Vec<Statement>, Response> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => text(status, "the request's body cannot be read"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_text = takes_text && kind.is_some_and(|kind| kind.starts_with("text/plain"));
    let parsed = if is_text {
        parse::text(&body)
    } else if body.len() <= INLINE_BYTES_MAX {
        parse::json(&body)
    } else {
        let parsed = tokio::task::spawn_blocking(move || parse::json(&body)).await;
        parsed.unwrap_or_else(|_| Err(String::from("invalid JSON body")))
    };
    parsed.map_err(|reason| text(StatusCode::BAD_REQUEST, &reason))
}

fn sql_request(
    kind: RequestKind,
    parameters: &Parameters,
    statements: Vec<Statement>,
) -> SqlRequest {
    SqlRequest {
        kind,
        transaction: parameters.transaction,
        origin: Origin::User,
        statement_timeout_ms: parameters.db_timeout_ms,
        statements,
    }
}

async fn read(
    caller: &Caller,
    kind: RequestKind,
    parameters: Parameters,
    statements: Vec<Statement>,
) -> Answer {
    if statements.is_empty() {
        return Ok(json(render::empty(&parameters.shape)));
    }
    let level = match parameters.level {
        Level::None => ReadLevel::None { freshness_ms: parameters.freshness_ms },
        Level::Weak => ReadLevel::Weak,
        Level::Linearizable => ReadLevel::Linearizable,
        Level::Strong => ReadLevel::Strong,
        Level::Auto => match caller.status().await {
            Some(status) if nodes::votes(&status) => ReadLevel::Weak,
            Some(_) | None => ReadLevel::None { freshness_ms: None },
        },
    };
    let sql = sql::encode(&sql_request(kind, &parameters, statements));
    run(caller, Request::Read { level, sql }, &parameters).await
}

async fn run(caller: &Caller, request: Request, parameters: &Parameters) -> Answer {
    let started = crate::driver::clock::now();
    let answer = tokio::time::timeout(parameters.timeout, caller.request(request)).await;
    let elapsed_ms = crate::driver::clock::now().since(started);
    let shape = Shape { elapsed_ms, ..parameters.shape };
    match answer {
        Ok(Some(Reply::Done { index, answer })) => match sql::decode::<SqlResponse>(&answer) {
            Ok(response) => Ok(json(render::response(&response, &shape, index))),
            Err(_) => Ok(json(render::failed("the group's answer is unreadable", &shape))),
        },
        Ok(Some(Reply::Refused(Refusal::NoLeader))) => {
            Err(text(StatusCode::SERVICE_UNAVAILABLE, "leader not found"))
        }
        Ok(Some(Reply::Refused(refusal))) => Ok(json(render::failed(&refusal.to_string(), &shape))),
        Ok(None) => Err(text(StatusCode::SERVICE_UNAVAILABLE, "this board is stopping")),
        Err(_) => {
            let unknown = "timeout; it is not known whether the change was made";
            Ok(json(render::failed(unknown, &shape)))
        }
    }
}

const VERSION: &str = concat!("understudy-", env!("CARGO_PKG_VERSION"));

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in [
        ("x-rqlite-version", VERSION),
        ("access-control-allow-methods", "OPTIONS, GET, POST"),
        ("access-control-allow-headers", "Content-Type"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn json(body: Vec<u8>) -> Response {
    respond(StatusCode::OK, "application/json; charset=utf-8", body)
}

fn text(status: StatusCode, body: &str) -> Response {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn empty(status: StatusCode) -> Response {
    respond(status, "", Body::empty())
}

#[cfg(test)]
mod tests;
