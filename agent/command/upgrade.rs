//! `understudy upgrade`: the group makes use of all that its boards have come to know, now. By
//! itself it does so after `upgrade_after`; from then on no board goes back to an older release.

use understudy_core::versions::release_of;

use super::{asked_status, releases, sql};
use crate::{config::Places, terminal, version};

pub(super) fn run(places: &Places) -> Result<(), String> {
    let status = asked_status(places)?;
    let to = releases::chosen(&status)?;
    if to > status.group_version {
        let last = status.members.iter().map(|member| member.id).max().unwrap_or(0);
        let raised = sql::done(places, version::raise(to, last), false)?;
        let is_raised = raised.into_rows().is_some_and(|rows| !rows.is_empty());
        if !is_raised && asked_status(places)?.group_version < to {
            return Err(String::from(
                "nothing came of it: another board has joined meanwhile (say it again), or the row \
                 that says what the group goes by is damaged (`understudy scrub`)",
            ));
        }
    }
    let release = version::text(release_of(to));
    terminal::line(&format!(
        "The group goes by version {to}: boards need understudy {release} or newer."
    ))
}
