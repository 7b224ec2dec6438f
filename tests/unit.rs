//! `understudy unit`, as systemd reads what it prints.

use std::{fs, path::Path, process::Command};

use understudy_tests::program;

/// What a command line is given that systemd, or a shell, has a meaning for.
const WORDS: [&str; 14] = [
    "two words",
    "",
    "100%",
    "%h",
    "$HOME",
    "${HOME}",
    "$$",
    "say \"no\"",
    "it's",
    "a\\b\\",
    ";",
    "#",
    "*",
    "--x=1",
];

/// The words of a command line as systemd shows what it has read: between blanks, some in
/// double quotes, in which a backslash stands before what is no end.
fn words_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None, false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_with(String::new);
            }
            ' ' if !is_quoted => words.extend(word.take()),
            '\\' => word.get_or_insert_with(String::new).extend(rest.next()),
            _ => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}

fn analyze(unit: &Path) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(unit);
    command
}

/// What the command line prints that is given these and then a command with all words.
fn made(arguments: &[&str]) -> Vec<u8> {
    let made = Command::new(program::debug())
        .args(["unit", "pump"])
        .args(arguments)
        .args(["--", "/bin/echo"])
        .args(WORDS)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// systemd has nothing to say of this unit, and would run that command.
fn check(unit: &Path) {
    let verified = analyze(unit).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("pump"), "{said}");
    let read = analyze(unit).env("SYSTEMD_LOG_LEVEL", "debug").output().expect("it runs");
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    let line = read.lines().find_map(|line| line.trim().strip_prefix("Command Line: "));
    let words = words_of(line.unwrap_or_else(|| panic!("no command line: {read}")));
    let words: Vec<String> = words.into_iter().skip_while(|word| word != "--").skip(1).collect();
    // It makes one $ of two when it starts the command.
    let all = ["/bin/echo"].into_iter().chain(WORDS);
    assert_eq!(words, all.map(|word| word.replace('$', "$$")).collect::<Vec<_>>());
}

#[test]
fn systemd_reads_a_unit_without_a_word_and_its_command_line_as_it_was() {
    // `tests/run` installs it.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("understudy-pump.service");
    fs::write(&unit, made(&["--user", "root"])).expect("it can be written");
    check(&unit);
    let service = folder.path().join("pump.service");
    fs::write(&service, "[Service]\nType=notify\nExecStart=/bin/false\n")
        .expect("it can be written");
    let beside = folder.path().join("pump.service.d");
    fs::create_dir(&beside).expect("a folder");
    let text = made(&["--service", "pump"]);
    fs::write(beside.join("understudy.conf"), text).expect("it can be written");
    check(&service);
}

#[test]
fn a_unit_of_what_cannot_be_run_is_refused() {
    for (user, command, words) in [
        ("root", "/no/such/command", "no command /no/such/command"),
        ("root", "/etc/passwd", "/etc/passwd cannot be run"),
        ("root", "echo", "absolute path"),
        ("no-such-user", "/bin/echo", "no user no-such-user"),
    ] {
        let made = Command::new(program::debug())
            .args(["unit", "pump", "--user", user, "--", command])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(!made.status.success() && said.contains(words), "{said}");
    }
}
