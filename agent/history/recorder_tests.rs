//! What a recorder says and writes, looked at one look at a time.

use understudy_core::{readings::time_unset, sql::Parameters};

use super::*;

/// Board 1, in its fifth start, which sees boards 2 and 3 in their ninth.
fn view(now: u64) -> View {
    let peer = |id: NodeId| Peer {
        id,
        name: format!("board-{id}"),
        boot: 9,
        reachable: Some(true),
        heard_ms: Some(20),
        fate: None,
    };
    View {
        now: Millis(now),
        time: 1_000 * now.cast_signed(),
        own: (1, 5),
        leads: true,
        leader: Some(1),
        before: None,
        leaderless_ms: None,
        leaderless_ms_max: 2_000,
        election_ms: 400,
        peers: vec![peer(2), peer(3)],
    }
}

fn following(now: u64) -> View {
    View { leads: false, leader: Some(2), ..view(now) }
}

fn recorder() -> Recorder {
    Recorder::new(String::from("its end before was clean"))
}

fn told(recorder: &mut Recorder, view: &View) -> Vec<String> {
    let told = recorder.look(view).into_iter();
    told.map(|it| format!("{} {}: {}", it.kind.name(), it.board, it.reason)).collect()
}

/// Kind and reason of what a request writes.
fn written(request: &Request) -> Vec<String> {
    let Request::Write(bytes) = request else { panic!("it writes") };
    let request: SqlRequest = sql::decode(bytes).unwrap();
    let text = |values: &[sql::Value], place: usize| {
        let sql::Value::Text(text) = &values[place] else { panic!("{values:?}") };
        String::from_utf8_lossy(text).into_owned()
    };
    let row = |statement: Statement| match statement.parameters {
        Parameters::Positional(values) if values.len() == 9 => {
            Some(format!("{}: {}", text(&values, 3), text(&values, 6)))
        }
        Parameters::Positional(_) | Parameters::Named(_) => None,
    };
    request.statements.into_iter().filter_map(row).collect()
}

fn done() -> Reply {
    Reply::Done { index: 1, answer: Vec::new() }
}

#[test]
fn a_board_that_is_gone_is_said_to_be_once_and_comes_back_once() {
    let mut recorder = recorder();
    assert_eq!(told(&mut recorder, &view(0)), ["elected 1: nobody led before"]);
    let mut gone = view(1_000);
    gone.peers[0].reachable = None;
    assert!(told(&mut recorder, &gone).is_empty(), "nobody knows");
    gone.peers[0] = Peer { reachable: Some(false), heard_ms: Some(1_250), ..gone.peers[0].clone() };
    assert_eq!(told(&mut recorder, &gone), ["lost 2: unheard for 1.2 s"]);
    assert!(told(&mut recorder, &gone).is_empty());
    assert_eq!(told(&mut recorder, &view(4_500)), ["back 2: heard again after 3.5 s"]);
    assert!(told(&mut recorder, &view(4_600)).is_empty());
}

#[test]
fn an_end_that_is_known_is_told_with_its_reason_and_over_with_the_next_start() {
    for (is_clean, words) in [
        (true, "clean end 3: stopped by its operator"),
        (false, "unclean end 3: agent killed or failed: obituary"),
    ] {
        let mut recorder = recorder();
        recorder.look(&view(0));
        let mut ended = view(1_000);
        ended.peers[1].fate = Some(Fate { boot: 9, is_clean });
        assert_eq!(told(&mut recorder, &ended), [words]);
        // Heard just before it ended, and unheard after that.
        assert!(told(&mut recorder, &ended).is_empty());
        ended.peers[1].reachable = Some(false);
        assert!(told(&mut recorder, &ended).is_empty());
        let mut again = View { now: Millis(3_000), ..ended };
        again.peers[1] = Peer { boot: 10, reachable: Some(true), ..again.peers[1].clone() };
        let back = told(&mut recorder, &again);
        match is_clean {
            true => assert!(back.is_empty(), "its start is a row of its own: {back:?}"),
            false => assert_eq!(back, ["back 3: started again after 2.0 s"]),
        }
        assert!(told(&mut recorder, &again).is_empty(), "that end is of another start");
    }
}

