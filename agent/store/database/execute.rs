//! The leader executes a batch: each request in a savepoint, captured, and all
//! of it rolled back. What was captured is proposed, and applied by the code
//! that every board uses.
//!
//! A request is executed as it stands first. Where that comes to more than an
//! entry holds, or breaks a constraint that is judged in the end, it is executed
//! again with every statement in a savepoint of its own, so that the one at fault
//! is undone and named and the others stand. The only one of its request is named
//! at once.
//!
//! A small request of one statement has no savepoint either: SQLite undoes a
//! statement that fails, and seldom is there a reason to undo another. Then the
//! batch is executed again, with a savepoint for each request.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::config::DbConfig;
use understudy_core::{
    change::Change,
    error::Refusal,
    event::{Executed, Position},
    limits::{BATCH_MS_MAX, ENTRY_BYTES_MAX, REQUEST_STATEMENTS_MAX, RESPONSE_BYTES_MAX},
    mutant,
    readings::Work,
    sql::{self, SqlRequest, SqlResponse, StatementOutcome, StatementResult},
};

use super::{
    Database, Failure,
    authorize::Mode,
    bind::Given,
    budget, capture,
    gathered::Gathered,
    load,
    losses::{LOSSES_MAX, Place},
    read::outcome_bytes,
    readings::Stores,
    refusal,
    schema::{Schema, SchemaError},
    statement::{Asked, Ended},
    vacuum,
};
use crate::store::ffi;

/// Pages held in memory between two batches, bytes: twice what SQLite is asked to
/// keep to, so that pages go out many at a time.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// A request of so many bytes is small: likely to fit into the entry.
const SMALL_BYTES_MAX: usize = 4 << 10;

/// What becomes of a request alone.
type Answer = Result<Vec<u8>, Refusal>;

/// What requests gathered, and their answers.
type Batch = (Gathered, Vec<Answer>);

/// Why a batch has to be executed again, with savepoints.
#[derive(Default)]
struct Undone {
    /// Whose request has to be undone and had none.
    place: usize,
    /// What it is answered: known when it need not be executed again.
    answer: Option<Answer>,
}

/// How a request ended, short of a failure of the whole database.
pub(super) enum Request {
    Answered(Answer),
    /// Nothing may follow it in the entry.
    Last(Vec<u8>),
    /// The entry has no room for it beside those before it.
    DoesNotFit,
    /// It has to be undone and has no savepoint; its answer, where that is known.
    AgainWithSavepoints(Option<Answer>),
    /// A statement took the whole transaction with it.
    Lost(Loss),
}

pub(super) struct Loss {
    at: Place,
    words: String,
    /// What the request is answered when it comes to nothing with the statement.
    answer: Option<Vec<u8>>,
}

/// How the statements of a request are kept apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It has one, which needs no savepoint.
    Alone,
    Together,
    Apart,
}

/// What became of one attempt at a request.
enum Attempt {
    Done(Request),
    /// Some statement of it has to be undone alone.
    AgainApart,
}

/// What the statements of a request came to.
enum Ran {
    Through(SqlResponse),
    /// This statement of it has to be undone alone.
    Undo(StatementResult),
    Lost(Loss),
}

/// What a request's effect and its answer are to be.
enum Verdict {
    Keep(Vec<u8>),
    Undo(Answer),
    DoesNotFit,
    /// With what the statement at fault is answered, should there be no other.
    AgainApart(StatementResult),
}

impl Database {
    /// Executes requests on top of what is applied and rolls them back again.
    ///
    /// # Errors
    /// [`Failure::Reset`] when a request ended the open transaction. Its answer
    /// stands beside, the others had no effect; without an answer all are to be
    /// executed again, and the statement that did it will be passed over.
    ///
    /// # Panics
    /// When `base` is not what is applied: the caller's book-keeping is broken.
    pub fn execute(&mut self, base: Position, requests: &[Vec<u8>]) -> Result<Executed, Failure> {
        assert_eq!(base, self.applied(), "a batch is executed on what is applied");
        self.losses.begin(base, (self.options.stopwatch)());
        if let Some(first) = requests.first().filter(|first| load::is_step(first)) {
            return self.execute_step(base, first);
        }
        self.begin()?;
        self.internal("SAVEPOINT batch")?;
        let schema = Arc::clone(&self.schema);
        let mut executed = self.batch(requests, None)?;
        if let Err(undone) = executed {
            self.undo_batch(&schema)?;
            executed = self.batch(requests, Some(undone))?;
        }
        self.hook.with(|notes| notes.record(false));
        self.undo_batch(&schema)?;
        self.internal("RELEASE batch")?;
        let again = "a request with a savepoint is not undone with its batch";
        let (gathered, answers) = executed.map_err(|_| Failure::Halt(String::from(again)))?;
        let fingerprint = schema.fingerprint;
        self.write_pages_out()?;
        let change = Change { base, fingerprint, segments: gathered.into_segments() }.encode();
        assert!(change.len() <= ENTRY_BYTES_MAX, "what was gathered fits an entry");
        Ok(Executed { change, answers })
    }

