//! Round trips over any change, golden bytes, hostile bytes, sizes.

use alloc::{string::String, vec::Vec};

use proptest::prelude::*;

use super::*;

fn change(segments: Vec<Segment>) -> Change {
    Change { base: Position { term: 3, index: 1_000 }, segments }
}

fn reading(sensor: i64, time: i64, value: f64) -> Row {
    let columns = Vec::from([Value::Integer(sensor), Value::Integer(time), Value::Real(value)]);
    Row::Put { rowid: None, columns }
}

fn rows(rows: Vec<Row>) -> Change {
    change(Vec::from([Segment::Rows { table: 0xA1B2_C3D4, rows }]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
}

#[test]
fn version_1_bytes_stay_what_they_are() {
    let schema = change(Vec::from([Segment::Schema("CREATE TABLE t(a)".into())]));
    assert_eq!(hex(&schema.encode()), "0103e807010011435245415445205441424c452074286129");
    let one = rows(Vec::from([reading(7, 1_700_000_000_000, 21.53)]));
    assert_eq!(hex(&one.encode()), "0103e8070115d4c3b2a103050e0580a0abfef9621205d221");
    let deleted = rows(Vec::from([Row::Delete { rowid: Some(9), key: Vec::new() }]));
    assert_eq!(hex(&deleted.encode()), "0103e807011bd4c3b2a10512");
}

#[test]
fn a_reading_alone_and_a_hundred_together_are_small() {
    let alone = rows(Vec::from([reading(7, 1_700_000_000_000, 21.53)])).encode().len();
    assert!(alone <= 24, "{alone} bytes");
    let hundred = (0..100).map(|n| {
        let value = f64::from(2_000 + (n * 37) % 400) / 100.0;
        reading(i64::from(n % 20), 1_700_000_000_000 + i64::from(n) * 50, value)
    });
    let hundred = rows(hundred.collect()).encode().len();
    assert!(hundred <= 600, "{hundred} bytes");
}

#[test]
fn every_bit_of_a_real_survives() {
    let reals = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff8_dead_beef_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::MAX,
        0.1,
        1.0 / 3.0,
        1e15,
        1e16,
        -21.53,
        0.5,
    ];
    for real in reals {
        let before = rows(Vec::from([reading(1, 2, real)]));
        assert_eq!(Change::decode(&before.encode()), Ok(before), "{real}");
    }
}

#[test]
fn a_change_followed_by_more_is_rejected() {
    let mut bytes = rows(Vec::from([reading(1, 2, 3.0)])).encode();
    bytes.push(0);
    assert_eq!(Change::decode(&bytes), Err(ChangeError::Malformed("followed by more")));
}

#[test]
fn few_bytes_cannot_ask_for_much_memory() {
    let mut bytes = Vec::from([CHANGE_VERSION, 0, 0, 1, ROWS | HAS_PUTS, 0, 0, 0, 0]);
    varint::write(&mut bytes, CHANGE_CELLS_MAX as u64);
    varint::write(&mut bytes, 30_000);
    assert!(Change::decode(&bytes).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-1000..1000_i64).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        (-100_000..100_000_i32).prop_map(|n| Value::Real(f64::from(n) / 100.0)),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Text),
        Just(Value::Text(b"again".to_vec())),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Blob),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    let shape = (0..5_usize, 1..4_usize, any::<bool>(), any::<u32>());
    let rows = shape.prop_flat_map(|(width, key, has_rowid, table)| {
        let put = proptest::collection::vec(value(), width);
        let key = proptest::collection::vec(value(), if has_rowid { 0 } else { key });
        let row = (any::<bool>(), any::<i64>(), put, key).prop_map(
            move |(is_put, rowid, columns, key)| {
                let rowid = has_rowid.then_some(rowid);
                if is_put { Row::Put { rowid, columns } } else { Row::Delete { rowid, key } }
            },
        );
        proptest::collection::vec(row, 1..20).prop_map(move |rows| Segment::Rows { table, rows })
    });
    prop_oneof![".*".prop_map(Segment::Schema), rows]
}

proptest! {
    #[test]
    fn any_change_comes_back_as_it_was(
        term in any::<u64>(),
        index in any::<u64>(),
        segments in proptest::collection::vec(segment(), 0..4),
    ) {
        let before = Change { base: Position { term, index }, segments };
        prop_assert_eq!(Change::decode(&before.encode()), Ok(before));
    }

    #[test]
    fn damaged_bytes_never_panic(
        segments in proptest::collection::vec(segment(), 0..3),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = change(segments).encode();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(keep.index(bytes.len()) + 1);
        let _ = Change::decode(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Change::decode(&bytes);
    }
}
