//! One board's state becomes another's, page by page.

use std::path::Path;

use rusqlite::Connection;
use understudy_core::{
    event::{Entry, EntryKind},
    limits::{PAGE_BYTES, PAGES_WISHES_MAX},
    pages::{Answer, Done, Summary, Wish, Work},
    scrub::Finding,
    sql::{self, RequestKind, SqlResponse, StatementOutcome, Value},
};

use super::{Database, Desk, Options, QueryOutcome, aside::Aside, tests::request};

/// A board that leads itself.
struct Board {
    database: Database,
    directory: tempfile::TempDir,
    last: Option<Entry>,
}

impl Board {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path(), options).unwrap();
        Self { database, directory, last: None }
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn apply(&mut self, data: Vec<u8>) {
        let index = self.database.applied().index + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::Change, data };
        self.database.apply(std::slice::from_ref(&entry)).unwrap();
        self.last = Some(entry);
    }

    fn execute(&mut self, text: &str) {
        if self.database.applied().index == 0 {
            self.apply(Vec::new());
        }
        let base = self.database.applied();
        let requests = [request(RequestKind::Execute, false, &[text])];
        let executed = self.database.execute(base, &requests).unwrap();
        for answer in &executed.answers {
            let response: SqlResponse = sql::decode(answer.as_ref().unwrap()).unwrap();
            let failed = |result: &sql::StatementResult| {
                matches!(result.outcome, StatementOutcome::Error(_))
            };
            assert!(response.error.is_none() && !response.results.iter().any(failed), "{text}");
        }
        self.apply(executed.change);
    }

    fn rows(&mut self, text: &str) -> Vec<Vec<Value>> {
        let question = request(RequestKind::Query, false, &[text]);
        let answer = match self.database.query(&question).unwrap() {
            QueryOutcome::Answered(answer) => answer,
            QueryOutcome::NeedsReader => {
                self.database.commit().unwrap();
                self.database.reader().unwrap().query(&question)
            }
        };
        let response: SqlResponse = sql::decode(&answer).unwrap();
        match response.results.into_iter().next().unwrap().outcome {
            StatementOutcome::Rows { rows, .. } => rows,
            outcome @ (StatementOutcome::Changed { .. } | StatementOutcome::Error(_)) => {
                panic!("{text}: {outcome:?}")
            }
        }
    }
}

/// A board that does work on pages.
struct Puller<'a> {
    board: &'a mut Board,
    desk: Desk,
}

impl<'a> Puller<'a> {
    fn new(board: &'a mut Board) -> Self {
        Self { board, desk: Desk::default() }
    }

    fn does(&mut self, work: Work) -> Option<Done> {
        let job = self.board.database.pages(work).expect("the disk is sound");
        self.desk.carry_out(job)
    }

    fn keep(&mut self) -> Summary {
        match self.does(Work::Keep { session: 7 }) {
            Some(Done::Kept(Some(summary))) => summary,
            done => panic!("nothing is kept: {done:?}"),
        }
    }

    fn serve(&mut self, wish: Wish) -> Answer {
        match self.does(Work::Serve { wish }) {
            Some(Done::Served(answer)) => answer,
            done => panic!("nothing is served: {done:?}"),
        }
    }

    fn install(&mut self, summary: Summary) -> Option<Done> {
        self.does(Work::Drop { keeps: true });
        self.does(Work::Install { summary })
    }
}

/// What crossed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Crossed {
    pages: usize,
    hashes: usize,
}

