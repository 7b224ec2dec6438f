//! Boards join as they do in life: many, with lost answers, with the wrong token.

use std::{
    net::UdpSocket,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use understudy::token::{Host, Token};
use understudy_tests::{agents::Agents, program};

/// Datagrams with a payload, as the seal marks them.
const DATA: u8 = 3;

fn members(status: &Value) -> usize {
    status["members"].as_array().map_or(0, Vec::len)
}

fn voters(status: &Value) -> usize {
    let members = status["members"].as_array().expect("members");
    members.iter().filter(|member| member["voter"] == true).count()
}

/// The same token with other addresses.
fn redirected(token: &str, addresses: Vec<String>) -> String {
    let token = Token::decode(token).expect("a token");
    let hosts = vec![Host { key: token.hosts[0].key, addresses }];
    Token { hosts, ..token }.encode()
}

#[test]
fn seven_boards_are_one_group_and_five_of_them_vote() {
    let mut agents = Agents::new(&program::debug());
    let boards = ["a", "b", "c", "d", "e", "f", "g"];
    agents.form(&boards);
    let status = agents.status("g").expect("it answers");
    assert_eq!((members(&status), voters(&status)), (7, 5));
    let _ = agents.told("g", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (41)"]);
    for board in boards {
        let rows = agents.told(board, &["query", "SELECT a + 1 FROM t"]);
        assert!(rows.contains("42"), "{board}: {rows}");
    }
}

#[test]
fn a_name_that_is_taken_gets_a_number_and_the_command_line_says_so() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b"] {
        agents.run(board);
    }
    let token = agents.found("a");
    let joined = agents.told("b", &["join", &token, "--name", "a"]);
    assert!(joined.contains("This board is a-2"), "{joined}");
    assert!(joined.contains("The name a was taken"), "{joined}");
}

#[test]
fn as_many_boards_vote_as_the_group_has_set() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b"] {
        agents.run(board);
    }
    let token = agents.found("a");
    let _ = agents.told("a", &["set", "voters", "1"]);
    agents.wait("a", "to take it up", |status| status["voters_max"] == 1);
    let _ = agents.told("b", &["join", &token]);
    agents.wait("b", "to follow", |status| members(status) == 2 && status["leader"] == "a");
    assert_eq!(voters(&agents.status("b").expect("it answers")), 1);
    agents.kill("b");
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
}

#[test]
fn a_token_that_holds_no_longer_is_told_and_lets_nobody_in() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b", "c"] {
        agents.run(board);
    }
    let first = agents.found("a");
    let once = agents.told("a", &["token", "--uses", "1"]);
    let _ = agents.told("b", &["join", once.trim()]);
    let again = agents.refused("b", &["join", &first]);
    assert!(again.contains("this board is b, a member of the group"), "{again}");
    let used = agents.refused("c", &["join", once.trim()]);
    assert!(used.contains("let in as many boards as it was made for"), "{used}");
    let _ = agents.told("a", &["token", "revoke"]);
    let revoked = agents.refused("c", &["join", &first]);
    assert!(revoked.contains("it was revoked") && revoked.contains("understudy token"));
    let short = agents.refused("c", &["join", &first[..first.len() - 9]]);
    assert!(short.contains("cut short"), "{short}");
    let never = agents.refused("a", &["token", "--expires", "soon"]);
    assert!(never.contains("from 10s to 30d"), "{never}");
    agents.wait_for_voters(&["a", "b"], 2);
    let whole = agents.told("a", &["token"]);
    for board in ["a", "b"] {
        agents.kill(board);
    }
    for board in ["a", "b"] {
        agents.run(board);
    }
    agents.wait("a", "to have a leader", |status| status["leader"].is_string());
    let ended = agents.refused("c", &["join", whole.trim()]);
    assert!(ended.contains("the whole group was restarted"), "{ended}");
    let here = agents.told("b", &["token"]);
    let _ = agents.told("c", &["join", here.trim()]);
    agents.wait_for_voters(&["a", "b", "c"], 3);
}

