//! Golden scripts: `scripts/*` drive nodes on virtual time with stand-ins for
//! journal and database, and hold the trace that must come out, word for word.
//!
//! A line that begins with `> ` is a command, with `#` a comment; everything else
//! is what the commands above it printed. `UPDATE_SCRIPTS=1 cargo test` rewrites
//! the expected lines: read the difference before you keep it.

mod duties;
mod group;
mod roads;
mod store;

use std::{env, fs, path::Path};

use group::Group;

/// Carries out a script's commands; the script as it should read.
fn play(script: &str) -> Result<String, String> {
    let mut group = Group::default();
    let mut played = String::new();
    for (line, number) in script.lines().zip(1..) {
        if let Some(command) = line.strip_prefix("> ") {
            let printed = group
                .command(command.trim())
                .map_err(|error| format!("line {number}: {command}: {error}"))?;
            played += &format!("{line}\n{printed}");
        } else if line.is_empty() || line.starts_with('#') {
            played += &format!("{line}\n");
        }
    }
    Ok(played)
}

fn first_difference(expected: &str, played: &str) -> String {
    let mut lines = expected.lines().zip(played.lines()).zip(1..);
    match lines.find(|((expected, played), _)| expected != played) {
        Some(((expected, played), number)) => {
            format!("line {number}:\n  expected {expected}\n  played   {played}")
        }
        None => format!("{} lines expected, {} played", expected.lines().count(), {
            played.lines().count()
        }),
    }
}

#[test]
fn every_script_plays_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "{} scripts in {}", paths.len(), folder.display());
    let mut failures = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match play(&expected) {
            Ok(played) if played == expected => {}
            Ok(played) if env::var_os("UPDATE_SCRIPTS").is_some() => {
                fs::write(&path, played).unwrap();
            }
            Ok(played) => {
                failures.push(format!("{name}, {}", first_difference(&expected, &played)));
            }
            Err(error) => failures.push(format!("{name}, {error}")),
        }
    }
    assert!(failures.is_empty(), "\n{}\nUPDATE_SCRIPTS=1 rewrites them", failures.join("\n"));
}

#[test]
fn a_wrong_command_is_named_with_its_line() {
    let error = play("# two nodes\n> nodes 2\n> dance 1\n").unwrap_err();
    assert_eq!(error, "line 3: dance 1: no such command");
    let error = play("> nodes 3\n> crash 7\n").unwrap_err();
    assert_eq!(error, "line 2: crash 7: there is no node 7");
}
