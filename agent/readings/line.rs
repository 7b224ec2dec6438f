//! Readings in lines of text: `sensor value [time]`, and line protocol as Influx has it,
//! `measurement,tag=v field=1.5,other=3i [time]`.
//!
//! The second word tells the two apart: with a `=` outside of quotes it is a set of
//! fields, and the line is line protocol; without one it is a value. A name with a comma
//! or `=` that is not escaped in the first form is refused, so nothing is taken for the
//! other.
//!
//! In names a blank is written `\ `, a comma `\,`, an equals sign `\=`, a backslash `\\`,
//! and a number sign at the beginning `\#`. Behind either form may stand `id=NAME`, the
//! caller's own name for the reading, and `token=N`. A time without a unit is in seconds
//! in the first form and in nanoseconds in line protocol, unless the caller has said
//! otherwise for all lines; a whole number without a suffix is real in line protocol.
//!
//! Each field of line protocol is a reading of its own, of the sensor
//! `measurement/tag=v/field`, tags in the order of their names; the field `value` adds
//! nothing to the name. Empty lines and those that begin with `#` say nothing.

use std::iter;

use understudy_core::limits::BATCH_READINGS_MAX;

use super::{
    Draft,
    limits::LINE_BYTES_MAX,
    moment::{self, Unit, shown},
    value::{self, Bare},
};

/// What a backslash may stand before in a name.
const ESCAPED: [char; 5] = [' ', ',', '=', '#', '\\'];

/// The field that is the measurement itself.
const FIELD_ALONE: &str = "value";

/// The readings of one line, without its end; none of an empty one or a comment. Bare
/// numbers of time are in `precision`, where the caller has said so.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse(line: &[u8], precision: Option<Unit>) -> Result<Vec<Draft>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("the line has more than {LINE_BYTES_MAX} bytes"));
    }
    let line = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches(is_blank);
    if line.is_empty() || line.starts_with('#') {
        return Ok(Vec::new());
    }
    let mut words = Words(line);
    let name = words.next(false)?.unwrap_or_default();
    let Some(second) = words.next(true)? else {
        return Err(format!("{} has no value: a line is `sensor value [time]`", shown(name)));
    };
    let drafts = if position(second, '=', true).is_some() {
        let tail = Tail::parse(words, precision.unwrap_or(Unit::Nanosecond))?;
        of_line_protocol(name, second, &tail)?
    } else {
        let tail = Tail::parse(words, precision.unwrap_or(Unit::Second))?;
        vec![tail.draft(plain_name(name)?, value::parse(second, Bare::Integer)?)]
    };
    drafts.iter().try_for_each(Draft::check)?;
    Ok(drafts)
}

/// As [`parse`] reads it; its text must have no line break.
#[must_use]
pub fn written(draft: &Draft) -> String {
    let mut line = format!("{} {}", escaped(&draft.sensor), value::written(&draft.value));
    line.extend(draft.time.map(|us| format!(" {us}us")));
    line.extend(draft.id.as_ref().map(|id| format!(" id={}", escaped(id))));
    line.extend(draft.token.map(|token| format!(" token={token}")));
    line
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// A line's words: what stands between blanks that are neither escaped nor in quotes.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// The next, as it is written. Quotes mean nothing in a name.
    fn next(&mut self, has_quotes: bool) -> Result<Option<&'a str>, String> {
        let rest = self.0.trim_start_matches(is_blank);
        if rest.is_empty() {
            return Ok(None);
        }
        let mut end = rest.len();
        let mut in_quotes = false;
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '"' if has_quotes => in_quotes = !in_quotes,
                c if is_blank(c) && !in_quotes => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        if in_quotes {
            return Err(format!("a quote is not closed: {}", shown(rest)));
        }
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        Ok(Some(word))
    }
}

/// Where this character first stands, not escaped and not in quotes.
fn position(word: &str, wanted: char, has_quotes: bool) -> Option<usize> {
    let mut in_quotes = false;
    let mut chars = word.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' if has_quotes => in_quotes = !in_quotes,
            c if c == wanted && !in_quotes => return Some(at),
            _ => {}
        }
    }
    None
}

/// A word's parts between commas.
fn parts(word: &str, has_quotes: bool) -> impl Iterator<Item = &str> {
    let mut rest = Some(word);
    iter::from_fn(move || {
        let word = rest?;
        let comma = position(word, ',', has_quotes);
        rest = comma.map(|at| &word[at + 1..]);
        Some(comma.map_or(word, |at| &word[..at]))
    })
}

/// A name with its escapes undone; any other backslash is one.
fn unescaped(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.next_if(|next| c == '\\' && ESCAPED.contains(next));
        out.push(next.unwrap_or(c));
    }
    out
}

