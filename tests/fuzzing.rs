//! The corpus of hostile bytes, replayed; and some more made from it.

use understudy_tests::fuzz;

/// Inputs made from the corpus in a plain run.
const MADE: usize = 5_000;

#[test]
fn the_corpus_breaks_nothing() {
    let inputs = fuzz::corpus();
    assert!(inputs.len() >= 20, "the corpus is there");
    let decoded = inputs.iter().filter(|(_, bytes)| fuzz::check(bytes)).count();
    assert!(decoded >= 10, "most of it is changes: {decoded}");
}

#[test]
fn bytes_made_from_the_corpus_break_nothing() {
    let inputs: Vec<Vec<u8>> = fuzz::corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let mut mutator = fuzz::Mutator::new(1);
    let changes = (0..MADE).filter(|_| fuzz::check(&mutator.next(&inputs))).count();
    assert!(changes > MADE / 50, "damage leaves a good part of them changes: {changes}");
}
