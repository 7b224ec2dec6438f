//! Rows that are alike in one column, by which another is guessed: the readings
//! of one sensor follow its own, not those of the sensor before.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::sql::Value;

/// Columns that an encoder tries to guess others by.
const CONTEXTS_MAX: usize = 2;

/// Fewer rows are not worth the search.
const ROWS_MIN: usize = 4;

/// For each row, the last one before it with the same value in one column.
pub(super) struct Context {
    /// The column's place in the block.
    pub(super) column: usize,
    /// One more than that row's place, or 0.
    links: Vec<u32>,
}

impl Context {
    fn new(column: usize, values: &[&Value]) -> Self {
        let mut order: Vec<u32> = (0..).zip(values).map(|(place, _)| place).collect();
        let at = |place: u32| values[place as usize];
        order.sort_unstable_by(|a, b| compare(at(*a), at(*b)).then(a.cmp(b)));
        let mut links = alloc::vec![0; values.len()];
        for pair in order.windows(2) {
            if compare(at(pair[0]), at(pair[1])).is_eq() {
                links[pair[1] as usize] = pair[0] + 1;
            }
        }
        Self { column, links }
    }

    /// The last row before this one that is like it.
    pub(super) fn last(&self, row: usize) -> Option<usize> {
        (self.links[row] as usize).checked_sub(1)
    }

    /// Notes a column that was written, if others may be guessed by it: a good
    /// part of its values occur again, and they are not all the same.
    pub(super) fn note(known: &mut Vec<Self>, column: usize, values: &[&Value]) {
        if known.len() == CONTEXTS_MAX || values.len() < ROWS_MIN {
            return;
        }
        // Most columns are seen at once to be all the same, or times.
        let follow = |pair: &[&Value]| compare(pair[0], pair[1]);
        let is_same = values.windows(2).all(|pair| follow(pair).is_eq());
        if is_same || values.windows(2).all(|pair| follow(pair).is_lt()) {
            return;
        }
        let context = Self::new(column, values);
        let again = context.links.iter().filter(|link| **link > 0).count();
        if 4 * again >= values.len() {
            known.push(context);
        }
    }
}

/// Any total order in which only the same bits are equal.
fn compare(a: &Value, b: &Value) -> Ordering {
    let key = |value: &Value| match value {
        Value::Null => (0, 0),
        Value::Integer(value) => (1, value.cast_unsigned()),
        Value::Real(value) => (2, value.to_bits()),
        Value::Text(bytes) => (3, bytes.len() as u64),
        Value::Blob(bytes) => (4, bytes.len() as u64),
    };
    key(a).cmp(&key(b)).then_with(|| a.bytes().cmp(b.bytes()))
}

/// What a decoder has read of a block, and the contexts that were asked of it.
pub(super) struct Contexts<'a> {
    rows: &'a [Vec<Value>],
    known: &'a mut Vec<Context>,
}

impl<'a> Contexts<'a> {
    pub(super) const fn new(rows: &'a [Vec<Value>], known: &'a mut Vec<Context>) -> Self {
        Self { rows, known }
    }

    /// Of a column that no other is known beside.
    pub(super) const fn none(known: &'a mut Vec<Context>) -> Self {
        Self { rows: &[], known }
    }

    /// The context of a column that was read, made once however often it is asked.
    pub(super) fn of(&mut self, column: usize) -> Option<&Context> {
        if let Some(place) = self.known.iter().position(|known| known.column == column) {
            return self.known.get(place);
        }
        if self.rows.is_empty() {
            return None;
        }
        let values = self.rows.iter().map(|row| row.get(column));
        let values = values.collect::<Option<Vec<&Value>>>()?;
        self.known.push(Context::new(column, &values));
        self.known.last()
    }
}
