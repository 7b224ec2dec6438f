//! What a sensor measured, as a caller writes it: a number, a boolean or a short text.
//!
//! Booleans are kept as 1 and 0, and texts as they are. What is no finite number is no
//! value, and a word that is none of these is refused: `21,5` must not become a text.

use std::borrow::Cow;

use understudy_core::sql::Value;

use super::moment::shown;

/// What a number without a point or a suffix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// A whole number, as it looks.
    Integer,
    /// A real number, as line protocol has it.
    Real,
}

/// The value in a word: `21.5`, `3`, `3i`, `3u`, `true`, `"open"`.
///
/// # Errors
/// Says what is no value in it.
pub fn parse(word: &str, bare: Bare) -> Result<Value, String> {
    if let Some(rest) = word.strip_prefix('"') {
        let text = rest.strip_suffix('"').filter(|text| !ends_escaped(text));
        let text = text.ok_or_else(|| format!("the text {} is not closed", shown(word)))?;
        return Ok(Value::Text(unquoted(text)?.into_owned().into_bytes()));
    }
    match word {
        "true" | "True" | "TRUE" | "t" | "T" => return Ok(Value::Integer(1)),
        "false" | "False" | "FALSE" | "f" | "F" => return Ok(Value::Integer(0)),
        _ => {}
    }
    let digits = word.strip_suffix(['i', 'u']).unwrap_or(word);
    let is_suffixed = digits.len() < word.len();
    if is_whole(digits) && (is_suffixed || bare == Bare::Integer) {
        return integer(word, digits);
    }
    let is_real = word.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match word.parse::<f64>() {
        Ok(number) if is_real && number.is_finite() => Ok(Value::Real(number)),
        Ok(_) if is_real => Err(format!("{} is larger than any number that is kept", shown(word))),
        Ok(_) => Err(format!("{} is no value: a reading is a finite number", shown(word))),
        Err(_) => Err(format!(
            "{} is no value: a number, true, false or a text in quotes is",
            shown(word)
        )),
    }
}

fn is_whole(digits: &str) -> bool {
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn integer(word: &str, digits: &str) -> Result<Value, String> {
    if word.ends_with('u') && digits.starts_with('-') {
        return Err(format!("{} is below zero and said not to be", shown(word)));
    }
    digits.parse().map(Value::Integer).map_err(|_| {
        format!(
            "{} does not fit a whole number of 64 bits: with a point it is a real one",
            shown(word)
        )
    })
}

fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Undoes `\"` and `\\`; any other backslash is one.
fn unquoted(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains(['\\', '"']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', Some('"' | '\\')) => out.extend(rest.next()),
            ('"', _) => return Err(format!("a quote inside of {} is written \\\"", shown(text))),
            (c, _) => out.push(c),
        }
    }
    Ok(Cow::Owned(out))
}

/// As [`parse`] reads it; a text must have no line break.
#[must_use]
pub fn written(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(text) | Value::Blob(text) => {
            let text = String::from_utf8_lossy(text);
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Value::Null => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::text(text)
    }

    #[test]
    fn numbers_stay_what_they_are() {
        for (word, value) in [
            ("3", Value::Integer(3)),
            ("-3i", Value::Integer(-3)),
            ("+3", Value::Integer(3)),
            ("3u", Value::Integer(3)),
            ("9223372036854775807", Value::Integer(i64::MAX)),
            ("3.0", Value::Real(3.0)),
            (".5", Value::Real(0.5)),
            ("-1e-3", Value::Real(-0.001)),
            ("T", Value::Integer(1)),
            ("false", Value::Integer(0)),
            ("\"a \\\"b\\\" \\\\ \\n\"", text("a \"b\" \\ \\n")),
            ("\"\"", text("")),
        ] {
            assert_eq!(parse(word, Bare::Integer), Ok(value), "{word}");
        }
        assert_eq!(parse("3", Bare::Real), Ok(Value::Real(3.0)));
        assert_eq!(parse("3i", Bare::Real), Ok(Value::Integer(3)));
    }

    #[test]
    fn what_is_no_value_is_named() {
        for (word, part) in [
            ("NaN", "finite"),
            ("inf", "finite"),
            ("-Infinity", "finite"),
            ("1e400", "larger"),
            ("9223372036854775808", "64 bits"),
            ("18446744073709551615u", "64 bits"),
            ("-1u", "below zero"),
            ("21,5", "is no value"),
            ("open", "in quotes"),
            ("", "is no value"),
            ("i", "is no value"),
            ("0x10", "is no value"),
            ("\"", "not closed"),
            ("\"a\\\"", "not closed"),
            ("\"a\"b\"", "written"),
        ] {
            let refused = parse(word, Bare::Integer).unwrap_err();
            assert!(refused.contains(part), "{word}: {refused}");
        }
    }
}