    fn undo_batch(&mut self, schema: &Arc<Schema>) -> Result<(), Failure> {
        self.internal("ROLLBACK TO batch")?;
        self.restore_schema(Arc::clone(schema));
        Ok(())
    }

    /// Executes requests one after the other, with savepoints when one was found to
    /// need it.
    fn batch(
        &mut self,
        requests: &[Vec<u8>],
        mut undone: Option<Undone>,
    ) -> Result<Result<Batch, Undone>, Failure> {
        let mut gathered = Gathered::default();
        let mut answers = Vec::with_capacity(requests.len());
        let mut stores = Stores::new();
        let started = (self.options.clock)();
        for (place, request) in requests.iter().enumerate() {
            if place > 0 && (self.options.clock)().since(started) >= BATCH_MS_MAX {
                break;
            }
            let known = undone.as_mut().filter(|undone| undone.place == place);
            if let Some(answer) = known.and_then(|undone| undone.answer.take()) {
                answers.push(answer);
                continue;
            }
            let so_far = &requests[..=place];
            let ended = match Work::is_work(request) {
                true => self.work(request, place, &mut stores, &mut gathered)?,
                false => self.request(request, so_far, undone.is_some(), &mut gathered)?,
            };
            match ended {
                Request::Answered(answer) => answers.push(answer),
                Request::Last(answer) => {
                    answers.push(Ok(answer));
                    break;
                }
                Request::DoesNotFit => break,
                Request::AgainWithSavepoints(answer) => return Ok(Err(Undone { place, answer })),
                Request::Lost(loss) => return Err(self.lose(so_far, loss)),
            }
        }
        self.store(stores, &mut gathered, &mut answers)?;
        Ok(Ok((gathered, answers)))
    }

    /// Rolling a batch back also takes back the pages SQLite wrote to the WAL to
    /// make room for it, and what it made room for stays: without this the pages of
    /// a leader's open transaction would all be held in memory.
    fn write_pages_out(&mut self) -> Result<(), Failure> {
        if self.is_full() || ffi::cache_bytes(&self.connection) <= CACHE_BYTES_MAX {
            return Ok(());
        }
        self.connection.cache_flush().map_err(|error| self.failure(&error))
    }

    fn lose(&mut self, so_far: &[Vec<u8>], loss: Loss) -> Failure {
        let place = u32::try_from(so_far.len() - 1).unwrap_or(u32::MAX);
        if let Some(answer) = loss.answer {
            return self.reset(Some((place, answer)));
        }
        if self.losses.note(so_far, loss.at, loss.words) {
            return self.reset(None);
        }
        let answer = SqlResponse::refused(&refusal::at(
            loss.at.statement,
            &refusal::lost_too_often(LOSSES_MAX),
        ));
        self.reset(Some((place, sql::encode(&answer))))
    }

    pub(super) fn internal(&mut self, sql: &str) -> Result<(), Failure> {
        self.authorizer.enter(Mode::Internal);
        let done = self.connection.prepare_cached(sql).and_then(|mut st| st.raw_execute());
        done.map(drop).map_err(|error| self.failure(&error))
    }

    pub(super) fn restore_schema(&mut self, schema: Arc<Schema>) {
        if !Arc::ptr_eq(&schema, &self.schema) {
            self.use_schema(schema);
        }
    }

