//! Users of this board, as commands are run for them; and the rights by which that is done,
//! which no command gets.
//!
//! Left out: users that only a directory service knows. The files are what there is on a
//! board, and a program that is linked statically can ask nobody else.

use std::{collections::BTreeSet, fs};

use rustix::{
    io::Errno,
    process::{Gid, Uid, getuid},
    thread::{
        CapabilitySet, configure_capability_in_ambient_set, set_thread_gid, set_thread_groups,
        set_thread_uid,
    },
};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// All groups, the first among them.
    pub groups: BTreeSet<u32>,
    /// Where the user is at home.
    pub home: String,
    /// The shell.
    pub shell: String,
}

/// The user of that name, or number.
///
/// # Errors
/// When there is none.
pub fn account(user: &str) -> Result<Account, String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let found = find(&read("/etc/passwd"), &read("/etc/group"), user);
    found.ok_or_else(|| format!("there is no user {user} on this board"))
}

fn find(users: &str, groups: &str, user: &str) -> Option<Account> {
    let fields = |line: &str| -> Option<[String; 7]> {
        let fields: Vec<String> = line.split(':').map(String::from).collect();
        fields.try_into().ok()
    };
    let is_it = |fields: &[String; 7]| fields[0] == user || fields[2] == user;
    let [name, _, uid, gid, _, home, shell] = users.lines().filter_map(fields).find(is_it)?;
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    let member_of = groups.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (group, mut members) = (fields.next()?.parse().ok()?, fields.next()?.split(','));
        members.any(|member| member == name).then_some(group)
    });
    let groups = member_of.chain([gid]).collect();
    Some(Account { name, uid, gid, groups, home, shell })
}

/// What an agent that is not root may have so as to run something as another user: with any
/// of these a command would be root, if it wanted to.
const OVER_USERS: [CapabilitySet; 4] =
    [CapabilitySet::CHOWN, CapabilitySet::KILL, CapabilitySet::SETGID, CapabilitySet::SETUID];

/// What this thread starts, or the process goes on as from it, gets none of the rights over
/// users: of what is ambient (capabilities(7)), these.
///
/// # Errors
/// When it would get them.
pub fn pass_on_no_rights_over_users() -> Result<(), Errno> {
    let drop = |right| match configure_capability_in_ambient_set(right, false) {
        // A kernel that knows no ambient rights passes none on.
        Err(Errno::INVAL) => Ok(()),
        dropped => dropped,
    };
    OVER_USERS.into_iter().try_for_each(drop)
}

impl Account {
    /// Makes this process, which has one thread, the user's: what it is from there on.
    ///
    /// # Errors
    /// When it may not.
    pub fn take_over(&self) -> Result<(), String> {
        if getuid().as_raw() == self.uid {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|id| Gid::from_raw(*id)).collect();
        set_thread_groups(&groups)
            .and_then(|()| set_thread_gid(Gid::from_raw(self.gid)))
            .and_then(|()| set_thread_uid(Uid::from_raw(self.uid)))
            .map_err(|error| {
                let hint = match error {
                    Errno::PERM => {
                        ": it is not root; leave `user` out, or have systemd run it (`understudy unit`)"
                    }
                    _ => "",
                };
                format!("the agent cannot run anything as the user {}: {error}{hint}", self.name)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_number_with_all_groups() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nbad line\npi:x:1000:1000:,,,:/home/pi:/bin/sh\n";
        let groups = "root:x:0:\npi:x:1000:\ngpio:x:997:other,pi\ni2c:x:998:pi2\ndialout:x:20:pi\n";
        let pi = find(users, groups, "pi").unwrap();
        assert_eq!((pi.uid, pi.gid, pi.home.as_str()), (1000, 1000, "/home/pi"));
        assert_eq!(pi.groups, BTreeSet::from([20, 997, 1000]));
        assert_eq!(find(users, groups, "1000"), Some(pi));
        assert_eq!(find(users, groups, "p"), None);
        assert!(account("no-such-user").unwrap_err().contains("no user no-such-user"));
    }
}
