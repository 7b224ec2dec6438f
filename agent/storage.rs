//! What the data folder is on, by the system's list of mounts. A folder that is gone with the
//! next start of the machine takes with it who the board is and what it voted.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A line of `/proc/self/mountinfo`, as far as it is of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Of the device, `major:minor`.
    device: String,
    point: PathBuf,
    kind: String,
    options: String,
}

/// What a folder is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The kind of file system, as Linux calls it.
    pub kind: String,
    /// Number of the device, `major:minor`.
    pub device: String,
    /// What becomes of it with the next start of the machine, in words, if it does not stay.
    pub forgets: Option<String>,
}

impl Storage {
    /// What this folder is on; none where the system does not say. `root` is `/` but for tests.
    #[must_use]
    pub fn of(root: &Path, directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let mounts: Vec<Mount> = text.lines().filter_map(parsed).collect();
        let mount = under(&mounts, &directory)?;
        let (kind, device) = (mount.kind.clone(), mount.device.clone());
        Some(Self { kind, device, forgets: forgets(&mounts, mount) })
    }
}

fn is_memory(kind: &str) -> bool {
    matches!(kind, "tmpfs" | "ramfs")
}

/// The mount that holds a path: of those with the longest path the last, which covers others.
fn under<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holds.max_by_key(|mount| mount.point.components().count())
}

fn forgets(mounts: &[Mount], mount: &Mount) -> Option<String> {
    const MEANS: &str = "give it a folder on a disk that stays (`--dir DIR`, or a mount at its \
                         place)";
    if is_memory(&mount.kind) {
        return Some(format!(
            "its data is in memory ({}): after the next start of this machine it is no member of \
             its group any more, and what it had alone is lost: {MEANS}",
            mount.kind
        ));
    }
    if mount.kind != "overlay" {
        return None;
    }
    let upper = mount.options.split(',').find_map(|option| option.strip_prefix("upperdir="));
    let upper = upper.and_then(|upper| under(mounts, Path::new(&unescaped(upper))));
    match upper {
        Some(upper) if !is_memory(&upper.kind) && upper.point != mount.point => None,
        Some(upper) if is_memory(&upper.kind) => Some(format!(
            "its data is on an overlay in memory: with the next start of this machine it is back \
             at an older state, forgets what it voted, and the group takes it for a copy: {MEANS}; \
             with overlayroot, `overlayroot=tmpfs:recurse=0` and a partition of its own"
        )),
        Some(_) | None => Some(format!(
            "its data is on an overlay, as in a container, and may be gone with that: {MEANS}; for \
             a container a volume"
        )),
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parsed(line: &str) -> Option<Mount> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ');
    let mut system = system.split(' ');
    Some(Mount {
        device: place.nth(2)?.to_owned(),
        point: PathBuf::from(unescaped(place.nth(1)?)),
        kind: system.next()?.to_owned(),
        options: system.nth(1).unwrap_or_default().to_owned(),
    })
}

/// A blank is written `\040` there, and so on.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
23 22 0:21 / /run rw,nosuid shared:2 - tmpfs tmpfs rw,size=10k
24 22 179:3 / /my\\040data rw - f2fs /dev/mmcblk0p3 rw
25 22 0:40 / /var rw - overlay overlay rw,lowerdir=/var,upperdir=/run/upper,workdir=/run/work
26 22 0:41 / /srv rw - overlay overlay rw,lowerdir=/a,upperdir=/data/upper,workdir=/data/work
27 22 0:42 / /box rw - overlay overlay rw,lowerdir=/a:/b
28 23 179:3 / /run/kept rw - ext4 /dev/mmcblk0p3 rw
";

    fn on(path: &str) -> Storage {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/self");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("mountinfo"), MOUNTS).unwrap();
        Storage::of(root.path(), Path::new(path)).unwrap()
    }

    #[test]
    fn a_folder_that_does_not_stay_is_told_from_one_that_does() {
        for (path, kind, device, words) in [
            ("/home/none", "ext4", "179:2", None),
            ("/my data/x", "f2fs", "179:3", None),
            ("/run/none", "tmpfs", "0:21", Some("in memory (tmpfs)")),
            ("/run/kept/none", "ext4", "179:3", None),
            ("/var/none", "overlay", "0:40", Some("on an overlay in memory")),
            ("/srv/none", "overlay", "0:41", None),
            ("/box/none", "overlay", "0:42", Some("as in a container")),
        ] {
            let found = on(path);
            assert_eq!((found.kind.as_str(), found.device.as_str()), (kind, device), "{path}");
            match (words, &found.forgets) {
                (None, told) => assert_eq!(*told, None, "{path}"),
                (Some(words), told) => {
                    assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{found:?}");
                }
            }
        }
    }

    #[test]
    fn this_machine_says_what_its_folders_are_on() {
        let found = Storage::of(Path::new("/"), Path::new("/proc")).unwrap();
        assert_eq!(found.kind, "proc");
        assert_eq!(Storage::of(Path::new("/nowhere"), Path::new("/proc")), None);
    }
}