    fn request(
        &mut self,
        bytes: &[u8],
        so_far: &[Vec<u8>],
        savepoints: bool,
        batch: &mut Gathered,
    ) -> Result<Request, Failure> {
        let Ok(request) = sql::decode::<SqlRequest>(bytes) else {
            let refusal = Refusal::Invalid(String::from("the request cannot be read"));
            return Ok(Request::Answered(Err(refusal)));
        };
        if request.statements.len() > REQUEST_STATEMENTS_MAX {
            let refused = SqlResponse::refused(&sql::too_many_statements());
            return Ok(Request::Answered(Ok(sql::encode(&refused))));
        }
        if let Some(stale) = self.stale(request.fence.as_ref())? {
            return Ok(Request::Answered(Ok(sql::encode(&SqlResponse::refused(&stale)))));
        }
        if load::is_step(bytes) {
            return Ok(Request::DoesNotFit);
        }
        if vacuum::is_alone(&request) {
            return Ok(vacuum_entry(so_far.len() == 1, batch));
        }
        let known = self.losses.of(so_far);
        let is_small = bytes.len() <= SMALL_BYTES_MAX && batch.has_room();
        // A statement undoes itself when it fails, unless it ends the transaction.
        let is_plain = !request.transaction && is_one_statement(&request);
        let first = match !savepoints && is_small && is_plain {
            true => Manner::Alone,
            false => Manner::Together,
        };
        for manner in [first, Manner::Apart] {
            match self.attempt(&request, &known, manner, batch)? {
                Attempt::Done(done) => return Ok(done),
                Attempt::AgainApart => {}
            }
        }
        Err(Failure::Halt(String::from("a statement executed by itself is to be executed apart")))
    }

    fn attempt(
        &mut self,
        request: &SqlRequest,
        known: &BTreeMap<Place, String>,
        manner: Manner,
        batch: &mut Gathered,
    ) -> Result<Attempt, Failure> {
        let schema = Arc::clone(&self.schema);
        let has_savepoint = manner != Manner::Alone;
        if has_savepoint {
            self.internal("SAVEPOINT request")?;
        }
        self.hook.with(|notes| notes.record(true));
        let (nothing, mut own) = (Gathered::default(), Gathered::default());
        // What comes to too much is then this statement's, and undone with it.
        let is_alone = is_one_statement(request) && (has_savepoint || batch.is_empty());
        // Without a savepoint it stands with the batch, or both are undone.
        let (before, gathered) = match has_savepoint {
            true => (&*batch, &mut own),
            false => (&nothing, &mut *batch),
        };
        let verdict = match self.statements(request, known, manner, gathered)? {
            Ran::Lost(loss) => return Ok(Attempt::Done(Request::Lost(loss))),
            Ran::Undo(at_fault) => Verdict::AgainApart(at_fault),
            Ran::Through(response) => self.verdict(request, response, before, gathered)?,
        };
        let verdict = match verdict {
            Verdict::AgainApart(at_fault) if is_alone => {
                let results = Vec::from([at_fault]);
                Verdict::Undo(Ok(sql::encode(&SqlResponse { results, error: None })))
            }
            Verdict::Keep(_) | Verdict::Undo(_) | Verdict::DoesNotFit | Verdict::AgainApart(_) => {
                verdict
            }
        };
        if !mutant::is(33) {
            self.set_foreign_keys(false);
        }
        match (&verdict, has_savepoint) {
            (Verdict::Keep(_), true) => batch.absorb(own),
            (Verdict::Keep(_), false) => {}
            (_, true) => {
                self.internal("ROLLBACK TO request")?;
                self.restore_schema(schema);
            }
            (_, false) => {
                let answer = if let Verdict::Undo(answer) = verdict { Some(answer) } else { None };
                return Ok(Attempt::Done(Request::AgainWithSavepoints(answer)));
            }
        }
        if has_savepoint {
            self.internal("RELEASE request")?;
        }
        Ok(match verdict {
            Verdict::Keep(answer) => Attempt::Done(Request::Answered(Ok(answer))),
            Verdict::Undo(answer) => Attempt::Done(Request::Answered(answer)),
            Verdict::DoesNotFit => Attempt::Done(Request::DoesNotFit),
            Verdict::AgainApart(_) => Attempt::AgainApart,
        })
    }

