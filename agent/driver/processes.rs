//! The processes of this machine, as `/proc` lists them (proc(5)): what ends meanwhile may be
//! among them, and what begins may be missing.

use std::{fs, path::Path};

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// It has ended, and waits for whoever buries it.
    pub is_corpse: bool,
    /// The process that is told of its end.
    pub parent: i32,
    /// Its group.
    pub group: i32,
}

/// All that are to be seen.
pub fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| of(&entry.path()))
}

fn of(folder: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // What stands before is the program's name, in which anything may stand.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let is_corpse = fields.next()? == "Z";
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Process { pid, is_corpse, parent, group })
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpgrp, getpid, getppid};

    use super::*;

    #[test]
    fn this_process_is_among_them_under_its_parent_and_in_its_group() {
        let number = |pid: rustix::process::Pid| pid.as_raw_nonzero().get();
        let pid = number(getpid());
        let own = Process {
            pid,
            is_corpse: false,
            parent: getppid().map_or(0, number),
            group: number(getpgrp()),
        };
        assert_eq!(all().find(|it| it.pid == pid), Some(own));
    }
}
