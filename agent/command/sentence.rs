//! What `status` says in words: first in one sentence what works, what is wrong, what to
//! do; then where a change of the group's key stands.

use std::fmt::Write as _;

use crate::status::{MemberStatus, PullStatus, Status};

fn held(status: &Status) -> String {
    let who = match status.database_readers.as_slice() {
        [] => String::from("a long query"),
        readers => readers.join(", "),
    };
    format!(
        "This board applies nothing: {who} has read state.db for so long that its WAL is at its \
         bound. End it; the board goes on by itself, and nothing is lost meanwhile."
    )
}

/// What works, what is wrong, what to do.
pub(super) fn sentence(status: &Status) -> String {
    takes_no_part(status).or_else(|| is_in_trouble(status)).unwrap_or_else(|| of_the_group(status))
}

/// This board does nothing in a group.
fn takes_no_part(status: &Status) -> Option<String> {
    if status.role == "waiting" {
        return Some(String::from(
            "Waiting: this board belongs to no group yet. Run `understudy init` on the first \
             board, `understudy join TOKEN` on every other.",
        ));
    }
    if status.removed {
        return Some(format!(
            "This board was removed from the group \"{}\": it takes no part any more. `understudy \
             reset` makes it forget that group; then `understudy join TOKEN` makes it a new board \
             of one.",
            status.group
        ));
    }
    if status.copied.contains(&status.board) {
        return Some(format!(
            "There are two copies of this board's card, or an old one was put back: neither takes \
             part any more. Its data is safe on the others; on each copy `understudy reset` \
             empties it, then `understudy join TOKEN --replace {}` joins one anew and, with a \
             token made after that, `understudy join TOKEN --name NAME` another.",
            status.board
        ));
    }
    if status.disk_lost {
        return Some(format!(
            "This board's disk has forgotten what it promised: it takes no part any more. Its data \
             is safe on the others; `understudy reset` here empties it, then `understudy join TOKEN \
             --replace {}` joins it anew.",
            status.board
        ));
    }
    None
}

/// This board does less than it should.
fn is_in_trouble(status: &Status) -> Option<String> {
    if status.fenced {
        return Some(super::scrub::fenced(status));
    }
    if status.disk_full {
        return Some(String::from(
            "The disk is full: reading works, writing does not. Make room; it goes on by itself.",
        ));
    }
    if status.database_held {
        return Some(held(status));
    }
    super::scrub::undecided(status)
}

fn of_the_group(status: &Status) -> String {
    let heard = Heard::of(status);
    if status.witness {
        return witness(status, &heard);
    }
    if heard.lacks_majority() && !status.copied.is_empty() {
        return format!(
            "No majority: of {} there are two copies, or an old card was put back, so it does not \
             count, and {} of {} boards are needed. Reading what this board has works (level \
             none), writing does not. See to the others; if none can come back, `understudy \
             recover` here makes a new group of this board.",
            status.copied.join(", "),
            heard.needed(),
            heard.voters
        );
    }
    let Some(leader) = &status.leader else {
        return without_leader(status, &heard);
    };
    if heard.lacks_majority() {
        return no_majority(&heard, "");
    }
    if let Some(pulls) = &status.pulls {
        return takes_pages(pulls, leader);
    }
    if status.one_copy {
        return one_copy(status, &heard);
    }
    if !status.copied.is_empty() {
        return with_copies(status, leader, &heard);
    }
    if !heard.silent.is_empty() {
        return with_silent(leader, &heard);
    }
    if !heard.unknown.is_empty() {
        return format!(
            "Reading and writing work, led by {leader}; whether {} can be heard is not known here \
             yet: the leader has not told.",
            heard.unknown.join(", ")
        );
    }
    if let Some(words) = super::scrub::others_fenced(status, leader) {
        return words;
    }
    works(status, leader, &heard)
}

/// It does nothing else with its database meanwhile.
fn takes_pages(pulls: &PullStatus, leader: &str) -> String {
    let far = match pulls.pages {
        None => String::from("it begins just now"),
        Some(pages) => format!("{} have come, of a database of {pages}", pulls.taken),
    };
    format!(
        "This board is behind by more than the log reaches back, or new: it takes the pages that \
         differ from {} ({far}). Writing works, led by {leader}; until it has caught up this board \
         shows what it had (level none). It goes on by itself, also after a power cut: there is \
         nothing to do.",
        pulls.from
    )
}

fn with_copies(status: &Status, leader: &str, heard: &Heard<'_>) -> String {
    format!(
        "Reading and writing work, led by {leader}, but of {} there are two copies, or an old \
         card was put back: it does not count until it is joined anew. `understudy status` \
         there says how; until then the group stands {}.",
        status.copied.join(", "),
        heard.stands()
    )
}

