//! What SQL means across the group: `statements/*` are requests and what must
//! become of them. Each is played with one leader and with another for every
//! batch; after every entry all boards, the one that restarts included, hold the
//! same rows and pages, and what plain SQLite holds that executed the same.
//!
//! `scenario` says how the lines read. `UPDATE_SCRIPTS=1 cargo test` rewrites the
//! expected lines: read the difference before you keep it.

mod boards;
mod reference;
mod scenario;

use std::{
    cell::Cell,
    env, fs, panic,
    path::PathBuf,
    sync::{Once, PoisonError, RwLock},
};

use boards::Leaders;

/// A test for each file.
macro_rules! statements {
    ($($name:ident: $file:literal,)*) => {
        const FILES: &[&str] = &[$($file),*];

        $(#[test]
        fn $name() {
            arrives_everywhere_or_is_refused($file);
        })*
    };
}

statements! {
    conditions_are_judged_once: "constraints",
    what_sql_makes_up_is_made_up_once: "defaults",
    foreign_keys_act_once: "foreign-keys",
    full_text_is_found_on_every_board: "full-text",
    no_id_is_given_twice: "ids",
    rows_of_every_kind_of_key: "keys",
    statements_that_end_the_transaction: "losses",
    what_holds_on_one_board_only_is_refused: "refusals",
    schema_statements: "schema",
    sizes: "sizes",
    triggers_fire_once: "triggers",
    what_changes_no_rows: "upkeep",
    values_to_the_bit: "values",
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("statements")
}

/// The planted bug that `cargo sim --mutants` asks for.
#[cfg(mutants)]
fn plant() {
    let number = env::var("MUTANT").ok().and_then(|number| number.parse().ok());
    understudy_core::mutant::choose(number.unwrap_or(0));
}

#[cfg(not(mutants))]
const fn plant() {}

/// SQLite's randomness is the process's: whoever sets it is alone with it.
pub(crate) static RANDOMNESS: RwLock<()> = RwLock::new(());

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Panics on this thread from now on, those that are caught included: they would
/// end the program, which aborts. The boards of a scenario are all on its thread.
fn panics() -> usize {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.get()
}

fn arrives_everywhere_or_is_refused(file: &str) {
    let _shared = RANDOMNESS.read().unwrap_or_else(PoisonError::into_inner);
    plant();
    panics();
    let path = folder().join(file);
    for leaders in [Leaders::Steady, Leaders::Rotating] {
        let expected = fs::read_to_string(&path).expect("a scenario");
        let played = scenario::play(&expected, leaders)
            .unwrap_or_else(|reason| panic!("{file}, {leaders:?}, {reason}"));
        assert_eq!(panics(), 0, "{file}, {leaders:?}: something panicked on the way");
        if played == expected {
            continue;
        }
        if env::var_os("UPDATE_SCRIPTS").is_some() && leaders == Leaders::Steady {
            fs::write(&path, &played).expect("a scenario");
            continue;
        }
        let mut lines = expected.lines().zip(played.lines()).zip(1..);
        let different = lines.find(|((expected, played), _)| expected != played);
        panic!("{file}, {leaders:?}: {different:?}\nUPDATE_SCRIPTS=1 rewrites it");
    }
}

#[test]
fn every_file_has_its_test() {
    let found = fs::read_dir(folder()).unwrap();
    let mut found: Vec<_> =
        found.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    assert_eq!(found, FILES);
}
