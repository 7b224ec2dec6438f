//! What leads from this board to the others, by the system's files: the group's timing profile
//! goes by it when the group is made, and power save on it makes a board slow.
//!
//! Left out: how fast it is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::driver::{
    hook::{self, Hook},
    udp::{is_foreign, usable_addresses},
};

/// Where the system has its interfaces.
pub const SYSTEM: &str = "/sys/class/net";

/// Between two looks at power save, which comes back with every connection.
const LOOK: Duration = Duration::from_secs(300);

/// What an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A cable, or this machine itself.
    Wired,
    /// Wi-Fi.
    Wireless,
    /// Anything else: a tunnel, a modem.
    Other,
}

/// What this interface is.
#[must_use]
pub fn kind(system: &Path, interface: &str) -> Link {
    let folder = system.join(interface);
    if ["wireless", "phy80211"].iter().any(|mark| folder.join(mark).exists()) {
        return Link::Wireless;
    }
    // ARPHRD_ETHER and ARPHRD_LOOPBACK of <linux/if_arp.h>.
    match fs::read_to_string(folder.join("type")).unwrap_or_default().trim() {
        "1" | "772" => Link::Wired,
        _ => Link::Other,
    }
}

/// The interfaces by which others reach what is bound there.
#[must_use]
pub fn interfaces(bound: SocketAddr) -> Vec<String> {
    let usable = usable_addresses(bound);
    let leads = |ip| usable.iter().any(|address| address.ip() == ip);
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut names: Vec<String> = interfaces
        .into_iter()
        .filter(|interface| leads(interface.ip()))
        .map(|interface| interface.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The timing profile that goes with these, and why where it is not that for cables.
#[must_use]
pub fn profile(system: &Path, interfaces: &[String]) -> (&'static str, Option<String>) {
    let not_wired = interfaces.iter().find(|name| kind(system, name) != Link::Wired);
    match not_wired {
        None => ("wired", None),
        Some(name) if kind(system, name) == Link::Wireless => {
            ("wifi", Some(format!("{name} is Wi-Fi")))
        }
        Some(name) => ("wifi", Some(format!("{name} is no cable"))),
    }
}

/// Which interface saves power, as was seen last.
#[derive(Clone, Debug, Default)]
pub struct PowerSave(Arc<Mutex<Option<String>>>);

impl PowerSave {
    /// Looks now and then, on a thread of its own, at what leads to what is bound there, where
    /// all of that is wireless, whenever it comes. Ends when nobody wants to know any more.
    #[must_use]
    pub fn watch(bound: SocketAddr) -> Self {
        Self::of(PathBuf::from(SYSTEM), LOOK, iw, move || interfaces(bound))
    }

    fn of(
        system: PathBuf,
        pause: Duration,
        iw: impl Fn() -> PathBuf + Send + 'static,
        leads: impl Fn() -> Vec<String> + Send + 'static,
    ) -> Self {
        let seen = Self::default();
        let (told, mut hook) = (Arc::downgrade(&seen.0), Hook::default());
        let look = move || {
            while let Some(told) = told.upgrade() {
                let mut wireless = only_wireless(&system, leads()).into_iter();
                let saves = wireless.find(|name| saves_power(&mut hook, &iw(), name));
                *told.lock().unwrap_or_else(PoisonError::into_inner) = saves;
                drop(told);
                std::thread::sleep(pause);
            }
        };
        let thread = std::thread::Builder::new().name(String::from("links"));
        // Without a thread nothing is known of power save.
        let _ = thread.stack_size(128 << 10).spawn(look);
        seen
    }

    /// The interface that saves power, if one does.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Interfaces that are up: not loopback, nor tunnels, of which the kernel does not know, nor
/// what leads to containers.
#[must_use]
pub fn up(system: &Path) -> Vec<String> {
    let is_up = |name: &String| {
        let state = fs::read_to_string(system.join(name).join("operstate"));
        state.is_ok_and(|state| state.trim() == "up") && !is_foreign(name)
    };
    let mut names: Vec<String> = names(system).filter(is_up).collect();
    names.sort_unstable();
    names
}

/// Those that are wireless.
#[must_use]
pub fn wireless(system: &Path) -> Vec<String> {
    up(system).into_iter().filter(|name| kind(system, name) == Link::Wireless).collect()
}

fn names(system: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(system).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// These, where no cable leads there as well.
fn only_wireless(system: &Path, interfaces: Vec<String>) -> Vec<String> {
    let is_wireless = |name: &String| kind(system, name) == Link::Wireless;
    if interfaces.iter().all(is_wireless) { interfaces } else { Vec::new() }
}

/// The program that knows; Raspberry Pi OS has it where not everybody's PATH leads.
pub const IW: [&str; 3] = ["/usr/sbin/iw", "/sbin/iw", "/usr/bin/iw"];

fn iw() -> PathBuf {
    IW.iter().map(PathBuf::from).find(|place| place.exists()).unwrap_or_default()
}

/// Does it say, of an interface that it was asked for, that power save is on?
#[must_use]
pub fn says_power_save(said: &str) -> bool {
    said.contains("Power save: on")
}

fn saves_power(hook: &mut Hook, iw: &Path, interface: &str) -> bool {
    let said = hook.said(iw, &["dev", interface, "get", "power_save"], hook::SAYS);
    said.is_some_and(|said| says_power_save(&said))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn system() -> tempfile::TempDir {
        let system = tempfile::tempdir().unwrap();
        for (name, kind) in [("eth0", "1\n"), ("lo", "772\n"), ("wlan0", "1\n"), ("wg0", "65534\n")]
        {
            fs::create_dir(system.path().join(name)).unwrap();
            fs::write(system.path().join(name).join("type"), kind).unwrap();
        }
        fs::create_dir(system.path().join("wlan0/wireless")).unwrap();
        system
    }

    #[test]
    fn a_profile_is_that_of_cables_only_where_all_are() {
        let system = system();
        let profile = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            profile(system.path(), &names)
        };
        assert_eq!(profile(&["lo"]), ("wired", None));
        assert_eq!(profile(&["eth0"]), ("wired", None));
        assert_eq!(profile(&["eth0", "wlan0"]), ("wifi", Some("wlan0 is Wi-Fi".into())));
        assert_eq!(profile(&["wg0"]), ("wifi", Some("wg0 is no cable".into())));
        assert_eq!(profile(&["gone0"]).0, "wifi", "what is not known is no cable");
    }

    #[test]
    fn power_save_matters_where_all_goes_by_wifi() {
        let system = system();
        let only = |names: &[&str]| {
            only_wireless(system.path(), names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!((only(&["wlan0"]), only(&["eth0", "wlan0"])), (vec!["wlan0".into()], vec![]));
    }

    #[test]
    fn what_is_bound_to_this_machine_leads_nowhere_else() {
        let bound = SocketAddr::from(([127, 0, 0, 1], 4_002));
        assert_eq!(interfaces(bound), ["lo"]);
    }

    /// A program at that place that says so of `wlan0`.
    fn put_iw(iw: &Path, said: &str) {
        fs::write(iw, format!("#!/bin/sh\n[ \"$2\" = wlan0 ] && echo '{said}'\n")).unwrap();
        fs::set_permissions(iw, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn power_save_is_what_iw_says() {
        let folder = tempfile::tempdir().unwrap();
        let iw = folder.path().join("iw");
        let saves_power = |iw: &Path, name| saves_power(&mut Hook::default(), iw, name);
        for (said, saves) in [("Power save: on", true), ("Power save: off", false)] {
            put_iw(&iw, said);
            assert_eq!(saves_power(&iw, "wlan0"), saves);
            assert!(!saves_power(&iw, "wlan1"));
        }
        assert!(!saves_power(Path::new(""), "wlan0"));
    }

    #[test]
    fn wifi_that_comes_after_the_start_is_looked_at_too() {
        let pause = Duration::from_millis(20);
        let system = system();
        let wlan0 = system.path().join("wlan0");
        fs::remove_dir_all(&wlan0).unwrap();
        let iw = system.path().join("iw");
        put_iw(&iw, "Power save: on");
        let (looked, looks) = std::sync::mpsc::channel();
        let leads = move || {
            // When the test is over nobody counts them any more.
            let _ = looked.send(());
            vec![String::from("wlan0")]
        };
        let saving = PowerSave::of(system.path().to_owned(), pause, move || iw.clone(), leads);
        // What was found the first time is there when it looks for the second.
        assert_eq!((looks.recv(), looks.recv()), (Ok(()), Ok(())));
        assert_eq!(saving.get(), None);
        fs::create_dir_all(wlan0.join("wireless")).unwrap();
        let mut tries = std::iter::repeat_with(|| std::thread::sleep(pause)).take(3_000);
        assert!(tries.any(|()| saving.get().as_deref() == Some("wlan0")));
    }
}