/// Pulls all that differs; `road` may change what is answered.
fn pull(
    from: &mut Puller<'_>,
    to: &mut Puller<'_>,
    summary: Summary,
    mut road: impl FnMut(Answer) -> Answer,
) -> Crossed {
    let mut crossed = Crossed::default();
    let room = PAGES_WISHES_MAX;
    let mut done = to.does(Work::Compare { summary, salt: 0, room });
    let mut open = Vec::new();
    loop {
        let Some(Done::Wants { wishes, is_last }) = done else { panic!("{done:?}") };
        open.extend(wishes);
        let Some(wish) = open.pop() else {
            assert!(is_last, "there is nothing left to ask");
            return crossed;
        };
        let answer = road(from.serve(wish.clone()));
        match &answer {
            Answer::Pages(pages) => crossed.pages += pages.len() / PAGE_BYTES,
            Answer::Hashes(hashes) => crossed.hashes += hashes.len(),
            Answer::Opened(_) | Answer::Gone | Answer::Outline { .. } => panic!("{answer:?}"),
        }
        done = to.does(Work::Take { wish, answer, room: room - open.len() });
    }
}

/// `from`'s state becomes `to`'s.
fn bring(from: &mut Board, to: &mut Board) -> Crossed {
    let (mut from, mut to) = (Puller::new(from), Puller::new(to));
    let summary = from.keep();
    let crossed = pull(&mut from, &mut to, summary, |answer| answer);
    let done = to.install(summary);
    assert!(matches!(done, Some(Done::Installed(Some(_)))), "{done:?}");
    crossed
}

fn assert_same(one: &mut Board, other: &mut Board) {
    assert_eq!(one.database.applied(), other.database.applied());
    assert_eq!(one.database.chain(), other.database.chain());
    let digest = |board: &mut Board| board.database.content_digest().unwrap();
    assert_eq!(digest(one), digest(other));
    let digest = |board: &mut Board| board.database.page_digest().unwrap();
    assert_eq!(digest(one), digest(other));
    let check = "PRAGMA integrity_check";
    assert_eq!(other.rows(check), [[Value::Text(b"ok".to_vec())]]);
}

/// A board with so many rows of about 200 bytes.
fn filled(rows: u64) -> Board {
    fill(Board::new(), rows)
}

fn fill(mut board: Board, rows: u64) -> Board {
    board.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)");
    for first in (1..=rows).step_by(500) {
        let last = rows.min(first + 499);
        board.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
             INSERT INTO t SELECT i, i, hex(zeroblob(100)) FROM n"
        ));
    }
    board
}

/// Another board that is where this one is.
fn twin(board: &mut Board) -> Board {
    let mut twin = Board::new();
    bring(board, &mut twin);
    assert_same(board, &mut twin);
    twin
}

#[test]
fn a_schema_of_many_pages_takes_the_place_of_one_that_has_its_pages_elsewhere() {
    for (of_source, of_puller) in [(1, 0), (3, 0), (40, 0), (40, 7), (2, 40)] {
        let (mut source, mut puller) = (Board::new(), Board::new());
        for (board, tables) in [(&mut source, of_source), (&mut puller, of_puller)] {
            board.execute("CREATE TABLE t(a)");
            board.execute("INSERT INTO t VALUES (randomblob(5000))");
            for number in 0..tables {
                board.execute(&format!(
                    "CREATE TABLE t{number}(a, b, c DEFAULT 'the same each time')"
                ));
                board.execute(&format!("INSERT INTO t{number} VALUES (1, randomblob(900), 3)"));
            }
        }
        bring(&mut source, &mut puller);
        assert_same(&mut source, &mut puller);
    }
}

#[test]
fn an_empty_board_takes_everything() {
    let mut source = filled(2_000);
    let mut empty = Board::new();
    let crossed = bring(&mut source, &mut empty);
    assert_same(&mut source, &mut empty);
    assert!(crossed.pages > 400, "{crossed:?}");
    assert_eq!(empty.database.durable(), source.database.applied(), "and holds it for good");
    source.execute("INSERT INTO t VALUES (9000, 1, 'more')");
    let more = source.last.clone().unwrap();
    empty.database.apply(&[more]).unwrap();
    assert_same(&mut source, &mut empty);
}

