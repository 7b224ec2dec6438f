//! `understudy unit`: a systemd unit that keeps a duty's command on this board, as a user
//! of the board's; or what a service that is there already needs to do so.
//!
//! It is printed, so that it can be looked at and go anywhere: to another board, into an
//! image. `--write` puts it where systemd looks.
//!
//! Left out: that the agent starts and stops services. What hangs below systemd is gone in
//! time only if systemd is in time; what a service itself puts below `hold` is killed by
//! the kernel, and has its own sandbox all the same.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use understudy_core::member::check_name;

use crate::{
    config::Places, driver::control::SYSTEM_SOCKET, driver::socket::GROUP, hold, terminal,
};

/// Where systemd looks for what the owner of a machine adds.
const FOLDER: &str = "/etc/systemd/system";

/// How a unit begins that may be written over.
const MADE: &str = "# Made by `understudy unit`.";

/// After the command's grace the guard has this left to end everything itself, seconds.
const REST_S: f64 = 5.0;

/// `understudy unit`
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    how: hold::How,
    /// Who runs the command: a user of this board, with all groups that it is in.
    #[arg(long, required_unless_present = "service")]
    user: Option<String>,
    /// Not a unit of its own, but what makes this service, which is there already, wait
    /// with its command for the duty. It stays as it is otherwise: its user, its sandbox.
    #[arg(long, conflicts_with = "user", value_name = "SERVICE")]
    service: Option<String>,
    /// Write it to /etc/systemd/system/understudy-NAME.service; with --service to
    /// /etc/systemd/system/SERVICE.service.d/understudy.conf.
    #[arg(long)]
    write: bool,
    /// The command, by its absolute path, and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let program = program.to_str().ok_or("the path of this program is no text")?;
    let unit = unit(places, program, arguments)?;
    hold::look_for(&arguments.command[0]).map_err(|(_, reason)| reason)?;
    arguments.user.as_deref().map(hold::user::account).transpose()?;
    if !arguments.write {
        return terminal::print(&unit);
    }
    let (path, begin) = match &arguments.service {
        Some(service) => {
            let service = service_name(service)?;
            let folder = PathBuf::from(FOLDER).join(format!("{service}.d"));
            fs::create_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            (folder.join("understudy.conf"), format!("restart {service}"))
        }
        None => {
            let name = file_name(&arguments.how.duty);
            (PathBuf::from(FOLDER).join(&name), format!("enable --now {name}"))
        }
    };
    write(&path, &unit)?;
    terminal::prose(&format!(
        "{} is written. It begins with `systemctl daemon-reload` and `systemctl {begin}`.\n",
        path.display()
    ))
}

/// Writes it, unless there is one that somebody else has made.
fn write(path: &Path, unit: &str) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let is_own = fs::read_to_string(path).map(|text| text.starts_with(MADE));
    if !is_own.unwrap_or_else(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(format!("{} is there already, and not made by this command", path.display()));
    }
    let new = path.with_extension("new");
    fs::write(&new, unit).and_then(|()| fs::rename(&new, path)).map_err(at)
}

/// The unit's text.
fn unit(places: &Places, program: &str, arguments: &Arguments) -> Result<String, String> {
    let Arguments { how, user, service, .. } = arguments;
    check_name("duty", &how.duty).map_err(|refusal| refusal.to_string())?;
    how.check()?;
    user.as_deref().map(check_user).transpose()?;
    service.as_deref().map(service_name).transpose()?;
    let line = command_line(places, program, arguments)?;
    let mut out = format!("{MADE}\n[Unit]\n");
    if service.is_none() {
        let duty = how.duty.replace('%', "%%");
        let _ =
            writeln!(out, "Description=What this board does while it holds {duty} (understudy)");
    }
    let _ = writeln!(
        out,
        "# Without the program, as once the package is removed, it is not tried again and again.\n\
         ConditionFileIsExecutable={}",
        program.replace('%', "%%")
    );
    out.push_str(
        "# It waits for the agent by itself, and goes on waiting while that is started anew.\n\
         After=understudy.service\n# It is never given up: a disk or a device may come late.\n\
         StartLimitIntervalSec=0\n\n[Service]\nType=exec\n",
    );
    let groups = "# The agent listens to this group. Add those of the devices the command uses that \
                  the\n# user is not in, as in: understudy dialout gpio i2c\n";
    match user.as_deref() {
        Some("root") => out.push_str("User=root\n"),
        Some(user) => {
            let _ = write!(out, "User={user}\n{groups}SupplementaryGroups={GROUP}\n");
        }
        None => {
            let _ = write!(
                out,
                "# Whoever runs it needs to be in the group that the agent listens to.\n\
                 SupplementaryGroups={GROUP}\n# What waits has nothing to tell systemd.\n\
                 WatchdogSec=0\nExecStart=\n"
            );
        }
    }
    let _ = write!(
        out,
        "ExecStart={line}\nRestart=always\nRestartSec=5\n# The first process ends the command in \
         order, within its grace; then all that is left is killed.\nKillMode=mixed\n\
         TimeoutStopSec={}\n# A command that is killed for the memory it takes is started again, or \
         has its turn elsewhere.\nOOMPolicy=continue\n",
        (how.grace + REST_S).ceil()
    );
    if service.is_none() {
        out.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    }
    Ok(out)
}