/// Whom a board knows, by number and name.
fn known(agents: &Agents, board: &str) -> Vec<String> {
    let status = agents.status(board).expect("it answers");
    let members = status["members"].as_array().cloned().unwrap_or_default();
    members.iter().map(|member| format!("{} {}", member["id"], member["name"])).collect()
}

/// This board must be refused, with these words, and then all is as it was before.
fn changes_nothing(agents: &Agents, board: &str, token: &str, words: &[&str]) {
    let before = (known(agents, "a"), known(agents, board));
    let files = || agents.directory(board).join("state.db").exists();
    let had_files = files();
    let refused = agents.refused(board, &["join", token]);
    assert!(words.iter().all(|words| refused.contains(words)), "{words:?}: {refused}");
    assert_eq!((known(agents, "a"), known(agents, board)), before);
    assert_eq!(files(), had_files);
}

#[test]
fn a_token_whose_time_is_over_is_refused_and_nothing_is_changed() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b"] {
        agents.run(board);
    }
    let open = agents.found("a");
    let short = agents.told("a", &["token", "--expires", "10s"]);
    let uptime_ms = |status: &Value| status["uptime_ms"].as_u64().expect("a number");
    let over_ms = uptime_ms(&agents.status("a").expect("it answers")) + 10_000;
    agents.wait("a", "its time to be over", |status| uptime_ms(status) > over_ms);
    let way_out = "Make another with `understudy token` on any board of the group";
    let words = ["the token holds no longer: its time is over", way_out];
    changes_nothing(&agents, "b", short.trim(), &words);
    let _ = agents.told("b", &["join", &open]);
    agents.wait_for_voters(&["a", "b"], 2);
}

#[test]
fn a_token_that_is_used_up_revoked_or_of_another_group_changes_nothing() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b", "c", "other"] {
        agents.run(board);
    }
    let _first = agents.found("a");
    let foreign = agents.found("other");
    let once = agents.told("a", &["token", "--uses", "1"]);
    let open = agents.told("a", &["token"]);
    let (once, open) = (once.trim(), open.trim());
    let _ = agents.told("b", &["join", once]);
    agents.wait_for_voters(&["a", "b"], 2);
    let is_member = "this board is b, a member of the group";
    for token in [once, open, &foreign] {
        changes_nothing(&agents, "b", token, &[is_member]);
    }
    let over = "the token holds no longer";
    changes_nothing(&agents, "c", once, &[over, "as many boards as it was made for"]);
    let host = agents.status("other").expect("it answers")["udp"].as_str().expect("one").to_owned();
    changes_nothing(&agents, "c", &redirected(open, vec![host]), &["wrong group"]);
    let _ = agents.told("b", &["token", "revoke"]);
    changes_nothing(&agents, "c", open, &[over, "it was revoked"]);
    let _ = agents.told("c", &["join", &foreign]);
    agents.wait_for_voters(&["other", "c"], 2);
    assert_eq!(members(&agents.status("a").expect("it answers")), 2);
}

#[test]
fn a_token_works_at_another_board_when_the_one_that_made_it_is_gone() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&["a", "b", "c"]);
    let token = agents.told("a", &["token"]);
    agents.kill("a");
    agents.run("d");
    agents.wait("b", "to have another leader", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != "a")
    });
    let _ = agents.told("d", &["join", token.trim()]);
    agents.wait("d", "to follow", |status| members(status) == 4 && status["leader"].is_string());
}

/// Stands between a board and the one that made the token; loses the first
/// payloads that the latter sends.
fn lossy(host: String, lost: Arc<AtomicUsize>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        let host: std::net::SocketAddr = host.parse().expect("an address");
        let (mut guest, mut datagram) = (host, [0; 2_048]);
        loop {
            let (bytes, source) = socket.recv_from(&mut datagram).expect("it is bound");
            let datagram = &datagram[..bytes];
            let payload = datagram.first() == Some(&DATA) && source == host;
            let more = |left: usize| left.checked_sub(1);
            if payload && lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
                continue;
            }
            if source != host {
                guest = source;
            }
            let to = if source == host { guest } else { host };
            // A guest that is gone has lost it.
            let _ = socket.send_to(datagram, to);
        }
    });
    address
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b"] {
        agents.run(board);
    }
    let token = agents.found("a");
    let host = agents.status("a").expect("it answers")["udp"].as_str().expect("one").to_owned();
    let token = redirected(&token, vec![lossy(host, Arc::new(AtomicUsize::new(4)))]);
    let _ = agents.told("b", &["join", &token]);
    agents.wait("b", "to follow", |status| members(status) == 2 && status["leader"].is_string());
    let _ = agents.told("b", &["execute", "CREATE TABLE t(a)"]);
}

