//! The ways in for readings, as processes use them: every one on boards of a group, the
//! guide's lines and the examples as they stand, other users, containers, and what is
//! wrong with what they send.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use understudy_tests::{agents::Agents, namespace::Namespace, program};

const BOARDS: [&str; 3] = ["a", "b", "c"];

/// Where the guide says the sockets are, and HTTP.
const RUN: &str = "/run/understudy";
const HTTP: &str = "127.0.0.1:4001";

/// A board alone in its group, whose clock is set.
fn alone(configuration: &str) -> Agents {
    let mut agents = Agents::new(&program::debug());
    configure(&agents, "a", configuration);
    agents.run("a");
    let _token = agents.found("a");
    let _sentence = agents.told("a", &["clock", "confirm"]);
    agents
}

fn configure(agents: &Agents, board: &str, configuration: &str) {
    let directory = agents.directory(board);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("understudy.toml"), configuration).expect("a configuration");
}

/// Is there such a command? In the lane that must not skip anything there has to be.
fn have(command: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {command}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{command} is missing");
    if !found {
        eprintln!("{command} is not installed: what needs it is not tested");
    }
    found
}

/// All values of a sensor as a board has them, in order of their times.
fn values(agents: &Agents, board: &str, sensor: &str) -> Vec<String> {
    let shown = agents.told(board, &["readings", sensor, "--csv", "--limit", "50000"]);
    let value = |line: &str| line.split(',').nth(2).unwrap_or_default().to_owned();
    shown.lines().skip(1).map(value).collect()
}

