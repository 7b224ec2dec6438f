//! Requests over real sockets, against a loop that answers what it is told, and
//! against a board's real database.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use understudy_core::{
    event::{Entry, EntryKind},
    limits::{ENTRY_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX},
    readings::{Arrivals, Level as Reached, Receipt, unset_of},
    sql::{StatementOutcome, StatementResult, Value},
};

use super::*;
use crate::{
    call::Call,
    clock::BoardClock,
    status::{MemberStatus, Status},
    store::database::{Database, Options, QueryOutcome},
};

/// Sends one raw request to a server whose loop answers by `answer`, or never;
/// the whole response.
fn over_the_wire(
    raw: &[u8],
    silence: Duration,
    mut answer: impl FnMut(Request) -> Option<Reply> + Send + 'static,
) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (caller, mut calls) = Caller::channel();
        let bounds = Bounds { silence, ..Bounds::SERVING };
        tokio::spawn(door::serve(listener, router_of(&caller, &bounds), bounds));
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(call) = calls.recv().await {
                match call {
                    Call::Request(request, reply) => match answer(request) {
                        Some(answer) => reply.send(answer).unwrap(),
                        None => unanswered.push(reply),
                    },
                    Call::Status(reply) => reply.send(status()).unwrap(),
                    Call::Backup(..) => panic!("nobody asks for a copy here"),
                    Call::Hosts(_)
                    | Call::Keys(_)
                    | Call::NewKey(_)
                    | Call::Follow(..)
                    | Call::Keeper(_)
                    | Call::Checked(_)
                    | Call::Listen(_)
                    | Call::Probe(..)
                    | Call::Forget(_) => {
                        panic!("HTTP asks for no such thing")
                    }
                }
            }
        });
        let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let sending = async {
            // A server that refuses early does not take all of it.
            let _ = writer.write_all(raw).await;
        };
        let mut response = Vec::new();
        let receiving = async {
            let mut part = [0; 4_096];
            while let Ok(bytes @ 1..) = reader.read(&mut part).await {
                response.extend_from_slice(&part[..bytes]);
            }
        };
        tokio::join!(sending, receiving);
        String::from_utf8(response).unwrap()
    })
}

/// All endpoints of a board whose clock is not set.
fn router_of(caller: &Caller, bounds: &Bounds) -> Router {
    let loader = Loader::new(caller.clone(), std::env::temp_dir());
    let desk = Desk::new(caller.clone(), BoardClock::new(1, Vec::new(), Path::new("/nowhere")), 50);
    endpoints(caller.clone(), loader, desk, bounds)
}

/// A follower's view; it has no leader to pass anything on to.
fn status() -> Status {
    Status { http: Some(String::from("127.0.0.1:4001")), ..Status::default() }
}

/// Sends one raw request to a server whose loop answers with `reply`; the
/// response, and what the loop was asked.
fn exchange(raw: String, reply: Reply) -> (String, Option<Request>) {
    let asked = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&asked);
    let response = over_the_wire(raw.as_bytes(), limits::SILENCE, move |request| {
        *noted.lock().unwrap() = Some(request);
        Some(reply.clone())
    });
    let asked = asked.lock().unwrap().take();
    (response, asked)
}

/// A board that is its own group: what it executes is applied at once.
struct Board {
    database: Arc<Mutex<Database>>,
    _directory: tempfile::TempDir,
}

impl Board {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut database = Database::open(directory.path(), Options::default()).unwrap();
        let first = Entry { index: 1, term: 1, kind: EntryKind::Change, data: Vec::new() };
        database.apply(&[first]).unwrap();
        Self { database: Arc::new(Mutex::new(database)), _directory: directory }
    }

    /// The body of what a request is answered.
    fn ask(&self, raw: &str) -> String {
        let database = Arc::clone(&self.database);
        let response = over_the_wire(raw.as_bytes(), limits::SILENCE, move |request| {
            let mut database = database.lock().unwrap();
            Some(match request {
                Request::Write(sql) => write(&mut database, sql),
                Request::Read { sql, .. } => read(&mut database, &sql),
                Request::Admit(_)
                | Request::Rename { .. }
                | Request::Scrub
                | Request::Repair { .. }
                | Request::Member(_)
                | Request::Readings(_) => panic!("HTTP asks for no such thing"),
            })
        });
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        body(&response).to_owned()
    }

    /// The answer to statements at an endpoint.
    fn run(&self, path: &str, statements: &serde_json::Value) -> String {
        self.ask(&post(path, &statements.to_string()))
    }
}

