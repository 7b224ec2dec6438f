//! Several groups on one site, with one duty among them: it is held in a group made of one
//! board of each, so it goes on when all boards of one are lost. A board that is in two
//! groups has an agent for each; both end with it.
//!
//! The duty's commands leave marks of boot time, which say whether two ever acted at a
//! time. The groups of their own are of two boards here: as small as a group can be that
//! can be lost as a whole without its last board being all there is of it.

use std::{path::PathBuf, process::Command, thread, time::Duration};

use serde_json::Value;
use understudy::{
    demo::{Mark, marks, next_holder, two_holders},
    driver::clock,
};
use understudy_tests::{agents::Agents, processes::signal, program};

/// The groups: the boards of each, and the second agent of its first board, which is in the
/// group that they share.
const GROUPS: [Group; 3] = [
    Group { own: ["east-1", "east-2"], shared: "east" },
    Group { own: ["west-1", "west-2"], shared: "west" },
    Group { own: ["north-1", "north-2"], shared: "north" },
];

/// Looks at something that comes about soon, one every 10 ms.
const TRIES: u32 = 3_000;

#[derive(Clone, Copy)]
struct Group {
    own: [&'static str; 2],
    shared: &'static str,
}

impl Group {
    fn all(self) -> [&'static str; 3] {
        [self.own[0], self.own[1], self.shared]
    }
}

struct Site {
    agents: Agents,
    marks: PathBuf,
}

impl Site {
    fn new() -> Self {
        let program = program::debug();
        let mut agents = Agents::new(&program);
        let marks = agents.directory("marks");
        for Group { own, shared } in GROUPS {
            agents.form(&own);
            let table = "CREATE TABLE own(name TEXT)";
            let _made = agents.told(own[0], &["execute", table]);
            let readings = agents.directory(shared).join("readings.sock");
            let words = [&program, &"demo-sampler".into(), &shared.into(), &readings, &marks];
            let command: Vec<String> =
                words.iter().map(|word| word.display().to_string()).collect();
            let duty = format!("[[duty]]\nname = \"uplink\"\ncommand = {command:?}\n");
            agents.configure(shared, &duty);
        }
        let shared = GROUPS.map(|group| group.shared);
        agents.form(&shared);
        let _sentence = agents.told(shared[0], &["duty", "add", "uplink"]);
        for board in shared {
            agents.wait(board, "to be ready", |status| status["duties"][0]["ready"] == true);
        }
        Self { agents, marks }
    }

    /// The first mark from then on of another board than that.
    fn wait_for_another(&self, board: &str, after_us: u64) -> Mark {
        for _ in 0..TRIES {
            if let Some(mark) = next_holder(&marks(&self.marks), board, after_us) {
                return mark.clone();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody but {board} does it: {:?}", self.agents.status(board));
    }

    /// The board that holds the duty.
    fn holder(&self) -> String {
        let holds = |board: &&str| {
            let status = self.agents.status(board);
            status.is_some_and(|status| status["duties"][0]["held"] == true)
        };
        for _ in 0..TRIES {
            if let Some(group) = GROUPS.iter().find(|group| holds(&group.shared)) {
                return group.shared.to_owned();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody holds it: {:?}", self.agents.status(GROUPS[0].shared));
    }

    fn group_of(board: &str) -> Group {
        GROUPS.into_iter().find(|group| group.shared == board).expect("it is one of the site")
    }

    /// Everything that a group's boards run ends at once, as when their power goes.
    fn lose(&mut self, lost: Group) {
        let pids = lost.all().map(|board| {
            let status = self.agents.status(board).expect("it runs");
            [status["parent_pid"].to_string(), status["agent_pid"].to_string()]
        });
        let killed = Command::new("kill").arg("-KILL").args(pids.concat()).status();
        assert!(killed.expect("kill runs").success(), "all of them ran");
        for board in lost.all() {
            assert!(!self.agents.ended(board), "{board} did not end by itself");
        }
    }

    fn write(&self, group: Group) {
        let insert = format!("INSERT INTO own VALUES ('{}')", group.shared);
        let _done = self.agents.told(group.own[0], &["execute", &insert]);
    }

    /// Who runs a group, by its boards' processes and the members they know.
    fn crew(&self, group: Group) -> Vec<(String, Vec<String>)> {
        let crew = group.own.iter().map(|board| {
            let status = self.agents.status(board).expect("it runs");
            let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
            let name = |member: &Value| member["name"].to_string();
            (status["agent_pid"].to_string(), members.iter().map(name).collect())
        });
        crew.collect()
    }

    /// A group's boards hold so many rows, all of them its own.
    fn check_rows(&self, group: Group, count: usize) {
        for board in group.own {
            let rows =
                self.agents.told(board, &["query", "SELECT name, count(*) FROM own GROUP BY name"]);
            let words: Vec<&str> = rows.split_whitespace().collect();
            let own = [group.shared, &count.to_string()];
            assert!(words.ends_with(&own), "{board}: {rows}");
            assert!(
                GROUPS.iter().all(|other| {
                    other.shared == group.shared || !words.contains(&other.shared)
                })
            );
        }
    }
}

#[test]
fn a_duty_that_groups_share_goes_on_when_all_boards_of_one_are_lost() {
    let mut site = Site::new();
    let first = site.wait_for_another("", 0);
    // The board stands still that has it: what its command does then must end in time.
    let agent = site.agents.status(&first.board).expect("it runs")["agent_pid"].to_string();
    let still_us = clock::nanoseconds() / 1_000;
    signal("STOP", &agent);
    site.wait_for_another(&first.board, still_us);
    signal("CONT", &agent);
    site.agents.wait(&first.board, "to see who has it", |status| {
        let duty = &status["duties"][0];
        duty["held"] == false && duty["holder"].is_string() && duty["holder"] != *first.board
    });

    let lost = Site::group_of(&site.holder());
    let left = GROUPS.into_iter().filter(|group| group.shared != lost.shared);
    let left: Vec<Group> = left.collect();
    let crews: Vec<_> = left.iter().map(|group| site.crew(*group)).collect();
    left.iter().for_each(|group| site.write(*group));
    let lost_us = clock::nanoseconds() / 1_000;
    site.lose(lost);
    left.iter().for_each(|group| site.write(*group));
    let third = site.wait_for_another(lost.shared, lost_us);
    assert!(left.iter().any(|group| group.shared == third.board), "{third:?}");
    left.iter().for_each(|group| site.write(*group));
    let after: Vec<_> = left.iter().map(|group| site.crew(*group)).collect();
    assert_eq!(crews, after, "no other group has lost or found anybody");
    left.iter().for_each(|group| site.check_rows(*group, 3));

    // It comes back, and the duty stays where it is.
    lost.all().into_iter().for_each(|board| site.agents.run(board));
    site.write(lost);
    site.check_rows(lost, 1);
    site.agents.wait(lost.shared, "to be ready again", |status| {
        let duty = &status["duties"][0];
        let is_elsewhere = left.iter().any(|group| duty["holder"] == *group.shared);
        duty["ready"] == true && is_elsewhere && duty["held"] == false
    });
    let marks = marks(&site.marks);
    assert_eq!(two_holders(&marks), 0, "of {} marks", marks.len());
}