/// Waits until a board has these values of a sensor, and no others.
fn wait_for(agents: &Agents, board: &str, sensor: &str, expected: &[&str]) {
    for _ in 0..600 {
        if values(agents, board, sensor) == expected {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{board} has {:?} of {sensor}, not {expected:?}", values(agents, board, sensor));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs a command with this on its standard input.
fn fed(mut command: Command, input: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn ingest(agents: &Agents, board: &str, input: &[u8]) -> Output {
    let mut command = agents.command(board);
    command.arg("ingest");
    fed(command, input)
}

#[test]
fn by_every_way_a_reading_reaches_every_board_once() {
    let mut agents = Agents::new(&program::debug());
    agents.form(&BOARDS);
    let at = |board: &str, socket: &str| agents.directory(board).join(socket);
    let datagrams = UnixDatagram::unbound().expect("a socket");
    let stamped = b"s 1 1700000001\ns 2 1700000002\n";
    datagrams.send_to(stamped, at("a", "readings.sock")).expect("it is there");
    datagrams.send_to(b"s 3 1700000003", at("b", "readings.sock")).expect("it is there");
    let mut stream = UnixStream::connect(at("b", "readings.stream.sock")).expect("it is there");
    stream.write_all(b"ack committed\ns 4 1700000004000ms\n").expect("it reads");
    let mut answer = [0; 13];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"ok committed\n");
    let answer = agents.http("c", "POST /readings?precision=ms HTTP/1.1", "s 5 1700000005000\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("committed"), "{answer}");
    let items = r#"[{"sensor": "s", "value": 6, "time": "2023-11-14T22:13:26Z"}]"#;
    let answer = agents.http("a", "POST /readings HTTP/1.1", items);
    assert!(answer.contains(r#""stored":1"#), "{answer}");
    let written = agents.told("b", &["write", "s", "7", "--time", "1700000007"]);
    assert_eq!(written, "committed\n");
    let output = ingest(&agents, "c", b"s,x=1 value=8i 1700000008000000000\ns 8 1700000008\n");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("2 lines stored"), "{}", said(&output));
    for board in BOARDS {
        wait_for(&agents, board, "s", &["1", "2", "3", "4", "5", "6", "7", "8"]);
        wait_for(&agents, board, "s/x=1", &["8"]);
    }
    let got = agents.http("b", "GET /readings?sensor=s&until=1700000003 HTTP/1.1", "");
    assert_eq!(got.matches(r#""sensor":"s""#).count(), 2, "{got}");
}

#[test]
fn a_repeated_request_with_an_id_is_one_reading() {
    let agents = alone("");
    for _ in 0..3 {
        assert_eq!(agents.told("a", &["write", "s", "1", "--id", "once"]), "committed\n");
    }
    assert_eq!(agents.told("a", &["write", "s", "1"]), "committed\n");
    wait_for(&agents, "a", "s", &["1", "1"]);
}

/// The lines of a section of the README that one copies.
fn guide(section: &str) -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("it is there");
    let section = readme.split("\n## ").find(|text| text.starts_with(section)).expect("a section");
    section.lines().filter_map(|line| Some(line.strip_prefix("    ")?.to_owned())).collect()
}

#[test]
fn the_guides_lines_do_what_they_say() {
    let agents = alone("");
    let directory = agents.directory("a").display().to_string();
    let program = program::debug().display().to_string();
    let is_key = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_setting = |line: &String| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key))
    };
    let (settings, lines): (Vec<String>, Vec<String>) =
        guide("Readings").into_iter().partition(is_setting);
    configure(&agents, "z", &settings.join("\n"));
    let checked = agents.told("z", &["config", "check"]);
    assert!(settings.len() > 10 && !checked.is_empty(), "{settings:?}: {checked}");
    assert!(lines.len() >= 10, "{lines:?}");
    let mut written = 0;
    for line in lines {
        let command = line.split_whitespace().next().expect("a word");
        if command != "understudy" && !have(command) {
            continue;
        }
        let line = line.replace(RUN, &directory).replace(HTTP, &agents.http_address("a"));
        let script = format!("understudy() {{ '{program}' --dir '{directory}' \"$@\"; }}\n{line}");
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        assert!(output.status.success(), "{line}: {}", said(&output));
        if line.contains("21.5") {
            written += 1;
            wait_for(&agents, "a", "greenhouse/temp", &vec!["21.5"; written]);
        } else if !line.contains("retention set") {
            let wanted = if line.contains("retention") { "greenhouse/*" } else { "21.5" };
            assert!(said(&output).contains(wanted), "{line}: {}", said(&output));
        }
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

#[test]
fn the_examples_are_sensor_processes() {
    let agents = alone("");
    let count = |sensor| values(&agents, "a", sensor).len();
    let run = |command: &mut Command| {
        let output = command.env("COUNT", "3").env("PAUSE", "0").output().expect("it starts");
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        output
    };
    let printed = run(Command::new("sh").arg(example("sensor.sh")));
    let output = ingest(&agents, "a", &printed.stdout);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(count("board/load"), 3);
    if have("cc") {
        let sensor = agents.directory("a").join("sensor");
        let options = ["-Wall", "-Wextra", "-Werror", "-o"];
        let built = Command::new("cc").args(options).arg(&sensor).arg(example("sensor.c")).output();
        let built = built.expect("it starts");
        assert!(built.status.success(), "{}", said(&built));
        let socket = agents.directory("a").join("readings.stream.sock");
        let printed = run(Command::new(&sensor).arg(socket));
        assert_eq!(said(&printed), "ok spooled\n".repeat(3));
        wait_until(|| count("board/load/c") == 3);
    }
    if have("python3") {
        let socket = agents.directory("a").join("readings.sock");
        run(Command::new("python3").arg(example("sensor.py")).arg(socket));
        wait_until(|| count("board/load/python") == 3);
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_600 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it never came to be");
}

/// A folder that every user can reach, with the program, and a configuration that has the
/// sockets for readings in `run` in it.
struct Outside {
    folder: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("it is ours");
        fs::copy(program::debug(), folder.path().join("understudy")).expect("the program");
        Self { folder }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// A configuration, and a file with it.
    fn configuration(&self, run: &Path, more: &str) -> (String, PathBuf) {
        let text = format!("[readings]\nreadings_directory = {:?}\n{more}", run.display());
        let file = self.folder.path().join("understudy.toml");
        fs::write(&file, &text).expect("it is ours");
        (text, file)
    }

    /// A command line there, in words that begin with those that change who runs it.
    fn told(&self, before: &[String], words: &[&str]) -> Output {
        let program = self.folder.path().join("understudy").display().to_string();
        let all: Vec<&str> = before
            .iter()
            .map(String::as_str)
            .chain([program.as_str()])
            .chain(words.iter().copied())
            .collect();
        Command::new(all[0]).args(&all[1..]).output().expect("it starts")
    }
}

#[test]
fn any_user_writes_readings_and_only_the_group_commands() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let nobody = nobody.map(str::to_owned);
    let mut setpriv = Command::new(&nobody[0]);
    let allowed = setpriv.args(&nobody[1..]).arg("true").stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("nobody here may be another user: this is not tested");
        return;
    }
    let outside = Outside::new();
    let (text, file) = outside.configuration(&outside.run(), "");
    let mut agents = alone(&text);
    let directory = agents.directory("a").display().to_string();
    let file = file.display().to_string();
    let words = |more: &[&'static str]| {
        let mut words = vec!["--dir", directory.as_str(), "--config", file.as_str()];
        words.extend(more);
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let told = |more: &[&'static str]| {
        let words = words(more);
        outside.told(&nobody, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let output = told(&["write", "s", "1"]);
    assert!(output.status.success(), "{}", said(&output));
    wait_for(&agents, "a", "s", &["1"]);
    let output = told(&["readings", "s"]);
    assert!(
        !output.status.success() && said(&output).contains("sudo usermod -aG understudy $USER"),
        "{}",
        said(&output)
    );
    agents.stop("a");
    let (text, _) = outside.configuration(&outside.run(), "readings_mode = \"0660\"\n");
    configure(&agents, "a", &text);
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let output = told(&["write", "s", "2"]);
    assert!(
        !output.status.success() && said(&output).contains("you may not use"),
        "{}",
        said(&output)
    );
    assert_eq!(agents.told("a", &["write", "s", "2"]), "committed\n");
    // Whoever may not read the configuration does not know that it is wrong.
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&file, closed).expect("it is ours");
    let output = told(&["doctor"]);
    let (seen, words) = (said(&output), "look   configuration");
    assert!(seen.contains(words) && seen.contains("call the doctor by `sudo`"), "{seen}");
}

#[test]
fn a_container_writes_through_its_mount_also_after_a_restart() {
    let outside = Outside::new();
    let inside = outside.folder.path().join("inside");
    fs::create_dir_all(&inside).expect("it is ours");
    let (text, _) = outside.configuration(&outside.run(), "");
    let mut agents = alone(&text);
    let (_, file) = outside.configuration(&inside, "");
    let mount = format!("mount --bind {} {} &&", outside.run().display(), inside.display());
    let Some(container) = Namespace::new(&["-m"], &mount, "mount namespaces") else { return };
    let enter = container.enter("mount", "mnt");
    let file = file.display().to_string();
    let write = |value: &str| outside.told(&enter, &["--config", &file, "write", "s", value]);
    let output = write("1");
    assert!(output.status.success(), "{}", said(&output));
    agents.kill("a");
    let output = write("9");
    assert!(!output.status.success(), "nobody is there: {}", said(&output));
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    let output = write("2");
    assert!(output.status.success(), "{}", said(&output));
    wait_for(&agents, "a", "s", &["1", "2"]);
}

#[test]
fn a_folder_that_vanished_comes_back() {
    let outside = Outside::new();
    let (text, _) = outside.configuration(&outside.run(), "");
    let agents = alone(&text);
    assert_eq!(agents.told("a", &["write", "s", "1"]), "committed\n");
    fs::remove_dir_all(outside.run()).expect("it is there");
    wait_until(|| agents.ask("a", &["write", "t", "2"]).status.success());
    assert!(agents.log("a").contains("is made anew"), "{}", agents.log("a"));
    let socket = UnixDatagram::unbound().expect("a socket");
    wait_until(|| socket.send_to(b"u 3", outside.run().join("readings.sock")).is_ok());
    wait_for(&agents, "a", "u", &["3"]);
    fs::remove_file(agents.directory("a").join("control.sock")).expect("it is there");
    wait_until(|| agents.status("a").is_some());
}

#[test]
fn what_is_wrong_is_said_of_its_line_and_the_others_count() {
    let agents = alone("");
    let name = "n".repeat(129);
    let lines = format!("s 1\ns NaN\n{name} 1\na,b 1\nm f=1,g\ns 2 soon\ns 2\n\n# x\n s 3\ns 4");
    let output = ingest(&agents, "a", lines.as_bytes());
    assert!(!output.status.success());
    let told = said(&output);
    for part in [
        "line 2: \"NaN\" is no value",
        "line 3: a sensor's name has 129 bytes, 128 are allowed",
        "line 4: a ',' in the name \"a,b\" is written",
        "line 5: \"g\" is no `field=value`",
        "line 6: \"soon\" is no time",
        "line 11: the connection ended within it",
        "3 lines stored (0 committed, 3 spooled), 6 not stored",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    wait_for(&agents, "a", "s", &["1", "2", "3"]);
    for (words, part) in [
        (["write", "s", "inf"], "finite"),
        (["write", "s", "21,5"], "is no value"),
        (["write", "", "1"], "is empty"),
    ] {
        let refused = agents.refused("a", &words);
        assert!(refused.contains(part), "{words:?}: {refused}");
    }
    let socket = UnixDatagram::unbound().expect("a socket");
    let lines: String = (10_000..22_000).map(|second| format!("t 1 {second}\n")).collect();
    socket
        .send_to(lines.as_bytes(), agents.directory("a").join("readings.sock"))
        .expect("it is there");
    wait_until(|| agents.log("a").contains("the datagram has 120000 bytes, 65536 are taken"));
}

#[test]
fn times_far_from_the_clock_are_kept_and_flagged() {
    let agents = alone("");
    for time in ["2095-01-01T00:00:00Z", "1980-01-01T00:00:00Z"] {
        assert_eq!(agents.told("a", &["write", "s", "1", "--time", time]), "committed\n");
    }
    assert_eq!(agents.told("a", &["write", "s", "1"]), "committed\n");
    let shown = agents.told("a", &["readings", "s"]);
    assert_eq!(shown.matches("far from the board's clock").count(), 2, "{shown}");
    assert!(shown.contains("1980-01-01T00:00:00Z") && shown.contains("2095-01-01"), "{shown}");
}

#[test]
fn readings_from_before_the_clock_was_set_are_put_right_in_their_order() {
    let mut agents = Agents::new(&program::debug());
    configure(&agents, "a", "[clock]\nclock_set_by = []\n");
    agents.run("a");
    let _token = agents.found("a");
    assert_eq!(agents.told("a", &["write", "s", "1"]), "committed\n");
    agents.kill("a");
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    assert_eq!(agents.told("a", &["write", "s", "2"]), "committed\n");
    assert_eq!(agents.told("a", &["readings", "s"]).matches("unset (start ").count(), 2);
    assert!(agents.told("a", &["clock"]).contains("does not know the time"));
    assert!(agents.told("a", &["clock", "confirm"]).contains("its owner has confirmed it"));
    assert_eq!(agents.told("a", &["write", "s", "3"]), "committed\n");
    agents.stop("a");
    agents.run("a");
    agents.wait("a", "to lead", |status| status["role"] == "leader");
    assert!(agents.told("a", &["clock"]).contains("its owner has confirmed it"));
    wait_until(|| !agents.told("a", &["readings", "s"]).contains("unset"));
    wait_for(&agents, "a", "s", &["1", "2", "3"]);
    let hour = agents.told("a", &["readings", "s", "--since", "1h", "--csv"]);
    assert_eq!(hour.lines().count(), 4, "{hour}");
}

/// One whose own clock nothing sets, as its configuration wants it.
#[test]
fn a_board_without_a_clock_has_its_readings_put_right_by_a_peers() {
    let mut agents = Agents::new(&program::debug());
    configure(&agents, "a", "[clock]\nclock_set_by = []\n");
    configure(&agents, "b", "[clock]\nclock_set_by = [\"peer\"]\n");
    agents.form(&["a", "b"]);
    assert_eq!(agents.told("b", &["write", "s", "1"]), "committed\n");
    assert_eq!(agents.told("b", &["write", "s", "2"]), "committed\n");
    assert_eq!(agents.told("a", &["readings", "s"]).matches("unset (start ").count(), 2);
    assert!(agents.told("b", &["clock"]).contains("does not know the time"));
    let _sentence = agents.told("a", &["clock", "confirm"]);
    wait_until(|| agents.told("b", &["clock"]).contains("another board has told it"));
    assert_eq!(agents.told("b", &["write", "s", "3"]), "committed\n");
    for board in ["a", "b"] {
        wait_until(|| !agents.told(board, &["readings", "s"]).contains("unset"));
        wait_for(&agents, board, "s", &["1", "2", "3"]);
        let hour = agents.told(board, &["readings", "s", "--since", "1h", "--csv"]);
        assert_eq!(hour.lines().count(), 4, "{hour}");
    }
}

#[test]
fn before_the_first_reading_and_before_the_group_it_is_said() {
    let mut agents = Agents::new(&program::debug());
    agents.run("a");
    assert!(agents.refused("a", &["write", "s", "1"]).contains("belongs to no group yet"));
    let _token = agents.found("a");
    let output = agents.ask("a", &["readings", "s"]);
    assert!(
        output.status.success() && said(&output).contains("no readings yet"),
        "{}",
        said(&output)
    );
    assert_eq!(agents.told("a", &["readings", "--json"]), "[]\n");
}

#[test]
fn who_watches_sees_each_reading_once_also_over_a_restart() {
    let mut agents = alone("");
    let mut command = agents.command("a");
    command.args(["watch", "s", "--json"]).stdout(Stdio::piped());
    let mut watch = command.spawn().expect("it starts");
    let out = BufReader::new(watch.stdout.take().expect("it is piped"));
    let (heard, hears) = mpsc::channel();
    let listener = thread::spawn(move || {
        for line in out.lines() {
            let reading: serde_json::Value =
                serde_json::from_str(&line.expect("text")).expect("JSON");
            // The test may have seen enough.
            let _ = heard.send(reading["value"].as_i64().expect("a number"));
        }
    });
    let (mut seen, mut next, mut is_anew) = (Vec::new(), 0, false);
    while seen.len() < 8 {
        assert!(next < 100, "only {seen:?} of {next} were seen");
        assert_eq!(agents.told("a", &["write", "s", &next.to_string()]), "committed\n");
        next += 1;
        seen.extend(hears.try_iter());
        if seen.len() >= 3 && !std::mem::replace(&mut is_anew, true) {
            agents.kill("a");
            agents.run("a");
            agents.wait("a", "to lead", |status| status["role"] == "leader");
        }
        thread::sleep(Duration::from_millis(100));
    }
    watch.kill().expect("it goes on");
    watch.wait().expect("it ends");
    listener.join().expect("it has heard all");
    let expected: Vec<i64> = (seen[0]..).take(seen.len()).collect();
    assert_eq!(seen, expected, "none is missing");
}

#[test]
fn without_a_majority_the_spool_takes_what_it_can_and_none_of_it_is_lost() {
    let mut agents = Agents::new(&program::debug());
    configure(&agents, "a", "[readings]\nspool_mb = 1\nspool_after_ms = 100\n");
    agents.form(&BOARDS);
    agents.kill("b");
    agents.kill("c");
    assert_eq!(agents.told("a", &["write", "s", "0"]), "spooled\n");
    let text = "x".repeat(200);
    let lines: String = (0..8_000).map(|n| format!("s \"{n} {text}\"\n")).collect();
    let output = ingest(&agents, "a", lines.as_bytes());
    let told = said(&output);
    assert!(!output.status.success() && told.contains("this board's spool is full"), "{told}");
    let summary = told.lines().last().expect("a summary");
    let number = |place: usize| -> u64 {
        let numbers = summary.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
        numbers.map(|part| part.parse().expect("digits")).nth(place).expect("so many numbers")
    };
    let (stored, refused) = (number(0), number(3));
    assert!(stored > 1_000 && refused > 0 && stored + refused == 8_000, "{summary}");
    let answer = agents.http("a", "POST /readings?until=spooled HTTP/1.1", "s 1");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("spool is full"), "{answer}");
    for board in ["b", "c"] {
        agents.run(board);
    }
    for board in BOARDS {
        let expected = format!("{}", stored + 1);
        wait_until(|| {
            // There is no such table before the first of them is stored.
            let counted = agents.ask(board, &["query", "SELECT count(*) FROM reading"]);
            String::from_utf8_lossy(&counted.stdout).lines().last() == Some(expected.as_str())
        });
    }
}
