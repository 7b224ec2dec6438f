//! `understudy backup`: a copy of this board's database in a file, or none at all.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::exchange;
use crate::config::Places;

/// Bytes copied at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What is wished for.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to; `-` is standard output.
    file: PathBuf,
    /// As SQL text instead of a SQLite file.
    #[arg(long)]
    sql: bool,
    /// Through gzip.
    #[arg(long)]
    compress: bool,
    /// In place of a file that is there.
    #[arg(long)]
    force: bool,
}

/// Copies the database.
pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), String> {
    let Arguments { file, sql, compress, force } = arguments;
    let path = format!(
        "/db/backup?fmt={}{}",
        if *sql { "sql" } else { "delete" },
        if *compress { "&compress" } else { "" }
    );
    if file.as_os_str() == "-" {
        let mut answer = exchange::get(&places.control, &path)?.body()?;
        return copy(&mut answer, &mut io::stdout().lock()).map_err(|trouble| match trouble {
            Trouble::Agent(error) => format!("the copy is not whole: {error}"),
            Trouble::File(error) => format!("standard output: {error}"),
        });
    }
    if !force && file.exists() {
        return Err(is_there(file));
    }
    // Before the agent is asked: it may not be possible here.
    let partial = Partial::new(file)?;
    let mut answer = exchange::get(&places.control, &path)?.body()?;
    partial.fill(&mut answer, file, *force)
}

fn is_there(file: &Path) -> String {
    format!("{} is there already: --force takes its place", file.display())
}

/// Who is to blame for what was not copied.
enum Trouble {
    Agent(io::Error),
    File(io::Error),
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(), Trouble> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).map_err(Trouble::Agent)?;
        if count == 0 {
            return to.flush().map_err(Trouble::File);
        }
        to.write_all(&piece[..count]).map_err(Trouble::File)?;
    }
}

/// A file beside the one wished for: not there any more, unless it took its place.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn new(wished: &Path) -> Result<Self, String> {
        let mut path = OsString::from(wished);
        path.push(format!(".partial-{}", std::process::id()));
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, file })
    }

    fn fill(mut self, from: &mut dyn Read, wished: &Path, force: bool) -> Result<(), String> {
        let at = |error: io::Error| format!("{}: {error}", wished.display());
        let done =
            copy(from, &mut self.file).and_then(|()| self.file.sync_all().map_err(Trouble::File));
        done.map_err(|trouble| match trouble {
            Trouble::Agent(error) => format!("no copy was made: {error}"),
            Trouble::File(error) => at(error),
        })?;
        self.take_place(wished, force).map_err(|error| {
            let came = error.kind() == io::ErrorKind::AlreadyExists;
            if came { is_there(wished) } else { at(error) }
        })?;
        // The name, too, is to survive a power cut.
        let folder = wished.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(at)?;
        folder.sync_all().map_err(at)
    }

    fn take_place(&self, wished: &Path, force: bool) -> io::Result<()> {
        if force {
            return fs::rename(&self.path, wished);
        }
        match renameat_with(CWD, &self.path, CWD, wished, RenameFlags::NOREPLACE) {
            // Some file systems cannot; a file that came meanwhile is seen all the same.
            Err(rustix::io::Errno::INVAL) if !wished.exists() => fs::rename(&self.path, wished),
            renamed => Ok(renamed?),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more when it took its place.
        let _ = fs::remove_file(&self.path);
    }
}
