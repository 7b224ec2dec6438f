//! One column of values, in the cheapest of its forms; the form stands first.

use alloc::vec::Vec;

use super::varint::{self, Reader, unzigzag, zigzag};
use crate::{error::ChangeError, sql::Value};

const NULLS: u8 = 0;
const TEXTS: u8 = 1;
const BLOBS: u8 = 2;
/// Kinds of the values first, then each kind's own column.
const MIXED: u8 = 3;
/// Each real in its own form.
const REALS: u8 = 4;
const INTEGERS: u8 = 5;
const INTEGER_STEPS: u8 = 6;
const INTEGER_ONCE: u8 = 7;
/// Plus the number of decimals, 0 to [`DECIMALS_MAX`]; then three forms of
/// integers again.
const DECIMALS: u8 = 16;
const DECIMALS_MAX: u8 = 9;

/// Forms of a single real, above the number of decimals.
const REAL_32: u8 = 32;
const REAL_64: u8 = 33;

/// Writes a column.
pub(super) fn write(out: &mut Vec<u8>, values: &[&Value]) {
    let first = values.first().map_or(NULLS, |value| kind(value));
    if values.iter().all(|value| kind(value) == first) {
        write_kind(out, first, values);
        return;
    }
    out.push(MIXED);
    for pair in values.chunks(2) {
        out.push(kind(pair[0]) | pair.get(1).map_or(0, |value| kind(value)) << 4);
    }
    for wanted in KINDS {
        let of_kind: Vec<_> =
            values.iter().copied().filter(|value| kind(value) == wanted).collect();
        if wanted != NULLS && !of_kind.is_empty() {
            write_kind(out, wanted, &of_kind);
        }
    }
}

/// Reads `count` values.
pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Value>, ChangeError> {
    let form = reader.byte()?;
    if form != MIXED {
        return read_form(reader, form, count);
    }
    let mut kinds = Vec::new();
    for byte in reader.take(count.div_ceil(2))? {
        kinds.extend([byte & 0xf, byte >> 4]);
    }
    kinds.truncate(count);
    let mut columns = Vec::new();
    for wanted in KINDS {
        let of_kind = kinds.iter().filter(|kind| **kind == wanted).count();
        columns.push(match (wanted, of_kind) {
            (NULLS, _) => alloc::vec![Value::Null; of_kind].into_iter(),
            (_, 0) => Vec::new().into_iter(),
            _ => {
                let form = reader.byte()?;
                read_form(reader, form, of_kind)?.into_iter()
            }
        });
    }
    let place = |kind: u8| KINDS.iter().position(|known| *known == kind);
    let values = kinds.into_iter().map(|kind| columns.get_mut(place(kind)?)?.next());
    values.collect::<Option<_>>().ok_or(ChangeError::Malformed("an unknown kind of value"))
}

const KINDS: [u8; 5] = [NULLS, TEXTS, BLOBS, REALS, INTEGERS];

const fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => NULLS,
        Value::Integer(_) => INTEGERS,
        Value::Real(_) => REALS,
        Value::Text(_) => TEXTS,
        Value::Blob(_) => BLOBS,
    }
}

fn write_kind(out: &mut Vec<u8>, kind: u8, values: &[&Value]) {
    match kind {
        INTEGERS => {
            let integers = values.iter().map(|value| match value {
                Value::Integer(value) => *value,
                Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => 0,
            });
            write_integers(out, &integers.collect::<Vec<_>>());
        }
        REALS => {
            let reals = values.iter().map(|value| match value {
                Value::Real(value) => *value,
                Value::Null | Value::Integer(_) | Value::Text(_) | Value::Blob(_) => 0.0,
            });
            write_reals(out, &reals.collect::<Vec<_>>());
        }
        _ => {
            out.push(kind);
            if kind != NULLS {
                write_strings(out, values);
            }
        }
    }
}

