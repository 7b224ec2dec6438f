//! Fuzzes what decodes foreign bytes, from the corpus and a seed, for so many
//! rounds: `fuzz [SEED [ROUNDS]]`. A panic names the input, to be kept in the
//! corpus.

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
};

use understudy_tests::fuzz;

/// Inputs that decode and are damaged further.
const INPUTS_MAX: usize = 10_000;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| match word.parse::<u64>() {
        Ok(number) => number,
        Err(_) => {
            eprintln!("fuzz: {word} is no number: fuzz [SEED [ROUNDS]]");
            std::process::exit(2);
        }
    });
    let (seed, rounds) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1_000_000));
    let mut inputs: Vec<Vec<u8>> = fuzz::corpus().into_iter().map(|(_, bytes)| bytes).collect();
    let mut mutator = fuzz::Mutator::new(seed);
    let mut decoded = 0_u64;
    let latest = Arc::new(Mutex::new(Vec::new()));
    let (shown, usual) = (Arc::clone(&latest), panic::take_hook());
    panic::set_hook(Box::new(move |information| {
        let bytes = shown.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("fuzz: this input: {}", fuzz::to_hex(&bytes));
        usual(information);
    }));
    for _ in 0..rounds {
        let bytes = mutator.next(&inputs);
        latest.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&bytes);
        if fuzz::check(&bytes) {
            decoded += 1;
            if inputs.len() < INPUTS_MAX {
                inputs.push(bytes);
            }
        }
    }
    println!("seed {seed}: {rounds} inputs, {decoded} of them changes, none broke anything");
}
