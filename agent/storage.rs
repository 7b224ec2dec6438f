//! What a folder is on, by the system's list of mounts. A data folder that is gone with the next
//! start of the machine takes with it who the board is and what it voted.

use std::{
    fs, io,
    path::{self, Path, PathBuf},
};

/// A line of `/proc/self/mountinfo`, as far as it is of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Of the device, `major:minor`.
    device: String,
    point: PathBuf,
    kind: String,
    source: String,
    options: String,
    is_read_only: bool,
}

/// What a folder is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The kind of file system, as Linux calls it.
    pub kind: String,
    /// What is mounted: a device, or what the kernel or a program calls it.
    pub source: String,
    /// Number of the device, `major:minor`.
    pub device: String,
    /// Where that is mounted.
    pub point: PathBuf,
    /// Nothing can be written there: it is mounted so, or the kernel has made it so.
    pub is_read_only: bool,
    /// What becomes of it with the next start of the machine, in words, if it does not stay.
    pub forgets: Option<String>,
}

impl Storage {
    /// What this folder is on, or would be; none where the system does not say. `root` is `/`
    /// but for tests.
    #[must_use]
    pub fn of(root: &Path, directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let mounts: Vec<Mount> = text.lines().filter_map(parsed).collect();
        let mount = under(&mounts, &resolved(directory).ok()?)?;
        let forgets = forgets(&mounts, mount);
        let Mount { device, point, kind, source, is_read_only, .. } = mount.clone();
        Some(Self { kind, source, device, point, is_read_only, forgets })
    }
}

/// Without links, as far as the path is there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = path::absolute(path)?;
    let mut above = path.ancestors().filter_map(|it| Some((it, fs::canonicalize(it).ok()?)));
    let found = above.next().and_then(|(it, real)| Some(real.join(path.strip_prefix(it).ok()?)));
    Ok(found.unwrap_or(path))
}

impl Mount {
    fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs") || self.is_memory_disk()
    }

    /// A disk may be memory too: zram, as Armbian has it for its logs, or a RAM disk.
    fn is_memory_disk(&self) -> bool {
        ["/dev/zram", "/dev/ram"].iter().any(|disk| self.source.starts_with(disk))
    }
}

/// The mount that holds a path: of those with the longest path the last, which covers others.
fn under<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holds.max_by_key(|mount| mount.point.components().count())
}

fn forgets(mounts: &[Mount], mount: &Mount) -> Option<String> {
    const MEANS: &str = "give it a folder on a disk that stays (`--dir DIR`, or a mount at its \
                         place)";
    let Mount { kind, source, .. } = mount;
    if mount.is_memory() {
        let on = match mount.is_memory_disk() {
            true => format!("{kind} on {source}"),
            false => kind.clone(),
        };
        return Some(format!(
            "its data is in memory ({on}): after the next start of this machine it is no member of \
             its group any more, and what it had alone is lost: {MEANS}"
        ));
    }
    if kind != "overlay" {
        return None;
    }
    let upper = mount.options.split(',').find_map(|option| option.strip_prefix("upperdir="));
    let upper = upper.and_then(|upper| under(mounts, Path::new(&unescaped(upper))));
    match upper {
        Some(upper) if !upper.is_memory() && upper.point != mount.point => None,
        Some(upper) if upper.is_memory() => Some(format!(
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
    let (device, point, of_mount) = (place.nth(2)?, place.nth(1)?, place.next()?);
    let (kind, source) = (system.next()?, system.next()?);
    let options = system.next().unwrap_or_default();
    // The latter is what ext4 says of itself after an error, since Linux 6.15.
    let is_read_only = |option| matches!(option, "ro" | "emergency_ro");
    Some(Mount {
        device: device.to_owned(),
        point: PathBuf::from(unescaped(point)),
        kind: kind.to_owned(),
        source: unescaped(source),
        options: options.to_owned(),
        is_read_only: of_mount.split(',').chain(options.split(',')).any(is_read_only),
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
29 22 179:4 / /bound ro,noatime shared:3 - ext4 /dev/mmcblk0p4 rw
30 22 179:5 / /failed rw - ext4 /dev/mmcblk0p5 ro,errors=remount-ro
31 22 179:6 / /broken rw - ext4 /dev/mmcblk0p6 rw,emergency_ro
33 22 253:0 / /zram rw - ext4 /dev/zram0 rw
34 22 0:43 / /log rw - overlay overlay rw,lowerdir=/log,upperdir=/zram/upper,workdir=/zram/work
32 29 179:7 / /bound/data rw - ext4 /dev/mmcblk0p7 rw,errors=remount-ro
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
            ("/zram/none", "ext4", "253:0", Some("in memory (ext4 on /dev/zram0)")),
            ("/log/none", "overlay", "0:43", Some("on an overlay in memory")),
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
    fn a_folder_is_read_only_as_its_mount_or_its_file_system_is() {
        for (path, is_read_only) in [
            ("/home/none", false),
            ("/bound/none", true),
            ("/failed/none", true),
            ("/broken/none", true),
            ("/bound/data/none", false),
        ] {
            assert_eq!(on(path).is_read_only, is_read_only, "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_on_what_the_links_above_it_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let found = on(link.join("bound/data/none").to_str().unwrap());
        assert_eq!((found.device.as_str(), found.point), ("179:7", PathBuf::from("/bound/data")));
    }

    #[test]
    fn this_machine_says_what_its_folders_are_on() {
        let found = Storage::of(Path::new("/"), Path::new("/proc")).unwrap();
        assert_eq!(found.kind, "proc");
        assert_eq!(Storage::of(Path::new("/nowhere"), Path::new("/proc")), None);
    }
}
