//! rqlite's HTTP API: what its clients send is understood, what they expect is
//! answered, byte for byte where they depend on it.
//!
//! Differences, all on the safe side: writes are replicated as rows, so nothing
//! is rewritten (`norwrandom`, `norwtime` and `noparse` are accepted and have
//! nothing to do); every board answers, so `redirect` and `retries` have nothing
//! to do either; `queue` is a durable write like any other and its sequence
//! number is the log index; `linearizable_timeout`, where it is not given, is that
//! of the group's timing profile (10 s when wired). A request that could not be
//! carried out answers 200 with a top-level `error`, as rqlite does, except that no
//! leader is 503.
//!
//! Left out as yet: remove, snapshot, accounts, TLS.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRef, RawQuery, Request as HttpRequest, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
    routing::{delete, get, post},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::OwnedSemaphorePermit,
};
use understudy_core::{
    error::Refusal,
    event::{ReadLevel, Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Statement},
};

use self::{
    body::{Bodies, Taken},
    limits::{Bounds, INLINE_BYTES_MAX},
    parameters::{Level, Parameters},
    render::Shape,
    served::Served,
};
use crate::{
    call::{Caller, STOPPING},
    driver::clock,
    load::Loader,
    readings::desk::Desk,
};

mod backup;
mod body;
mod door;
mod duties;
mod duty_stream;
mod history;
mod limits;
mod listed;
mod load;
mod nodes;
mod parameters;
mod parse;
mod readings;
mod render;
mod served;
mod stream;

/// The port HTTP listens on unless told otherwise.
pub const PORT: u16 = 4001;

/// Refuses to open HTTP to the network unless told so.
///
/// # Errors
/// Says how to open it, and how to do without.
pub fn check_address(address: SocketAddr, open: bool) -> Result<(), String> {
    if open || address.ip().is_loopback() {
        return Ok(());
    }
    let port = if address.port() == 0 { PORT } else { address.port() };
    Err(format!(
        "HTTP on {address} would be open to everybody on that network: there are no accounts yet.\n\
         Keep it on 127.0.0.1 and reach it through ssh:  ssh -L {port}:127.0.0.1:{port} THIS-BOARD\n\
         or open it knowingly with --http-open."
    ))
}

/// What every endpoint has at hand.
#[derive(Clone)]
struct Front {
    caller: Caller,
    served: Served,
    bodies: Bodies,
    loader: Loader,
    desk: Desk,
    silence: Duration,
}

impl FromRef<Front> for Caller {
    fn from_ref(front: &Front) -> Self {
        front.caller.clone()
    }
}

/// All endpoints.
pub fn router(caller: Caller, loader: Loader, desk: Desk) -> Router {
    endpoints(caller, loader, desk, &Bounds::SERVING)
}

/// What begins with one of these is that endpoint's, as rqlite routes.
const PATHS: [&str; 9] = [
    "/db/execute",
    "/db/query",
    "/db/request",
    "/status",
    "/nodes",
    "/readyz",
    "/db/backup",
    "/db/load",
    "/remove",
];

/// Not routed by its beginning, as in rqlite.
const BOOT: &str = "/boot";

/// Nor is this, which rqlite does not have.
const READINGS: &str = "/readings";

fn endpoints(caller: Caller, loader: Loader, desk: Desk, bounds: &Bounds) -> Router {
    let front = Front {
        caller,
        served: Served::default(),
        bodies: Bodies::new(bounds),
        loader,
        desk,
        silence: bounds.silence,
    };
    let inner = Router::new()
        .route(PATHS[0], post(execute))
        .route(PATHS[1], get(query_get).post(query_post))
        .route(PATHS[2], post(request))
        .route(PATHS[3], get(nodes::status))
        .route(PATHS[4], get(nodes::nodes))
        .route(PATHS[5], get(nodes::readyz))
        .route(PATHS[6], get(backup::backup))
        .route(PATHS[7], post(load::load))
        .route(PATHS[8], delete(nodes::remove))
        .route(BOOT, post(load::boot))
        .route(READINGS, get(readings::read).post(readings::write))
        .route("/readings/stream", get(stream::stream))
        .route("/history", get(history::read))
        .route("/nodes/{name}/{change}", post(nodes::change))
        .route("/duties", get(duties::all))
        .route("/duties/stream", get(duty_stream::stream))
        .route("/duties/{name}", get(duties::one))
        .route(
            "/duties/{name}/checkpoint",
            get(duties::left).put(duties::leave).post(duties::leave),
        )
        .route("/duties/{name}/{change}", post(duties::change))
        .fallback(|| async { empty(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { empty(StatusCode::METHOD_NOT_ALLOWED) })
        .with_state(front);
    // Around all of it, so that it comes before the routing.
    Router::new().fallback_service(inner).layer(axum::middleware::from_fn(enter))
}

async fn enter(mut request: HttpRequest, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return empty(StatusCode::OK);
    }
    let is_streamed = [PATHS[7], BOOT].iter().any(|path| request.uri().path().starts_with(path));
    if !is_streamed && body::announces_too_much(request.headers()) {
        return body::too_large();
    }
    let writes = [Method::POST, Method::PUT].contains(request.method());
    if writes && is_from_elsewhere(request.headers()) {
        let reason = "a web page of another origin may not write here";
        return text(StatusCode::FORBIDDEN, reason);
    }
    // Nothing is posted to rqlite's nodes: that is to one of them.
    let is_of_node = writes && request.uri().path().starts_with("/nodes/");
    if let Some(uri) = routed(request.uri()).filter(|_| !is_of_node) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// Was this sent by a browser, on behalf of a page that is not ours? Any page may
/// have one send text to a port of the machine it runs on, and SQL is text.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    origin.is_some_and(|origin| {
        let authority = origin.strip_prefix(b"http://".as_slice());
        authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host))
    })
}