fn read_form(reader: &mut Reader<'_>, form: u8, count: usize) -> Result<Vec<Value>, ChangeError> {
    match form {
        NULLS => Ok(alloc::vec![Value::Null; count]),
        TEXTS => Ok(read_strings(reader, count)?.into_iter().map(Value::Text).collect()),
        BLOBS => Ok(read_strings(reader, count)?.into_iter().map(Value::Blob).collect()),
        REALS => (0..count).map(|_| read_real(reader).map(Value::Real)).collect(),
        INTEGERS | INTEGER_STEPS | INTEGER_ONCE => {
            let integers = read_integers_as(reader, form, count)?;
            Ok(integers.into_iter().map(Value::Integer).collect())
        }
        _ => {
            let decimals = form.checked_sub(DECIMALS).filter(|decimals| *decimals <= DECIMALS_MAX);
            let decimals = decimals.ok_or(ChangeError::Malformed("an unknown form of column"))?;
            let mantissas = read_integers(reader, count)?;
            Ok(mantissas.into_iter().map(|m| Value::Real(from_decimal(m, decimals))).collect())
        }
    }
}

/// Writes integers as they are, as steps, or once, whichever is shortest.
pub(super) fn write_integers(out: &mut Vec<u8>, values: &[i64]) {
    let plain: usize = values.iter().map(|value| varint::len(zigzag(*value))).sum();
    let stepped: usize = steps(values).map(|step| varint::len(zigzag(step))).sum();
    let all_equal = values.windows(2).all(|pair| pair[0] == pair[1]);
    if values.len() > 1 && all_equal {
        out.push(INTEGER_ONCE);
        varint::write(out, zigzag(values[0]));
    } else if stepped < plain {
        out.push(INTEGER_STEPS);
        steps(values).for_each(|step| varint::write(out, zigzag(step)));
    } else {
        out.push(INTEGERS);
        values.iter().for_each(|value| varint::write(out, zigzag(*value)));
    }
}

fn steps(values: &[i64]) -> impl Iterator<Item = i64> {
    let before = core::iter::once(0).chain(values.iter().copied());
    values.iter().zip(before).map(|(value, before)| value.wrapping_sub(before))
}

pub(super) fn read_integers(
    reader: &mut Reader<'_>,
    count: usize,
) -> Result<Vec<i64>, ChangeError> {
    let form = reader.byte()?;
    read_integers_as(reader, form, count)
}

fn read_integers_as(
    reader: &mut Reader<'_>,
    form: u8,
    count: usize,
) -> Result<Vec<i64>, ChangeError> {
    match form {
        INTEGERS => (0..count).map(|_| reader.signed()).collect(),
        INTEGER_ONCE => Ok(alloc::vec![reader.signed()?; count]),
        INTEGER_STEPS => {
            let mut value = 0_i64;
            let mut next = |_| {
                value = value.wrapping_add(reader.signed()?);
                Ok(value)
            };
            (0..count).map(&mut next).collect()
        }
        _ => Err(ChangeError::Malformed("an unknown form of integers")),
    }
}

fn write_reals(out: &mut Vec<u8>, values: &[f64]) {
    let decimals: Option<Vec<_>> = values.iter().map(|value| to_decimal(*value)).collect();
    if let Some(decimals) = decimals
        && let Some(most) = decimals.iter().map(|(_, decimals)| *decimals).max()
        && let Some(mantissas) = rescaled(values, most)
    {
        out.push(DECIMALS + most);
        write_integers(out, &mantissas);
        return;
    }
    out.push(REALS);
    values.iter().for_each(|value| write_real(out, *value));
}

/// All values as integers over the same power of ten, if that stays exact.
fn rescaled(values: &[f64], decimals: u8) -> Option<Vec<i64>> {
    values.iter().map(|value| exact(*value, decimals)).collect()
}