fn escaped(name: &str) -> String {
    let escape = |c: char| ESCAPED.contains(&c).then_some('\\').into_iter().chain([c]);
    name.chars().flat_map(escape).collect()
}

fn plain_name(word: &str) -> Result<String, String> {
    for (c, advice) in [(',', "`\\,`"), ('=', "`\\=`")] {
        if position(word, c, false).is_some() {
            return Err(format!(
                "a {c:?} in the name {} is written {advice}; in line protocol a value is \
                 `field=1.5`",
                shown(word)
            ));
        }
    }
    Ok(unescaped(word))
}

/// What may stand behind the value or the fields.
struct Tail {
    time: Option<i64>,
    id: Option<String>,
    token: Option<u64>,
}

impl Tail {
    fn parse(mut words: Words<'_>, unit: Unit) -> Result<Self, String> {
        let mut tail = Self { time: None, id: None, token: None };
        let mut place = 0;
        while let Some(word) = words.next(false)? {
            let twice = if let Some(id) = word.strip_prefix("id=") {
                tail.id.replace(unescaped(id)).is_some()
            } else if let Some(token) = word.strip_prefix("token=") {
                let number = token.parse();
                let number = number.map_err(|_| format!("{} is no token", shown(token)))?;
                tail.token.replace(number).is_some()
            } else if place == 0 {
                tail.time.replace(moment::parse(word, unit)?).is_some()
            } else {
                return Err(format!("{} is too much: nothing belongs there", shown(word)));
            };
            if twice {
                return Err(format!("{} comes a second time", shown(word)));
            }
            place += 1;
        }
        Ok(tail)
    }

    fn draft(&self, sensor: String, value: understudy_core::sql::Value) -> Draft {
        Draft { sensor, value, time: self.time, id: self.id.clone(), token: self.token }
    }
}

fn of_line_protocol(name: &str, fields: &str, tail: &Tail) -> Result<Vec<Draft>, String> {
    let base = series(name)?;
    let mut drafts = Vec::new();
    for field in parts(fields, true) {
        let at = position(field, '=', true).filter(|at| *at > 0);
        let at = at.ok_or_else(|| format!("{} is no `field=value`", shown(field)))?;
        let key = unescaped(&field[..at]);
        let value = value::parse(&field[at + 1..], Bare::Real)
            .map_err(|reason| format!("field {}: {reason}", shown(&key)))?;
        let sensor = if key == FIELD_ALONE { base.clone() } else { format!("{base}/{key}") };
        drafts.push(tail.draft(sensor, value));
    }
    if drafts.len() > BATCH_READINGS_MAX {
        return Err(format!("more than {BATCH_READINGS_MAX} fields"));
    }
    if drafts.len() > 1 && tail.id.is_some() {
        return Err(format!("an id names one reading, and this line has {}", drafts.len()));
    }
    Ok(drafts)
}

