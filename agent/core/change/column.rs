//! One column of values, in the cheapest of its forms; the form stands first.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    Room,
    context::{Context, Contexts},
    integers, real, scalar,
    varint::Reader,
};
use crate::{error::ChangeError, sql::Value};

const NULLS: u8 = 0;
/// Each value by itself.
const SCALARS: u8 = 1;
/// Kinds of the values first, then each kind's own column.
const MIXED: u8 = 2;
const INTEGERS: u8 = 3;
/// Each by its number in the order of first appearance, then the different ones.
const TEXTS: u8 = 4;
const BLOBS: u8 = 5;
/// Bits as integers, of single and of double precision.
const SINGLES: u8 = 6;
const DOUBLES: u8 = 7;
/// Plus the number of decimals, 0 to [`real::DECIMALS_MAX`].
const DECIMALS: u8 = 8;

/// Values that may be shorter one by one than in a form of their own.
const SCALARS_MAX: usize = 8;
const SCALAR_BYTES_MAX: usize = 64;

/// What a value is to a column.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Null,
    Integer,
    Decimal,
    Real,
    Text,
    Blob,
}

const KINDS: [Kind; 6] =
    [Kind::Null, Kind::Integer, Kind::Decimal, Kind::Real, Kind::Text, Kind::Blob];

/// Writes a column of at least one value.
pub(super) fn write(out: &mut Vec<u8>, values: &[&Value], contexts: &[Context]) {
    let start = out.len();
    write_column(out, values, contexts);
    let is_short = |value: &&Value| value.bytes().len() <= SCALAR_BYTES_MAX;
    if values.len() <= SCALARS_MAX && values.iter().all(is_short) {
        let mut scalars = Vec::from([SCALARS]);
        values.iter().for_each(|value| scalar::write(&mut scalars, value));
        if scalars.len() < out.len() - start {
            out.truncate(start);
            out.extend(scalars);
        }
    }
}

fn write_column(out: &mut Vec<u8>, values: &[&Value], contexts: &[Context]) {
    let decimals = common_decimals(values);
    let kinds: Vec<Kind> = values.iter().map(|value| kind(value, decimals)).collect();
    if kinds.iter().all(|kind| *kind == kinds[0]) {
        write_kind(out, kinds[0], values, decimals, contexts);
        return;
    }
    out.push(MIXED);
    let numbers: Vec<i64> = kinds.iter().map(|kind| *kind as i64).collect();
    integers::write(out, INTEGERS, &numbers, contexts);
    for wanted in &KINDS[1..] {
        let of_kind: Vec<&Value> = values
            .iter()
            .zip(&kinds)
            .filter(|(_, kind)| *kind == wanted)
            .map(|(value, _)| *value)
            .collect();
        if !of_kind.is_empty() {
            write_kind(out, *wanted, &of_kind, decimals, &[]);
        }
    }
}

/// The fewest decimals that do for all reals which are decimals at all.
fn common_decimals(values: &[&Value]) -> u8 {
    let mut decimals = 0;
    for value in values {
        if let Value::Real(value) = value
            && let Some((_, wanted)) = real::to_decimal(*value, decimals)
        {
            decimals = wanted;
        }
    }
    decimals
}

fn kind(value: &Value, decimals: u8) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Integer(_) => Kind::Integer,
        Value::Real(value) if real::exact(*value, decimals).is_some() => Kind::Decimal,
        Value::Real(_) => Kind::Real,
        Value::Text(_) => Kind::Text,
        Value::Blob(_) => Kind::Blob,
    }
}

