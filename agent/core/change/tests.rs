//! Round trips over any change, golden bytes, hostile bytes, sizes.

use alloc::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::readings::{ClockFix, Run, StoredRow};

const ENTRY: Position = Position { term: 3, index: 1_000_001 };
const BASE: Position = Position { term: 3, index: 1_000_000 };

fn change(segments: Vec<Segment>) -> Change {
    Change { base: BASE, fingerprint: 0xA1B2_C3D4, segments }
}

fn reading(sensor: i64, time: i64, value: f64) -> Row {
    let columns = Vec::from([Value::Integer(sensor), Value::Integer(time), Value::Real(value)]);
    Row::Put { rowid: None, columns }
}

fn rows(rows: Vec<Row>) -> Change {
    change(Vec::from([Segment::Rows { table: 3, rows }]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
}

fn text(text: &str) -> Value {
    Value::text(text)
}

/// A generator good enough to shake times and values with.
fn shaken(seed: &mut u64, below: u64) -> i64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*seed >> 33) % below) as i64
}

/// Twenty sensors in a room, one reading each in turn.
fn readings(count: i64, full: bool) -> Vec<Row> {
    let mut seed = 7;
    let mut next = |n: i64| {
        let (sensor, round) = (n % 20, n / 20);
        let time = 1_700_000_000_000 + round * 1_000 + sensor * 50 + shaken(&mut seed, 8);
        let hundredths = 1_900 + sensor * 37 + shaken(&mut seed, 12);
        let value = if full { hundredths as f64 / 97.0 } else { hundredths as f64 / 100.0 };
        reading(sensor, time, value)
    };
    (0..count).map(&mut next).collect()
}

/// A batch of readings of board 3, its fifth start; `full` with all that one can have.
fn stored(count: i64, full: bool) -> Stored {
    let first = crate::readings::first_number(5) + 70_000;
    let row = |(number, row): (u64, Row)| {
        let Row::Put { columns, .. } = row else { panic!("readings are put") };
        let [Value::Integer(sensor), Value::Integer(ms), value] = &columns[..] else {
            panic!("a reading has three columns")
        };
        let id = full.then(|| alloc::format!("id-{number}"));
        let (token, is_far) = (full.then_some(9), full && number % 2 == 0);
        let time = ms * 1_000 + i64::from(full);
        StoredRow { number, sensor: *sensor, time, value: value.clone(), id, token, is_far }
    };
    let rows = (first..).zip(readings(count, false)).map(row).collect();
    Stored { board: 3, floor: first, rows, ..Stored::default() }
}

fn stored_readings() -> Change {
    let sensors = Vec::from([(0, "hall".into()), (1, "kitchen/air".into())]);
    let full = stored(4, true);
    let nothing = Vec::from([full.floor + 4, full.floor + 5]);
    let full = Stored { floor: full.floor - 9_000, sensors, nothing, ..full };
    let none = Stored { rows: Vec::new(), nothing: Vec::from([7]), ..stored(0, false) };
    let first = full.floor + 9_006;
    let given_up =
        Vec::from([Run { first: 5, step: 1, count: 9 }, Run { first, step: 2, count: 300 }]);
    let lost = Stored { given_up, ids_before: 70_000, ..stored(1, false) };
    let full = Stored { ids_us: Some(1_700_000_000_000_000), ..full };
    let all = [stored(1, false), stored(20, false), full, none, lost];
    change(all.map(Segment::Readings).into())
}

fn operations() -> Change {
    let trim = Operation::Trim { sensor: 7, width_s: 60, before: 1_700_000_000_000_000 };
    let fix = ClockFix { board: 3, boot: 5, began_us: 1_700_000_000_000_000 };
    let clock = Operation::Clock { fix, sensor: -1, rows_max: 500 };
    change([trim, clock].map(Segment::Operation).into())
}

