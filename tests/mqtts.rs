//! Encrypted lines to a broker that asks for an account: a group by them alone, and what is
//! said where the certificate will not do.

use std::path::Path;

use understudy_tests::{agents::Agents, broker::Broker, certificates::Certificates, program};

const HERE: &str = "IP:127.0.0.1,DNS:localhost";
const YEAR: &str = "365";

fn configuration(broker: &Broker, ca: &Path, password: &str) -> String {
    format!(
        "transport = \"mqtt\"\n[[broker]]\nurl = \"mqtts://127.0.0.1:{}\"\nuser = \"boards\"\n\
         password = \"{password}\"\nca = {ca:?}\n",
        broker.port
    )
}

#[test]
fn a_group_forms_by_encrypted_lines_to_a_broker_with_an_account() {
    let Some(certificates) = Certificates::new() else { return };
    let settings = certificates.broker(HERE, YEAR) + &certificates.account("boards", "secret");
    let Some(broker) = Broker::new(&settings) else { return };
    let mut agents = Agents::new(&program::debug());
    for board in ["a", "b", "c"] {
        agents.configure(board, &configuration(&broker, &certificates.ca(), "secret"));
    }
    agents.form(&["a", "b", "c"]);
    let _made = agents.told("b", &["execute", "CREATE TABLE t(a)", "INSERT INTO t VALUES (7)"]);
    assert!(agents.told("c", &["query", "SELECT a FROM t"]).contains('7'));
    let leader = agents.status("b").expect("it answers")["leader"].clone();
    let leader = leader.as_str().expect("somebody leads");
    let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|board| *board != leader).collect();
    agents.kill(leader);
    agents.wait(others[0], "to follow another", |status| {
        status["leader"].is_string() && status["leader"] != *leader
    });
    let _done = agents.told(others[0], &["execute", "INSERT INTO t VALUES (8)"]);
    assert!(agents.told(others[1], &["query", "SELECT max(a) FROM t"]).contains('8'));
    let said = agents.told(others[0], &["doctor", "mqtt"]);
    assert!(said.contains("fine: 20 datagrams"), "{said}");
    assert!(!said.contains("readable"), "{said}");
    agents.configure("d", &configuration(&broker, &certificates.ca(), "guessed"));
    let said = agents.ask("d", &["doctor", "mqtt"]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("does not know this account"), "{said}");
}

/// What a board's status and its doctor say of a broker.
fn said_of(text: &str) -> [String; 2] {
    let mut agents = Agents::new(&program::debug());
    agents.configure("a", text);
    agents.run("a");
    let _token = agents.found("a");
    agents.wait("a", "to say what is wrong", |status| status["brokers"][0]["trouble"].is_string());
    let doctor = agents.ask("a", &["doctor", "mqtt"]);
    assert!(!doctor.status.success());
    [agents.told("a", &["status"]), String::from_utf8_lossy(&doctor.stdout).into_owned()]
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    let (Some(ours), Some(theirs)) = (Certificates::new(), Certificates::new()) else { return };
    for (names, days, ca, words) in [
        (HERE, YEAR, theirs.ca(), "nobody this board trusts vouches for its certificate: `ca`"),
        (HERE, "-1", ours.ca(), "its certificate has expired, if this board's clock is right"),
        ("DNS:hub.example", YEAR, ours.ca(), "other hosts than `url` of [[broker]] names: for"),
    ] {
        let Some(broker) = Broker::new(&ours.broker(names, days)) else { return };
        for said in said_of(&configuration(&broker, &ca, "secret")) {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    let Some(broker) = Broker::new(&ours.own()) else { return };
    for said in said_of(&configuration(&broker, &ours.ca(), "secret")) {
        assert!(said.contains("is one for signing others"), "{said}");
    }
    let Some(plain) = Broker::new("") else { return };
    for said in said_of(&configuration(&plain, &ours.ca(), "secret")) {
        assert!(said.contains("that port may be for mqtt://"), "{said}");
    }
    let Some(encrypted) = Broker::new(&ours.broker(HERE, YEAR)) else { return };
    let text = format!("transport = \"mqtt\"\n[[broker]]\nurl = \"{}\"\n", encrypted.url());
    for said in said_of(&text) {
        assert!(said.contains("that port may be for mqtts://"), "{said}");
    }
}
