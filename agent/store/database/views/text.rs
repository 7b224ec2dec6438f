//! Where among the words of SQL a table, a view or a WITH term may be named.

use std::collections::BTreeMap;

use crate::store::database::tokens::{self, closing, is_letter};

/// The text itself, or a WITH term in it, without the terms inside of it.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Of the term, in lower case.
    pub(super) name: Vec<u8>,
    /// Names, numbers, strings.
    pub(super) words: u32,
    /// Those that stand for all columns.
    pub(super) stars: u32,
    /// Of those, the ones that a comma follows.
    pub(super) stars_beside: u32,
    pub(super) commas: u32,
    /// SELECT, VALUES, RETURNING.
    pub(super) selects: u32,
    /// What it may select from, in lower case, and how often.
    pub(super) mentions: BTreeMap<Vec<u8>, u32>,
    /// The terms inside of it, by their places among the parts.
    pub(super) holds: Vec<usize>,
}

/// The parts of a text, itself the first, and where it ends: at its end, or behind
/// its first statement.
pub(super) fn parts(sql: &[u8], is_first_only: bool) -> (Vec<Part>, usize) {
    let mut reading = Reading::new(!is_first_only);
    let mut at = 0;
    while let Some((token, after)) = next_token(sql, at) {
        at = after;
        reading.take(&token);
        if is_first_only && matches!(token, Token::Sign(b';')) {
            break;
        }
    }
    (reading.parts, at)
}

enum Token<'a> {
    /// A name, keyword or number as it stands.
    Word(&'a [u8]),
    /// What stands between quotes.
    Quoted(Vec<u8>),
    Sign(u8),
}

/// The token at `at` or behind it, and where it ends.
fn next_token(sql: &[u8], at: usize) -> Option<(Token<'_>, usize)> {
    let place = tokens::next(sql, at)?;
    let (token, end) = (&sql[place.clone()], place.end);
    let first = token[0];
    let token = match closing(first) {
        Some(close) => Token::Quoted(unquoted(&token[1..], close)),
        None if is_letter(first) => Token::Word(token),
        None => Token::Sign(first),
    };
    Some((token, end))
}

/// In lower case; a quote within is written twice.
fn unquoted(inner: &[u8], close: u8) -> Vec<u8> {
    let inner = inner.strip_suffix(&[close]).unwrap_or(inner);
    let mut name = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().peekable();
    while let Some(byte) = bytes.next() {
        bytes.next_if(|next| *byte == close && **next == close);
        name.push(byte.to_ascii_lowercase());
    }
    name
}

/// Within one pair of parentheses.
#[derive(Clone, Default)]
struct Level {
    /// A comma is followed by something else to select from.
    is_from: bool,
    /// Whose words these are.
    part: usize,
    /// What stood before it.
    name: Vec<u8>,
}

struct Reading {
    /// The text is kept: ALTER compiles also what nobody names in it.
    is_kept: bool,
    parts: Vec<Part>,
    outer: Vec<Level>,
    level: Level,
    /// So many words from here on may name what is selected from.
    expects: u8,
    /// And the last one might have, so that more of its name may follow.
    was_expected: bool,
    /// The last name, a list of columns behind it or not: what AS may define.
    name: Vec<u8>,
    /// AS was there: a parenthesis is what `name` stands for.
    defines: bool,
    /// A `*` here stands for all columns.
    is_column: bool,
    /// And one was just there.
    is_star: bool,
    /// A window may be named in the parenthesis.
    is_window: bool,
}

impl Reading {
    fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            parts: Vec::from([Part::default()]),
            outer: Vec::new(),
            level: Level::default(),
            expects: 0,
            was_expected: false,
            name: Vec::new(),
            defines: false,
            is_column: false,
            is_star: false,
            is_window: false,
        }
    }

    fn part(&mut self) -> &mut Part {
        &mut self.parts[self.level.part]
    }

    fn take(&mut self, token: &Token<'_>) {
        match token {
            Token::Word(word) => {
                let word = word.to_ascii_lowercase();
                if !self.keyword(&word) {
                    self.name(word);
                }
            }
            Token::Quoted(name) => self.name(name.clone()),
            Token::Sign(sign) => self.sign(*sign),
        }
    }

    fn name(&mut self, name: Vec<u8>) {
        self.count();
        self.was_expected = self.expects > 0;
        if self.was_expected {
            self.expects -= 1;
            let times = self.part().mentions.entry(name.clone()).or_default();
            *times = times.saturating_add(1);
        }
        self.name = name;
        self.defines = false;
    }

    fn count(&mut self) {
        let part = self.part();
        part.words = part.words.saturating_add(1);
        self.is_column = false;
        self.is_star = false;
        self.is_window = false;
    }

    /// Words that say what the next ones are. All of those that end a list of what is
    /// selected from are kept by SQLite, and no names.
    fn keyword(&mut self, word: &[u8]) -> bool {
        let expects = match word {
            b"from" | b"join" => {
                self.level.is_from = true;
                1
            }
            b"in" | b"into" | b"over" => 1,
            // OR and what to do on a conflict may stand between.
            b"update" => 3,
            b"where" | b"group" | b"order" | b"having" | b"limit" | b"union" | b"except"
            | b"intersect" | b"select" | b"values" | b"set" | b"returning" | b"distinct"
            | b"all" => {
                let goes_on = matches!(word, b"distinct" | b"all");
                self.level.is_from &= goes_on;
                0
            }
            b"as" => {
                self.count();
                self.defines = true;
                return true;
            }
            b"not" | b"materialized" if self.defines => {
                self.count();
                return true;
            }
            _ => return false,
        };
        self.count();
        self.expects = expects;
        self.defines = false;
        self.is_window = word == b"over";
        self.is_column = matches!(word, b"select" | b"distinct" | b"all" | b"returning");
        if matches!(word, b"select" | b"values" | b"returning") {
            self.part().selects = self.part().selects.saturating_add(1);
        }
        true
    }

    fn sign(&mut self, sign: u8) {
        let defines = std::mem::take(&mut self.defines);
        let is_window = std::mem::take(&mut self.is_window);
        let is_star = sign == b'*' && self.is_column;
        match sign {
            b'(' => {
                let inner = Level { name: self.name.clone(), ..self.level.clone() };
                self.outer.push(std::mem::replace(&mut self.level, inner));
                if defines {
                    self.define();
                }
                self.expects = u8::from(self.level.is_from || defines || is_window);
            }
            b')' => {
                if let Some(outer) = self.outer.pop() {
                    self.name = std::mem::replace(&mut self.level, outer).name;
                }
                self.expects = 0;
            }
            b',' => {
                let is_star = self.is_star;
                let part = self.part();
                part.commas = part.commas.saturating_add(1);
                part.stars_beside = part.stars_beside.saturating_add(u32::from(is_star));
                self.expects = u8::from(self.level.is_from);
            }
            b'.' => self.expects = u8::from(self.was_expected),
            b'*' if is_star => self.part().stars = self.part().stars.saturating_add(1),
            b';' => {
                self.outer.clear();
                self.level = Level::default();
                self.expects = 0;
            }
            _ => {}
        }
        self.is_column = matches!(sign, b',' | b'.');
        self.is_star = is_star;
    }

    /// What stands in this parenthesis has a name, by which it is selected from.
    fn define(&mut self) {
        let place = self.parts.len();
        if self.is_kept {
            self.part().holds.push(place);
        }
        let name = self.level.name.clone();
        self.parts.push(Part { name, ..Part::default() });
        self.level.part = place;
        self.level.is_from = false;
    }
}