/// What the vectors hold, by name.
fn examples() -> Vec<(&'static str, Change)> {
    let deleted = |rowid| Row::Delete { rowid: Some(rowid), key: Vec::new() };
    let updated = Row::Update {
        rowid: None,
        key: Vec::from([Value::Integer(7), Value::Integer(1_700_000_000_000)]),
        changed: Vec::from([(2, Value::Real(21.54))]),
    };
    let every_kind = Row::Put {
        rowid: Some(-3),
        columns: Vec::from([
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(f64::NAN),
            Value::Real(0.1 + 0.2),
            Value::Real(1_234_567.5),
            text("kitchen"),
            Value::Text(alloc::vec![b'x'; 40]),
            Value::Blob(Vec::from([0, 255, 0])),
        ]),
    };
    let mixed = (0..12).map(|n| {
        let value = match n % 4 {
            0 => Value::Null,
            1 => Value::Integer(n),
            2 => Value::Real(n as f64 / 8.0),
            _ => Value::Real(1.0 / n as f64),
        };
        let name = if n % 3 == 0 { "sensor/kitchen" } else { "sensor/hall" };
        Row::Put { rowid: Some(100 + n), columns: Vec::from([text(name), value]) }
    });
    let far = Segment::Rows { table: 500, rows: Vec::from([deleted(1), deleted(2), deleted(9)]) };
    Vec::from([
        ("nothing", change(Vec::new())),
        ("schema", change(Vec::from([Segment::Schema("CREATE TABLE t(a)".into())]))),
        ("reading", rows(Vec::from([reading(7, 1_700_000_000_000, 21.53)]))),
        ("deleted", rows(Vec::from([deleted(9)]))),
        ("updated", rows(Vec::from([updated.clone()]))),
        ("every-kind", rows(Vec::from([every_kind]))),
        ("readings", rows(readings(40, false))),
        ("full-precision", rows(readings(12, true))),
        ("mixed", rows(mixed.collect())),
        ("shapes", rows(Vec::from([reading(1, 2, 3.5), updated, reading(4, 5, -0.0)]))),
        ("far", change(Vec::from([far]))),
        ("stored", stored_readings()),
        ("operations", operations()),
    ])
}

#[test]
fn version_2_bytes_stay_what_they_are() {
    let vectors = include_str!("vectors-2");
    let kept: Vec<(&str, &str)> =
        vectors.lines().filter_map(|line| line.split_once(": ")).collect();
    let made: Vec<(&str, String)> =
        examples().iter().map(|(name, change)| (*name, hex(&change.encode()))).collect();
    let listed: String = made.iter().map(|(name, hex)| alloc::format!("{name}: {hex}\n")).collect();
    assert!(kept.iter().map(|(name, hex)| (*name, String::from(*hex))).eq(made), "{listed}");
    for (name, change) in examples() {
        assert_eq!(Change::decode(&change.encode(), ENTRY), Ok(change), "{name}");
    }
}

fn bytes(change: &Change) -> usize {
    let bytes = change.encode();
    assert_eq!(Change::decode(&bytes, ENTRY).as_ref(), Ok(change));
    bytes.len()
}

#[test]
fn readings_are_small_alone_and_smaller_together() {
    let alone = bytes(&rows(readings(1, false)));
    assert!(alone <= 20, "{alone} bytes");
    let sixteen = bytes(&rows(readings(16, false)));
    assert!(sixteen <= 16 * 8, "{sixteen} bytes");
    let hundred = bytes(&rows(readings(100, false)));
    assert!(hundred <= 100 * 5, "{hundred} bytes");
    let full = bytes(&rows(readings(100, true)));
    assert!(full <= 100 * 10, "{full} bytes");
}

#[test]
fn stored_readings_are_as_small_as_rows_and_say_whose_they_are() {
    let size = |count| bytes(&change(Vec::from([Segment::Readings(stored(count, false))])));
    let (alone, hundred) = (size(1), size(100));
    assert!(alone <= 32, "{alone} bytes");
    assert!(hundred <= 100 * 2 + 60, "{hundred} bytes");
}

#[test]
fn an_update_of_one_column_is_the_value_and_little_else() {
    let value = Value::Real(21.54);
    let key = Vec::from([Value::Integer(7), Value::Integer(1_700_000_000_000)]);
    let changed = Vec::from([(2, value.clone())]);
    let mut alone = Vec::new();
    scalar::write(&mut alone, &value);
    let update = Row::Update { rowid: None, key, changed: changed.clone() };
    let update = bytes(&rows(Vec::from([update])));
    assert!(update <= 20 + alone.len(), "{update} bytes");
    let update = Row::Update { rowid: Some(1_000_000), key: Vec::new(), changed };
    let update = bytes(&rows(Vec::from([update])));
    assert!(update <= 20 + alone.len(), "{update} bytes");
}

#[test]
fn a_string_said_before_costs_nothing_to_say_again() {
    let names = ["greenhouse/north/temperature", "greenhouse/north/humidity"];
    let row = |n: i64| Row::Put {
        rowid: Some(n),
        columns: Vec::from([text(if n % 2 == 0 { names[0] } else { names[1] }), Value::Integer(5)]),
    };
    let (two, many) =
        (bytes(&rows((0..2).map(row).collect())), bytes(&rows((0..200).map(row).collect())));
    assert!(many < two + 8, "{two} bytes, {many} bytes");
}

