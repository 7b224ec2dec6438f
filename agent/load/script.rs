//! SQL text that comes in pieces, cut into statements: as SQLite's own shell finds
//! where one ends (a trigger's body has semicolons of its own), and each looked at
//! once however long it is.

use std::io::{self, BufRead};

/// The longest statement, bytes: the longest value written in hexadecimal digits, and
/// its row.
pub(super) const STATEMENT_BYTES_MAX: usize = 18 << 20;

/// What has been read of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Normal,
    Explain,
    Create,
    Trigger,
    Semicolon,
    End,
}

/// What one token says of where a statement ends.
#[derive(Clone, Copy)]
enum Token {
    Semicolon,
    Other,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
}

/// Statements of a text.
pub(super) struct Statements<R> {
    text: io::Bytes<R>,
    ahead: Option<u8>,
}

impl<R: BufRead> Statements<R> {
    pub(super) fn new(text: R) -> Self {
        Self { text: text.bytes(), ahead: None }
    }

    /// The next one, its semicolon included if it has one; nothing but space and
    /// comments is none.
    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        let mut statement = Vec::new();
        let mut at = At::Start;
        while let Some(byte) = self.take(&mut statement)? {
            let token = match byte {
                b';' => Token::Semicolon,
                b'\'' | b'"' | b'`' => self.quoted(&mut statement, byte)?,
                b'[' => self.quoted(&mut statement, b']')?,
                b'-' if self.peek()? == Some(b'-') => {
                    self.until(&mut statement, |byte, _| byte == b'\n')?;
                    continue;
                }
                b'/' if self.peek()? == Some(b'*') => {
                    self.take(&mut statement)?;
                    self.until(&mut statement, |byte, before| byte == b'/' && before == b'*')?;
                    continue;
                }
                byte if byte.is_ascii_whitespace() => continue,
                byte if is_word(byte) => self.word(&mut statement)?,
                _ => Token::Other,
            };
            let is_empty = at == At::Start && matches!(token, Token::Semicolon);
            at = next(at, token);
            if is_empty {
                statement.clear();
            } else if at == At::Start {
                return text(statement).map(Some);
            }
        }
        Ok(if at == At::Start { None } else { Some(text(statement)?) })
    }

    fn peek(&mut self) -> Result<Option<u8>, String> {
        if self.ahead.is_none() {
            self.ahead = self.text.next().transpose().map_err(|error| error.to_string())?;
        }
        Ok(self.ahead)
    }

    fn take(&mut self, statement: &mut Vec<u8>) -> Result<Option<u8>, String> {
        let byte = self.peek()?;
        self.ahead = None;
        statement.extend(byte);
        if statement.len() > STATEMENT_BYTES_MAX {
            let most = STATEMENT_BYTES_MAX;
            return Err(format!("a statement is longer than {most} bytes: is this SQL text?"));
        }
        Ok(byte)
    }

    /// Takes bytes up to one for which `is_end`, given with the one before it.
    fn until(
        &mut self,
        statement: &mut Vec<u8>,
        is_end: impl Fn(u8, u8) -> bool,
    ) -> Result<(), String> {
        let mut before = 0;
        while let Some(byte) = self.take(statement)? {
            if is_end(byte, before) {
                return Ok(());
            }
            before = byte;
        }
        Ok(())
    }

    /// A doubled quote ends one part and begins the next.
    fn quoted(&mut self, statement: &mut Vec<u8>, end: u8) -> Result<Token, String> {
        self.until(statement, |byte, _| byte == end)?;
        Ok(Token::Other)
    }

    fn word(&mut self, statement: &mut Vec<u8>) -> Result<Token, String> {
        let start = statement.len() - 1;
        while self.peek()?.is_some_and(is_word) {
            self.take(statement)?;
        }
        let word = &statement[start..];
        let known = [
            ("create", Token::Create),
            ("trigger", Token::Trigger),
            ("temp", Token::Temp),
            ("temporary", Token::Temp),
            ("explain", Token::Explain),
            ("end", Token::End),
        ];
        let token = known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        Ok(token.map_or(Token::Other, |(_, token)| *token))
    }
}

fn text(statement: Vec<u8>) -> Result<String, String> {
    String::from_utf8(statement).map_err(|_| String::from("the SQL text is not UTF-8"))
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// As `sqlite3_complete` decides it.
const fn next(at: At, token: Token) -> At {
    match (at, token) {
        (At::Trigger | At::Semicolon, Token::Semicolon) => At::Semicolon,
        (At::Semicolon, Token::End) => At::End,
        (_, Token::Semicolon) => At::Start,
        (At::Trigger | At::Semicolon | At::End, _) => At::Trigger,
        (At::Start, Token::Explain) => At::Explain,
        (At::Start | At::Explain, Token::Create) => At::Create,
        (At::Create, Token::Temp) => At::Create,
        (At::Create, Token::Trigger) => At::Trigger,
        // EXPLAIN QUERY PLAN changes nothing of where it ends.
        (_, _) => At::Normal,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let mut statements = Statements::new(text.as_bytes());
        std::iter::from_fn(|| statements.next().unwrap()).collect()
    }

    #[test]
    fn statements_end_where_sqlite_ends_them() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 'end;'; END;";
        let text = format!(
            " ;; -- a; comment\nSELECT ';' ; SELECT \"a;\"\"b\", [c;d], `e;f`/* ; */;{trigger} \
             create temp trigger x AFTER UPDATE ON a begin select 2; end ;\nSELECT 3"
        );
        let found = cut(&text);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].ends_with("SELECT ';' ;") && found[4].trim() == "SELECT 3");
        assert_eq!(found[2], trigger);
        assert!(cut(" ; -- nothing").is_empty());
    }

    #[test]
    fn a_statement_without_end_is_refused_before_it_fills_the_memory() {
        let text = io::repeat(b'x').take(2 * STATEMENT_BYTES_MAX as u64);
        let error = Statements::new(io::BufReader::new(text)).next().unwrap_err();
        assert!(error.contains("is this SQL text?"), "{error}");
    }
}