fn write(database: &mut Database, sql: Vec<u8>) -> Reply {
    let base = database.applied();
    let executed = database.execute(base, &[sql]).unwrap();
    let index = base.index + 1;
    let entry = Entry { index, term: 1, kind: EntryKind::Change, data: executed.change };
    database.apply(&[entry]).unwrap();
    match executed.answers.into_iter().next().unwrap() {
        Ok(answer) => Reply::Done { index, answer },
        Err(refusal) => Reply::Refused(refusal),
    }
}

fn read(database: &mut Database, sql: &[u8]) -> Reply {
    let answer = match database.query(sql).unwrap() {
        QueryOutcome::Answered(answer) => answer,
        QueryOutcome::NeedsReader => {
            database.commit().unwrap();
            database.reader().unwrap().query(sql)
        }
    };
    Reply::Done { index: database.applied().index, answer }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

fn done() -> Reply {
    let outcome = StatementOutcome::Changed { last_insert_id: 3, rows_affected: 1 };
    let results = vec![StatementResult { outcome, time_ns: 1 }];
    Reply::Done { index: 9, answer: sql::encode(&SqlResponse { results, error: None }) }
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

/// The status line and body of what `/readings` answers these lines, whose loop answers
/// with `reply`; and what it was asked.
fn handed_over(query: &str, body: &str, reply: Reply) -> (String, Option<Arrivals>) {
    let (response, asked) = exchange(post(&format!("/readings{query}"), body), reply);
    let asked = asked.map(|asked| {
        let Request::Readings(arrivals) = asked else { panic!("{asked:?}") };
        arrivals
    });
    let status = response.get(9..12).unwrap_or_default();
    (format!("{status} {}", self::body(&response)), asked)
}

fn receipt(level: Reached, refused: &[(u32, &str)]) -> Reply {
    let refused = refused.iter().map(|(place, reason)| (*place, (*reason).to_owned())).collect();
    Reply::Done { index: 9, answer: sql::encode(&Receipt { level, refused }) }
}

#[test]
fn readings_are_taken_in_lines_and_as_json() {
    let both = receipt(Reached::Committed, &[]);
    let (answer, asked) =
        handed_over("?precision=ms", "a 1 5000\nb,r=x f=2.5 6000\n", both.clone());
    assert_eq!(answer, r#"200 {"level":"committed","refused":[],"stored":2}"#);
    let asked = asked.unwrap();
    assert_eq!((asked.until, asked.window_ms), (Reached::Committed, 0));
    let named: Vec<_> = asked.readings.iter().map(|r| (r.sensor.as_str(), r.time)).collect();
    assert_eq!(named, [("a", 5_000_000), ("b/r=x/f", 6_000_000)]);
    let items = r#"[{"sensor": "a", "value": 1, "id": "k"}, {"sensor": "b", "value": "open"}]"#;
    let (answer, asked) = handed_over("?until=spooled", items, both);
    assert!(answer.starts_with("200") && answer.contains("committed"), "more than asked: {answer}");
    let asked = asked.unwrap();
    assert_eq!((asked.until, asked.window_ms), (Reached::Spooled, 50));
    assert!(asked.readings.iter().all(|reading| unset_of(reading.time).is_some()));
}

#[test]
fn bad_lines_are_named_and_the_others_count() {
    let refused = receipt(Reached::Spooled, &[(1, "too many ids")]);
    let (answer, asked) = handed_over("", "a 1\n\nb NaN\nc 3\n", refused);
    assert_eq!(asked.unwrap().readings.len(), 2);
    assert!(answer.starts_with("202 ") && answer.contains(r#""stored":1"#), "{answer}");
    assert!(answer.contains(r#"{"error":"too many ids","line":4}"#), "{answer}");
    assert!(answer.contains(r#""line":3"#) && answer.contains("finite"), "{answer}");
    for (query, body, expected) in [
        ("", "", "400 there is no reading"),
        ("", "# nothing\n", "400 there is no reading"),
        ("", "a NaN", r#"400 {"refused":[{"error":"#),
        ("", r#"[{"sensor":"a"}]"#, r#"400 {"refused":[{"error":"it has no value","item":1}]"#),
        ("", "[1", "400 not a JSON array"),
        ("?until=now", "a 1", "400 until is committed or spooled"),
        ("?precision=m", "a 1", "400 precision is s, ms, us or ns"),
    ] {
        let (answer, asked) = handed_over(query, body, done());
        assert!(answer.starts_with(expected) && asked.is_none(), "{answer}");
    }
    let many = "a\n".repeat(3_000);
    let (answer, _) = handed_over("", &many, done());
    assert!(answer.contains(r#""refused_count":3000"#), "{answer}");
    assert_eq!(answer.matches("has no value").count(), limits::REFUSED_MAX);
}

#[test]
fn what_the_board_does_not_take_is_no_fault_of_the_lines() {
    let none = Reply::Refused(Refusal::TakesNoPart);
    let (answer, _) = handed_over("", "a 1\nb 2\n", none);
    assert!(answer.starts_with(r#"503 {"error":"this board takes no part"#), "{answer}");
    let full = receipt(Reached::Spooled, &[(0, "the spool is full")]);
    let (answer, _) = handed_over("", "a 1\n", full);
    assert!(answer.starts_with("503") && answer.contains("spool is full"), "{answer}");
}

#[test]
fn what_the_loop_has_no_room_for_is_handed_on_again() {
    let tries = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&tries);
    let raw = post("/readings", "a 1");
    let response = over_the_wire(raw.as_bytes(), limits::SILENCE, move |request| {
        let mut tries = counted.lock().unwrap();
        *tries += 1;
        assert!(matches!(request, Request::Readings(_)), "{request:?}");
        Some(match *tries {
            3 => receipt(Reached::Committed, &[]),
            _ => Reply::Refused(Refusal::Busy),
        })
    });
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!(*tries.lock().unwrap(), 3);
}

#[test]
fn readings_are_read_as_json_and_csv() {
    let rows = StatementOutcome::Rows {
        columns: Vec::new(),
        types: Vec::new(),
        rows: vec![vec![
            Value::Text(b"a".to_vec()),
            Value::Integer(1_000_000),
            Value::Real(2.5),
            Value::Integer(1),
            Value::Null,
            Value::Integer(0),
        ]],
    };
    let results = vec![StatementResult { outcome: rows, time_ns: 1 }];
    let answer = sql::encode(&SqlResponse { results, error: None });
    let reply = Reply::Done { index: 9, answer };
    let (response, asked) = exchange(get("/readings?sensor=a&sensor=b%20c&limit=5"), reply.clone());
    assert!(body(&response).contains(r#""time":"1970-01-01T00:00:01Z""#), "{response}");
    let Some(Request::Read { level: ReadLevel::Weak, sql }) = asked else { panic!("{asked:?}") };
    let asked: SqlRequest = sql::decode(&sql).unwrap();
    assert!(asked.statements[0].sql.contains("IN (?, ?)"), "{asked:?}");
    let (response, _) = exchange(get("/readings?format=csv"), reply);
    assert!(body(&response).ends_with("a,1970-01-01T00:00:01Z,2.5,1,,\n"), "{response}");
    for (query, words) in
        [("since=soon", "is no time"), ("limit=0", "limit is 1 to"), ("format=xml", "json or csv")]
    {
        let (response, asked) = exchange(get(&format!("/readings?{query}")), done());
        assert!(response.starts_with("HTTP/1.1 400") && response.contains(words), "{response}");
        assert!(asked.is_none());
    }
}

#[test]
fn a_write_goes_to_the_loop_and_its_answer_comes_back() {
    let (response, asked) =
        exchange(post("/db/execute?raft_index", r#"[["INSERT INTO t VALUES (?)", 5]]"#), done());
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    assert!(response.contains("x-rqlite-version"));
    let expected = r#"{"results":[{"last_insert_id":3,"rows_affected":1}],"raft_index":9}"#;
    assert_eq!(body(&response), expected);
    let Some(Request::Write(bytes)) = asked else { panic!("{asked:?}") };
    let request: SqlRequest = sql::decode(&bytes).unwrap();
    assert_eq!(request.statements[0].sql, "INSERT INTO t VALUES (?)");
    assert_eq!(request.origin, Origin::User);
}

#[test]
fn levels_become_reads_of_that_level() {
    for (level, expected) in [
        ("none&freshness=1s", ReadLevel::None { freshness_ms: Some(1_000) }),
        ("weak", ReadLevel::Weak),
        ("LINEARIZABLE", ReadLevel::Linearizable { timeout_ms: None }),
        (
            "linearizable&linearizable_timeout=1.5s",
            ReadLevel::Linearizable { timeout_ms: Some(1_500) },
        ),
        ("linearizable&linearizable_timeout=0s", ReadLevel::Linearizable { timeout_ms: None }),
        ("strong", ReadLevel::Strong),
        ("nonsense", ReadLevel::Weak),
        ("auto", ReadLevel::None { freshness_ms: None }),
    ] {
        let (_, asked) = exchange(get(&format!("/db/query?q=SELECT%201&level={level}")), done());
        match asked {
            Some(Request::Read { level, .. }) => assert_eq!(level, expected),
            None if level == "auto" => {}
            other => panic!("{level}: {other:?}"),
        }
    }
}

#[test]
fn mixed_requests_are_reads_only_when_they_surely_are() {
    let (_, asked) = exchange(post("/db/request", r#"["SELECT 1"]"#), done());
    assert!(matches!(asked, Some(Request::Read { .. })));
    let (_, asked) = exchange(post("/db/request", r#"["SELECT 1", "DELETE FROM t"]"#), done());
    assert!(matches!(asked, Some(Request::Write(_))));
}

#[test]
fn refusals_answer_as_rqlite_does() {
    let (response, _) =
        exchange(post("/db/execute", r#"["x"]"#), Reply::Refused(Refusal::NoLeader));
    assert!(response.starts_with("HTTP/1.1 503") && body(&response) == "leader not found");
    let (response, _) =
        exchange(post("/db/execute", r#"["x"]"#), Reply::Refused(Refusal::DiskFull));
    assert!(response.starts_with("HTTP/1.1 200") && body(&response).contains("disk full"));
}

#[test]
fn bad_input_is_answered_with_what_is_wrong() {
    let not_a_duration =
        |name: &str, value: &str| format!("{name}={value} is not a valid duration");
    for name in ["timeout", "db_timeout", "freshness", "linearizable_timeout"] {
        for value in ["soon", "", "5", "-1s"] {
            let raw = post(&format!("/db/execute?{name}={value}"), r#"["x"]"#);
            let (response, asked) = exchange(raw, done());
            assert!(response.starts_with("HTTP/1.1 400"), "{name}={value}: {response}");
            assert_eq!(body(&response), not_a_duration(name, value));
            assert_eq!(asked, None);
        }
    }
    for (raw, status, words) in [
        (post("/db/execute", "nonsense"), 400, "invalid JSON body"),
        (post("/db/execute", ""), 400, "no statements"),
        (post("/db/execute?retries=many", "[\"x\"]"), 400, "retries=many is not a valid integer"),
        (post("/db/execute?retries=", "[\"x\"]"), 400, "retries= is not a valid integer"),
        (get("/db/query?q="), 400, "query parameter not set"),
        (get("/db/query?q=x&freshness_strict"), 400, "freshness"),
        (get("/db/query"), 200, r#"{"results":[]}"#),
        (get("/db/execute"), 405, ""),
        (get("/nowhere"), 404, ""),
        (get("/readyz?noleader"), 200, "[+]node ok"),
        (get("/readyz"), 503, "[+]leader does not exist"),
    ] {
        let (response, _) = exchange(raw.clone(), done());
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{raw}: {response}");
        assert!(body(&response).contains(words), "{raw}: {response}");
    }
}

#[test]
fn a_fenced_board_sends_clients_elsewhere() {
    let fenced = Reply::Refused(Refusal::Fenced);
    let (response, _) = exchange(get("/db/query?q=SELECT%201"), fenced);
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    assert!(body(&response).contains("this board is fenced"), "{response}");
}

#[test]
fn the_shortest_freshness_is_still_a_bound() {
    let (_, asked) = exchange(get("/db/query?q=SELECT%201&level=none&freshness=1ns"), done());
    let Some(Request::Read { level, .. }) = asked else { panic!("{asked:?}") };
    assert_eq!(level, ReadLevel::None { freshness_ms: Some(1) });
}

#[test]
fn a_body_over_the_limit_is_refused_with_the_limit() {
    let head = "POST /db/execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let announced = format!("{head}Content-Length: {}\r\n\r\n", REQUEST_BYTES_MAX + 1);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(REQUEST_BYTES_MAX / (1 << 20) + 1)
    );
    for raw in [announced, chunked] {
        let (response, asked) = exchange(raw, done());
        assert!(response.starts_with("HTTP/1.1 413"), "{response}");
        assert!(body(&response).contains(&REQUEST_BYTES_MAX.to_string()));
        assert_eq!(asked, None);
    }
}

#[test]
fn a_chunked_body_within_the_limit_is_taken() {
    let raw = "POST /db/execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
               Transfer-Encoding: chunked\r\n\r\n3\r\n[\"x\r\n2\r\n\"]\r\n0\r\n\r\n";
    let (response, asked) = exchange(raw.to_owned(), done());
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(matches!(asked, Some(Request::Write(_))));
}

#[test]
fn a_body_that_does_not_arrive_is_given_up() {
    let raw = "POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[\"x";
    let soon = Duration::from_millis(20);
    let response = over_the_wire(raw.as_bytes(), soon, |_| panic!("it is incomplete"));
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(body(&response).contains("did not arrive"), "{response}");
}

#[test]
fn a_url_over_the_limit_is_refused_with_the_limit() {
    let (response, asked) = exchange(get(&format!("/db/query?q={}", "x".repeat(70_000))), done());
    assert!(response.starts_with("HTTP/1.1 414"), "{response}");
    assert_eq!(
        body(&response),
        "the URL is longer than 65534 bytes: POST the statements as a body"
    );
    assert_eq!(asked, None);
    let (_, asked) = exchange(get(&format!("/db/query?q={}", "x".repeat(65_000))), done());
    assert!(asked.is_some());
    let fields = "a: b\r\n".repeat(1_000);
    let (response, _) = exchange(format!("GET /status HTTP/1.1\r\n{fields}\r\n"), done());
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    assert!(body(&response).contains("header fields"), "{response}");
}

#[test]
fn a_read_without_an_answer_never_speaks_of_a_change() {
    for (raw, words) in [
        (get("/db/query?q=SELECT%201&timeout=1ms"), r#"{"results":[],"error":"timeout"}"#),
        (post("/db/execute?timeout=1ms", r#"["x"]"#), "not known whether the change was made"),
    ] {
        let response = over_the_wire(raw.as_bytes(), limits::SILENCE, |_| None);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(body(&response).contains(words), "{response}");
    }
    let (response, _) = exchange(get("/db/query?q=SELECT%201"), Reply::Refused(Refusal::NoLeader));
    assert!(response.starts_with("HTTP/1.1 503") && body(&response) == "leader not found");
}

#[test]
fn an_endpoint_is_found_by_how_the_path_begins() {
    for path in ["/db/query/?q=SELECT%201", "/db/query/x?q=SELECT%201", "/db/query?q=SELECT%201"] {
        let (_, asked) = exchange(get(path), done());
        assert!(matches!(asked, Some(Request::Read { .. })), "{path}");
    }
    let (response, _) = exchange(get("/readyz/?noleader"), done());
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[test]
fn options_are_answered_with_what_may_be_done() {
    for path in ["/db/execute", "/nowhere"] {
        let raw = format!("OPTIONS {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (response, _) = exchange(raw, done());
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(response.contains("access-control-allow-methods: OPTIONS, GET, POST"));
        assert_eq!(body(&response), "");
    }
}

#[test]
fn what_a_board_says_of_itself_is_indented_by_four_too() {
    for path in ["/status?pretty", "/nodes?pretty&ver=2"] {
        let (response, _) = exchange(get(path), done());
        assert!(body(&response).starts_with("{\n    \""), "{response}");
    }
}

#[test]
fn who_served_a_request_stands_in_its_answer() {
    let (response, _) = exchange(get("/db/query?q=SELECT%201"), done());
    assert!(response.contains("x-rqlite-served-by: 127.0.0.1:4001"), "{response}");
    let refused = Reply::Refused(Refusal::DiskFull);
    let (response, _) = exchange(post("/db/execute", r#"["x"]"#), refused);
    assert!(!response.contains("x-rqlite-served-by"), "{response}");
    let member = |id: u64, address: &str| MemberStatus {
        id,
        address: Some(address.to_owned()),
        http: Some(format!("http://board-{id}:4001")),
        ..MemberStatus::default()
    };
    let follower = Status {
        id: 1,
        leader_id: Some(2),
        members: vec![member(1, "a:4002"), member(2, "b:4002")],
        ..Status::default()
    };
    for (status, is_read, expected) in [
        (follower.clone(), true, "board-1:4001"),
        (follower.clone(), false, "b:4002"),
        (Status { leader_id: Some(1), ..follower }, false, "board-1:4001"),
    ] {
        let addresses = served::Addresses::of(&status);
        assert_eq!(addresses.server(is_read).unwrap(), expected);
    }
}

#[test]
fn what_is_over_a_limit_is_refused_with_the_limit_and_nothing_is_lost() {
    let board = Board::new();
    board.run("/db/execute", &serde_json::json!(["CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"]));
    let half = ENTRY_BYTES_MAX / 2 + 1;
    let value = format!("SELECT randomblob({})", ENTRY_BYTES_MAX + 1);
    for over in [format!("INSERT INTO t VALUES (randomblob({half})), (randomblob({half}))"), value]
    {
        let answer = board.run("/db/execute", &serde_json::json!([over]));
        assert!(
            answer.contains("error") && answer.contains(&ENTRY_BYTES_MAX.to_string()),
            "{answer}"
        );
    }
    let half = RESPONSE_BYTES_MAX / 2 + 1;
    let result = format!("SELECT randomblob({half}), randomblob({half})");
    for path in ["/db/query", "/db/request"] {
        let answer = board.run(path, &serde_json::json!(["SELECT a FROM t", result]));
        let expected = format!(
            "{{\"results\":[{{\"columns\":[\"a\"],\"types\":[\"integer\"],\"values\":[[1]]}},\
             {{\"error\":\"statement 2: the result is larger than {RESPONSE_BYTES_MAX} bytes: \
             ask for fewer rows (LIMIT)\"}}]}}"
        );
        assert_eq!(answer, expected);
    }
    let answer = board.ask(&get("/db/query?q=SELECT%20count(*)%20FROM%20t"));
    assert!(answer.contains("[[1]]"), "{answer}");
}

#[test]
fn timings_are_never_zero_for_reads_and_writes() {
    let board = Board::new();
    let timed = |path: &str, sql: &str| {
        let answer = board.run(path, &serde_json::json!([sql]));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        for time in [&answer["time"], &answer["results"][0]["time"]] {
            let time = time.as_f64().unwrap();
            assert!(time > 0.0, "{answer}");
        }
    };
    timed("/db/execute?timings", "CREATE TABLE t(a)");
    timed("/db/query?timings", "SELECT count(*) FROM t");
}

#[test]
fn answers_are_those_of_rqlite_down_to_the_database() {
    let board = Board::new();
    let setup = [
        "CREATE TABLE t(a, at DATETIME)",
        "INSERT INTO t VALUES (x'6869', '2024-01-02T03:04:05+02:00')",
    ];
    board.run("/db/execute", &serde_json::json!(setup));
    let types = r#"{"results":[{"columns":["a","at"],"types":["text","datetime"],"values":[["hi","2024-01-02T03:04:05+02:00"]]}]}"#;
    for (statements, expected) in [
        (serde_json::json!(["SELECT 1; SELECT * FROM t"]), types),
        (
            serde_json::json!(["PRAGMA journal_mode"]),
            r#"{"results":[{"columns":["journal_mode"],"types":["text"],"values":[["wal"]]}]}"#,
        ),
        (
            serde_json::json!(["SELECT 1", "PRAGMA journal_mode = DELETE"]),
            r#"{"results":[],"error":"disallowed pragma: statement 2: PRAGMA journal_mode is understudy's own, it keeps the files: leave it out"}"#,
        ),
        (
            serde_json::json!([["SELECT :a, :b", {"a": 1}]]),
            r#"{"results":[{"error":"not enough args to execute query: want 2 got 1: no value for :b"}]}"#,
        ),
    ] {
        assert_eq!(board.run("/db/query", &statements), expected, "{statements}");
    }
    let answer = board.run("/db/execute", &serde_json::json!(["PRAGMA synchronous = OFF"]));
    assert!(answer.starts_with(r#"{"results":[],"error":"disallowed pragma: statement 1: "#));
}

#[test]
fn only_loopback_is_open_without_being_told() {
    let network = SocketAddr::from(([192, 0, 2, 1], 4001));
    let refused = check_address(network, false).unwrap_err();
    assert!(refused.contains("--http-open") && refused.contains("ssh -L 4001"), "{refused}");
    assert_eq!(check_address(network, true), Ok(()));
    assert_eq!(check_address(SocketAddr::from(([127, 0, 0, 1], 4001)), false), Ok(()));
}

/// What `work` comes to against a server within these bounds, whose loop answers
/// reads of this size, and writes never.
fn within<F: Future>(bounds: Bounds, answer_bytes: usize, work: impl FnOnce(SocketAddr) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (caller, mut calls) = Caller::channel();
        tokio::spawn(door::serve(listener, router_of(&caller, &bounds), bounds));
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(call) = calls.recv().await {
                match call {
                    Call::Request(Request::Read { .. }, reply) => {
                        // A caller may be gone.
                        let _ = reply.send(rows(answer_bytes));
                    }
                    Call::Request(_, reply) => unanswered.push(reply),
                    Call::Status(reply) => reply.send(status()).unwrap(),
                    Call::Backup(..) => panic!("nobody asks for a copy here"),
                    Call::Hosts(_)
                    | Call::Keys(_)
                    | Call::NewKey(_)
                    | Call::Follow(..)
                    | Call::Keeper(_)
                    | Call::Checked(_)
                    | Call::Listen(_)
                    | Call::Probe(..)
                    | Call::Forget(_) => {
                        panic!("HTTP asks for no such thing")
                    }
                }
            }
        });
        let work = tokio::time::timeout(Duration::from_secs(30), work(address));
        work.await.expect("it ends");
    });
}

fn rows(bytes: usize) -> Reply {
    let rows = vec![vec![Value::Text(vec![b'x'; bytes])]];
    let outcome =
        StatementOutcome::Rows { columns: vec!["a".into()], types: vec!["text".into()], rows };
    let results = vec![StatementResult { outcome, time_ns: 1 }];
    Reply::Done { index: 9, answer: sql::encode(&SqlResponse { results, error: None }) }
}

async fn said(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn asked(address: SocketAddr, raw: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // One that is refused may be so before it has asked.
    let _ = stream.write_all(raw.as_bytes()).await;
    said(&mut stream).await
}

/// Asks until there is a place.
async fn served(address: SocketAddr) {
    while !asked(address, &get("/status")).await.starts_with("HTTP/1.1 200") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A caller that keeps its place.
async fn kept(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /readyz?noleader HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stream
}

const SOON: Duration = Duration::from_millis(50);

#[test]
fn one_caller_too_many_is_told_so_and_served_when_another_has_gone() {
    let bounds = Bounds { connections_max: 2, ..Bounds::SERVING };
    within(bounds, 1, |address| async move {
        let first = kept(address).await;
        let _second = kept(address).await;
        let refused = asked(address, &get("/status")).await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        assert!(body(&refused).contains("serves 2 connections already"), "{refused}");
        drop(first);
        served(address).await;
    });
}

#[test]
fn a_head_that_does_not_come_to_its_end_holds_no_place_and_nobody_up() {
    let bounds = Bounds { connections_max: 2, head: SOON, ..Bounds::SERVING };
    within(bounds, 1, |address| async move {
        let mut slow = TcpStream::connect(address).await.unwrap();
        let dripping = async {
            // Byte by byte, for ever.
            slow.write_all(b"GET /status HTTP/1.1\r\nx: ").await.unwrap();
            while slow.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Others are served meanwhile.
        tokio::join!(dripping, served(address));
        let mut idle = kept(address).await;
        assert!(said(&mut idle).await.contains("[+]node ok"), "until it is hung up on");
    });
}

#[test]
fn a_body_that_trickles_is_given_up_as_one_that_stops() {
    let bounds = Bounds { silence: SOON, ..Bounds::SERVING };
    within(bounds, 1, |address| async move {
        let mut slow = TcpStream::connect(address).await.unwrap();
        let head = "POST /db/query HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
        slow.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = slow.into_split();
        let dripping = async {
            for _ in 0..1_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if writer.write_all(b" ").await.is_err() {
                    break;
                }
            }
        };
        let mut answer = [0; 12];
        let (_, read) = tokio::join!(dripping, reader.read_exact(&mut answer));
        read.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    });
}

#[test]
fn an_answer_that_is_not_taken_holds_no_place() {
    let bounds = Bounds { connections_max: 1, silence: SOON, ..Bounds::SERVING };
    within(bounds, RESPONSE_BYTES_MAX - 1_000, |address| async move {
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(get("/db/query?q=SELECT%201").as_bytes()).await.unwrap();
        deaf.readable().await.unwrap();
        served(address).await;
        assert!(said(&mut deaf).await.len() < RESPONSE_BYTES_MAX, "it was cut off");
    });
}

#[test]
fn an_answer_that_is_taken_slowly_is_given_to_its_end() {
    let bounds = Bounds { silence: SOON, ..Bounds::SERVING };
    within(bounds, RESPONSE_BYTES_MAX - 1_000, |address| async move {
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(get("/db/query?q=SELECT%201").as_bytes()).await.unwrap();
        let (mut taken, mut part) = (0, vec![0; 256 << 10]);
        while let Ok(bytes @ 1..) = slow.read(&mut part).await {
            taken += bytes;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(taken > RESPONSE_BYTES_MAX - 1_000);
    });
}

#[test]
fn bodies_that_are_too_much_together_are_refused_one_by_one() {
    let bounds = Bounds { bodies_bytes_max: 100, ..Bounds::SERVING };
    within(bounds, 1, |address| async move {
        let write = post("/db/execute", &format!("[\"{}\"]", "x".repeat(56)));
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting.write_all(write.as_bytes()).await.unwrap();
        let read = post("/db/query", "[\"SELECT 'some forty-one bytes of SQL text'\"]");
        loop {
            let answer = asked(address, &read).await;
            if answer.starts_with("HTTP/1.1 503") {
                assert!(body(&answer).contains("try again when some are answered"), "{answer}");
                break;
            }
        }
        drop(waiting);
        while !asked(address, &read).await.starts_with("HTTP/1.1 200") {}
    });
}

#[test]
fn a_page_of_another_origin_does_not_write_through_somebodys_browser() {
    let from = |origin: &str| {
        post("/db/execute", "[\"x\"]").replace("Host: x", &format!("Host: x\r\nOrigin: {origin}"))
    };
    for origin in ["http://elsewhere.example", "null", "https://x", "http://x.example"] {
        let (response, asked) = exchange(from(origin), done());
        assert!(response.starts_with("HTTP/1.1 403"), "{response}");
        assert_eq!(asked, None);
    }
    assert!(exchange(from("http://x"), done()).1.is_some(), "a page of this board's own");
}