/// What systemd is to run.
fn command_line(places: &Places, program: &str, arguments: &Arguments) -> Result<String, String> {
    let Arguments { how, command, .. } = arguments;
    if !command[0].starts_with('/') {
        return Err(format!("{}: a unit needs the command's absolute path", command[0]));
    }
    if program.contains('$') {
        return Err(format!("{program}: systemd runs no program with a $ in its path"));
    }
    let mut line = vec![program.to_owned()];
    if places.control != Path::new(SYSTEM_SOCKET) {
        let directory = std::path::absolute(&places.directory);
        let directory = directory.map_err(|error| error.to_string())?;
        let directory = directory.to_str().ok_or("the path of --dir is no text")?;
        line.extend([String::from("--dir"), directory.to_owned()]);
    }
    let (grace, failures) = (how.grace.to_string(), how.failures.to_string());
    let options = ["hold", &how.duty, "--grace", &grace, "--failures", &failures, "--"];
    line.extend(options.map(String::from));
    line.extend(command.iter().cloned());
    let words: Vec<String> = line.iter().map(|text| word(text)).collect::<Result<_, _>>()?;
    Ok(words.join(" "))
}

/// A service as systemd calls it.
fn service_name(service: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ":_-.@\\".contains(c);
    let name = service.strip_suffix(".service").unwrap_or(service);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(format!("{service:?} is no service's name"));
    }
    Ok(format!("{name}.service"))
}

/// As systemd takes it, and no pattern or list of its own.
fn check_user(user: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if user.is_empty() || user.starts_with('-') || !user.chars().all(is_plain) {
        return Err(format!("{user:?} is no user's name"));
    }
    Ok(())
}