#[test]
fn a_board_that_is_behind_takes_the_pages_that_differ() {
    let mut source = filled(8_000);
    let mut behind = twin(&mut source);
    for id in [17, 4_000, 7_777] {
        source.execute(&format!("UPDATE t SET a = 'changed' WHERE id = {id}"));
    }
    let crossed = bring(&mut source, &mut behind);
    assert_same(&mut source, &mut behind);
    // The rows', and the one that says what is applied.
    assert_eq!(crossed.pages, 4);
    assert!(crossed.hashes <= 4 * 3 * 16 * 4, "{crossed:?}");
    let again = bring(&mut source, &mut behind);
    assert_eq!(again, Crossed::default());
}

#[test]
fn a_file_that_got_shorter_is_shorter_here_too() {
    let mut source = filled(4_000);
    let mut behind = twin(&mut source);
    source.execute("DELETE FROM t WHERE id > 100");
    source.execute("VACUUM");
    let crossed = bring(&mut source, &mut behind);
    assert!(crossed.pages < 200, "{crossed:?}");
    assert_same(&mut source, &mut behind);
}

#[test]
fn whoever_reads_aside_sees_the_schema_that_came() {
    let mut source = filled(100);
    let mut behind = twin(&mut source);
    let reader = behind.database.reader().unwrap();
    let count = request(RequestKind::Query, false, &["SELECT count(*) FROM t"]);
    let rows = |answer: Vec<u8>| {
        let response: SqlResponse = sql::decode(&answer).unwrap();
        response.results.into_iter().map(|result| result.outcome).collect::<Vec<_>>()
    };
    let before = rows(reader.query(&count));
    source.execute("DROP TABLE t");
    source.execute("CREATE TABLE u(x); INSERT INTO u VALUES (1), (2)");
    source.execute("CREATE TABLE t(y, z); INSERT INTO t VALUES (3, 4)");
    bring(&mut source, &mut behind);
    let after = rows(reader.query(&count));
    assert_ne!(before, after);
    assert_eq!(after, rows(source.database.reader().unwrap().query(&count)));
    assert_same(&mut source, &mut behind);
}

#[test]
fn a_page_changed_on_the_way_is_asked_for_again() {
    let mut source = filled(1_000);
    let undisturbed = bring(&mut source, &mut Board::new());
    let mut empty = Board::new();
    let (mut from, mut to) = (Puller::new(&mut source), Puller::new(&mut empty));
    let summary = from.keep();
    let mut changed = 0;
    let crossed = pull(&mut from, &mut to, summary, |mut answer| {
        if let Answer::Pages(pages) = &mut answer
            && changed < 3
        {
            pages[1_500] ^= 1;
            changed += 1;
        }
        answer
    });
    assert_eq!(crossed.pages, undisturbed.pages + 3);
    assert!(matches!(to.install(summary), Some(Done::Installed(Some(_)))));
    assert_same(&mut source, &mut empty);
}

#[test]
fn what_is_not_that_state_as_a_whole_is_not_installed() {
    let mut source = filled(1_000);
    let mut behind = twin(&mut source);
    source.execute("UPDATE t SET a = 'changed' WHERE id = 500");
    let before = behind.database.content_digest().unwrap();
    let (mut from, mut to) = (Puller::new(&mut source), Puller::new(&mut behind));
    let summary = from.keep();
    pull(&mut from, &mut to, summary, |answer| answer);
    let other = Summary { root: summary.root ^ 1, ..summary };
    assert_eq!(to.install(other), Some(Done::Installed(None)));
    assert_eq!(behind.database.content_digest().unwrap(), before);
    bring(&mut source, &mut behind);
    assert_same(&mut source, &mut behind);
}