#[test]
fn every_bit_of_a_real_survives() {
    let reals = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff8_dead_beef_0001),
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::from_bits(0xfff4_0000_2000_0000),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        0.1,
        1.0 / 3.0,
        1e15,
        1e16,
        -21.53,
        0.5,
        f64::from(0.1_f32),
    ];
    for real in reals {
        bytes(&rows(Vec::from([reading(1, 2, real)])));
        bytes(&rows(alloc::vec![reading(1, 2, real); 20]));
    }
    let mixed = (0..90).zip(reals.iter().cycle()).map(|(n, real)| reading(n, n, *real));
    bytes(&rows(mixed.collect()));
}

#[test]
fn a_huge_blob_with_zeros_comes_back() {
    let blob = Value::Blob(alloc::vec![0; 7 << 20]);
    let row = |n| Row::Put { rowid: Some(n), columns: Vec::from([blob.clone()]) };
    let one = bytes(&rows(Vec::from([row(1)])));
    let twice = bytes(&rows(Vec::from([row(1), row(2)])));
    assert!(twice < one + 16, "the second is a reference: {twice} bytes");
}

#[test]
fn the_base_is_the_last_position_of_its_low_bytes_before_the_entry() {
    let at = |term, index| Position { term, index };
    for (base, entry) in [
        (at(0, 0), at(1, 1)),
        (at(3, 65_535), at(3, 65_536)),
        (at(255, 70_000), at(256, 70_001)),
        (at(9, 1), at(264, 65_536)),
        (at(1 << 40, 1 << 50), at(1 << 40, (1 << 50) + 1)),
    ] {
        let change = Change { base, ..change(Vec::new()) };
        assert_eq!(Change::decode_base(&change.encode(), entry), Ok(base));
    }
}

#[test]
fn a_change_followed_by_more_is_rejected() {
    for (name, change) in examples() {
        let mut bytes = change.encode();
        bytes.push(0);
        let more = Change::decode(&bytes, ENTRY);
        assert_eq!(more, Err(ChangeError::Malformed("followed by more")), "{name}");
    }
}

#[test]
fn a_change_cut_short_is_rejected() {
    for (name, change) in examples() {
        let bytes = change.encode();
        for end in 0..bytes.len() {
            assert!(Change::decode(&bytes[..end], ENTRY).is_err(), "{name} up to {end}");
        }
    }
}

/// Header of one block.
fn one_block(block: &[u8]) -> Vec<u8> {
    [&[CHANGE_VERSION | 1 << 4, 0, 0, 0, 0, 0, 0, 0], block].concat()
}

#[test]
fn few_bytes_cannot_ask_for_much_memory() {
    let malformed = |block: &[u8], words| {
        let change = Change::decode(&one_block(block), ENTRY);
        assert_eq!(change, Err(ChangeError::Malformed(words)));
    };
    let numbers = |numbers: &[u64]| {
        let mut out = Vec::from([5]);
        numbers.iter().for_each(|number| varint::write(&mut out, *number));
        out
    };
    let most = CHANGE_CELLS_MAX as u64;
    malformed(&numbers(&[2 * 30_000, most]), "more values than a change may hold");
    malformed(&numbers(&[0, most]), "more values than a change may hold");
    malformed(&numbers(&[2, 1 << 40]), "a count beyond its bound");
    malformed(&numbers(&[2 * 40_000, 2]), "more columns than a table may have");
    // Four megabytes said two hundred times.
    let blob = alloc::vec![7; 4 << 20];
    let mut block = numbers(&[2, 200, 5, 0, 3, 0, 3]);
    varint::write(&mut block, varint::zigzag(blob.len() as i64));
    block.extend(&blob);
    malformed(&block, "more bytes by reference than a change may hold");
}

#[test]
fn bytes_by_reference_add_up_over_columns_and_blocks() {
    let blob = Value::Blob(alloc::vec![7; 3 << 20]);
    let row =
        |at: i64, width| Row::Put { rowid: Some(at), columns: alloc::vec![blob.clone(); width] };
    let segment =
        |width| Segment::Rows { table: 3, rows: (0..11).map(|at| row(at, width)).collect() };
    bytes(&change(Vec::from([segment(1)])));
    for over in [Vec::from([segment(2)]), Vec::from([segment(1), segment(1)])] {
        let bytes = change(over).encode();
        assert!(bytes.len() < ENTRY_BYTES_MAX);
        let words = "more bytes by reference than a change may hold";
        assert_eq!(Change::decode(&bytes, ENTRY), Err(ChangeError::Malformed(words)));
    }
}

