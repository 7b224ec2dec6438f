//! How long SQL becomes once each view and WITH term is written out where it is
//! named: SQLite compiles it so, each time, for every board, and looks at no clock
//! meanwhile. With views that name the one below twice it doubles at each step, and
//! forty of them would hold a board for ever. So it is counted first, in words, from
//! the text alone: a schema that comes to too much is refused where it is made, and a
//! statement before it is compiled.
//!
//! The count is never too low: any name that may be selected from counts for all that
//! has it. It takes time in proportion to the text. What SQLite does to compile one
//! statement without views or WITH is in proportion to its text, and not counted.

use std::collections::BTreeMap;

use rusqlite::Connection;
use understudy_core::limits::{SQL_WORDS_MAX, VIEWS_WORDS_MAX};

use self::text::{Part, parts};
use super::refusal;

mod text;

/// What all of them are called where they come to too much.
pub(super) const ALL: &str = "all views and triggers";

/// A statement may come to so many times its own words, however long it is.
const TIMES_MAX: u32 = 4;

/// As many as SQLite lets a result have.
const COLUMNS_MAX: u32 = 2_000;

/// Of what is no table of the schema: a function that yields rows.
const COLUMNS_UNKNOWN: u32 = 16;

/// What is named comes to so much.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    words: u32,
    columns: u32,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Views {
    sizes: BTreeMap<Vec<u8>, Size>,
    are_there: bool,
    /// The longest view or trigger, and how long it is.
    longest: (String, u32),
    all: u32,
}

impl Views {
    /// Counts the views and triggers there are, upon tables of so many columns.
    pub(crate) fn read(
        connection: &Connection,
        tables: &[(String, u32)],
    ) -> rusqlite::Result<Self> {
        let made: Vec<(String, Vec<u8>, bool)> = connection
            .prepare_cached(
                "SELECT name, CAST(sql AS BLOB), type = 'view' FROM sqlite_schema
                WHERE type IN ('view', 'trigger') AND sql IS NOT NULL",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        // No more than what is written between commas.
        let virtual_tables = connection
            .prepare_cached(
                "SELECT name, length(sql) - length(replace(sql, ',', '')) + 1 FROM sqlite_schema
                WHERE type = 'table' AND rootpage = 0",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(String, u32)>, _>>()?;
        let mut views = Self::default();
        for (name, columns) in tables.iter().chain(&virtual_tables) {
            views.sizes.insert(key(name.as_bytes()), Size { words: 0, columns: *columns });
        }
        views.are_there = made.iter().any(|(_, _, is_view)| *is_view);
        let texts = made.iter().map(|(name, sql, is_view)| Text {
            name: is_view.then(|| key(name.as_bytes())),
            parts: parts(sql, false).0,
        });
        let texts: Vec<Text> = texts.collect();
        for ((name, ..), (text, size)) in made.iter().zip(texts.iter().zip(views.measure(&texts))) {
            views.all = views.all.saturating_add(size.words);
            if size.words > views.longest.1 {
                views.longest = (name.clone(), size.words);
            }
            views.sizes.extend(text.name.iter().map(|name| (name.clone(), size)));
        }
        Ok(views)
    }

    pub(crate) const fn are_there(&self) -> bool {
        self.are_there
    }

    /// May the schema be this one from now on? One that is too long already may
    /// become shorter.
    pub(crate) fn judge(&self, before: &Self) -> Result<(), String> {
        let (name, longest) = &self.longest;
        let words = if *longest > SQL_WORDS_MAX.max(before.longest.1) {
            refusal::too_long_written_out(name, SQL_WORDS_MAX)
        } else if self.all > VIEWS_WORDS_MAX.max(before.all) {
            refusal::too_long_written_out(ALL, VIEWS_WORDS_MAX)
        } else {
            return Ok(());
        };
        Err(words)
    }

    /// Where the first statement of a text ends, when it is too long to be compiled.
    pub(super) fn end_of_too_long(&self, sql: &str) -> Option<usize> {
        if !self.are_there && !sql.as_bytes().windows(4).any(is_with) {
            return None;
        }
        let (parts, end) = parts(sql.as_bytes(), true);
        let own = parts.iter().fold(0_u32, |own, part| own.saturating_add(part.words));
        let size = self.measure(&[Text { name: None, parts }]).pop().unwrap_or_default();
        let more = size.words.saturating_sub(own);
        (more > SQL_WORDS_MAX && more / TIMES_MAX > own).then_some(end)
    }

    /// What each text comes to.
    fn measure(&self, texts: &[Text]) -> Vec<Size> {
        let firsts = texts.iter().scan(0, |next, text| {
            let first = *next;
            *next += text.parts.len();
            Some(first)
        });
        let firsts: Vec<usize> = firsts.collect();
        let mut graph = Graph::default();
        let named = texts.iter().zip(&firsts);
        let views: BTreeMap<&[u8], usize> =
            named.filter_map(|(text, first)| Some((text.name.as_deref()?, *first))).collect();
        for (text, first) in texts.iter().zip(&firsts) {
            self.add(text, *first, &views, &mut graph);
        }
        let sizes = graph.sizes();
        firsts.iter().map(|first| sizes.get(*first).copied().unwrap_or_default()).collect()
    }

    fn add(&self, text: &Text, first: usize, views: &BTreeMap<&[u8], usize>, graph: &mut Graph) {
        let mut terms: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for (place, part) in (first..).zip(&text.parts).skip(1) {
            terms.entry(&part.name).or_default().push(place);
        }
        for (place, part) in (first..).zip(&text.parts) {
            let mut node = Node::new(part);
            node.upon.extend(part.holds.iter().map(|held| (first + held, 1)));
            for (name, times) in &part.mentions {
                let name = name.as_slice();
                let terms = terms.get(name).into_iter().flatten().copied();
                let view = views.get(name).copied().filter(|view| *view != first);
                let upon = terms.chain(view).filter(|upon| *upon != place);
                let before = node.upon.len();
                node.upon.extend(upon.map(|upon| (upon, *times)));
                let known = self.sizes.get(name).copied();
                let unknown = Size { words: 0, columns: COLUMNS_UNKNOWN };
                if known.is_some() || node.upon.len() == before {
                    node.take(known.unwrap_or(unknown), *times);
                }
            }
            graph.nodes.push(node);
        }
    }
}

/// As names are compared.
fn key(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}

fn is_with(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"with")
}

struct Text {
    /// As which it can be selected from: a view.
    name: Option<Vec<u8>>,
    /// Itself, and its WITH terms.
    parts: Vec<Part>,
}

/// A part of a text, and what it stands upon, so many times.
struct Node {
    upon: Vec<(usize, u32)>,
    words: u32,
    stars: u32,
    selects: u32,
    /// So often a star stands beside another column: where one SELECT is in another,
    /// what it stands for may be there twice.
    stars_beside: u32,
    /// Columns it writes itself.
    written: u32,
    /// Columns of what it names.
    named: u32,
}

impl Node {
    fn new(part: &Part) -> Self {
        let lists = part.commas.saturating_add(part.selects);
        Self {
            upon: Vec::new(),
            words: part.words,
            stars: part.stars,
            selects: part.selects,
            stars_beside: part.stars_beside.min(COLUMNS_MAX.ilog2() + 1),
            written: lists.saturating_sub(part.stars),
            named: 0,
        }
    }