#[test]
fn a_board_that_never_heard_the_answer_is_the_same_member_when_it_asks_again() {
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b"] {
        agents.run(board);
    }
    let token = agents.found("a");
    let host = agents.status("a").expect("it answers")["udp"].as_str().expect("one").to_owned();
    let deaf = redirected(&token, vec![lossy(host, Arc::new(AtomicUsize::new(usize::MAX)))]);
    let mut join = agents.command("b");
    let join = join.args(["join", &deaf]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    agents.wait("a", "to have admitted it", |status| members(status) == 2);
    agents.kill("b");
    join.expect("it started").wait().expect("it ends with the agent");
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let alone = agents.told("a", &["status"]);
    assert!(!alone.contains("No majority"), "it has no vote yet: {alone}");
    agents.run("b");
    let joined = agents.told("b", &["join", &token]);
    assert!(joined.contains("This board is b,"), "{joined}");
    agents.wait_for_voters(&["a", "b"], 2);
}

#[test]
fn a_join_that_fails_says_per_address_what_happened_and_holds_nobody_up() {
    let mut agents = Agents::new(&program::debug());
    for board in ["other", "new"] {
        agents.run(board);
    }
    let token = agents.found("other");
    let foreign = agents.status("other").expect("it answers")["udp"].clone();
    let foreign = foreign.as_str().expect("one").to_owned();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).expect("bound");
    let closed = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound");
    let addresses =
        ["no-such-host.invalid:4002", &closed.to_string(), &silent.1, &foreign].map(String::from);
    let mut wrong = Token::decode(&token).expect("a token");
    wrong.group = [9; 16];
    wrong.hosts = vec![Host { key: wrong.hosts[0].key, addresses: addresses.to_vec() }];
    let mut join = agents.command("new");
    let join = join.args(["join", &wrong.encode()]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut join = join.spawn().expect("it starts");
    let second = loop {
        let second = agents.refused("new", &["join", "understudy-AQ"]);
        if second.contains("is asking the group") {
            break second;
        }
        assert!(second.contains("cut short"), "the first has not begun yet: {second}");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(second.contains("let it in"), "{second}");
    let waiting = agents.status("new").expect("it answers meanwhile");
    assert_eq!(waiting["role"], "waiting");
    assert!(join.try_wait().expect("it is ours").is_none(), "it still tries the silent one");
    let output = join.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for (address, what) in [
        (&addresses[0], "the name is not known here"),
        (&addresses[1], "refused: no agent listens there"),
        (&addresses[2], "no answer"),
        (&addresses[3], "wrong group: a board of another group answers there"),
    ] {
        assert!(said.contains(&format!("{address}: {what}")), "{address}: {said}");
    }
    wrong.hosts[0].addresses = vec![foreign];
    let said = agents.refused("new", &["join", &wrong.encode()]);
    assert!(said.contains("wrong group") && said.contains("Is the token of this group"), "{said}");
    let other = agents.status("other").expect("it answers");
    assert_eq!(members(&other), 1);
    assert!(other["counters"]["datagrams_foreign"].as_u64() > Some(0), "{other}");
}

#[test]
fn the_group_learns_where_a_board_has_moved_to() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    let _token = agents.found("a");
    agents.stop("a");
    agents.forget_port("a");
    agents.run("a");
    agents.wait("a", "to have told its new address", |status| {
        status["members"][0]["address"].is_string()
            && status["members"][0]["address"] == status["udp"]
    });
}
