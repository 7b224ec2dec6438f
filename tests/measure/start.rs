//! How soon a board serves after it was started, with a long log behind it: to systemd's
//! `READY=1`, and to `/readyz`, which waits for a leader as well.
//!
//! Three states of its files: all of the log is in the database, as after an orderly end;
//! what came in one commit interval is not, as after a power cut; and none is, which no
//! board comes to. The files are as agents leave them, made by the same code; each start is
//! of a copy of its own, and of one board alone in its group.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy::store::{
    database::{self, Database},
    journal::{self, Journal, Persist},
};
use understudy_core::{
    event::{Entry, EntryKind, HardState},
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
};
use understudy_tests::agents::Agents;

use crate::{Spread, group::TABLE, load};

/// Entries of the log.
const ENTRIES: u64 = 100_000;

/// Written to the journal at a time.
const BATCH: u64 = 1_000;

/// Entries that come in the 120 s between two commits of the database, ten a second.
const INTERVAL: u64 = 1_200;

/// A start may take so long, milliseconds, when the database has all.
const READY_MS_MAX: f64 = 300.0;

const PATIENCE: Duration = Duration::from_secs(60);

const BOARD: &str = "a";

/// What the database lacks of the log, and in words.
const LACKS: [(u64, &str); 3] =
    [(0, "has all"), (INTERVAL, "lacks what came in 120 s"), (ENTRIES, "has nothing")];

/// # Panics
/// When files cannot be used, or a board does not come up.
pub(crate) fn run(program: &Path, rounds: u64) -> Value {
    let folder = program.parent().expect("a folder");
    let mut made = Agents::new_in(program, folder);
    made.run(BOARD);
    let _token = made.found(BOARD);
    load::execute(&made.http_address(BOARD), TABLE, PATIENCE).expect("the table can be made");
    made.stop(BOARD);
    let kept = tempfile::tempdir_in(folder).expect("a folder");
    write_log(&made.directory(BOARD), kept.path());
    eprintln!("{ENTRIES} entries in the journal; one board; milliseconds from exec");
    let mut lines = Vec::new();
    let mut is_met = true;
    for (lacks, what) in LACKS {
        let from = kept.path().join(lacks.to_string());
        let rounds: Vec<_> = (0..rounds).map(|_| start(program, folder, &from)).collect();
        let of = |times: Vec<f64>| Spread::of(&times);
        let ready = of(rounds.iter().map(|round| round.0).collect());
        let serves = of(rounds.iter().map(|round| round.1).collect());
        eprintln!(
            "database {what:<26} READY=1 {:>7.0} ({:.0} to {:.0})   /readyz {:>7.0} ({:.0} to {:.0})",
            ready.median, ready.least, ready.most, serves.median, serves.least, serves.most
        );
        is_met &= lacks > 0 || ready.median <= READY_MS_MAX;
        let (ready, serves) = (ready.json(), serves.json());
        lines.push(json!({ "lacks": lacks, "ready_ms": ready, "readyz_ms": serves }));
    }
    let verdict = if is_met { "met" } else { "MISSED" };
    eprintln!("target: READY=1 within {READY_MS_MAX:.0} ms when the database has all, {verdict}");
    json!({
        "measure": "start", "entries": ENTRIES, "states": lines,
        "ready_ms_max": READY_MS_MAX, "target_met": is_met,
    })
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success(), "{} is copied", from.display());
}

/// Writes the log of a board whose agent has ended, and keeps the board's folder in each of
/// the states.
fn write_log(board: &Path, kept: &Path) {
    let mut journal = Journal::open(board, &journal::Options::default()).expect("a journal");
    let mut database = Database::open(board, database::Options::default()).expect("a database");
    let HardState { term, .. } = journal.hard_state();
    let first = database.applied().index + 1;
    let states = |done: u64| LACKS.iter().find(|(lacks, _)| ENTRIES - lacks == done);
    let mut entries = Vec::new();
    for done in 0..=ENTRIES {
        if let Some((lacks, _)) = states(done) {
            database.commit().expect("it is committed");
            let state = kept.join(format!("{lacks}.state"));
            fs::create_dir(&state).expect("a folder");
            for name in ["state.db", "state.db-wal"] {
                copy(&board.join(name), &state.join(name));
            }
        }
        if done == ENTRIES {
            break;
        }
        entries.push(entry(&mut database, first + done, term));
        if entries.len() as u64 == BATCH {
            let hard_state = HardState { commit: first + done, ..journal.hard_state() };
            let entries = std::mem::take(&mut entries);
            let persist = Persist { entries, hard_state, ..Persist::default() };
            journal.write(&[persist]).expect("it is written");
        }
    }
    drop((journal, database));
    for (lacks, _) in LACKS {
        let (folder, state) = (kept.join(lacks.to_string()), kept.join(format!("{lacks}.state")));
        copy(board, &folder);
        for name in ["state.db", "state.db-wal"] {
            fs::copy(state.join(name), folder.join(name)).expect("it is copied");
        }
    }
}

/// One more row, executed and applied.
fn entry(database: &mut Database, index: u64, term: u64) -> Entry {
    let text = format!("INSERT INTO reading(sensor, value) VALUES ('s{}', {index})", index % 20);
    let statements = vec![Statement::new(text, Vec::new())];
    let request = sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::User, statements));
    let executed = database.execute(database.applied(), &[request]).expect("it is executed");
    let entry = Entry { index, term, kind: EntryKind::Change, data: executed.change };
    database.apply(std::slice::from_ref(&entry)).expect("it is applied");
    entry
}

/// Milliseconds from the start of a board with these files to `READY=1` and to `/readyz`.
fn start(program: &Path, folder: &Path, files: &Path) -> (f64, f64) {
    let mut agents = Agents::new_in(program, folder);
    copy(files, &agents.directory(BOARD));
    let path = agents.directory("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("a time");
    let began = now();
    agents.start(BOARD, &[("NOTIFY_SOCKET", &path.display().to_string())]);
    let mut told = [0; 1_024];
    let ready = loop {
        let length = systemd.recv(&mut told).expect("it comes up");
        if told[..length].starts_with(b"READY=1") {
            break began.elapsed();
        }
    };
    let http = agents.http_address(BOARD);
    while !is_ready(&http) {
        assert!(began.elapsed() < PATIENCE, "{}", agents.log(BOARD));
        thread::sleep(Duration::from_millis(2));
    }
    (ready.as_secs_f64() * 1e3, began.elapsed().as_secs_f64() * 1e3)
}

#[expect(clippy::disallowed_methods, reason = "this is a stopwatch")]
fn now() -> Instant {
    Instant::now()
}

fn is_ready(http: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(http) else { return false };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n");
    asked.is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.0 200")
}
