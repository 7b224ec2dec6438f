//! A column of integers: each is guessed from those before it, and what the
//! guesses are off by stands in few bits.
//!
//! After the form: the argument of the guess and the first value; then once for
//! the rows without and once for those with a row to be guessed from, if there
//! are any: a byte for how, and the offset they have in common; then the bits of
//! all rows in order.

use alloc::vec::Vec;

use super::{
    bits::{self, BitReader, BitWriter},
    context::{Context, Contexts},
    varint::{self, Reader, unzigzag, zigzag},
};
use crate::error::ChangeError;

/// From which row a value is guessed.
#[derive(Clone, Copy)]
enum Guess<'a> {
    /// From none: the offset alone.
    Nothing,
    /// The row before.
    Previous,
    /// So many rows before: boards and sensors take turns.
    Period(usize),
    /// The last row with the same value in another column: a sensor's own.
    Same(&'a Context),
}

/// Guesses stand in the upper bits of a column's form.
const GUESS_SHIFT: u32 = 5;
const FORM_MASK: u8 = (1 << GUESS_SHIFT) - 1;

/// All values are the same.
const ONCE: u8 = 0;
const NOTHING: u8 = 1;
const PREVIOUS: u8 = 2;
const PERIOD: u8 = 3;
const SAME: u8 = 4;

/// The form without the guess.
pub(super) const fn form_of(head: u8) -> u8 {
    head & FORM_MASK
}

impl Guess<'_> {
    /// The row that the row at a place is guessed from.
    fn row(self, at: usize) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Previous => at.checked_sub(1),
            Self::Period(rows) => at.checked_sub(rows),
            Self::Same(context) => context.last(at),
        }
    }

    /// The guess, and whether it comes from a row to be guessed from.
    fn at(self, values: &[i64], at: usize) -> (i64, bool) {
        match (self.row(at), self) {
            (Some(row), _) => (values[row], true),
            (None, Self::Nothing) => (0, false),
            (None, Self::Previous | Self::Period(_) | Self::Same(_)) => (values[at - 1], false),
        }
    }

    /// The first row that is guessed: one from which nothing can be is given.
    const fn first(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Previous | Self::Period(_) | Self::Same(_) => 1,
        }
    }
}

/// How far off guesses are: what all have in common, and the rest in bits.
#[derive(Clone, Copy, Default)]
struct Errors {
    offset: i64,
    /// The `k` of the rest and whether it has signs, or [`NO_REST`].
    how: u8,
}

const K_MASK: u8 = 0x3f;
const HAS_SIGN: u8 = 0x40;
const NO_REST: u8 = 0x80;

impl Errors {
    /// The best for these, and about how many bits they come to.
    fn of(errors: &mut [i64]) -> (Self, u64) {
        let Some(least) = errors.iter().copied().min() else { return (Self::default(), 0) };
        let header = |offset: i64| 8 + 8 * varint::len(zigzag(offset)) as u64;
        if errors.iter().all(|error| *error == least) {
            return (Self { offset: least, how: NO_REST }, header(least));
        }
        let place = errors.len() / 2;
        let middle = *errors.select_nth_unstable(place).1;
        let plan = |offset: i64, sign: u8| {
            let how = Self { offset, how: sign };
            let mut counts = [0; 65];
            for error in &*errors {
                counts[bits::width(how.rest(*error)) as usize] += 1;
            }
            let (k, cost) = bits::best(&counts);
            (Self { offset, how: sign | (k & 0x3f) as u8 }, header(offset) + cost)
        };
        let (low, central) = (plan(least, 0), plan(middle, HAS_SIGN));
        if low.1 <= central.1 { low } else { central }
    }

    const fn rest(self, error: i64) -> u64 {
        let rest = error.wrapping_sub(self.offset);
        if self.how & HAS_SIGN != 0 { zigzag(rest) } else { rest.cast_unsigned() }
    }

    fn write_header(self, out: &mut Vec<u8>) {
        out.push(self.how);
        varint::write(out, zigzag(self.offset));
    }

    fn read_header(reader: &mut Reader<'_>) -> Result<Self, ChangeError> {
        let how = reader.byte()?;
        if how & NO_REST != 0 && how != NO_REST {
            return Err(ChangeError::Malformed("an unknown form of errors"));
        }
        Ok(Self { how, offset: reader.signed()? })
    }

    fn write(self, bits: &mut BitWriter<'_>, error: i64) {
        if self.how != NO_REST {
            bits.rice(self.rest(error), u32::from(self.how & K_MASK));
        }
    }

    fn read(self, bits: &mut BitReader<'_>) -> Result<i64, ChangeError> {
        if self.how == NO_REST {
            return Ok(self.offset);
        }
        let rest = bits.rice(u32::from(self.how & K_MASK))?;
        let rest = if self.how & HAS_SIGN != 0 { unzigzag(rest) } else { rest.cast_signed() };
        Ok(rest.wrapping_add(self.offset))
    }
}

/// A guess and how far off it is.
struct Plan<'a> {
    guess: Guess<'a>,
    fresh: Errors,
    linked: Errors,
    /// About, in bits.
    cost: u64,
}

