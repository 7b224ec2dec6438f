//! One value by itself: a first byte says what it is, and holds as much of it as
//! there is room for. Most entries are one row, and most of their numbers small,
//! times, or readings of few decimals: those have most of the first bytes.

use alloc::vec::Vec;

use super::{
    real,
    varint::{self, Reader, unzigzag, zigzag},
};
use crate::{error::ChangeError, sql::Value};

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL_64: u8 = 2;
const REAL_32: u8 = 3;
/// A number of decimals, then the number without its point.
const DECIMAL: u8 = 4;
const TEXT: u8 = 5;
const BLOB: u8 = 6;
/// Texts of so many bytes stand right behind.
const SHORT_TEXT: u8 = 7;
const SHORT_TEXTS: u8 = 32;
const NUMBERS: u8 = SHORT_TEXT + SHORT_TEXTS;

/// A decimal whose number has more bytes is no shorter than its bits.
const DECIMAL_BYTES_MAX: usize = 6;

/// Numbers from `low` on, as many as so many first bytes hold together with so
/// many bytes behind.
struct Class {
    /// Of a real; none of an integer.
    decimals: Option<u8>,
    firsts: u8,
    bytes: u32,
    low: i64,
}

const fn integers(firsts: u8, bytes: u32, low: i64) -> Class {
    Class { decimals: None, firsts, bytes, low }
}

const fn reals(decimals: u8, firsts: u8, bytes: u32, low: i64) -> Class {
    Class { decimals: Some(decimals), firsts, bytes, low }
}

/// As many below zero as above.
const fn half(firsts: i64, bytes: u32) -> i64 {
    -((firsts << (8 * bytes)) / 2)
}

/// The shorter before the longer. Their first bytes follow one another from
/// [`NUMBERS`] on.
const CLASSES: [Class; 24] = [
    integers(64, 0, -16),
    integers(8, 1, half(8, 1)),
    integers(4, 2, half(4, 2)),
    integers(4, 3, half(4, 3)),
    integers(4, 4, half(4, 4)),
    integers(4, 5, half(4, 5)),
    integers(4, 6, half(4, 6)),
    integers(4, 7, half(4, 7)),
    reals(0, 4, 1, half(4, 1)),
    reals(0, 2, 2, half(2, 2)),
    // -51.2 to 153.5
    reals(1, 8, 1, -512),
    reals(1, 4, 2, half(4, 2)),
    // -12.00 to 100.63: temperatures and percentages
    reals(2, 44, 1, -1_200),
    reals(2, 4, 2, half(4, 2)),
    reals(2, 2, 3, half(2, 3)),
    reals(3, 4, 1, half(4, 1)),
    reals(3, 8, 2, half(8, 2)),
    reals(3, 2, 3, half(2, 3)),
    reals(4, 4, 2, half(4, 2)),
    reals(4, 4, 3, half(4, 3)),
    reals(5, 4, 3, half(4, 3)),
    reals(5, 2, 4, half(2, 4)),
    reals(6, 4, 3, half(4, 3)),
    reals(6, 4, 4, half(4, 4)),
];

const _: () = {
    let (mut first, mut place) = (NUMBERS as u32, 0);
    while place < CLASSES.len() {
        first += CLASSES[place].firsts as u32;
        place += 1;
    }
    assert!(first <= 256, "a first byte is one byte");
};

/// Writes a value.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Integer(value) => {
            if !write_number(out, None, *value) {
                out.push(INTEGER);
                out.extend(value.to_le_bytes());
            }
        }
        Value::Real(value) => write_real(out, *value),
        Value::Text(bytes) => {
            match u8::try_from(bytes.len()) {
                Ok(length) if length < SHORT_TEXTS => out.push(SHORT_TEXT + length),
                Ok(_) | Err(_) => {
                    out.push(TEXT);
                    varint::write(out, bytes.len() as u64);
                }
            }
            out.extend(bytes);
        }
        Value::Blob(bytes) => {
            out.push(BLOB);
            varint::write_bytes(out, bytes);
        }
    }
}

fn write_real(out: &mut Vec<u8>, value: f64) {
    if let Some((number, decimals)) = real::to_decimal(value, 0) {
        if write_number(out, Some(decimals), number) {
            return;
        }
        if varint::len(zigzag(number)) <= DECIMAL_BYTES_MAX {
            out.extend([DECIMAL, decimals]);
            varint::write(out, zigzag(number));
            return;
        }
    }
    if let Some(short) = real::to_single(value) {
        out.push(REAL_32);
        out.extend(short.to_le_bytes());
    } else {
        out.push(REAL_64);
        out.extend(value.to_le_bytes());
    }
}

/// Writes a number that some class holds.
fn write_number(out: &mut Vec<u8>, decimals: Option<u8>, number: i64) -> bool {
    let mut first = u64::from(NUMBERS);
    for class in &CLASSES {
        let above = number.wrapping_sub(class.low).cast_unsigned();
        let upper = above >> (8 * class.bytes);
        if class.decimals == decimals && number >= class.low && upper < u64::from(class.firsts) {
            out.push(((first + upper) & 0xff) as u8);
            out.extend(&above.to_le_bytes()[..class.bytes as usize]);
            return true;
        }
        first += u64::from(class.firsts);
    }
    false
}

/// Reads a value.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Value, ChangeError> {
    Ok(match reader.byte()? {
        NULL => Value::Null,
        INTEGER => Value::Integer(i64::from_le_bytes(reader.array()?)),
        REAL_64 => Value::Real(f64::from_le_bytes(reader.array()?)),
        REAL_32 => Value::Real(f64::from(f32::from_le_bytes(reader.array()?))),
        DECIMAL => {
            let decimals = reader.byte()?;
            let number = unzigzag(reader.varint()?);
            Value::Real(real::from_decimal(number, decimals)?)
        }
        TEXT => Value::Text(reader.bytes()?.to_vec()),
        BLOB => Value::Blob(reader.bytes()?.to_vec()),
        first @ SHORT_TEXT..NUMBERS => {
            Value::Text(reader.take(usize::from(first - SHORT_TEXT))?.to_vec())
        }
        first => return read_number(reader, first - NUMBERS),
    })
}

fn read_number(reader: &mut Reader<'_>, mut first: u8) -> Result<Value, ChangeError> {
    for class in &CLASSES {
        if let Some(next) = first.checked_sub(class.firsts) {
            first = next;
            continue;
        }
        let mut above = [0; 8];
        let bytes = class.bytes as usize;
        above[..bytes].copy_from_slice(reader.take(bytes)?);
        let above = u64::from_le_bytes(above) | u64::from(first) << (8 * class.bytes);
        let number = above.cast_signed().wrapping_add(class.low);
        return Ok(match class.decimals {
            None => Value::Integer(number),
            Some(decimals) => Value::Real(real::from_decimal(number, decimals)?),
        });
    }
    Err(ChangeError::Malformed("an unknown kind of value"))
}