#[test]
fn what_was_pulled_counts_after_the_source_was_lost() {
    let mut source = filled(4_000);
    let mut empty = Board::new();
    let (mut from, mut to) = (Puller::new(&mut source), Puller::new(&mut empty));
    let summary = from.keep();
    let done = to.does(Work::Compare { summary, salt: 0, room: PAGES_WISHES_MAX });
    let Some(Done::Wants { wishes, .. }) = done else { panic!("{done:?}") };
    let mut open = wishes;
    let mut taken = 0;
    while taken < 300 {
        let wish = open.pop().expect("more is missing");
        let answer = from.serve(wish.clone());
        if let Answer::Pages(pages) = &answer {
            taken += pages.len() / PAGE_BYTES;
        }
        let room = PAGES_WISHES_MAX - open.len();
        let done = to.does(Work::Take { wish, answer, room });
        let Some(Done::Wants { wishes, .. }) = done else { panic!("{done:?}") };
        open.extend(wishes);
    }
    to.does(Work::Drop { keeps: true });
    source.execute("INSERT INTO t VALUES (9000, 1, 'newer')");
    let crossed = bring(&mut source, &mut empty);
    let pages = usize::try_from(summary.pages).unwrap();
    assert!(crossed.pages <= pages - taken + 5, "{crossed:?} of {pages} without {taken}");
    assert_same(&mut source, &mut empty);
}

#[test]
fn a_torn_file_of_what_was_put_aside_is_emptied() {
    let mut source = filled(500);
    let mut empty = Board::new();
    let path = empty.directory().join("pages.db");
    std::fs::write(&path, [7; 20_000]).unwrap();
    bring(&mut source, &mut empty);
    assert_same(&mut source, &mut empty);
    let aside = Aside::open(&empty.directory().join("state.db"), None).unwrap();
    assert_eq!(aside.get(3).unwrap(), None, "nothing is left of it");
}

#[test]
fn a_kept_state_is_given_up_when_too_much_is_written_meanwhile() {
    let options = Options { wal_bytes_max: 256 << 10, ..Options::default() };
    let mut source = fill(Board::with(options), 100);
    let mut from = Puller::new(&mut source);
    from.keep();
    let wish = Wish::Pages { session: 7, pages: vec![0] };
    assert!(matches!(from.serve(wish.clone()), Answer::Pages(_)));
    for round in 0..40 {
        let filler = format!("INSERT INTO t(a, b) VALUES ({round}, hex(randomblob(4000)))");
        from.board.execute(&filler);
        from.board.database.commit().unwrap();
        from.board.database.keep_house(crate::driver::clock::now()).unwrap();
    }
    assert_eq!(from.serve(wish), Answer::Gone);
    let applied = from.board.database.applied();
    from.board.database.checkpoint().unwrap();
    assert_eq!(from.board.database.durable(), applied, "the WAL goes back into the file again");
}

#[test]
fn a_scrub_that_came_with_another_boards_state_is_reported_as_passed_over() {
    let mut source = filled(100);
    let mut behind = twin(&mut source);
    let base = source.database.applied();
    let ask = source.database.scrubs().ask(&[1, 2], None);
    let asked = source.database.execute(base, &[ask]).unwrap();
    source.apply(asked.change);
    bring(&mut source, &mut behind);
    let passed = behind.database.take_scrubbing().expect("others wait for its word");
    assert_eq!(passed.id(), source.database.last_scrub());
    let Finding::Unfinished(why) = passed.run().finding else { panic!("it never was there") };
    assert!(why.contains("took another's state"), "{why}");
    source.execute("INSERT INTO t VALUES (9000, 1, 'more')");
    bring(&mut source, &mut behind);
    assert!(behind.database.take_scrubbing().is_none(), "once is enough");
}

#[test]
fn a_state_of_the_same_entry_is_not_taken_for_what_was_there_for_good_before() {
    let mut source = filled(100);
    let mut behind = twin(&mut source);
    behind.database.checkpoint().unwrap();
    assert_eq!(behind.database.durable(), source.database.applied());
    let path = behind.directory().join("state.db");
    let other = Connection::open(path).unwrap();
    other.execute("UPDATE t SET b = 'wrong' WHERE id = 50", []).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
    bring(&mut source, &mut behind);
    assert!(behind.database.is_held(), "its own rows are still in the file");
    other.execute_batch("COMMIT").unwrap();
    let later = crate::driver::clock::now().plus(2 * super::house::HELD_RETRY_MS);
    behind.database.keep_house(later).unwrap();
    assert!(!behind.database.is_held());
    assert_same(&mut source, &mut behind);
}