impl<'a> Plan<'a> {
    fn new(guess: Guess<'a>, values: &[i64]) -> Self {
        let (mut fresh, mut linked) = (Vec::new(), Vec::new());
        for (at, value) in values.iter().enumerate().skip(guess.first()) {
            let (guessed, is_linked) = guess.at(values, at);
            let errors = if is_linked { &mut linked } else { &mut fresh };
            errors.push(value.wrapping_sub(guessed));
        }
        let (fresh, fresh_cost) = Errors::of(&mut fresh);
        let (linked, linked_cost) = Errors::of(&mut linked);
        let first = if guess.first() == 0 { 0 } else { 8 * varint::len(zigzag(values[0])) as u64 };
        let argument = if matches!(guess, Guess::Period(_) | Guess::Same(_)) { 8 } else { 0 };
        Self { guess, fresh, linked, cost: fresh_cost + linked_cost + first + argument }
    }
}

/// Writes values, of which there are some; the form's head byte included.
pub(super) fn write(out: &mut Vec<u8>, form: u8, values: &[i64], contexts: &[Context]) {
    let head = |guess: u8| form | guess << GUESS_SHIFT;
    if values.iter().all(|value| *value == values[0]) {
        out.push(head(ONCE));
        varint::write(out, zigzag(values[0]));
        return;
    }
    let period = values.iter().skip(1).position(|value| *value == values[0]).map(|at| at + 1);
    let guesses = [Guess::Nothing, Guess::Previous]
        .into_iter()
        .chain(period.filter(|rows| *rows > 1).map(Guess::Period))
        .chain(contexts.iter().map(Guess::Same));
    let plans = guesses.map(|guess| Plan::new(guess, values));
    let plan = plans.min_by_key(|plan| plan.cost).expect("there is always a guess");
    match plan.guess {
        Guess::Nothing => out.push(head(NOTHING)),
        Guess::Previous => out.push(head(PREVIOUS)),
        Guess::Period(rows) => {
            out.push(head(PERIOD));
            varint::write(out, rows as u64);
        }
        Guess::Same(context) => {
            out.push(head(SAME));
            varint::write(out, context.column as u64);
        }
    }
    write_errors(out, &plan, values);
}

fn write_errors(out: &mut Vec<u8>, plan: &Plan<'_>, values: &[i64]) {
    let guess = plan.guess;
    if guess.first() > 0 {
        varint::write(out, zigzag(values[0]));
    }
    let (has_fresh, has_linked) = kinds_of_rows(guess, values.len());
    if has_fresh {
        plan.fresh.write_header(out);
    }
    if has_linked {
        plan.linked.write_header(out);
    }
    let mut bits = BitWriter::new(out);
    for (at, value) in values.iter().enumerate().skip(guess.first()) {
        let (guessed, is_linked) = guess.at(values, at);
        let errors = if is_linked { plan.linked } else { plan.fresh };
        errors.write(&mut bits, value.wrapping_sub(guessed));
    }
    bits.finish();
}

/// Are there rows without, and with, a row to be guessed from?
fn kinds_of_rows(guess: Guess<'_>, count: usize) -> (bool, bool) {
    let linked = (guess.first()..count).filter(|at| guess.row(*at).is_some()).count();
    (guess.first() + linked < count, linked > 0)
}

/// Reads what [`write()`] wrote behind its head.
pub(super) fn read(
    reader: &mut Reader<'_>,
    head: u8,
    count: usize,
    contexts: &mut Contexts<'_>,
) -> Result<Vec<i64>, ChangeError> {
    let guess = match head >> GUESS_SHIFT {
        ONCE => return Ok(alloc::vec![reader.signed()?; count]),
        NOTHING => Guess::Nothing,
        PREVIOUS => Guess::Previous,
        PERIOD => match reader.count(count)? {
            0 => return Err(ChangeError::Malformed("a period of no rows")),
            rows => Guess::Period(rows),
        },
        SAME => {
            let column = reader.varint()?;
            let context = usize::try_from(column).ok().and_then(|at| contexts.of(at));
            Guess::Same(context.ok_or(ChangeError::Malformed("guessed by a later column"))?)
        }
        _ => return Err(ChangeError::Malformed("an unknown guess")),
    };
    read_errors(reader, guess, count)
}

fn read_errors(
    reader: &mut Reader<'_>,
    guess: Guess<'_>,
    count: usize,
) -> Result<Vec<i64>, ChangeError> {
    let mut values = Vec::with_capacity(count);
    if guess.first() > 0 {
        values.push(reader.signed()?);
    }
    let (has_fresh, has_linked) = kinds_of_rows(guess, count);
    let mut header =
        |is: bool| if is { Errors::read_header(reader) } else { Ok(Errors::default()) };
    let (fresh, linked) = (header(has_fresh)?, header(has_linked)?);
    let mut bits = BitReader::new(reader.rest());
    for at in guess.first()..count {
        let (guessed, is_linked) = guess.at(&values, at);
        let errors = if is_linked { linked } else { fresh };
        values.push(errors.read(&mut bits)?.wrapping_add(guessed));
    }
    let used = bits.finish()?;
    reader.take(used)?;
    Ok(values)
}
