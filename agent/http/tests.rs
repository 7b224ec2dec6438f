//! Requests over real sockets, against a loop that answers what it is told.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use understudy_core::sql::{StatementOutcome, StatementResult};

use super::*;
use crate::call::Call;

/// Sends one raw request to a server whose loop answers with `reply`; the
/// response, and what the loop was asked.
fn exchange(raw: String, reply: Reply) -> (String, Option<Request>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (caller, mut calls) = Caller::channel();
        tokio::spawn(serve(listener, router(caller)));
        let asked = tokio::spawn(async move {
            match calls.recv().await {
                Some(Call::Request(request, answer)) => {
                    answer.send(reply).unwrap();
                    Some(request)
                }
                Some(Call::Status(answer)) => {
                    answer.send(crate::status::Status::default()).unwrap();
                    None
                }
                None => None,
            }
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let asked = if asked.is_finished() { asked.await.unwrap() } else { None };
        (response, asked)
    })
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
        ("LINEARIZABLE", ReadLevel::Linearizable),
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
    for (raw, status, words) in [
        (post("/db/execute", "nonsense"), 400, "invalid JSON body"),
        (post("/db/execute", ""), 400, "no statements"),
        (post("/db/execute?db_timeout=soon", "[\"x\"]"), 400, "soon is not a valid duration"),
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
fn a_body_over_the_limit_is_refused_with_the_limit() {
    let raw = format!(
        "POST /db/execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        REQUEST_BYTES_MAX + 1
    );
    let (response, _) = exchange(raw, done());
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    assert!(body(&response).contains(&REQUEST_BYTES_MAX.to_string()));
}

#[test]
fn only_loopback_is_open_without_being_told() {
    let network = SocketAddr::from(([192, 0, 2, 1], 4001));
    let refused = check_address(network, false).unwrap_err();
    assert!(refused.contains("--http-open") && refused.contains("ssh -L 4001"), "{refused}");
    assert_eq!(check_address(network, true), Ok(()));
    assert_eq!(check_address(SocketAddr::from(([127, 0, 0, 1], 4001)), false), Ok(()));
}