    /// Runs the statements in order.
    fn statements(
        &mut self,
        request: &SqlRequest,
        known: &BTreeMap<Place, String>,
        manner: Manner,
        gathered: &mut Gathered,
    ) -> Result<Ran, Failure> {
        let mut response = SqlResponse::default();
        let mut bytes_left = RESPONSE_BYTES_MAX;
        let begun = self.losses.begun_ns();
        for (number, statement) in request.statements.iter().enumerate() {
            let mut given = Given::new(&statement.parameters);
            let mut rest = statement.sql.as_str();
            let mut last = None;
            let mut failed = false;
            for part in 0.. {
                let next = self.next_statement(request.origin, rest);
                let Some((text, after)) = next.filter(|_| !failed) else { break };
                let is_alone = request.statements.len() == 1 && part == 0 && after.is_empty();
                let at = Place { statement: number, part };
                let is_by_itself = manner != Manner::Together || is_alone;
                let asked = Asked {
                    text,
                    number,
                    is_by_itself,
                    request,
                    known: known.get(&at),
                    bytes_left,
                };
                let started = (self.options.stopwatch)();
                let ended = match manner {
                    _ if budget::is_late(begun, started) => {
                        Ended::Refused(refusal::request_too_long())
                    }
                    Manner::Alone | Manner::Together => {
                        self.statement(&asked, &mut given, gathered)
                    }
                    Manner::Apart => self.apart(&asked, &mut given, gathered)?,
                };
                let time_ns = (self.options.stopwatch)().saturating_sub(started);
                let outcome = match ended {
                    Ended::Fine(outcome) => outcome,
                    Ended::Failed(words) => StatementOutcome::Error(words),
                    Ended::Refused(words) => StatementOutcome::Error(refusal::at(number, &words)),
                    Ended::Undo(words) => {
                        let outcome = StatementOutcome::Error(refusal::at(number, &words));
                        return Ok(Ran::Undo(StatementResult { outcome, time_ns }));
                    }
                    Ended::RequestRefused(words) => {
                        let words = refusal::at(number, &words);
                        let words = format!("{}: {words}", refusal::DISALLOWED_PRAGMA);
                        return Ok(Ran::Through(SqlResponse::refused(&words)));
                    }
                    Ended::Lost(words) => {
                        let outcome = StatementOutcome::Error(words.clone());
                        response.results.push(StatementResult { outcome, time_ns });
                        let is_all = request.transaction || is_alone || mutant::is(34);
                        let answer = is_all.then(|| sql::encode(&response));
                        return Ok(Ran::Lost(Loss { at, words, answer }));
                    }
                };
                failed = matches!(outcome, StatementOutcome::Error(_));
                last = Some(StatementResult { outcome, time_ns });
                rest = after;
            }
            bytes_left = bytes_left
                .saturating_sub(last.as_ref().map_or(0, |last| outcome_bytes(&last.outcome)));
            response.results.extend(last);
            if failed && request.transaction {
                break;
            }
        }
        Ok(Ran::Through(response))
    }

    /// Runs one statement in a savepoint and undoes it when it is at fault.
    fn apart(
        &mut self,
        asked: &Asked<'_>,
        given: &mut Given<'_>,
        gathered: &mut Gathered,
    ) -> Result<Ended, Failure> {
        self.internal("SAVEPOINT statement")?;
        let schema = Arc::clone(&self.schema);
        let mut own = Gathered::default();
        let ended = match self.statement(asked, given, &mut own) {
            lost @ Ended::Lost(_) => return Ok(lost),
            fine @ (Ended::Fine(_) | Ended::Failed(_)) => self.judge(fine, asked, gathered, own)?,
            other @ (Ended::Refused(_) | Ended::RequestRefused(_) | Ended::Undo(_)) => Err(other),
        };
        if ended.is_err() {
            self.internal("ROLLBACK TO statement")?;
            self.hook.with(capture::Notes::forget);
            self.restore_schema(schema);
        }
        self.internal("RELEASE statement")?;
        Ok(match ended {
            Ok(fine) => fine,
            Err(Ended::Undo(words)) => Ended::Refused(words),
            Err(other) => other,
        })
    }

    /// May the effect of a statement stand that ran by itself?
    fn judge(
        &mut self,
        ended: Ended,
        asked: &Asked<'_>,
        gathered: &mut Gathered,
        mut own: Gathered,
    ) -> Result<Result<Ended, Ended>, Failure> {
        if !asked.request.transaction && ffi::has_deferred_violations(&self.connection) {
            return Ok(Err(Ended::Failed(String::from(refusal::FOREIGN_KEY))));
        }
        match self.gather(&mut own) {
            Ok(()) => {}
            Err(SchemaError::Sqlite(error)) => return Err(self.failure(&error)),
            Err(other) => return Ok(Err(Ended::Refused(other.words()))),
        }
        if !gathered.fits_beside(&own) {
            gathered.settle();
            own.settle();
        }
        if !gathered.fits_beside(&own) {
            return Ok(Err(Ended::Refused(refusal::too_large())));
        }
        gathered.absorb(own);
        Ok(Ok(ended))
    }

