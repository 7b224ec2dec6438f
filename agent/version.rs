//! The group's version as its rows have it: a number and the oldest release that knows it, so
//! that a board whose program is older can say what to install. See the core's `versions` for
//! what it is and when it rises.
//!
//! Invariant: it never falls.
//!
//! Left out: what a version brings.

use understudy_core::{
    event::NodeId,
    sql::{Origin, RequestKind, SqlRequest, Value},
    versions::{OWN, Release, VERSION, VERSION_FIRST, release_of},
};

/// The row's name. It is no setting of the group: nobody sets it but the boards themselves.
pub const ROW: &str = "version";

/// A release as people write it.
#[must_use]
pub fn text([major, minor, patch]: Release) -> String {
    format!("{major}.{minor}.{patch}")
}

/// The release that people write so.
fn parse(text: &str) -> Option<Release> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let release = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(release)
}

/// The request that has the group go by this version from then on, which all members know up
/// to this one. It is answered with a row, and without one where it comes to nothing: another
/// has been let in since, or the group goes by it already. Of those that were taken out the
/// rows have no name.
#[must_use]
pub fn raise(version: u32, last_member: NodeId) -> SqlRequest {
    let sql = "INSERT INTO _understudy_setting SELECT ?1, ?2 \
               WHERE (SELECT max(id) FROM _understudy_member WHERE name <> '') = ?3 \
               ON CONFLICT(name) DO UPDATE SET value = excluded.value \
               WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER) RETURNING value";
    let value = format!("{version} {}", text(release_of(version)));
    let last_member = Value::Integer(last_member.cast_signed());
    let parameters = vec![Value::text(ROW), Value::text(&value), last_member];
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, parameters)
}

/// What the group goes by. A row that was damaged counts as not there.
#[must_use]
pub fn of(stored: &[(String, String)]) -> u32 {
    parts(stored).map_or(VERSION_FIRST, |(version, _)| version)
}

/// Why this program must not be in a group with these rows, if so.
#[must_use]
pub fn too_new(stored: &[(String, String)]) -> Option<String> {
    let (version, release) = parts(stored).filter(|(version, _)| *version > VERSION)?;
    Some(format!(
        "the group goes by version {version}, and this program knows no more than {VERSION}: \
         install understudy {release} or newer on this board; nothing is lost"
    ))
}

fn parts(stored: &[(String, String)]) -> Option<(u32, &str)> {
    let (_, value) = stored.iter().find(|(name, _)| name == ROW)?;
    let (version, release) = value.split_once(' ')?;
    let version = version.parse().ok().filter(|version| *version >= VERSION_FIRST)?;
    // What this release or an older one knows it would know itself.
    let is_possible = version <= VERSION || parse(release)? > OWN.release;
    is_possible.then_some((version, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(value: &str) -> [(String, String); 1] {
        [(ROW.to_owned(), value.to_owned())]
    }

    #[test]
    fn a_group_that_has_gone_beyond_this_program_says_what_to_install() {
        let words = too_new(&rows("7 1.4.0")).unwrap();
        assert!(words.contains("version 7") && words.contains("understudy 1.4.0"), "{words}");
        assert_eq!(too_new(&rows(&format!("{VERSION} 0.2.0"))), None);
        assert_eq!((of(&rows("7 1.4.0")), of(&[])), (7, VERSION_FIRST));
        let contradicts = format!("{} {}", VERSION + 1, text(OWN.release));
        for damaged in ["", "7", "x 1.0.0", "-1 1.0.0", "0 0.0.0", "7 1.4", &contradicts] {
            assert_eq!((of(&rows(damaged)), too_new(&rows(damaged))), (VERSION_FIRST, None));
        }
    }
}
