//! Boards whose addresses changed while none of them ran find each other again by
//! multicast. Where that is not to be had, one that kept its address is enough. A board
//! that joins finds them in the same way where its token does not lead to any.

use std::fs;

use understudy::token::Token;
use understudy_tests::{agents::Agents, network::Network, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Everything is switched off, and comes back under other addresses.
fn move_all(agents: &mut Agents) {
    for board in BOARDS {
        agents.stop(board);
        agents.forget_port(board);
    }
    for board in BOARDS {
        agents.run(board);
    }
}

#[test]
fn boards_that_all_come_back_under_other_addresses_find_each_other() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    agents.form(&BOARDS);
    move_all(&mut agents);
    for board in BOARDS {
        agents.wait(board, "to be found", |status| status["leader"].is_string());
    }
    let _ = agents.told("b", &["execute", "CREATE TABLE t(a)"]);
}

#[test]
fn without_multicast_a_board_that_moved_is_found_by_those_that_did_not() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    network.ip(&["link", "set", "n0", "multicast", "off"]);
    agents.form(&BOARDS);
    for board in BOARDS {
        agents.stop(board);
    }
    agents.forget_port("c");
    agents.run("c");
    agents.run("a");
    agents.wait("a", "to be called by c", |status| status["leader"].is_string());
    agents.run("b");
    for board in BOARDS {
        agents.wait(board, "to be found", |status| status["leader"].is_string());
    }
}

/// The token leads to a board of another group, as when addresses were given out anew;
/// without multicast that is the end of it, and said at once.
#[test]
fn a_board_joins_though_none_of_the_tokens_addresses_is_right_any_more() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    for board in ["a", "foreign", "new", "shy"] {
        if board == "shy" {
            fs::create_dir(agents.directory(board)).expect("a new directory");
            let config = agents.directory(board).join("understudy.toml");
            fs::write(config, "[udp]\nmdns = false\n").expect("it can be written");
        }
        agents.run(board);
    }
    let _foreign = agents.found("foreign");
    let udp = agents.status("foreign").expect("it answers")["udp"].clone();
    let port = udp.as_str().and_then(|udp| udp.rsplit(':').next()).expect("a port").to_owned();
    let mut token = Token::decode(&agents.found("a")).expect("a token");
    for host in &mut token.hosts {
        host.addresses = vec![format!("10.80.0.1:{port}")];
    }
    let token = token.encode();
    let refused = agents.refused("shy", &["join", &token]);
    assert!(refused.contains("wrong group: a board of another group answers there"), "{refused}");
    let joined = agents.told("new", &["join", &token]);
    assert!(joined.contains("This board is new, a member of the group"), "{joined}");
    agents.wait_for_voters(&["a", "new"], 2);
}