    fn take(&mut self, size: Size, times: u32) {
        self.words = self.words.saturating_add(size.words.saturating_mul(times));
        self.named = self.named.saturating_add(size.columns.saturating_mul(times));
    }

    fn size(&self) -> Size {
        let star = match self.selects {
            0 | 1 => self.named,
            _ => self.named.saturating_add(self.written).min(COLUMNS_MAX) << self.stars_beside,
        };
        let stars = self.stars.saturating_mul(star.min(COLUMNS_MAX));
        Size {
            words: self.words.saturating_add(stars),
            columns: self.written.saturating_add(stars).min(COLUMNS_MAX),
        }
    }
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// Those first that stand upon nothing that is not known yet. What stands upon
    /// itself has no end.
    fn sizes(mut self) -> Vec<Size> {
        let endless = Size { words: u32::MAX, columns: COLUMNS_MAX };
        let mut sizes = vec![endless; self.nodes.len()];
        let mut above: Vec<Vec<(usize, u32)>> = vec![Vec::new(); self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate() {
            for (upon, times) in &node.upon {
                above[*upon].push((place, *times));
            }
        }
        let mut waits: Vec<usize> = self.nodes.iter().map(|node| node.upon.len()).collect();
        let mut ready: Vec<usize> = (0..waits.len()).filter(|place| waits[*place] == 0).collect();
        while let Some(place) = ready.pop() {
            let size = self.nodes[place].size();
            sizes[place] = size;
            for (user, times) in std::mem::take(&mut above[place]) {
                self.nodes[user].take(size, times);
                waits[user] -= 1;
                if waits[user] == 0 {
                    ready.push(user);
                }
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(sql: &str) -> Views {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        Views::read(&connection, &[(String::from("t"), 3)]).unwrap()
    }

    /// Words of a view `v` upon those made before.
    fn words(before: &str, view: &str) -> u32 {
        views(&format!("CREATE TABLE t(a, b, c); {before}; {view}")).sizes[b"v".as_slice()].words
    }

    #[test]
    fn words_are_counted_as_sqlite_takes_them_apart() {
        for (view, count) in [
            ("CREATE VIEW v AS SELECT a FROM t", 8),
            ("create view v as select 'it''s', \"b\"\"b\", [c], `d`, 1.5 from t", 13),
            ("CREATE VIEW v AS SELECT /* FROM u, u */ a -- FROM u\n FROM t", 8),
            ("CREATE VIEW v AS SELECT * FROM t", 7 + 3),
            ("CREATE VIEW v AS SELECT t.*, b * 2, count(*) FROM t", 11 + 3),
            ("CREATE VIEW v AS SELECT a FROM \u{feff}t", 8),
        ] {
            assert_eq!(words("", view), count, "{view}");
        }
    }

    #[test]
    fn a_view_counts_wherever_it_may_be_selected_from_however_it_is_written() {
        let below = "CREATE VIEW u AS SELECT a FROM t";
        for rest in [
            "FROM u",
            "FROM U",
            "FROM 'u'",
            "FROM \"u\"",
            "FROM `u`",
            "FROM [u]",
            "FROM \u{feff}u",
            "FROM/**/u",
            "FROM main.u",
            "FROM main . 'u'",
            "FROM t, u",
            "FROM t JOIN u ON t.a = 1",
            "FROM (u)",
            "FROM ((t, (u)))",
            "FROM t JOIN t AS s ON s.a IN (1), u",
            "FROM (SELECT 1 WHERE 1), u",
            "FROM (SELECT a FROM u)",
            "FROM t WHERE a IN u",
            "FROM t WHERE a NOT IN main.u",
            "FROM t WHERE EXISTS (SELECT 1 FROM u)",
            "FROM t UNION SELECT 1 FROM u",
        ] {
            let view = format!("CREATE VIEW v AS SELECT 1 {rest}");
            let own = words("", &view);
            assert_eq!(words(below, &view) - own, 8, "{rest}");
        }
    }

    #[test]
    fn a_name_that_is_not_selected_from_counts_as_a_word() {
        let below = "CREATE VIEW u AS SELECT a FROM t";
        for view in [
            "CREATE VIEW v AS SELECT u, 'u' AS u, t.u, max(u) FROM t AS u WHERE u IN ('u', 'u')",
            "CREATE VIEW v(u, w) AS VALUES ('u', 'u'), ('u', 'u')",
            "CREATE VIEW v AS SELECT 1 FROM t GROUP BY a, u ORDER BY 2, u LIMIT 1",
        ] {
            assert_eq!(words(below, view), words("", view), "{view}");
        }
    }

    #[test]
    fn what_doubles_at_each_step_doubles_the_count_and_has_an_end() {
        let twice = ["SELECT a FROM # x, # y", "SELECT a FROM # UNION ALL SELECT a FROM #"];
        let stars = ["SELECT * FROM # UNION SELECT * FROM #"];
        let window =
            ["SELECT sum(a) OVER w, sum(a) OVER w FROM t WINDOW w AS (ORDER BY (SELECT a FROM #))"];
        let term = ["WITH x AS (SELECT a FROM #), y AS (SELECT * FROM x, x) SELECT a FROM y"];
        for select in twice.iter().chain(&stars).chain(&window).chain(&term) {
            let mut sql =
                String::from("CREATE TABLE t(a, b, c); CREATE VIEW v0 AS SELECT a FROM t;");
            for (below, place) in (0..40).zip(1..) {
                let select = select.replace('#', &format!("v{below}"));
                sql += &format!("CREATE VIEW v{place} AS {select};");
            }
            let views = views(&sql);
            let size = |place: u32| views.sizes[format!("v{place}").as_bytes()].words;
            for place in 1..10 {
                assert!(size(place + 1) >= 2 * size(place), "{select}: {place}");
            }
            assert_eq!(size(40), u32::MAX, "{select}");
            assert!(views.judge(&Views::default()).is_err() && views.judge(&views).is_ok());
            assert!(views.end_of_too_long("SELECT 1 FROM v40; SELECT 1").is_some());
        }
    }

    #[test]
    fn terms_of_one_statement_count_without_views() {
        let views = views("CREATE TABLE t(a, b, c)");
        let mut sql = String::from("with r0 AS (SELECT 1), ");
        for (below, place) in (0..20).zip(1..) {
            sql += &format!(
                "r{place}(x, y) AS NOT MATERIALIZED (SELECT a.* FROM r{below} a, r{below} b), "
            );
        }
        let sql = format!("{sql} z AS (SELECT 1) INSERT INTO t SELECT 1, 1, 1 FROM r20");
        assert_eq!(views.end_of_too_long(&format!("{sql}; SELECT 1")), Some(sql.len() + 1));
        assert_eq!(views.end_of_too_long(&sql.replace("FROM r20", "FROM r5")), None);
    }

    #[test]
    fn a_long_statement_may_come_to_more() {
        let views = views("CREATE TABLE t(a, b, c)");
        let rows = vec!["(1, 'r', 3)"; 50_000].join(", ");
        let sql = format!("WITH r(a, b, c) AS (VALUES {rows}) INSERT INTO t SELECT * FROM r");
        assert_eq!(views.end_of_too_long(&sql), None);
        let chain: String = (0..300)
            .zip(1..)
            .map(|(at, next)| format!(", r{next} AS (SELECT * FROM r{at} WHERE 1)"))
            .collect();
        let sql = format!("WITH r0 AS (SELECT * FROM t){chain} SELECT * FROM r300");
        assert_eq!(views.end_of_too_long(&sql), None);
    }

    #[test]
    fn views_upon_themselves_have_no_end() {
        let views = views("CREATE VIEW v AS SELECT * FROM w; CREATE VIEW w AS SELECT * FROM v");
        assert!(views.judge(&Views::default()).is_err());
    }
}
