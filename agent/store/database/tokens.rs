//! Where in SQL its words stand, as SQLite takes it apart: names, keywords and
//! numbers, quoted names and strings as a whole, signs one by one; space and comments
//! are between them.

use std::ops::Range;

/// The token at `at` or behind it. One in quotes that are not closed goes on to the end.
pub(super) fn next(sql: &[u8], at: usize) -> Option<Range<usize>> {
    let mut at = at;
    loop {
        let rest = sql.get(at..)?;
        at += match rest {
            [9..=13 | b' ', ..] => 1,
            [0xef, 0xbb, 0xbf, ..] => 3,
            [b'-', b'-', ..] => find(rest, b"\n"),
            [b'/', b'*', ..] => 2 + find(rest.get(2..)?, b"*/"),
            [quote @ (b'\'' | b'"' | b'`'), ..] => return Some(at..at + quoted(rest, *quote)),
            [b'[', ..] => return Some(at..at + find(rest, b"]")),
            [first, ..] if is_letter(*first) => {
                let end = rest.iter().position(|byte| !is_letter(*byte)).unwrap_or(rest.len());
                return Some(at..at + end);
            }
            [_, ..] => return Some(at..at + 1),
            [] => return None,
        };
    }
}

/// What closes a token that begins with this byte, if it is one in quotes.
pub(super) const fn closing(first: u8) -> Option<u8> {
    match first {
        b'[' => Some(b']'),
        b'\'' | b'"' | b'`' => Some(first),
        _ => None,
    }
}

/// Of a name or number: anything beyond ASCII, too.
pub(super) const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// Up to behind the first such end, or all of it.
fn find(rest: &[u8], end: &[u8]) -> usize {
    let place = rest.windows(end.len()).position(|bytes| bytes == end);
    place.map_or(rest.len(), |place| place + end.len())
}

/// How long it is; a quote within is written twice.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut end = 1;
    loop {
        end += find(&rest[end..], &[quote]);
        if rest.get(end) != Some(&quote) {
            return end;
        }
        end += 1;
    }
}