/// One word of a command line, as `systemd.syntax(7)` and `systemd.service(5)` have it:
/// it is the same again once systemd has read it.
fn word(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("{text:?}: a unit takes no line breaks and no control characters"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', c]),
            '%' | '$' => out.extend([c, c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

/// What the unit of a duty is called: what a unit's name cannot have is written as
/// `systemd-escape` does.
fn file_name(duty: &str) -> String {
    let mut name = String::from("understudy-");
    for byte in duty.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
                name.push(char::from(byte));
            }
            _ => {
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    name + ".service"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &[&str]) -> Arguments {
        let command = command.iter().map(|text| (*text).to_owned()).collect();
        let how = hold::How { duty: "pump".into(), grace: 2.5, failures: 3 };
        Arguments { how, user: Some("pi".into()), service: None, write: false, command }
    }

    fn made(arguments: &Arguments) -> Result<String, String> {
        unit(&Places::new(None, None), "/usr/bin/understudy", arguments)
    }

    #[test]
    fn a_word_is_the_same_again_once_systemd_has_read_it() {
        for (text, written) in [
            ("--port=/dev/ttyUSB0", "--port=/dev/ttyUSB0"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("100%", r#""100%%""#),
            ("$HOME", r#""$$HOME""#),
            ("${HOME}", r#""$${HOME}""#),
            (r#"say "no""#, r#""say \"no\"""#),
            ("it's", r#""it's""#),
            (r"a\b\", r#""a\\b\\""#),
            (";", r#"";""#),
            ("a\tb", r#""a\tb""#),
            ("#", r##""#""##),
            ("~", r#""~""#),
            ("*", r#""*""#),
            ("gr\u{fc}n", "\"gr\u{fc}n\""),
        ] {
            assert_eq!(word(text).as_deref(), Ok(written));
        }
        for text in ["a\nb", "a\rb", "\u{1b}", "a\0"] {
            assert!(word(text).unwrap_err().contains("no line breaks"), "{text:?}");
        }
    }

    #[test]
    fn a_unit_runs_hold_as_that_user_and_leaves_it_time_to_end() {
        let text = made(&arguments(&["/usr/local/bin/pump", "--at", "50%"])).unwrap();
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("ExecStart=/usr/bin/understudy hold pump --grace 2.5 --failures 3 -- \
             /usr/local/bin/pump --at \"50%%\""));
        for line in [
            "User=pi",
            "ConditionFileIsExecutable=/usr/bin/understudy",
            "SupplementaryGroups=understudy",
            "After=understudy.service",
            "KillMode=mixed",
            "TimeoutStopSec=8",
            "Restart=always",
        ] {
            assert!(has(line), "{line}: {text}");
        }
        let needs = ["Requires=", "Wants=", "BindsTo=", "PartOf="];
        assert!(!needs.iter().any(|need| text.contains(need)), "{text}");
        let root = Arguments { user: Some("root".into()), ..arguments(&["/bin/true"]) };
        assert!(!made(&root).unwrap().contains("Groups"));
        let places = Places::new(Some(Path::new("/srv/b 2")), None);
        let text = unit(&places, "/usr/bin/understudy", &arguments(&["/bin/true"])).unwrap();
        assert!(text.contains("=/usr/bin/understudy --dir \"/srv/b 2\" hold pump"), "{text}");
    }

    #[test]
    fn a_service_that_is_there_keeps_its_user_and_its_start() {
        let service = |service: &str| Arguments {
            user: None,
            service: Some(service.into()),
            ..arguments(&["/usr/local/bin/pump"])
        };
        let text = made(&service("pump")).unwrap();
        assert!(text.contains("\nExecStart=\nExecStart=/usr/bin/understudy hold pump"), "{text}");
        for key in ["User=", "Description=", "[Install]"] {
            assert!(!text.contains(key), "{key}: {text}");
        }
        assert_eq!(service_name("pump@1.service").as_deref(), Ok("pump@1.service"));
        for name in ["", ".service", "../x", "a b", "a\nb"] {
            assert!(made(&service(name)).unwrap_err().contains("no service's name"), "{name:?}");
        }
    }

    #[test]
    fn what_no_unit_can_be_made_of_is_refused() {
        assert!(made(&arguments(&["pump"])).unwrap_err().contains("absolute path"));
        assert!(made(&arguments(&["/bin/sh", "-c", "a\nb"])).unwrap_err().contains("line breaks"));
        for user in ["", "-x", "pi root", "%u", "a\nExecStart=/bin/sh"] {
            let wrong = Arguments { user: Some(user.into()), ..arguments(&["/bin/true"]) };
            assert!(made(&wrong).unwrap_err().contains("no user's name"), "{user:?}");
        }
        let how = hold::How { duty: "a b".into(), grace: 5.0, failures: 5 };
        let wrong = Arguments { how, ..arguments(&["/bin/true"]) };
        assert!(made(&wrong).unwrap_err().contains("without blanks"));
        let how = hold::How { duty: "a".into(), grace: -1.0, failures: 5 };
        let wrong = Arguments { how, ..arguments(&["/bin/true"]) };
        assert!(made(&wrong).unwrap_err().contains("--grace"));
        let error = unit(&Places::new(None, None), "/a$b/understudy", &arguments(&["/bin/true"]));
        assert!(error.unwrap_err().contains('$'));
    }

    #[test]
    fn only_a_unit_that_this_command_made_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name("pump"));
        let text = made(&arguments(&["/bin/true"])).unwrap();
        assert_eq!(write(&path, &text), Ok(()));
        assert_eq!(write(&path, &text), Ok(()));
        fs::write(&path, "[Service]\nExecStart=/bin/false\n").unwrap();
        assert!(write(&path, &text).unwrap_err().contains("not made by this command"));
        assert_eq!(file_name("a/b %i"), "understudy-a\\x2fb\\x20\\x25i.service");
    }
}