    pub(super) fn set_foreign_keys(&self, on: bool) {
        // Infallible for this option: it only sets a flag of the connection.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on);
    }

    /// Reads back what was touched so far.
    pub(super) fn gather(&mut self, gathered: &mut Gathered) -> Result<(), SchemaError> {
        self.authorizer.enter(Mode::Internal);
        if !self.schema.virtual_tables.is_empty() {
            // A full-text index holds its rows back until a savepoint.
            self.connection.execute_batch("SAVEPOINT flush; RELEASE flush")?;
        }
        let touched = self.hook.with(capture::Notes::take)?;
        capture::read_back(&self.connection, &self.schema, touched, gathered)
    }

    /// Does the request's effect stand, and what is it answered?
    fn verdict(
        &mut self,
        request: &SqlRequest,
        response: SqlResponse,
        batch: &Gathered,
        gathered: &mut Gathered,
    ) -> Result<Verdict, Failure> {
        let failed =
            |result: &StatementResult| matches!(result.outcome, StatementOutcome::Error(_));
        let undone = request.transaction && response.results.iter().any(failed);
        if undone || response.error.is_some() {
            return Ok(Verdict::Undo(Ok(sql::encode(&response))));
        }
        if ffi::has_deferred_violations(&self.connection) {
            let refused = SqlResponse::refused(refusal::FOREIGN_KEY);
            return Ok(match request.transaction {
                true => Verdict::Undo(Ok(sql::encode(&refused))),
                false => at_fault(&response, String::from(refusal::FOREIGN_KEY)),
            });
        }
        match self.gather(gathered) {
            Ok(()) => {}
            Err(SchemaError::Sqlite(error)) => return Err(self.failure(&error)),
            Err(SchemaError::TooLarge) => return Ok(too_large(&response)),
            Err(other) => return Err(Failure::Halt(other.words())),
        }
        if !batch.fits_beside(gathered) {
            gathered.settle();
        }
        if !batch.fits_beside(gathered) {
            let fits_alone = Gathered::default().fits_beside(gathered);
            return Ok(if fits_alone { Verdict::DoesNotFit } else { too_large(&response) });
        }
        let answer = sql::encode(&response);
        if answer.len() > RESPONSE_BYTES_MAX {
            let (bytes, bytes_max) = (answer.len() as u64, RESPONSE_BYTES_MAX as u64);
            return Ok(Verdict::Undo(Err(Refusal::TooLarge { bytes, bytes_max })));
        }
        Ok(Verdict::Keep(answer))
    }
}

fn at_fault(response: &SqlResponse, words: String) -> Verdict {
    let time_ns = response.results.last().map_or(0, |last| last.time_ns);
    Verdict::AgainApart(StatementResult { outcome: StatementOutcome::Error(words), time_ns })
}

fn too_large(response: &SqlResponse) -> Verdict {
    at_fault(response, refusal::at(0, &refusal::too_large()))
}

fn is_one_statement(request: &SqlRequest) -> bool {
    let [statement] = &request.statements[..] else { return false };
    !statement.sql.trim_end_matches([';', ' ', '\n']).contains(';')
}

