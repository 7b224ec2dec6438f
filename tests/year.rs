//! What an owner meets in the first year: power cuts, networks that go and come
//! back different, boards that never return. Nobody has to do anything, and
//! `status` says what is wrong, what still works and what to do.

use understudy_tests::{agents::Agents, network::Network, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

fn written(agents: &Agents, board: &str, value: u32) {
    let _ = agents.told(board, &["execute", &format!("INSERT INTO t VALUES ({value})")]);
}

fn has_leader(status: &serde_json::Value) -> bool {
    status["leader"].is_string()
}

fn sum(agents: &Agents, board: &str) -> String {
    let rows = agents.told(board, &["query", "SELECT 'sum', sum(a) FROM t"]);
    rows.split_whitespace().last().expect("a sum").to_owned()
}

#[test]
fn after_a_power_cut_any_two_go_on_in_any_order_and_the_third_catches_up() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    let orders = [["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]];
    for (number, [first, second, third]) in (1..).zip(orders) {
        for board in BOARDS {
            agents.kill(board);
        }
        agents.run(first);
        agents.wait(first, "to say whom it waits for", |_| {
            let said = agents.told(first, &["status"]);
            let waits = said.contains("No word from") || said.starts_with("No majority");
            waits && said.contains(second) && said.contains("see that it has power and network")
        });
        agents.run(second);
        agents.wait(first, "to go on", has_leader);
        agents.wait(second, "to go on", has_leader);
        written(&agents, second, number);
        agents.wait(first, "to miss the third", |_| {
            let said = agents.told(first, &["status"]);
            said.starts_with("Reading and writing work")
                && said.contains(&format!("{third} cannot be heard: see to it"))
        });
        agents.run(third);
        agents.wait(third, "to follow", has_leader);
        assert_eq!(sum(&agents, third), (1..=number).sum::<u32>().to_string());
        agents.wait(first, "to say that all is well", |_| {
            agents.told(first, &["status"]).starts_with("Everything works: 3 boards")
        });
    }
}

#[test]
fn a_network_that_goes_and_comes_back_with_new_addresses_is_taken_as_it_is() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    agents.form(&BOARDS);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)"]);
    network.ip(&["address", "flush", "dev", "n0"]);
    for board in BOARDS {
        agents.wait(board, "to be alone", |_| {
            let said = agents.told(board, &["status"]);
            said.starts_with("No majority for") && said.contains("2 of 3 boards are needed")
        });
    }
    network.ip(&["address", "add", "10.80.9.9/24", "dev", "n0"]);
    for board in BOARDS {
        agents.wait(board, "to be found again", has_leader);
    }
    written(&agents, "c", 7);
    assert_eq!(sum(&agents, "a"), "7");
}

#[test]
fn two_groups_on_one_network_never_mix_though_one_takes_the_others_address() {
    let Some(network) = Network::new() else { return };
    let mut agents = Agents::on(&program::debug(), &network);
    agents.form(&["a", "b"]);
    agents.form(&["x", "y"]);
    let _ = agents.told("a", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1)"]);
    let _ = agents.told("x", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (20)"]);
    for board in ["a", "b", "x", "y"] {
        agents.stop(board);
    }
    // Where a was, y is now, and where x was, b.
    agents.swap_ports("a", "y");
    agents.swap_ports("b", "x");
    for board in ["a", "b", "x", "y"] {
        agents.run(board);
    }
    for (board, expected) in [("a", "1"), ("b", "1"), ("x", "20"), ("y", "20")] {
        agents.wait(board, "to find its own group", has_leader);
        assert_eq!(sum(&agents, board), expected);
        let members = agents.status(board).expect("it answers")["members"].clone();
        assert_eq!(members.as_array().map(Vec::len), Some(2), "{board}: {members}");
    }
}