fn write_kind(
    out: &mut Vec<u8>,
    kind: Kind,
    values: &[&Value],
    decimals: u8,
    contexts: &[Context],
) {
    let reals =
        || values.iter().map(|value| if let Value::Real(real) = value { *real } else { 0.0 });
    match kind {
        Kind::Null => out.push(NULLS),
        Kind::Integer => {
            let numbers: Vec<i64> = values
                .iter()
                .map(|value| if let Value::Integer(integer) = value { *integer } else { 0 })
                .collect();
            integers::write(out, INTEGERS, &numbers, contexts);
        }
        Kind::Decimal => {
            let numbers = reals().map(|value| real::exact(value, decimals).unwrap_or(0));
            integers::write(out, DECIMALS + decimals, &numbers.collect::<Vec<_>>(), contexts);
        }
        Kind::Real => match reals().map(real::to_single).collect::<Option<Vec<_>>>() {
            Some(singles) => {
                let steps = singles.into_iter().map(real::single_to_steps);
                integers::write(out, SINGLES, &steps.collect::<Vec<_>>(), contexts);
            }
            None => {
                let steps = reals().map(real::to_steps);
                integers::write(out, DOUBLES, &steps.collect::<Vec<_>>(), contexts);
            }
        },
        Kind::Text => write_strings(out, TEXTS, values, contexts),
        Kind::Blob => write_strings(out, BLOBS, values, contexts),
    }
}

/// Numbers in the order of first appearance; then of each different string how
/// much it shares with the one before, how much follows, and what.
fn write_strings(out: &mut Vec<u8>, form: u8, values: &[&Value], contexts: &[Context]) {
    let mut numbers: BTreeMap<&[u8], i64> = BTreeMap::new();
    let mut different: Vec<&[u8]> = Vec::new();
    let mut places = Vec::with_capacity(values.len());
    for value in values {
        let next = numbers.len() as i64;
        let number = *numbers.entry(value.bytes()).or_insert(next);
        if number == next {
            different.push(value.bytes());
        }
        places.push(number);
    }
    integers::write(out, form, &places, contexts);
    let before = core::iter::once(&[][..]).chain(different.iter().copied());
    let mut shared: Vec<usize> =
        before.zip(&different).map(|(before, string)| in_common(before, string)).collect();
    if shared.iter().sum::<usize>() <= shared.len() {
        shared.fill(0);
    }
    let rests = || different.iter().zip(&shared).map(|(string, shared)| &string[*shared..]);
    let lengths: Vec<i64> = rests().map(|rest| rest.len() as i64).collect();
    let shared: Vec<i64> = shared.iter().map(|shared| *shared as i64).collect();
    integers::write(out, INTEGERS, &shared, &[]);
    integers::write(out, INTEGERS, &lengths, &[]);
    rests().for_each(|rest| out.extend(rest));
}

fn in_common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Reads `count` values, of which there is at least one.
pub(super) fn read(
    reader: &mut Reader<'_>,
    count: usize,
    contexts: &mut Contexts<'_>,
    room: &mut Room,
) -> Result<Vec<Value>, ChangeError> {
    match reader.byte()? {
        SCALARS => (0..count).map(|_| scalar::read(reader)).collect(),
        MIXED => read_mixed(reader, count, contexts, room),
        head => read_kind(reader, head, count, contexts, room),
    }
}

fn read_mixed(
    reader: &mut Reader<'_>,
    count: usize,
    contexts: &mut Contexts<'_>,
    room: &mut Room,
) -> Result<Vec<Value>, ChangeError> {
    let numbers = read_integers(reader, count, contexts)?;
    let mut columns = Vec::new();
    for kind in KINDS {
        let of_kind = numbers.iter().filter(|number| **number == kind as i64).count();
        let column = match (kind, of_kind) {
            (_, 0) => Vec::new(),
            (Kind::Null, _) => alloc::vec![Value::Null; of_kind],
            _ => {
                let head = reader.byte()?;
                read_kind(reader, head, of_kind, &mut Contexts::none(&mut Vec::new()), room)?
            }
        };
        columns.push(column.into_iter());
    }
    let next = |number: i64| columns.get_mut(usize::try_from(number).ok()?)?.next();
    let values: Option<Vec<Value>> = numbers.into_iter().map(next).collect();
    values.ok_or(ChangeError::Malformed("an unknown kind of value"))
}