fn with_silent(leader: &str, heard: &Heard<'_>) -> String {
    let two = match (heard.voters - heard.silent_voters, heard.holders_here) {
        (2, 1) => {
            ": one board alone has all data, beside what the witness keeps for the one that is \
             away, and nothing takes over when it dies, too. If a board is gone for good, add \
             another with `understudy token` and `understudy join TOKEN --replace BOARD`"
        }
        (2, _) => {
            ": all data is on two boards, and nothing takes over when one of them dies, too. If \
             a board is gone for good, add another with `understudy token` and `understudy \
             join TOKEN --replace BOARD`"
        }
        _ => "",
    };
    format!(
        "Reading and writing work, led by {leader}, but {} cannot be heard: see to it. Until \
         then the group stands {}{two}.",
        heard.silent.join(", "),
        heard.stands()
    )
}

/// A witness says what it is before how things are.
fn witness(status: &Status, heard: &Heard<'_>) -> String {
    let votes = status.members.iter().any(|member| member.id == status.id && member.voter);
    let state = match &status.leader {
        None if status.confirming_disk => {
            String::from("It asks the others whether its disk is whole, then takes part.")
        }
        None if heard.silent.is_empty() => String::from("The boards are choosing a leader."),
        None => format!("Nobody leads: {} cannot be heard. {LOOK}", heard.silent.join(", ")),
        Some(_) if status.one_copy => one_copy(status, heard),
        Some(leader) if !heard.silent.is_empty() => {
            format!("{leader} leads; {} cannot be heard: see to it.", heard.silent.join(", "))
        }
        Some(leader) if votes => format!("Everything works, led by {leader}."),
        Some(leader) => {
            format!("It follows, led by {leader}, without a vote: {}.", why_no_vote(heard))
        }
    };
    format!(
        "This board is a witness: it keeps no data, only what of the log another may lack. {state}"
    )
}

/// Why a witness does not vote.
fn why_no_vote(heard: &Heard<'_>) -> String {
    match heard.holders {
        1 => String::from("one board alone votes that keeps the data; it votes beside two"),
        holders if holders.is_multiple_of(2) => String::from(
            "it has not caught up, was demoted, or there is no room for its vote (`understudy get \
             voters`)",
        ),
        holders => format!(
            "{holders} boards that keep the data vote, an odd number, and one more would stand no \
             more losses"
        ),
    }
}

fn one_copy(status: &Status, heard: &Heard<'_>) -> String {
    let away = match heard.silent.as_slice() {
        [] => String::from("a board with the data has not caught up"),
        silent => format!("{} cannot be heard", silent.join(", ")),
    };
    let what = match status.one_copy_allowed {
        true => "What is written is on one board alone, as one_copy allows, until all is well",
        false => {
            "Reading works, writing is refused until that board is back or another is in its place \
             (`understudy join TOKEN --replace BOARD`), or `understudy set one_copy allow`"
        }
    };
    format!("One copy only: {away}, and the witness has no room left for what it misses. {what}.")
}

fn works(status: &Status, leader: &str, heard: &Heard<'_>) -> String {
    if let Some(words) = works_with_witness(status, leader, heard) {
        return words;
    }
    match (heard.boards, heard.voters) {
        (1, _) => String::from(
            "Everything works on this board alone: nothing is copied yet. Run `understudy token` \
             here and `understudy join TOKEN` on another board.",
        ),
        (2, 2) => format!(
            "Everything works, led by {leader}: all data is on both boards, but nothing takes \
             over yet when one dies. Add a third board, or a small one with `understudy join TOKEN \
             --witness`."
        ),
        (boards, 1) => format!(
            "Everything works on {leader}; of {boards} boards it alone votes until another has \
             caught up: nothing takes over yet."
        ),
        (boards, 2) => format!(
            "Everything works, led by {leader}: two of {boards} boards vote, all data is on both, \
             and nothing takes over until a third has caught up."
        ),
        (boards, _) => format!(
            "Everything works: {boards} boards, led by {leader}; the group stands {}.",
            heard.stands()
        ),
    }
}

