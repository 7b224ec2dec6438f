//! Boards whose addresses changed while none of them ran find each other again by
//! multicast. Where that is not to be had, one that kept its address is enough.

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
