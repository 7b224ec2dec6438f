//! What crosses the air when a board takes another's state page by page: all sealed
//! datagrams in both directions, acknowledgements too, beside the pages that differ and
//! the whole file. Real databases and real links, on a road that loses nothing.

use serde_json::{Value, json};
use understudy::store::database::{Database, Desk, Options};
use understudy_core::{
    event::{Entry, EntryKind, Millis, NodeId},
    limits::{PAGE_BYTES, PAGES_WISHES_MAX, SEAL_BYTES},
    link::Links,
    pages::{Answer, Done, Summary, Wish, Work},
    sql::{self, Origin, RequestKind, SqlRequest, Statement},
    wire::Frame,
};

/// Rows of the database.
const ROWS: u64 = 100_000;

/// Pages out of which one changes.
const CHANGED_OF: u64 = 1_000;

/// Rows that stand in one page, fewer than any has.
const ROWS_OF_PAGE: u64 = 10;

/// A board: its database, and whoever works on its pages.
struct Board {
    database: Database,
    desk: Desk,
    _folder: tempfile::TempDir,
}

impl Board {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(".").expect("a temporary folder");
        let database = Database::open(folder.path(), Options::default()).expect("a database");
        Self { database, desk: Desk::default(), _folder: folder }
    }

    fn apply(&mut self, data: Vec<u8>) {
        let index = self.database.applied().index + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::Change, data };
        self.database.apply(&[entry]).expect("it is applied");
    }

    fn write(&mut self, text: &str) {
        let statements = vec![Statement::new(text, Vec::new())];
        let request = sql::encode(&SqlRequest::new(RequestKind::Execute, Origin::User, statements));
        let base = self.database.applied();
        let executed = self.database.execute(base, &[request]).expect("it is executed");
        self.apply(executed.change);
    }

    fn does(&mut self, work: Work) -> Option<Done> {
        let job = self.database.pages(work).expect("the disk is sound");
        self.desk.carry_out(job)
    }
}

/// The links of two boards, and the bytes that left either.
struct Road {
    links: [Links; 2],
    now: Millis,
    bytes: u64,
}

impl Road {
    fn new() -> Self {
        Self { links: [Links::new(1), Links::new(2)], now: Millis(1_000), bytes: 0 }
    }

    /// Sends a frame from one to the other, until it is there.
    fn carry(&mut self, from: usize, frame: &Frame) {
        let mut out: Vec<(NodeId, Vec<u8>)> = Vec::new();
        self.links[from].send(self.now, 9, frame.encode(), &mut out);
        self.links[from].flush(&mut out);
        let mut there = self.deliver(from, out);
        while !there {
            self.now = self.now.plus(1);
            for side in [from, 1 - from] {
                let mut out = Vec::new();
                self.links[side].tick(self.now, &mut out);
                there |= self.deliver(side, out);
            }
        }
    }

    /// Did a frame arrive whole?
    fn deliver(&mut self, from: usize, out: Vec<(NodeId, Vec<u8>)>) -> bool {
        let mut there = false;
        for (_, payload) in out {
            self.bytes += (payload.len() + SEAL_BYTES) as u64;
            let mut back = Vec::new();
            let to = &mut self.links[1 - from];
            let frames = to.receive(self.now, 9, &payload, &mut back).expect("a payload");
            there |= !frames.is_empty();
            there |= self.deliver(1 - from, back);
        }
        there
    }
}