/// Where the group has a witness that makes a difference.
fn works_with_witness(status: &Status, leader: &str, heard: &Heard<'_>) -> Option<String> {
    let name = &status.members.iter().find(|member| member.witness)?.name;
    if heard.voters == heard.holders {
        let base = works(&without_witness(status), leader, heard);
        return Some(format!("{base} {name}, the witness, follows: {}.", why_no_vote(heard)));
    }
    let takes_over = match heard.holders {
        2 => "all data is on both boards, and when one of them dies the other takes over",
        _ => "the data is on all boards but the witness",
    };
    Some(format!(
        "Everything works, led by {leader}: {takes_over}, for {name} is their witness. The group \
         stands {}.",
        heard.stands()
    ))
}

fn without_witness(status: &Status) -> Status {
    let mut status = status.clone();
    status.members.retain(|member| !member.witness);
    status
}

/// Which boards are there, in this board's view.
struct Heard<'a> {
    silent: Vec<&'a str>,
    unknown: Vec<&'a str>,
    silent_voters: usize,
    voters: usize,
    /// Boards that keep the data,
    boards: usize,
    /// vote,
    holders: usize,
    /// and can be heard, or may be.
    holders_here: usize,
}

impl<'a> Heard<'a> {
    fn of(status: &'a Status) -> Self {
        let silent = |member: &&MemberStatus| !member.reachable && !member.unknown;
        let copied = |member: &&MemberStatus| status.copied.contains(&member.name);
        let names = |wanted: &dyn Fn(&&MemberStatus) -> bool| {
            status.members.iter().filter(wanted).map(|member| member.name.as_str()).collect()
        };
        let voters = || status.members.iter().filter(|member| member.voter);
        let holders = || voters().filter(|member| !member.witness);
        Self {
            silent: names(&silent),
            unknown: names(&|member| member.unknown),
            silent_voters: voters().filter(|m| silent(m) || copied(m)).count(),
            voters: voters().count(),
            boards: status.members.iter().filter(|member| !member.witness).count(),
            holders: holders().count(),
            holders_here: holders().filter(|member| !silent(member)).count(),
        }
    }

    const fn needed(&self) -> usize {
        self.voters / 2 + 1
    }

    const fn lacks_majority(&self) -> bool {
        self.voters > 0 && self.voters - self.silent_voters < self.needed()
    }

    /// Further losses that leave a majority.
    fn stands(&self) -> String {
        match (self.voters - self.silent_voters).saturating_sub(self.needed()) {
            0 => String::from("no further loss"),
            losses => format!("the loss of {losses}"),
        }
    }
}

fn without_leader(status: &Status, heard: &Heard<'_>) -> String {
    let lasts = status.leaderless_ms.is_some_and(|ms| ms >= status.leaderless_ms_max);
    if status.confirming_disk {
        let mut text = String::from(
            "Starting: this board asks the others whether its disk is whole, then takes part.",
        );
        if lasts && !heard.silent.is_empty() {
            let silent = heard.silent.join(", ");
            let _ = write!(text, " No word from {silent} so far. {LOOK}");
        }
        return text;
    }
    let seconds = status.leaderless_ms.unwrap_or_default() / 1_000;
    if !lasts {
        return format!(
            "The boards are choosing a leader: this takes no longer than {} s if a majority is \
             there.",
            status.leaderless_ms_max.div_ceil(1_000)
        );
    }
    if heard.lacks_majority() {
        return no_majority(heard, &format!(" for {seconds} s"));
    }
    format!(
        "No leader for {seconds} s, though a majority can be heard: reading what this board has \
         works (level none), writing does not. Look at `understudy status` on the other boards: a \
         disk may be full, or boards may not hear each other."
    )
}

/// Where to look when a board is silent.
const LOOK: &str = "On each of them see that it has power and network, that `understudy run` runs, \
                    and that its UDP port is open.";

fn no_majority(heard: &Heard<'_>, lasting: &str) -> String {
    let silent = heard.silent.join(", ");
    let never_joined = match heard.voters {
        2 => " If it was joining, run `understudy join` there again.",
        _ => "",
    };
    format!(
        "No majority{lasting}: {silent} cannot be heard, and {} of {} boards are needed. Reading \
         what this board has works (level none), writing does not. {LOOK}{never_joined}",
        heard.needed(),
        heard.voters
    )
}