/// VACUUM runs outside of the transaction, and so by itself.
fn vacuum_entry(is_first: bool, batch: &mut Gathered) -> Request {
    if !is_first {
        return Request::DoesNotFit;
    }
    batch.schema(String::from(vacuum::VACUUM));
    let outcome = StatementOutcome::Changed { last_insert_id: 0, rows_affected: 0 };
    let results = Vec::from([StatementResult { outcome, time_ns: 0 }]);
    Request::Last(sql::encode(&SqlResponse { results, error: None }))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use understudy_core::{
        event::{Entry, EntryKind, Millis},
        limits::REQUEST_MS_MAX,
        sql::{Origin, RequestKind, Statement},
    };

    use super::*;
    use crate::store::database::Options;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Every look at it finds a quarter of a batch's time gone.
    fn clock() -> Millis {
        NOW.set(NOW.get() + BATCH_MS_MAX / 4);
        Millis(NOW.get())
    }

    fn request(sql: &str) -> Vec<u8> {
        request_of(&[sql], false)
    }

    fn request_of(statements: &[&str], transaction: bool) -> Vec<u8> {
        let statements = statements.iter().map(|sql| Statement::new(*sql, Vec::new())).collect();
        let request = SqlRequest::new(RequestKind::Execute, Origin::User, statements);
        sql::encode(&SqlRequest { transaction, ..request })
    }

    fn open(directory: &Path, options: Options) -> Database {
        let mut database = Database::open(directory, options).unwrap();
        apply(&mut database, Vec::new());
        database
    }

    fn apply(database: &mut Database, data: Vec<u8>) {
        let index = database.applied().index + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::Change, data };
        database.apply(&[entry]).unwrap();
    }

    #[test]
    fn a_leaders_open_transaction_is_not_held_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options::default());
        let row = "INSERT INTO t VALUES (zeroblob(900))";
        let batches = std::iter::once("CREATE TABLE t(a)").chain(std::iter::repeat_n(row, 8_000));
        for sql in batches {
            let base = database.applied();
            let executed = database.execute(base, &[request(sql)]).unwrap();
            apply(&mut database, executed.change);
        }
        let held = ffi::cache_bytes(&database.connection);
        assert!(held <= CACHE_BYTES_MAX + (64 << 10), "{held} bytes");
    }

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// A batch looks once, and a statement twice.
    fn stopwatch() -> u64 {
        LOOKS.set(LOOKS.get() + 1);
        LOOKS.get()
    }

    fn runs(database: &mut Database, requests: &[Vec<u8>]) -> (Executed, u64) {
        let (base, before) = (database.applied(), LOOKS.get());
        let executed = database.execute(base, requests).unwrap();
        (executed, (LOOKS.get() - before - 1) / 2)
    }

    #[test]
    fn a_statement_that_alone_comes_to_too_much_runs_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { stopwatch, ..Options::default() });
        for sql in ["CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID", "CREATE TABLE u(a)"] {
            let executed = runs(&mut database, &[request(sql)]).0;
            apply(&mut database, executed.change);
        }
        for key in 0..7 {
            let sql = format!("INSERT INTO t VALUES (CAST({key} || zeroblob(7 << 20) AS BLOB))");
            let (executed, count) = runs(&mut database, &[request(&sql)]);
            assert_eq!(count, 1);
            apply(&mut database, executed.change);
        }
        let words = "statement 1: the request changes more than one entry holds";
        let (executed, count) = runs(&mut database, &[request("DELETE FROM t")]);
        assert!(error(&executed.answers[0]).starts_with(words));
        assert_eq!(count, 1);
        let two = [request("INSERT INTO u VALUES (1)"), request("DELETE FROM t")];
        let (executed, count) = runs(&mut database, &two);
        assert!(error(&executed.answers[1]).starts_with(words));
        assert_eq!(count, 4, "the batch may have a part in it");
        let one = [request("DELETE FROM t WHERE k = (SELECT min(k) FROM t)")];
        let executed = runs(&mut database, &one).0;
        apply(&mut database, executed.change);
        assert_eq!(rows_of(&database, "t"), 6, "a key that an entry holds goes as ever");
    }

    fn rows_of(database: &Database, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        database.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    fn error(answer: &Answer) -> String {
        let response: SqlResponse = sql::decode(answer.as_ref().unwrap()).unwrap();
        match &response.results[0].outcome {
            StatementOutcome::Error(words) => words.clone(),
            outcome @ (StatementOutcome::Rows { .. } | StatementOutcome::Changed { .. }) => {
                panic!("no error: {outcome:?}")
            }
        }
    }

    #[test]
    fn a_batch_out_of_time_leaves_the_rest_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { clock, ..Options::default() });
        let base = database.applied();
        let table = request("CREATE TABLE IF NOT EXISTS t(a)");
        let executed = database.execute(base, &vec![table; 20]).unwrap();
        assert!((1..6).contains(&executed.answers.len()), "{}", executed.answers.len());
        assert!(executed.answers[0].is_ok());
    }

    /// Every look at it finds a quarter of a request's time gone.
    fn slow() -> u64 {
        LOOKS.set(LOOKS.get() + REQUEST_MS_MAX * 1_000_000 / 4);
        LOOKS.get()
    }

    #[test]
    fn a_request_out_of_time_begins_no_further_statement() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { stopwatch: slow, ..Options::default() };
        let mut database = open(directory.path(), options);
        let table = runs(&mut database, &[request("CREATE TABLE t(a)")]).0;
        apply(&mut database, table.change);
        for (transaction, stay) in [(true, 0), (false, 2)] {
            let request = request_of(&["INSERT INTO t VALUES (1)"; 4], transaction);
            let executed = runs(&mut database, &[request]).0;
            apply(&mut database, executed.change);
            let answer = executed.answers[0].as_ref().unwrap();
            let results = sql::decode::<SqlResponse>(answer).unwrap().results;
            let late = StatementOutcome::Error(refusal::at(2, &refusal::request_too_long()));
            assert_eq!(results[2].outcome, late);
            assert_eq!(results.len(), if transaction { 3 } else { 4 });
            assert_eq!(rows_of(&database, "t"), stay);
        }
    }

    /// Every look at it finds a thirtieth of a request's time gone.
    fn hasty() -> Millis {
        NOW.set(NOW.get() + REQUEST_MS_MAX / 30);
        Millis(NOW.get())
    }

    #[test]
    fn no_statement_has_longer_than_a_request_whatever_its_caller_names() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { stopwatch, ..Options::default() });
        let table = runs(&mut database, &[request("CREATE TABLE t(a)")]).0;
        apply(&mut database, table.change);
        database.commit().unwrap();
        drop(database);
        let options = Options { clock: hasty, ..Options::default() };
        let mut database = Database::open(directory.path(), options).unwrap();
        let sql = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n LIMIT 9000) \
             INSERT INTO t SELECT a FROM n";
        let statements = Vec::from([Statement::new(sql, Vec::new())]);
        let request = SqlRequest::new(RequestKind::Execute, Origin::User, statements);
        let request = SqlRequest { statement_timeout_ms: Some(1 << 40), ..request };
        let ended = database.execute(database.applied(), &[sql::encode(&request)]);
        let Err(Failure::Reset { ended_by: Some((0, answer)), .. }) = ended else {
            panic!("it went on")
        };
        assert_eq!(error(&Ok(answer)), "execute timeout");
    }

    #[test]
    fn a_batch_that_is_executed_again_has_the_time_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { stopwatch: slow, ..Options::default() };
        let mut database = open(directory.path(), options);
        let table = runs(&mut database, &[request("CREATE TABLE t(a UNIQUE)")]).0;
        apply(&mut database, table.change);
        database.commit().unwrap();
        let base = database.applied();
        let sql = ["INSERT OR ROLLBACK INTO t VALUES (1), (1)", "INSERT INTO t VALUES (2)"];
        let request = [request_of(&sql, false)];
        let lost = database.execute(base, &request);
        assert!(matches!(lost, Err(Failure::Reset { ended_by: None, .. })));
        let executed = database.execute(base, &request).unwrap();
        let late = refusal::at(0, &refusal::request_too_long());
        assert_eq!(error(&executed.answers[0]), late);
    }

    #[test]
    fn a_request_of_too_many_statements_is_refused_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { stopwatch, ..Options::default() });
        let request =
            request_of(&["CREATE TABLE IF NOT EXISTS t(a)"; REQUEST_STATEMENTS_MAX + 1], false);
        let (executed, count) = runs(&mut database, &[request]);
        let answer = SqlResponse::refused(&sql::too_many_statements());
        assert_eq!((&executed.answers[0], count), (&Ok(sql::encode(&answer)), 0));
    }

    #[test]
    fn requests_that_repeat_long_values_share_no_entry_that_no_board_could_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut database = open(directory.path(), Options { stopwatch, ..Options::default() });
        let table = runs(&mut database, &[request("CREATE TABLE t(a)")]).0;
        apply(&mut database, table.change);
        let rows = ["(zeroblob(3 << 20))"; 7].join(", ");
        let requests = vec![request(&format!("INSERT INTO t VALUES {rows}")); 2];
        for answered in 1..=2 {
            let executed = runs(&mut database, &requests[answered - 1..]).0;
            assert_eq!(executed.answers.len(), 1, "the other is for the next entry");
            apply(&mut database, executed.change);
            assert_eq!(rows_of(&database, "t"), 7 * i64::try_from(answered).unwrap());
        }
    }
}