#[test]
fn who_comes_to_lead_says_what_became_of_the_one_before() {
    let with = |change: fn(&mut Peer)| {
        let mut recorder = recorder();
        recorder.look(&following(0));
        let mut elected = View { before: Some(2), ..view(1_000) };
        change(&mut elected.peers[0]);
        elected.peers[0].reachable = Some(true);
        told(&mut recorder, &elected).pop().unwrap()
    };
    assert_eq!(with(|peer| peer.heard_ms = Some(700)), "elected 1: board-2 unheard for 0.7 s");
    assert_eq!(with(|_| {}), "elected 1: board-2 led before");
    assert_eq!(
        with(|peer| peer.fate = Some(Fate { boot: 9, is_clean: true })),
        "elected 1: board-2 stopped by its operator"
    );
    assert_eq!(
        with(|peer| peer.fate = Some(Fate { boot: 9, is_clean: false })),
        "elected 1: board-2: agent killed or failed: obituary"
    );
    // It led between two looks.
    let mut recorder = recorder();
    recorder.look(&View { leads: false, leader: None, ..view(0) });
    let elected = View { before: Some(2), ..view(200) };
    assert_eq!(told(&mut recorder, &elected), ["elected 1: board-2 led before"]);
    recorder.look(&View { leads: false, leader: None, ..elected.clone() });
    assert_eq!(told(&mut recorder, &elected), ["elected 1: nobody else was elected"]);
    let other = View { before: Some(3), ..elected.clone() };
    recorder.look(&View { leads: false, leader: None, ..elected });
    assert_eq!(told(&mut recorder, &other), ["elected 1: board-3 led before"]);
}

#[test]
fn nobody_leading_for_too_long_is_told_and_that_it_is_over() {
    let mut recorder = recorder();
    let none = |now, ms| View { leads: false, leader: None, leaderless_ms: Some(ms), ..view(now) };
    assert!(told(&mut recorder, &none(2_500, 2_500)).is_empty(), "boards are switched on");
    recorder.look(&following(3_000));
    assert!(told(&mut recorder, &none(5_000, 1_900)).is_empty());
    assert_eq!(
        told(&mut recorder, &none(5_200, 2_100)),
        ["quorum lost 1: nobody leads since 2.1 s"]
    );
    assert!(told(&mut recorder, &none(5_300, 2_200)).is_empty());
    let back = told(&mut recorder, &view(9_100));
    assert_eq!(back[0], "quorum back 1: nobody led for 6.0 s");
    let rows = recorder.due(&view(9_200));
    assert_eq!(rows, None, "others may come");
    let kinds = written(&recorder.due(&view(9_800)).unwrap());
    let kinds: Vec<_> = kinds.iter().map(|row| row.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["boot", "quorum lost", "quorum back", "elected"]);
}

#[test]
fn only_who_leads_writes_and_its_own_start_whoever_does() {
    let mut recorder = recorder();
    recorder.look(&following(0));
    let mut gone = following(1_000);
    gone.peers[1].reachable = Some(false);
    assert_eq!(told(&mut recorder, &gone).len(), 1);
    assert_eq!(recorder.due(&gone), None);
    let later = View { now: Millis(1_600), ..gone.clone() };
    let boot = "boot: start 5: its end before was clean";
    assert_eq!(written(&recorder.due(&later).unwrap()), [boot]);
    recorder.answered(&done());
    let never = View { now: Millis(60_000), ..gone };
    recorder.look(&never);
    let later = View { now: Millis(70_000), ..never.clone() };
    assert_eq!((recorder.due(&never), recorder.due(&later)), (None, None));
}

#[test]
fn who_leads_tells_once_and_what_was_seen_before_it_led_too() {
    let mut recorder = recorder();
    recorder.look(&following(0));
    let tell = |recorder: &mut Recorder, view: &View| {
        recorder.look(view);
        let told = recorder.tell(view).into_iter();
        told.map(|it| it.kind).collect::<Vec<_>>()
    };
    let mut fallen = following(1_000);
    fallen.peers[1].reachable = Some(false);
    assert!(tell(&mut recorder, &fallen).is_empty(), "another tells it");
    fallen.peers[0].fate = Some(Fate { boot: 9, is_clean: false });
    fallen.leader = None;
    assert!(tell(&mut recorder, &fallen).is_empty(), "nobody leads");
    let elected = View { leads: true, leader: Some(1), ..fallen };
    assert_eq!(tell(&mut recorder, &elected), [Kind::UncleanEnd, Kind::Elected]);
    assert!(tell(&mut recorder, &elected).is_empty());
}

