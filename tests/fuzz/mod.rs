//! Hostile bytes for what decodes the network, the journal and lines of readings. Inputs are kept as
//! text, one hexadecimal file each, and replayed by a plain test; the program
//! beside (`cargo run --release -p understudy-tests --bin fuzz`) damages and
//! crosses them from a seed.
//!
//! Left out: coverage. libFuzzer wants a nightly compiler and a crate of C++;
//! inputs that were worth keeping are in the corpus.

use std::{fs, path::PathBuf};

use understudy::readings::line;
use understudy_core::{change::Change, event::Position, limits, wire::Frame};

/// The entry that a fuzzed change stands in.
const ENTRY: Position = Position { term: 3, index: 1_000_001 };

/// Longest input, bytes.
const INPUT_BYTES_MAX: usize = 4_096;

/// Where the inputs are.
#[must_use]
pub fn corpus_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// All inputs by their names.
///
/// # Panics
/// When a file is missing or no hexadecimal text.
#[must_use]
pub fn corpus() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus_path()).expect("the corpus is in the repository");
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let path = file.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = from_hex(text.trim()).unwrap_or_else(|| panic!("{name}: not hexadecimal"));
            (name, bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// As the corpus keeps an input.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing that bytes do may panic, and what decodes is what its encoding decodes
/// to. True when they are a change.
///
/// # Panics
/// When they are not.
#[must_use]
pub fn check(bytes: &[u8]) -> bool {
    for line in bytes.split(|byte| *byte == b'\n') {
        for draft in line::parse(line, None).unwrap_or_default() {
            let again = line::written(&draft);
            assert_eq!(line::parse(again.as_bytes(), None), Ok(vec![draft]), "{again:?}");
        }
    }
    if let Ok(frame) = Frame::decode(bytes) {
        assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame));
    }
    let base = Change::decode_base(bytes, ENTRY);
    let Ok(change) = Change::decode(bytes, ENTRY) else { return false };
    assert_eq!(base, Ok(change.base));
    let again = change.encode();
    assert!(again.len() <= limits::ENTRY_BYTES_MAX, "few bytes stand for more than an entry");
    assert_eq!(Change::decode(&again, ENTRY).as_ref(), Ok(&change));
    true
}

/// Damages inputs, the same way for the same seed.
pub struct Mutator(u64);

impl Mutator {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from((self.0 >> 33) % bound.max(1) as u64).unwrap_or(0)
    }

    /// A new input out of old ones.
    ///
    /// # Panics
    /// When there are none.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len());
            match self.below(6) {
                _ if bytes.is_empty() => bytes.push(2),
                0 => bytes[place] ^= 1 << self.below(8),
                1 => bytes[place] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => bytes.insert(place, self.below(256).to_le_bytes()[0]),
                3 => {
                    bytes.remove(place);
                }
                4 => bytes.truncate(place.max(1)),
                _ => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len());
                    bytes.truncate(place);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }
}