/// The name of measurement and tags, whatever order the tags came in.
fn series(word: &str) -> Result<String, String> {
    let mut all = parts(word, false);
    let mut name = unescaped(all.next().unwrap_or_default());
    if name.is_empty() {
        return Err(String::from("the measurement has no name"));
    }
    let mut tags = Vec::new();
    for tag in all {
        let at = position(tag, '=', false).filter(|at| *at > 0 && at + 1 < tag.len());
        let at = at.ok_or_else(|| format!("{} is no `tag=value`", shown(tag)))?;
        tags.push((unescaped(&tag[..at]), unescaped(&tag[at + 1..])));
    }
    tags.sort();
    if let Some(pair) = tags.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("the tag {} comes a second time", shown(&pair[0].0)));
    }
    for (key, value) in tags {
        name.extend(["/", &key, "=", &value]);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use understudy_core::sql::Value;

    use super::*;

    fn draft(sensor: &str, value: Value) -> Draft {
        Draft { sensor: sensor.to_owned(), value, time: None, id: None, token: None }
    }

    fn one(line: &str) -> Draft {
        let mut drafts = parse(line.as_bytes(), None).unwrap();
        assert_eq!(drafts.len(), 1, "{line}");
        drafts.remove(0)
    }

    #[test]
    fn the_plain_form_has_a_sensor_a_value_and_perhaps_a_time() {
        assert_eq!(one("room/temp 21.5"), draft("room/temp", Value::Real(21.5)));
        assert_eq!(one("  cold\\ store\\,\\ left\t3 \r").sensor, "cold store, left");
        assert_eq!(one("\\#1\\=x\\\\ 3").sensor, "#1=x\\");
        assert_eq!(one("a\\b 3").sensor, "a\\b");
        let text = one("door \"half open = 1\" 1700000000.5");
        assert_eq!(text.value, Value::Text(b"half open = 1".to_vec()));
        assert_eq!(text.time, Some(1_700_000_000_500_000));
        let named = one("a true 5ms token=7 id=x\\ 1");
        let expected = Draft {
            time: Some(5_000),
            id: Some("x 1".to_owned()),
            token: Some(7),
            ..draft("a", Value::Integer(1))
        };
        assert_eq!(named, expected);
        let bare = parse(b"a 1 1700", Some(Unit::Millisecond)).unwrap();
        assert_eq!(bare[0].time, Some(1_700_000));
    }

    #[test]
    fn each_field_of_line_protocol_is_a_reading() {
        let line = br#"weather,room=b\ 1,host=pi temp=21.5,door="a, b=c",n=3i,value=4,on=t 1700000000000000001"#;
        let drafts = parse(line, None).unwrap();
        let named: Vec<_> = drafts.iter().map(|d| (d.sensor.as_str(), d.value.clone())).collect();
        let base = "weather/host=pi/room=b 1";
        let name = |field: &str| format!("{base}/{field}");
        let expected = [
            (name("temp"), Value::Real(21.5)),
            (name("door"), Value::Text(b"a, b=c".to_vec())),
            (name("n"), Value::Integer(3)),
            (base.to_owned(), Value::Real(4.0)),
            (name("on"), Value::Integer(1)),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(named, expected);
        assert!(drafts.iter().all(|draft| draft.time == Some(1_700_000_000_000_000)));
        let other = one("weather,host=pi,room=b\\ 1 value=4 id=k");
        assert_eq!((other.sensor.as_str(), other.id.as_deref()), (base, Some("k")));
    }

    #[test]
    fn empty_lines_and_comments_say_nothing() {
        for line in ["", "  \t", "\r", "# temp 3", "  # x"] {
            assert_eq!(parse(line.as_bytes(), None), Ok(Vec::new()), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_line() {
        let long = format!("{} 1", "n".repeat(129));
        let text = format!("a \"{}\"", "x".repeat(257));
        let id = format!("a 1 id={}", "x".repeat(65));
        for (line, part) in [
            ("temp", "no value"),
            ("temp NaN", "finite"),
            ("temp open", "in quotes"),
            ("temp \"open", "not closed"),
            ("temp 1 2 3", "too much"),
            ("temp 1 soon", "is no time"),
            ("temp 1 1700000000000", "ms, us or ns"),
            ("temp 1 id=a id=b", "second time"),
            ("temp 1 token=x", "no token"),
            ("temp 1 id=", "an id is empty"),
            ("te\u{7}mp 1", "control character"),
            ("a,room=b 21.5", "line protocol"),
            ("a=b 21.5", "line protocol"),
            ("\\", "no value"),
            ("m,=x f=1", "tag=value"),
            ("m,x= f=1", "tag=value"),
            ("m,a=1,a=2 f=1", "second time"),
            (",a=1 f=1", "no name"),
            ("m f=1,", "field=value"),
            ("m =1", "field=value"),
            ("m f=", "is no value"),
            ("m f=1,g=2 id=x", "names one reading"),
            ("m f=1 5 x", "too much"),
            (&long, "129 bytes"),
            (&text, "257 bytes"),
            (&id, "65 bytes"),
        ] {
            let refused = parse(line.as_bytes(), None).unwrap_err();
            assert!(refused.contains(part), "{line}: {refused}");
        }
        assert!(parse(b"a\xff 1", None).unwrap_err().contains("byte 2"));
        assert!(parse(&[b'a'; LINE_BYTES_MAX + 1], None).unwrap_err().contains("bytes"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::Real),
            "[^\r\n]{0,60}".prop_map(|text| Value::Text(text.into_bytes())),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line, None);
        }

        #[test]
        fn no_line_makes_it_panic(line in r##"[a-c \\,="#\t0-9.eisum:TZ+-]{0,60}"##) {
            let _ = parse(line.as_bytes(), None);
        }

        #[test]
        fn what_is_written_reads_back(
            sensor in "[^\\p{Cc}]{1,30}",
            value in any_value(),
            time in proptest::option::of(-100_000_000_000_000_000..100_000_000_000_000_000_i64),
            id in proptest::option::of("[^\\p{Cc}]{1,15}"),
            token in proptest::option::of(any::<u64>()),
        ) {
            let draft = Draft { sensor, value, time, id, token };
            prop_assume!(draft.check().is_ok());
            let line = written(&draft);
            prop_assert_eq!(parse(line.as_bytes(), None), Ok(vec![draft]), "{}", line);
        }
    }
}
