//! Writes what a package has of the command line: manual pages and what shells complete,
//! from the definition by which the program reads its arguments.
//!
//!     manual FOLDER

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use clap_complete::{Shell, generate_to};

/// What the page of the whole program says beyond its commands.
const FILES: &str = r#".SH FILES
.TP
.I /etc/understudy/understudy.toml
What is true of this board alone; \fBunderstudy config \-\-doc\fR prints it with all that can be said.
.TP
.I /var/lib/understudy
The data: \fIstate.db\fR, which other programs may read, and \fIjournal.db\fR.
.TP
.I /run/understudy
The sockets: for the command line \fIcontrol.sock\fR, which is for root and the group understudy, for readings
\fIreadings.sock\fR and \fIreadings.stream.sock\fR.
.TP
.I /var/lib/understudy@NAME
The same of \fIunderstudy@NAME.service\fR, a second agent that is in another group; its sockets are with its
data. Its commands are \fBunderstudy \-\-dir /var/lib/understudy@NAME\fR ...
.SH EXIT STATUS
0 when what was asked for is done, 1 when not: why is on standard error. 2 when it was asked for in the wrong words.
"#;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: manual FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{folder}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut understudy::command::definition(), "understudy", folder)?;
    }
    clap_mangen::generate_to(understudy::command::definition(), folder)?;
    let page = folder.join("understudy.1");
    File::options().append(true).open(page)?.write_all(FILES.as_bytes())
}