#[test]
fn what_was_seen_while_nobody_led_is_given_up_when_another_does() {
    let mut recorder = recorder();
    recorder.look(&following(0));
    let mut fallen = View { leader: None, ..following(1_000) };
    fallen.peers[1].reachable = Some(false);
    assert_eq!(told(&mut recorder, &fallen).len(), 1);
    let led = View { leader: Some(2), ..fallen.clone() };
    recorder.look(&led);
    let elected = View { now: Millis(60_000), leads: true, leader: Some(1), ..fallen };
    recorder.look(&elected);
    let kinds: Vec<Kind> = recorder.tell(&elected).into_iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Elected]);
    assert_eq!(recorder.due(&elected), None);
    let rows = written(&recorder.due(&View { now: Millis(61_000), ..elected }).unwrap());
    assert!(!rows.iter().any(|row| row.starts_with("lost")), "{rows:?}");
}

#[test]
fn entries_are_no_more_frequent_than_the_bound_and_what_is_refused_comes_again() {
    let mut recorder = recorder();
    let mut at = 0;
    let mut entries = Vec::new();
    let mut is_here = true;
    while at < 60_000 {
        let mut view = view(at);
        is_here = !is_here;
        view.peers[0].reachable = Some(is_here);
        recorder.look(&view);
        if let Some(request) = recorder.due(&view) {
            entries.push((at, written(&request).len()));
            let reply = match entries.len() {
                1 => Reply::Refused(Refusal::Busy),
                2 => Reply::Refused(Refusal::OutcomeUnknown),
                _ => done(),
            };
            recorder.answered(&reply);
        }
        at += 250;
    }
    assert!(entries.windows(2).all(|pair| pair[1].0 - pair[0].0 >= EVERY_MS), "{entries:?}");
    assert!(entries.len() >= 10, "{entries:?}");
    let (first, second, third) = (entries[0].1, entries[1].1, entries[2].1);
    assert!(second > first + 10, "what was refused comes again: {entries:?}");
    assert!(third <= 21, "what may have been written does not: {entries:?}");
}

#[test]
fn what_waits_is_bounded() {
    let mut recorder = recorder();
    for round in 0..500 {
        let mut view = View { leads: false, leader: None, ..view(round) };
        view.peers[0].reachable = Some(round % 2 == 0);
        recorder.look(&view);
    }
    assert_eq!(recorder.waiting.len(), WAITING_MAX);
}

#[test]
fn rows_of_an_unset_clock_are_put_right_once_when_it_is_set() {
    let mut recorder = recorder();
    let unset = |now| View { time: time_unset(5, now), ..view(now) };
    recorder.look(&unset(0));
    assert_eq!(recorder.due(&unset(0)), None);
    assert!(recorder.due(&unset(1_000)).is_some());
    recorder.answered(&done());
    recorder.look(&view(20_000));
    assert_eq!(recorder.due(&view(20_000)), None);
    let Some(Request::Write(bytes)) = recorder.due(&view(21_000)) else { panic!("it is due") };
    let request: SqlRequest = sql::decode(&bytes).unwrap();
    assert_eq!(request.statements, [history::put_right(1, 5, 0)]);
    recorder.answered(&done());
    recorder.look(&view(40_000));
    assert_eq!((recorder.due(&view(40_000)), recorder.due(&view(41_000))), (None, None));
}

#[test]
fn the_end_of_a_leader_is_written_by_whoever_leads_next_also_where_it_was_seen_before_that() {
    let ended = |mut view: View| {
        view.peers[0].fate = Some(Fate { boot: 9, is_clean: true });
        view
    };
    let mut recorder = recorder();
    let _first = recorder.look(&following(0));
    let _seen = recorder.look(&ended(following(250)));
    let _again = recorder.look(&ended(following(500)));
    let _leads = recorder.look(&ended(view(750)));
    assert!(recorder.due(&view(750)).is_none());
    let written = written(&recorder.due(&view(20_000)).expect("it is time"));
    assert!(written.iter().any(|row| row.contains(STOPPED)), "{written:?}");
    let mut other = Recorder::new(String::new());
    let _seen = other.look(&ended(following(250)));
    let _follows = other.look(&View { leader: Some(3), ..ended(following(500)) });
    let _leads = other.look(&ended(view(750)));
    assert!(other.due(&view(750)).is_none());
    let records = other.due(&view(20_000)).map(|request| self::written(&request));
    assert!(records.is_none_or(|rows| rows.iter().all(|row| !row.contains(STOPPED))), "twice");
}
