//! Unix sockets that stay where they belong: one that a former agent left is replaced,
//! one that vanishes while the agent runs is made anew, with its folder. The folder
//! itself is never removed, so that a container which has it mounted goes on.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

/// Between two looks whether a socket is where it belongs.
pub const LOOK: Duration = Duration::from_secs(1);

/// Who may use the control socket besides its owner.
pub const GROUP: &str = "understudy";

/// A socket, and where it belongs.
#[derive(Debug)]
pub struct Kept<S> {
    path: PathBuf,
    mode: u32,
    bind: fn(&Path) -> io::Result<S>,
    socket: S,
    /// What is at the path when it is this one.
    own: Option<(u64, u64)>,
    /// That it cannot be made anew was said.
    is_said: bool,
}

impl<S> Kept<S> {
    /// Binds the socket with these permissions, in place of one that was left.
    ///
    /// # Errors
    /// When it cannot be made: the text names it, and who could make its folder.
    pub fn bind(path: &Path, mode: u32, bind: fn(&Path) -> io::Result<S>) -> Result<Self, String> {
        let socket = made(path, mode, bind)?;
        let own = identity(path);
        Ok(Self { path: path.to_owned(), mode, bind, socket, own, is_said: false })
    }

    /// The socket as it is now.
    pub const fn get(&self) -> &S {
        &self.socket
    }

    /// Makes it anew where it is gone; true when that was done. Connections that came by
    /// the former one go on. What somebody else has put there is left alone.
    pub fn look(&mut self) -> bool {
        let there = identity(&self.path);
        if there.is_some() && there == self.own {
            return false;
        }
        let made = match there {
            None => made(&self.path, self.mode, self.bind),
            Some(_) => Err(format!("{} is somebody else's now", self.path.display())),
        };
        match made {
            Ok(socket) => {
                self.socket = socket;
                self.own = identity(&self.path);
                self.is_said = false;
                warn!(path = %self.path.display(), "the socket had vanished and is made anew");
                return true;
            }
            Err(reason) if !self.is_said => {
                self.is_said = true;
                warn!(reason, "a socket is not where it belongs: looked for again and again");
            }
            Err(_) => {}
        }
        false
    }
}

impl Kept<UnixListener> {
    /// The next caller; meanwhile the socket is kept where it belongs.
    ///
    /// # Errors
    /// The system's, as when no file descriptor is left: who asks again at once gets it
    /// again.
    pub async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.socket.accept() => return accepted.map(|(stream, _)| stream),
                () = tokio::time::sleep(LOOK) => drop(self.look()),
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

fn made<S>(path: &Path, mode: u32, bind: fn(&Path) -> io::Result<S>) -> Result<S, String> {
    let folder = path.parent().unwrap_or(path);
    let at = |error: io::Error| {
        let way_out = way_out(folder, &error).unwrap_or_default();
        format!("socket {}: {error}{way_out}", path.display())
    };
    // systemd has made /run/understudy where it runs the agent; elsewhere nobody has.
    make_folder(folder).map_err(|error| {
        let way_out = way_out(folder, &error).unwrap_or_else(|| {
            String::from(
                ". Run the agent as root or as the service that comes with it, or keep everything \
                 in a folder of your own with --dir DIR.",
            )
        });
        format!("{}, where a socket is to be, cannot be made: {error}{way_out}", folder.display())
    })?;
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(format!("{} is there already, and is no socket", path.display()));
        }
        Ok(_) => fs::remove_file(path).map_err(at)?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        Err(_) => {}
    }
    let socket = bind(path).map_err(at)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at)?;
    Ok(socket)
}

/// Others reach the sockets in it, whatever the agent's mask keeps from them elsewhere.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), make_folder)?;
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// How there can be a socket in a folder that the system, or the unit, lets nobody write to.
fn way_out(folder: &Path, error: &io::Error) -> Option<String> {
    (error.kind() == io::ErrorKind::ReadOnlyFilesystem).then(|| {
        format!(
            ". Where the disk can be written it is the service that may not, but in its own \
             folders: take one below /run/understudy, or make this one, give it to the service's \
             user, and with `systemctl edit understudy` (or understudy@NAME) write under \
             [Service]: ReadWritePaths={}",
            folder.display()
        )
    })
}

/// Gives the socket to the group [`GROUP`], where the system has one.
pub fn give_to_group(path: &Path) {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(id) = group_id(&groups, GROUP) else { return };
    if let Err(error) = std::os::unix::fs::chown(path, None, Some(id)) {
        info!(%error, group = GROUP, path = %path.display(), "the socket stays its owner's");
    }
}

/// The number of a group in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream as StdUnixStream};

    use super::*;

    #[test]
    fn a_socket_that_vanished_with_its_folder_is_made_anew_and_its_folder_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/readings.sock");
        let bind = |path: &Path| UnixDatagram::bind(path);
        let mut kept = Kept::bind(&path, 0o666, bind).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o666);
        let inode = || fs::metadata(path.parent().unwrap()).unwrap().ino();
        let first = inode();
        drop(Kept::bind(&path, 0o666, bind).unwrap());
        assert_eq!(inode(), first, "another agent took the same folder");
        assert!(!kept.look(), "it does not fight over the place");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(kept.look() && !kept.look());
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"a 1", &path).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(kept.get().recv(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn where_nobody_may_write_it_is_said_how_the_service_may() {
        let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let way_out = way_out(Path::new("/srv/sensors"), &read_only).unwrap();
        assert!(way_out.ends_with("ReadWritePaths=/srv/sensors"), "{way_out}");
        // Nobody makes a folder there, root neither, and it is no file system to read alone.
        let bind = |path: &Path| UnixDatagram::bind(path);
        let error = Kept::bind(Path::new("/proc/sensors/readings.sock"), 0o666, bind).unwrap_err();
        assert!(error.contains("--dir DIR") && !error.contains("ReadWritePaths"), "{error}");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings.sock");
        fs::write(&path, "somebody's").unwrap();
        let refused = Kept::bind(&path, 0o666, |path| UnixDatagram::bind(path)).err().unwrap();
        assert!(refused.contains("is no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
        assert!(StdUnixStream::connect(&path).is_err());
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nunderstudy2:x:7:\nunderstudy:x:991:pi\nbad\n";
        assert_eq!(group_id(groups, "understudy"), Some(991));
        assert_eq!((group_id(groups, "under"), group_id(groups, "bad")), (None, None));
    }
}