/// The endpoint's own URI, for one that goes on behind it.
fn routed(uri: &Uri) -> Option<Uri> {
    let path = PATHS.into_iter().find(|path| uri.path().starts_with(path))?;
    match uri.query() {
        _ if uri.path() == path => None,
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => Some(Uri::from_static(path)),
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, router: Router) {
    door::serve(listener, router, Bounds::SERVING).await;
}

/// Serves one caller who came in another way: over the control socket.
pub async fn converse<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    door::converse(stream, router, Bounds::SERVING).await;
}

/// A refusal is a response as well.
type Answer = Result<Response, Response>;

async fn execute(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let (statements, _room) = statements(&front, &headers, body, true).await?;
    let request = sql_request(RequestKind::Execute, &parameters, statements);
    run(&front, Request::Write(sql::encode(&request)), &parameters).await
}

async fn query_get(State(front): State<Front>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?.without_fence()?;
    let statements = parameters.q.iter().map(|sql| Statement::new(sql, Vec::new())).collect();
    read(&front, RequestKind::Query, parameters, statements).await
}

async fn query_post(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?.without_fence()?;
    let (statements, _room) = statements(&front, &headers, body, true).await?;
    read(&front, RequestKind::Query, parameters, statements).await
}

async fn request(
    State(front): State<Front>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let (statements, _room) = statements(&front, &headers, body, false).await?;
    let only_reads = statements.iter().all(|statement| parse::only_reads(&statement.sql));
    if only_reads && parameters.fence.is_none() {
        return read(&front, RequestKind::Mixed, parameters, statements).await;
    }
    let request = sql_request(RequestKind::Mixed, &parameters, statements);
    run(&front, Request::Write(sql::encode(&request)), &parameters).await
}

/// What the body says, and the room it takes until it is answered.
async fn statements(
    front: &Front,
    headers: &HeaderMap,
    body: Body,
    takes_text: bool,
) -> Result<(Vec<Statement>, Option<OwnedSemaphorePermit>), Response> {
    let Taken { bytes: body, room } = front.bodies.read(body).await?;
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
    let statements = parsed.map_err(|reason| text(StatusCode::BAD_REQUEST, &reason))?;
    Ok((statements, room))
}

fn sql_request(
    kind: RequestKind,
    parameters: &Parameters,
    statements: Vec<Statement>,
) -> SqlRequest {
    SqlRequest {
        transaction: parameters.transaction,
        statement_timeout_ms: parameters.db_timeout_ms,
        fence: parameters.fence.clone(),
        ..SqlRequest::new(kind, Origin::User, statements)
    }
}

async fn read(
    front: &Front,
    kind: RequestKind,
    parameters: Parameters,
    statements: Vec<Statement>,
) -> Answer {
    if statements.is_empty() {
        return Ok(json(render::empty(&parameters.shape)));
    }
    let mut level = level(front, &parameters).await;
    // As in rqlite, only `/db/query` minds the timeout.
    if let (ReadLevel::Linearizable { timeout_ms }, true) = (&mut level, kind != RequestKind::Query)
    {
        *timeout_ms = None;
    }
    let sql = sql::encode(&sql_request(kind, &parameters, statements));
    run(front, Request::Read { level, sql }, &parameters).await
}

/// How fresh a read is to be.
async fn level(front: &Front, parameters: &Parameters) -> ReadLevel {
    match parameters.level {
        Level::None => ReadLevel::None { freshness_ms: parameters.freshness_ms },
        Level::Weak => ReadLevel::Weak,
        Level::Linearizable => {
            ReadLevel::Linearizable { timeout_ms: parameters.linearizable_timeout_ms }
        }
        Level::Strong => ReadLevel::Strong,
        Level::Auto => match front.caller.status().await {
            Some(status) if nodes::votes(&status) => ReadLevel::Weak,
            Some(_) | None => ReadLevel::None { freshness_ms: None },
        },
    }
}

async fn run(front: &Front, request: Request, parameters: &Parameters) -> Answer {
    let is_read = matches!(request, Request::Read { .. });
    let started = clock::nanoseconds();
    let answer = tokio::time::timeout(parameters.timeout, front.caller.request(request)).await;
    let elapsed_ns = clock::nanoseconds().saturating_sub(started);
    let shape = Shape { elapsed_ns, ..parameters.shape };
    match answer {
        Ok(Some(Reply::Done { index, answer })) => match sql::decode::<SqlResponse>(&answer) {
            Ok(response) => {
                let mut answer = json(render::response(&response, &shape, index));
                if let Some(address) = front.served.by(&front.caller, is_read).await {
                    answer.headers_mut().insert("x-rqlite-served-by", address);
                }
                Ok(answer)
            }
            Err(_) => Ok(json(render::failed("the group's answer is unreadable", &shape))),
        },
        Ok(Some(Reply::Refused(Refusal::NoLeader))) => {
            Err(text(StatusCode::SERVICE_UNAVAILABLE, "leader not found"))
        }
        // Clients and balancers ask another board then.
        Ok(Some(Reply::Refused(
            refusal @ (Refusal::Fenced | Refusal::TakesNoPart | Refusal::Witness { .. }),
        ))) => Err(text(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string())),
        Ok(Some(Reply::Refused(refusal))) => Ok(json(render::failed(&refusal.to_string(), &shape))),
        Ok(None) => Err(text(StatusCode::SERVICE_UNAVAILABLE, STOPPING)),
        Err(_) if is_read => Ok(json(render::failed("timeout", &shape))),
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