fn write_real(out: &mut Vec<u8>, value: f64) {
    #[expect(clippy::cast_possible_truncation, reason = "compared bit by bit right below")]
    let short = value as f32;
    if let Some((mantissa, decimals)) = to_decimal(value)
        && varint::len(zigzag(mantissa)) < 8
    {
        out.push(decimals);
        varint::write(out, zigzag(mantissa));
    } else if f64::from(short).to_bits() == value.to_bits() {
        out.push(REAL_32);
        out.extend(short.to_le_bytes());
    } else {
        out.push(REAL_64);
        out.extend(value.to_le_bytes());
    }
}

fn read_real(reader: &mut Reader<'_>) -> Result<f64, ChangeError> {
    match reader.byte()? {
        decimals @ 0..=DECIMALS_MAX => Ok(from_decimal(unzigzag(reader.varint()?), decimals)),
        REAL_32 => Ok(f64::from(f32::from_le_bytes(reader.array()?))),
        REAL_64 => Ok(f64::from_le_bytes(reader.array()?)),
        _ => Err(ChangeError::Malformed("an unknown form of real")),
    }
}

/// The fewest decimals that give `value` back to the bit.
fn to_decimal(value: f64) -> Option<(i64, u8)> {
    (0..=DECIMALS_MAX).find_map(|decimals| Some((exact(value, decimals)?, decimals)))
}

/// `value` as an integer over `10^decimals`, if exactly that comes back.
fn exact(value: f64, decimals: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(decimals)];
    if !(scaled.is_finite() && scaled.abs() < 9e15) {
        return None;
    }
    // Adding and taking away half rounds without the standard library.
    #[expect(clippy::cast_possible_truncation, reason = "within 53 bits, checked above")]
    let mantissa = if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i64;
    (from_decimal(mantissa, decimals).to_bits() == value.to_bits()).then_some(mantissa)
}

#[expect(clippy::cast_precision_loss, reason = "the encoder checked that this is exact")]
fn from_decimal(mantissa: i64, decimals: u8) -> f64 {
    mantissa as f64 / POWERS[usize::from(decimals)]
}

const POWERS: [f64; DECIMALS_MAX as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// How far back an equal string is looked for.
const LOOK_BACK: usize = 64;

fn string(value: &Value) -> &[u8] {
    match value {
        Value::Text(bytes) | Value::Blob(bytes) => bytes,
        Value::Null | Value::Integer(_) | Value::Real(_) => &[],
    }
}

/// Each as (length, 0) and its bytes, or as (how far back it stands, 1).
fn write_strings(out: &mut Vec<u8>, values: &[&Value]) {
    for (place, value) in values.iter().enumerate() {
        let bytes = string(value);
        let before = values[..place].iter().rev().take(LOOK_BACK);
        match before.into_iter().position(|earlier| string(earlier) == bytes) {
            Some(back) if !bytes.is_empty() => varint::write(out, (back as u64) << 1 | 1),
            _ => {
                varint::write(out, (bytes.len() as u64) << 1);
                out.extend(bytes);
            }
        }
    }
}

fn read_strings(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Vec<u8>>, ChangeError> {
    let mut strings: Vec<Vec<u8>> = Vec::new();
    let mut copied = 0;
    for place in 0..count {
        let head = reader.varint()?;
        let size = usize::try_from(head >> 1).unwrap_or(usize::MAX);
        if head & 1 == 0 {
            strings.push(reader.take(size)?.to_vec());
            continue;
        }
        let earlier = place.checked_sub(size.saturating_add(1)).and_then(|at| strings.get(at));
        let earlier = earlier.ok_or(ChangeError::Malformed("a reference before the first"))?;
        copied += earlier.len();
        if copied > crate::limits::CHANGE_COPIED_BYTES_MAX {
            return Err(ChangeError::Malformed("more bytes by reference than a change may hold"));
        }
        let earlier = earlier.clone();
        strings.push(earlier);
    }
    Ok(strings)
}