/// Where a change of the group's key stands, unless nothing is to be said of it.
pub(super) fn keys(status: &Status) -> Option<String> {
    let Status { key, key_newest, key_oldest, key_due, key_awaits, .. } = status;
    if key_oldest == key_newest {
        let words = "A board was removed: the group's key is about to be changed.";
        return key_due.then(|| words.to_owned());
    }
    let phase = if key == key_newest {
        format!("key {key} is in use, and key {key_oldest} not forgotten yet")
    } else {
        format!("key {key_newest} is on its way to all boards, and key {key} in use")
    };
    let names = key_awaits.join(", ");
    Some(match key_awaits.as_slice() {
        [] => format!("The group's key is being changed: {phase}. Nothing is to be done."),
        _ => format!(
            "The group's key is being changed: {phase}, until these boards have the new one: \
             {names}. It comes to them by itself when they are back; take one that is gone for good \
             out with `understudy remove` or `understudy join TOKEN --replace`."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, leader: bool, reachable: bool) -> MemberStatus {
        MemberStatus {
            name: name.into(),
            voter: true,
            leader,
            reachable,
            ..MemberStatus::default()
        }
    }

    fn group(members: Vec<MemberStatus>) -> Status {
        let leader = members.iter().find(|member| member.leader).map(|member| member.name.clone());
        Status {
            board: "a".into(),
            group: "g".into(),
            role: "follower".into(),
            leader,
            members,
            ..Status::default()
        }
    }

    #[test]
    fn each_state_is_one_sentence_that_says_what_to_do() {
        let three = |c| {
            group(vec![member("a", true, true), member("b", false, true), member("c", false, c)])
        };
        let alone = group(vec![member("a", true, true)]);
        let two = group(vec![member("a", true, true), member("b", false, true)]);
        let mut cut = group(vec![
            member("a", false, true),
            member("b", false, false),
            member("c", false, false),
        ]);
        (cut.leaderless_ms, cut.leaderless_ms_max) = (Some(9_000), 2_000);
        let waiting = Status { role: "waiting".into(), ..Status::default() };
        let removed = Status { removed: true, ..group(Vec::new()) };
        let newcomer = MemberStatus { voter: false, ..member("b", false, true) };
        let learner = group(vec![member("a", true, true), newcomer]);
        for (status, words) in [
            (three(true), "3 boards, led by a; the group stands the loss of 1"),
            (three(false), "c cannot be heard: see to it. Until then the group stands no further"),
            (alone, "understudy join TOKEN"),
            (two, "Add a third board"),
            (three(false), "all data is on two boards, and nothing takes over"),
            (
                removed,
                "was removed from the group \"g\": it takes no part any more. `understudy reset`",
            ),
            (learner, "of 2 boards it alone votes until another has caught up"),
            (cut.clone(), "b, c cannot be heard, and 2 of 3 boards are needed"),
            (cut.clone(), "that `understudy run` runs"),
            (cut.clone(), "No majority for 9 s: "),
            (waiting, "understudy init"),
        ] {
            let text = super::super::show::status(&status);
            let first = text.lines().next().unwrap();
            assert!(first.contains(words), "{first}");
        }
        cut.disk_lost = true;
        assert!(sentence(&cut).contains("joins it anew"));
        cut.disk_lost = false;
        cut.disk_full = true;
        assert!(sentence(&cut).contains("Make room"));
    }

    #[test]
    fn of_copies_it_says_what_still_works_and_what_to_do() {
        let three = |b, c| {
            let members =
                vec![member("a", true, true), member("b", false, b), member("c", true, c)];
            Status { copied: vec!["c".into()], ..group(members) }
        };
        let said = sentence(&three(true, true));
        assert!(said.contains("of c there are two copies") && said.contains("stands no further"));
        let said = sentence(&three(false, true));
        assert!(said.starts_with("No majority: of c") && said.contains("recover"), "{said}");
        let said = sentence(&Status { board: "c".into(), ..three(true, true) });
        assert!(said.contains("neither takes") && said.contains("--replace c"), "{said}");
    }

    #[test]
    fn a_board_that_takes_pages_says_from_whom_and_how_far_it_is() {
        let members = vec![member("a", false, true), member("b", true, true)];
        let mut status = group(members);
        let begun = PullStatus { from: "b".into(), taken: 0, pages: None };
        status.pulls = Some(begun);
        let said = sentence(&status);
        assert!(said.contains("takes the pages that differ from b (it begins just now)"), "{said}");
        assert!(said.contains("Writing works, led by b") && said.contains("level none"), "{said}");
        assert!(said.contains("goes on by itself") && said.contains("nothing to do"), "{said}");
        status.pulls = Some(PullStatus { from: "b".into(), taken: 96, pages: Some(2_048) });
        assert!(sentence(&status).contains("(96 have come, of a database of 2048)"));
        let text = super::super::show::status(&status);
        assert!(text.contains("pages      96 taken from b, of a database of 2048\n"), "{text}");
        status.fenced = true;
        assert!(sentence(&status).starts_with("This board is fenced"));
        status.members[1] = member("b", true, false);
        status.fenced = false;
        assert!(sentence(&status).starts_with("No majority"));
    }

    #[test]
    fn a_witness_is_no_copy_in_any_sentence() {
        let witness = |voter, reachable| MemberStatus {
            witness: true,
            voter,
            id: 9,
            ..member("w", false, reachable)
        };
        let (a, b) = (member("a", true, true), |here| member("b", false, here));
        let pair = |here, w| group(vec![a.clone(), b(here), w]);
        let alone = group(vec![a.clone(), witness(false, true)]);
        let three = group(vec![a.clone(), b(true), member("c", false, true), witness(false, true)]);
        let full = Status { one_copy: true, ..pair(false, witness(true, true)) };
        let allowed = Status { one_copy_allowed: true, ..full.clone() };
        let own = |status: Status| Status { witness: true, id: 9, ..status };
        for (status, words) in [
            (pair(true, witness(true, true)), "when one of them dies the other takes over"),
            (pair(false, witness(true, true)), "one board alone has all data, beside what the wit"),
            (pair(true, witness(true, false)), "all data is on two boards, and nothing takes over"),
            (pair(true, witness(false, true)), "w, the witness, follows: it has not caught up"),
            (alone, "nothing is copied yet"),
            (three.clone(), "3 boards, led by a; the group stands the loss of 1. w, the witness,"),
            (three.clone(), "3 boards that keep the data vote, an odd number"),
            (full.clone(), "One copy only: b cannot be heard"),
            (full.clone(), "understudy set one_copy allow"),
            (allowed, "is on one board alone, as one_copy allows"),
            (own(full), "This board is a witness: it keeps no data, only what of the log another"),
            (own(pair(true, witness(true, true))), "Everything works, led by a."),
            (own(three), "without a vote: 3 boards"),
        ] {
            let text = sentence(&status);
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn whose_word_is_missing_is_told() {
        let mut status = group(vec![member("a", true, true), member("b", false, false)]);
        assert!(!super::super::show::status(&status).contains("could not be asked"));
        status.unconfirmed_by = vec!["b".into()];
        assert!(
            super::super::show::status(&status)
                .contains("though b could not be asked whether its disk")
        );
    }

    #[test]
    fn what_a_follower_does_not_know_it_does_not_claim() {
        let mut c = member("c", false, false);
        c.unknown = true;
        let status = group(vec![member("a", true, true), member("b", false, true), c]);
        let text = super::super::show::status(&status);
        assert!(text.contains("whether c can be heard is not known"), "{text}");
        assert!(!text.contains("stands") && !text.contains("Everything"), "{text}");
        assert!(text.contains("not known"), "{text}");
    }

    #[test]
    fn boards_without_a_leader_choose_one_only_for_as_long_as_that_takes() {
        let two = vec![member("a", false, true), member("b", false, false)];
        let mut status = Status { leaderless_ms_max: 2_000, ..group(two) };
        status.leaderless_ms = Some(500);
        assert!(sentence(&status).contains("choosing a leader: this takes no longer than 2 s"));
        status.leaderless_ms = Some(60_000);
        let text = sentence(&status);
        assert!(text.starts_with("No majority for 60 s: b cannot be heard, and 2 of 2"), "{text}");
        assert!(text.contains("`understudy join` there again"), "{text}");
        status.members[1].reachable = true;
        assert!(sentence(&status).starts_with("No leader for 60 s, though a majority"));
        let shown = super::super::show::status(&status);
        assert!(!shown.contains("follows") && !shown.contains("leads"), "{shown}");
        status.members[1].reachable = false;
        status.confirming_disk = true;
        assert!(sentence(&status).contains("No word from b"));
    }

    #[test]
    fn a_change_of_the_key_is_told_while_it_lasts_and_whom_it_waits_for() {
        let told = |key_oldest, key, key_newest, key_awaits: &[&str]| {
            let key_awaits = key_awaits.iter().map(|name| (*name).to_owned()).collect();
            keys(&Status { key_oldest, key, key_newest, key_awaits, ..Status::default() })
        };
        assert_eq!(told(3, 3, 3, &[]), None);
        let installed = told(0, 0, 1, &[]).unwrap();
        assert!(installed.contains("key 1 is on its way to all boards, and key 0 in use. Nothing"));
        let used = told(1, 3, 3, &["c", "d"]).unwrap();
        assert!(used.contains("key 3 is in use, and key 1 not forgotten yet, until these boards have the new one: c, d."));
        assert!(used.contains("`understudy remove`"), "{used}");
        let due = Status { key_due: true, ..Status::default() };
        assert!(keys(&due).unwrap().contains("about to be changed"));
    }
}