/// `to` takes the state of `from`: pages that crossed, and all bytes.
fn pull(from: &mut Board, to: &mut Board) -> (u64, u64, Summary) {
    let mut road = Road::new();
    let Some(Done::Kept(Some(summary))) = from.does(Work::Keep { session: 1 << 24 }) else {
        panic!("no state is kept")
    };
    let (mut ask, mut pages, mut open) = (1, 0, Vec::new());
    road.carry(1, &Frame::PagesAsk { ask, wish: Wish::Open { index_min: 1 } });
    road.carry(0, &Frame::PagesTell { ask, answer: Answer::Opened(summary) });
    let room = PAGES_WISHES_MAX;
    let mut done = to.does(Work::Compare { summary, salt: 0, room });
    loop {
        let Some(Done::Wants { wishes, .. }) = done else { panic!("{done:?}") };
        open.extend(wishes);
        let Some(wish) = open.pop() else { break };
        ask += 1;
        road.carry(1, &Frame::PagesAsk { ask, wish: wish.clone() });
        let Some(Done::Served(answer)) = from.does(Work::Serve { wish: wish.clone() }) else {
            panic!("nothing is served")
        };
        if let Answer::Pages(bytes) = &answer {
            pages += (bytes.len() / PAGE_BYTES) as u64;
        }
        road.carry(0, &Frame::PagesTell { ask, answer: answer.clone() });
        done = to.does(Work::Take { wish, answer, room: room - open.len() });
    }
    to.does(Work::Drop { keeps: true });
    let done = to.does(Work::Install { summary });
    assert!(matches!(done, Some(Done::Installed(Some(_)))), "{done:?}");
    let digest = |board: &mut Board| board.database.content_digest().expect("it can be read");
    assert_eq!(digest(from), digest(to), "it is the same state");
    (pages, road.bytes, summary)
}

/// # Panics
/// When the databases cannot be used.
pub(crate) fn run() -> Value {
    let mut source = Board::new();
    source.apply(Vec::new());
    source.write(
        "CREATE TABLE reading(id INTEGER PRIMARY KEY, sensor INTEGER, time INTEGER, value REAL); \
         CREATE INDEX reading_time ON reading(sensor, time)",
    );
    source.write(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO reading SELECT i, i % 20, 1700000000000 + i * 1000, i % 977 / 8.0 FROM n"
    ));
    let mut behind = Board::new();
    let (_, all, summary) = pull(&mut source, &mut behind);
    let file = u64::from(summary.pages) * PAGE_BYTES as u64;
    println!("a database of {} pages, {file} bytes", summary.pages);
    println!("  an empty board takes it with        {all:>10} bytes on the air");
    let mut lines = Vec::new();
    for (what, text) in changes(u64::from(summary.pages)) {
        source.write(&text);
        let (pages, bytes, _) = pull(&mut source, &mut behind);
        let changed = pages * PAGE_BYTES as u64;
        #[expect(clippy::cast_precision_loss, reason = "these are far below 2^52")]
        let (ratio, of_all) = (bytes as f64 / changed as f64, bytes as f64 / file as f64);
        println!("  {what}: {pages} pages differ, {changed} bytes");
        println!("    taken with                        {bytes:>10} bytes on the air");
        println!("    {ratio:.3} of what differs (at most 1.3 wanted), {of_all:.5} of the whole");
        lines.push(json!({
            "what": what, "pages": pages, "bytes": bytes, "ratio": ratio, "of_whole": of_all,
        }));
    }
    json!({ "pages": summary.pages, "file_bytes": file, "empty_bytes": all, "behind": lines })
}

/// What happens to one page out of so many, here and there or at the end.
fn changes(pages: u64) -> [(&'static str, String); 2] {
    let count = pages.div_ceil(CHANGED_OF);
    let step = ROWS / count;
    let scattered = format!(
        "WITH RECURSIVE n(i) AS (SELECT 7 UNION ALL SELECT i + {step} FROM n WHERE i < {ROWS}) \
         UPDATE reading SET value = -value - 1 WHERE id IN (SELECT i FROM n)"
    );
    let last = ROWS + count * ROWS_OF_PAGE;
    let appended = format!(
        "WITH RECURSIVE n(i) AS (SELECT {ROWS} + 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
         INSERT INTO reading SELECT i, 3, 1800000000000 + i * 1000, i % 977 / 8.0 FROM n"
    );
    [("one page of 1,000 changed, far from each other", scattered), ("readings appended", appended)]
}