fn read_integers(
    reader: &mut Reader<'_>,
    count: usize,
    contexts: &mut Contexts<'_>,
) -> Result<Vec<i64>, ChangeError> {
    let head = reader.byte()?;
    if integers::form_of(head) != INTEGERS {
        return Err(ChangeError::Malformed("something else in place of integers"));
    }
    integers::read(reader, head, count, contexts)
}

/// A column of integers that belongs to no table's columns: its rowids.
pub(super) fn write_rowids(out: &mut Vec<u8>, rowids: &[i64]) {
    integers::write(out, INTEGERS, rowids, &[]);
}

/// Reads them back.
pub(super) fn read_rowids(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, ChangeError> {
    read_integers(reader, count, &mut Contexts::none(&mut Vec::new()))
}

fn read_kind(
    reader: &mut Reader<'_>,
    head: u8,
    count: usize,
    contexts: &mut Contexts<'_>,
    room: &mut Room,
) -> Result<Vec<Value>, ChangeError> {
    if head == NULLS {
        return Ok(alloc::vec![Value::Null; count]);
    }
    let form = integers::form_of(head);
    if !(INTEGERS..=DECIMALS + real::DECIMALS_MAX).contains(&form) {
        return Err(ChangeError::Malformed("an unknown form of column"));
    }
    let numbers = integers::read(reader, head, count, contexts)?.into_iter();
    match form {
        INTEGERS => Ok(numbers.map(Value::Integer).collect()),
        TEXTS => read_strings(reader, numbers, Value::Text, room),
        BLOBS => read_strings(reader, numbers, Value::Blob, room),
        SINGLES => {
            let real = |steps| Ok(Value::Real(f64::from(real::single_from_steps(steps)?)));
            numbers.map(real).collect()
        }
        DOUBLES => Ok(numbers.map(|steps| Value::Real(real::from_steps(steps))).collect()),
        _ => {
            let decimals = form - DECIMALS;
            numbers.map(|number| real::from_decimal(number, decimals).map(Value::Real)).collect()
        }
    }
}

fn read_strings(
    reader: &mut Reader<'_>,
    places: impl Iterator<Item = i64> + Clone,
    wrap: fn(Vec<u8>) -> Value,
    room: &mut Room,
) -> Result<Vec<Value>, ChangeError> {
    let different = places.clone().max().and_then(|most| usize::try_from(most).ok());
    let different = different.map_or(0, |most| most.saturating_add(1));
    if different > places.clone().count() {
        return Err(BEFORE_THE_FIRST);
    }
    let mut none = Vec::new();
    let shared = read_integers(reader, different.max(1), &mut Contexts::none(&mut none))?;
    let lengths = read_integers(reader, different.max(1), &mut Contexts::none(&mut none))?;
    let mut pieces = shared.into_iter().zip(lengths);
    let mut values: Vec<Value> = Vec::new();
    let mut firsts: Vec<usize> = Vec::new();
    for place in places {
        let place = usize::try_from(place).map_err(|_| BEFORE_THE_FIRST)?;
        let known = match firsts.get(place) {
            Some(first) => values[*first].bytes(),
            None if place > firsts.len() => return Err(BEFORE_THE_FIRST),
            None => firsts.last().map_or(&[][..], |last| values[*last].bytes()),
        };
        let is_new = place == firsts.len();
        let (shared, length) = match is_new {
            true => pieces.next().ok_or(BEFORE_THE_FIRST)?,
            false => (known.len() as i64, 0),
        };
        let shared = usize::try_from(shared).ok().and_then(|shared| known.get(..shared));
        let shared = shared.ok_or(ChangeError::Malformed("shares more than there is"))?;
        room.take_copied(shared.len())?;
        let rest = reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        if is_new {
            firsts.push(values.len());
        }
        values.push(wrap([shared, rest].concat()));
    }
    Ok(values)
}

const BEFORE_THE_FIRST: ChangeError = ChangeError::Malformed("a reference before the first");