#[test]
fn what_no_encoder_writes_is_named() {
    let cases: [(&[u8], &str); 9] = [
        (&[5, 2, 0], "a block of no rows"),
        (&[TABLE_AS_BEFORE_PUT, 0], "more rows of no table"),
        (&[12], "an unknown kind of block"),
        (&[0, 1, 0xff], "a schema statement is not UTF-8"),
        (&[1, 1, 0], "a rowid that is no integer"),
        (&[5, 2, 2, 3 | 5 << 5], "an unknown guess"),
        (&[5, 2, 2, 3 | 3 << 5, 0], "a period of no rows"),
        (&[5, 2, 2, 3 | 4 << 5, 0], "guessed by a later column"),
        (&[5, 2, 2, 31], "an unknown form of column"),
    ];
    for (block, words) in cases {
        let change = Change::decode(&one_block(block), ENTRY);
        assert_eq!(change, Err(ChangeError::Malformed(words)));
    }
    let mut other = one_block(&[]);
    other[0] = 1;
    assert_eq!(Change::decode(&other, ENTRY), Err(ChangeError::Malformed("of another version")));
}

const TABLE_AS_BEFORE_PUT: u8 = 1 | 30 << 3;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-1000..1000_i64).prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        any::<u32>().prop_map(|bits| Value::Real(f64::from(f32::from_bits(bits)))),
        (-100_000..100_000_i32).prop_map(|n| Value::Real(f64::from(n) / 100.0)),
        (any::<i64>(), 0..12_i32)
            .prop_map(|(n, d)| Value::Real(n as f64 / (0..d).fold(1.0, |power, _| power * 10.0))),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Text),
        ".{0,40}".prop_map(|string| Value::Text(string.into_bytes())),
        Just(Value::Text(b"again\0and again".to_vec())),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Value::Blob),
    ]
}

/// Values of one column: of one kind, of few kinds, or of any.
fn pool() -> impl Strategy<Value = Vec<Value>> {
    let step = (any::<i64>(), -100..100_i64, 1..30_i64);
    let steps = step.prop_map(|(from, by, times)| {
        (0..times).map(|n| Value::Integer(from.wrapping_add(n * by))).collect::<Vec<_>>()
    });
    prop_oneof![
        value().prop_map(|value| Vec::from([value])),
        steps,
        proptest::collection::vec(value(), 1..5),
        proptest::collection::vec(value(), 20),
        proptest::collection::vec(
            (0..4_000_i32).prop_map(|n| Value::Real(f64::from(n) / 100.0)),
            20
        ),
    ]
}

/// Rows of any table: a kind per row, each column from its own pool.
fn segment() -> impl Strategy<Value = Segment> {
    let shape = (
        proptest::collection::vec(pool(), 0..5),
        any::<Option<i64>>(),
        1..3_usize,
        proptest::collection::vec((0..6_u8, any::<u16>()), 1..40),
        prop_oneof![0..40_u32, any::<u32>()],
    );
    let rows = shape.prop_map(|(pools, rowid, key, rows, table)| {
        let row = |(place, (kind, pick)): (usize, &(u8, u16))| {
            let value = |at: usize, pool: &Vec<Value>| {
                pool[(place + usize::from(*pick) * (at % 2)) % pool.len()].clone()
            };
            let values: Vec<Value> =
                pools.iter().enumerate().map(|(at, pool)| value(at, pool)).collect();
            let rowid = rowid.map(|from| from.wrapping_add(place as i64));
            let key = if rowid.is_some() { 0 } else { key.min(values.len()) };
            let changed = (0..).zip(&values).skip(key).filter(|(at, _)| pick & 1 << at == 0);
            let changed = changed.map(|(at, value): (u16, _)| (at * 9, value.clone())).collect();
            match kind {
                0 => Row::Delete { rowid, key: values[..key].to_vec() },
                1 => Row::Update { rowid, key: values[..key].to_vec(), changed },
                _ => Row::Put { rowid, columns: values },
            }
        };
        Segment::Rows { table, rows: rows.iter().enumerate().map(row).collect() }
    });
    prop_oneof![1 => ".*".prop_map(Segment::Schema), 6 => rows]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_change_comes_back_as_it_was(
        entry in (1..u64::MAX, 1..u64::MAX),
        behind in (0..256_u64, 0..65_536_u64),
        fingerprint in any::<u32>(),
        segments in proptest::collection::vec(segment(), 0..20),
    ) {
        let entry = Position { term: entry.0, index: entry.1 };
        let base = Position {
            term: entry.term.wrapping_sub(behind.0),
            index: (entry.index - 1).wrapping_sub(behind.1),
        };
        let before = Change { base, fingerprint, segments };
        prop_assert_eq!(Change::decode(&before.encode(), entry), Ok(before));
    }

    #[test]
    fn damaged_bytes_never_panic(
        segments in proptest::collection::vec(segment(), 0..3),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = change(segments).encode();
        for (at, byte) in damage {
            let place = at.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        let _ = Change::decode(&bytes, ENTRY);
    }

    #[test]
    fn any_bytes_never_panic(block in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Change::decode(&block, ENTRY);
        let _ = Change::decode(&one_block(&block), ENTRY);
    }
}
