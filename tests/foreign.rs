//! The program as it is built for other machines: groups of one kind and of several, on
//! this machine, which imitates them. `cross/test` runs these; without the builds they
//! test nothing.
//!
//! Commands of duties are kept by stand-ins for keepers: QEMU lets no process keep orphans
//! (7.2, `PR_SET_CHILD_SUBREAPER`), which a keeper's guard must. How fast anything is says
//! nothing here. Memory is taken of the build for this machine alone: of an imitated one
//! QEMU's would be counted.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use understudy_boards::board;
use understudy_tests::{
    agents::Agents,
    artefacts::Kind::{self, Arm64, Armv6, Armv7, X86},
};

use crate::duties::Ledger;

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// What each board executes once: values that a machine might make otherwise than another.
const STATEMENTS: [&str; 3] = [
    "INSERT INTO made(place, value, what) SELECT i, i / 7.0, 'n-' || (i * 0.1) FROM \
     (WITH RECURSIVE n(i) AS (SELECT -40 UNION ALL SELECT i + 1 FROM n WHERE i < 40) SELECT i FROM n)",
    "INSERT INTO made(place, value, what) VALUES (random(), 1e308 * random(), randomblob(9)), \
     (-9223372036854775808, -0.0, NULL), (1 << 40, 5e-324, strftime('%J', 'now'))",
    "UPDATE made SET value = value * 1.1, what = upper(what) || round(value, 3) WHERE place % 3 = 0 \
     AND typeof(what) = 'text'",
];

/// More than the log keeps, in so many requests.
const LARGE: &str = "INSERT INTO large VALUES (randomblob(1500000))";
const LARGE_VALUES: u32 = 8;

/// What is kept of it, exactly.
const MADE: &str = "SELECT count(*), group_concat(quote(id) || quote(place) || quote(value) || \
                    quote(what)) FROM (SELECT * FROM made ORDER BY id)";

/// A group of boards of these kinds, with a profile for slow ones; `None` without builds.
fn group(kinds: [Kind; 3]) -> Option<Agents> {
    let machines = kinds.map(Kind::machine);
    let mut agents = Agents::new(&machines[0].as_ref()?.program);
    for (board, machine) in BOARDS.iter().zip(machines) {
        agents.be(board, machine?);
    }
    agents.form(&BOARDS);
    let _ = agents.told("a", &["set", "profile", "wifi"]);
    Some(agents)
}

fn leader(agents: &Agents, asked: &str) -> String {
    let mut leader = None;
    agents.wait(asked, "to know a leader", |status| status["leader"].is_string());
    if let Some(status) = agents.status(asked) {
        leader = status["leader"].as_str().map(str::to_owned);
    }
    leader.expect("there was one")
}

/// The numbers that were written as readings and are on this board.
fn written(agents: &Agents, board: &str) -> String {
    let query = "SELECT 'so many: ' || count(*) || ', sum ' || sum(value) FROM reading";
    agents.told(board, &["query", query])
}

/// All boards hold the same rows, by their digests.
fn all_agree(agents: &Agents, asked: &str) {
    let said = agents.told(asked, &["scrub"]);
    let scrub = agents.status(asked).expect("it answers")["scrub"].clone();
    let nobody = serde_json::json!([]);
    assert!(scrub["silent"] == nobody && scrub["differences"] == nobody, "{said}: {scrub}");
    assert!(said.contains("all boards that reported hold the same rows"), "{said}");
}

/// All that was acknowledged is on all boards.
fn all_have_all(agents: &Agents, boards: [&str; 3]) {
    for board in boards {
        let _ = leader(agents, board);
        let written = written(agents, board);
        assert!(written.contains("so many: 5, sum 15"), "{board}: {written}");
    }
}

/// Three boards of a kind: the one that leads and has a duty is killed, then all are.
fn is_a_group_that_stands_a_loss(kind: Kind) {
    let Some(mut agents) = group([kind; 3]) else { return };
    let _ = agents.told("a", &["duty", "add", "pump"]);
    let ledger = Ledger::default();
    ledger.keep(&agents, &BOARDS, "pump");
    ledger.wait_for_another("");
    let dead = leader(&agents, "a");
    let _ = agents.told("a", &["duty", "transfer", "pump", &dead]);
    agents.wait(&dead, "to hold the duty", |status| status["duties"][0]["held"] == true);
    for (board, value) in BOARDS.iter().zip(["1", "2", "3"]) {
        let _ = agents.told(board, &["write", "shed/door", value]);
    }
    agents.kill(&dead);
    let left: Vec<&str> = BOARDS.into_iter().filter(|board| *board != dead).collect();
    ledger.wait_for_another(&dead);
    agents.wait(left[0], "to follow another", |status| {
        status["leader"].as_str().is_some_and(|leader| leader != dead)
    });
    for (board, value) in left.iter().zip(["4", "5"]) {
        let _ = agents.told(board, &["write", "shed/door", value]);
    }
    agents.run(&dead);
    all_have_all(&agents, [&dead, left[0], left[1]]);
    BOARDS.into_iter().for_each(|board| agents.kill(board));
    BOARDS.into_iter().for_each(|board| agents.run(board));
    all_have_all(&agents, BOARDS);
    all_agree(&agents, "a");
    ledger.check();
}

#[test]
fn three_boards_of_armv6_stand_the_loss_of_one() {
    is_a_group_that_stands_a_loss(Armv6);
}

#[test]
fn three_boards_of_armv7_stand_the_loss_of_one() {
    is_a_group_that_stands_a_loss(Armv7);
}

#[test]
fn three_boards_of_aarch64_stand_the_loss_of_one() {
    is_a_group_that_stands_a_loss(Arm64);
}

/// Boards of three kinds with a table, in which each has executed the same as it leads.
fn mixed() -> Option<Agents> {
    let agents = group([Armv7, Arm64, X86])?;
    let table = "CREATE TABLE made(id INTEGER PRIMARY KEY, place INTEGER, value REAL, what)";
    let index = "CREATE INDEX by_value ON made(value, what)";
    let _ = agents.told("a", &["execute", table, index, "CREATE TABLE large(a)"]);
    for board in BOARDS {
        if leader(&agents, board) != board {
            let _ = agents.told(board, &["transfer", board]);
        }
        agents.wait(board, "to lead", |status| status["role"] == "leader");
        for statement in STATEMENTS {
            let _ = agents.told(board, &["execute", statement]);
        }
        let _ = agents.told(board, &["write", "shed/temperature", "21.53"]);
    }
    Some(agents)
}

fn hold_the_same(agents: &Agents, boards: &[&str]) {
    let made = boards.iter().map(|board| agents.told(board, &["query", MADE]));
    let made: Vec<String> = made.collect();
    assert!(made[0].contains("252") && made.iter().all(|one| *one == made[0]), "{made:?}");
    all_agree(agents, boards[0]);
}

#[test]
fn boards_of_several_kinds_hold_the_same_and_a_fourth_takes_it_from_them() {
    let Some(mut agents) = mixed() else { return };
    hold_the_same(&agents, &BOARDS);
    for _ in 0..LARGE_VALUES {
        let _ = agents.told("b", &["execute", LARGE]);
    }
    let last = agents.status("b").expect("it answers")["applied_index"].as_u64();
    let Some(machine) = Armv6.machine() else { return };
    agents.be("d", machine);
    agents.run("d");
    let token = agents.told("c", &["token"]);
    let _ = agents.told("d", &["join", token.lines().last().expect("a token")]);
    agents.wait("d", "to have what the others have", |status| {
        status["applied_index"].as_u64() >= last && status["leader"].is_string()
    });
    let log = agents.log("d");
    assert!(log.contains("the database's state was taken from another board"), "{log}");
    hold_the_same(&agents, &["a", "b", "c", "d"]);
}

/// Each is killed and goes on as another kind does on its data, which the journal is ahead
/// of; twice, so that each kind has had each data.
#[test]
fn what_one_kind_has_on_its_disk_another_goes_on_with() {
    let Some(mut agents) = mixed() else { return };
    for kinds in [[Arm64, X86, Armv7], [X86, Armv7, Arm64]] {
        BOARDS.into_iter().for_each(|board| agents.kill(board));
        for (board, kind) in BOARDS.into_iter().zip(kinds) {
            let Some(machine) = kind.machine() else { return };
            agents.be(board, machine);
            agents.run(board);
        }
        for board in BOARDS {
            let _ = leader(&agents, board);
        }
        let _ = agents.told("a", &["write", "shed/temperature", "21.53"]);
        hold_the_same(&agents, &BOARDS);
    }
    let written = written(&agents, "b");
    assert!(written.contains("so many: 5, sum 107.65"), "{written}");
}

/// Readings that come in a second, of which boards' budgets speak, and for how long.
const RATE: usize = 100;
const SECONDS: usize = 20;

/// A hundred readings a second, each acknowledged when a majority has it.
fn feed(socket: &Path) {
    let stream = UnixStream::connect(socket).expect("the agent listens");
    let mut answers = BufReader::new(&stream).lines();
    writeln!(&stream, "ack committed").expect("it takes them");
    for second in 0..SECONDS {
        let sensors = (0..RATE).map(|sensor| format!("shed/{sensor} {second}.5\n"));
        (&stream).write_all(sensors.collect::<String>().as_bytes()).expect("it takes them");
        thread::sleep(Duration::from_secs(1));
        for answer in answers.by_ref().take(RATE) {
            let answer = answer.expect("it answers");
            assert!(answer.starts_with("ok "), "{answer}");
        }
    }
}

/// Its proportional share of memory, bytes.
fn memory_bytes(pid: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("its share");
    let kilobytes = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    kilobytes.expect("a number") * 1_024
}

#[test]
fn the_memory_of_an_agent_is_within_the_budget_of_every_board() {
    let Some(machine) = X86.machine() else { return };
    let mut agents = Agents::new(&machine.program);
    agents.be_apart(&BOARDS, &machine);
    agents.form(&BOARDS);
    feed(&agents.directory("b").join("readings.stream.sock"));
    let boards = board::all().expect("the boards' files");
    let smallest = boards.iter().min_by_key(|board| board.budget.memory_bytes_max).expect("one");
    for board in BOARDS {
        let pid = agents.status(board).expect("it runs")["agent_pid"].to_string();
        let bytes = memory_bytes(&pid);
        let most = smallest.budget.memory_bytes_max;
        eprintln!("{board}: {bytes} bytes of memory; {} allows {most}", smallest.key);
        assert!(bytes <= most, "{board}: {bytes} bytes; boards/{}.toml: {most}", smallest.key);
    }
}
