//! What a person may type: every command with its arguments, and what `help` says of them.
//! The arguments of a command that has a file of its own are there.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand};
use understudy_core::fence::Fence;

use super::{
    backup, checkpoint, doctor, drain, duty, history, members, readings, restore, retention, turn,
    unit, watch,
};
use crate::{demo, hold};

/// One database on every board of a sensor group, agreed through Raft.
#[derive(Debug, Parser)]
#[command(name = "understudy", version)]
pub(super) struct Arguments {
    /// Keep everything under this directory.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Read this configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<tracing::Level>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent of this board.
    Run {
        /// Where rqlite's API is served (127.0.0.1:4001).
        #[arg(long, value_name = "ADDR:PORT")]
        http: Option<SocketAddr>,
        /// Serve HTTP beyond loopback too: it has no accounts.
        #[arg(long)]
        http_open: bool,
        /// Where datagrams of boards come in (`[::]:4002`).
        #[arg(long, value_name = "ADDR:PORT")]
        udp: Option<SocketAddr>,
        /// This board's name, instead of its host name.
        #[arg(long)]
        name: Option<String>,
        /// End when the process that started this one ends.
        #[arg(long, hide = true)]
        die_with_parent: bool,
        /// It is the agent, and this its parent.
        #[arg(long, hide = true, value_name = "PID")]
        of_parent: Option<u32>,
    },
    /// Make a new group of this board; the last line printed is a token.
    Init(members::Init),
    /// Make this board a member of the group that printed the token. It gets a copy of
    /// everything, and votes by itself once it has caught up. With --witness it votes and
    /// keeps what of the log another may lack, and no data.
    Join {
        /// The token; read from standard input when absent.
        token: Option<String>,
        /// This board's name, instead of that of its start.
        #[arg(long)]
        name: Option<String>,
        /// Take the place and the name of this board, which cannot be heard any more and
        /// is removed from the group for good.
        #[arg(long, value_name = "BOARD")]
        replace: Option<String>,
        /// Only witness: two boards with the data and any small third with this are a group
        /// in which one takes over when the other dies. It votes beside two, four or six
        /// boards with the data, follows beside any other number, and answers no reads. It
        /// keeps what a board that is away misses, up to log_mb of its configuration. A
        /// group has one witness at the most.
        #[arg(long)]
        witness: bool,
    },
    /// Print a join token for other boards.
    Token {
        /// For how long it holds, in time that the group is up: 10s to 30d. A restart of
        /// the whole group ends it as well.
        #[arg(long, default_value = members::EXPIRES, value_name = "TIME")]
        expires: String,
        /// How many boards it lets in; 0 for any number.
        #[arg(long, default_value_t = 0, value_name = "BOARDS")]
        uses: u32,
        #[command(subcommand)]
        action: Option<TokenAction>,
    },
    /// Change the group's key, as happens by itself after a board was removed: for when a
    /// token or a board's card may be in wrong hands. Every board gets the new key, then
    /// uses it, then forgets the old one. No token made before lets anybody in.
    RotateKey,
    /// Print all boards of the group: who leads, who votes, who can be heard.
    Members {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a board out of the group for good. What it holds stays on it; it cannot come
    /// back but as a new board. The group's key is changed, and tokens made before let
    /// nobody in.
    Remove {
        /// Which.
        board: String,
    },
    /// Have another board lead.
    Transfer {
        /// Which; any that can when absent.
        board: Option<String>,
    },
    /// Have a board that only follows vote.
    Promote {
        /// Which.
        board: String,
    },
    /// Have a board only follow, without a vote, until it is promoted again.
    Demote {
        /// Which.
        board: String,
    },
    /// Make a board free for maintenance: it hands on every duty, and leadership, and takes
    /// neither until `undrain`, also when it is started again. It keeps its vote and its
    /// data. Waits until it is free; what stays, for want of another board that is ready,
    /// is named, and goes as soon as there is one.
    Drain(drain::Arguments),
    /// Have a board hold duties and lead again that was drained.
    Undrain {
        /// Which; this one when absent.
        board: Option<String>,
    },
    /// Once all boards run a newer understudy: have the group make use of all that it can, at
    /// once. From then on no board goes back to the older one.
    Upgrade,
    /// Before this board is started anew: wait until all boards that vote are there, and for
    /// the turn, which one board of the group has at a time. The next start of the agent
    /// gives it back. An upgrade of the package does all this by itself.
    Turn(turn::Arguments),
    /// Take this board out of its group, which goes on without it, and delete the group's
    /// data here. If it leads, another board takes over first.
    Leave,
    /// Delete the group's data on this board without telling the group: for a board that
    /// was removed, is the last one, or cannot be repaired.
    Reset {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Run SQL statements that write, all in one request.
    Execute {
        /// The statements.
        #[arg(required = true)]
        sql: Vec<String>,
        /// All or nothing.
        #[arg(long)]
        transaction: bool,
        /// It comes to nothing once the duty has another token: what UNDERSTUDY_FENCE says
        /// to a command that `understudy hold` runs.
        #[arg(long, value_name = "NAME:TOKEN", value_parser = Fence::parse)]
        fence: Option<Fence>,
    },
    /// Run a SQL statement that reads.
    Query {
        /// The statement.
        sql: String,
    },
    /// Set a setting of the whole group.
    Set {
        /// Which.
        name: String,
        /// To what.
        value: String,
    },
    /// Print a setting of the group.
    Get {
        /// Which.
        name: String,
    },
    /// Print all settings of the group.
    Settings,
    /// Give a board another name.
    Rename {
        /// The new name, or the board's present name followed by it.
        #[arg(required = true, num_args = 1..=2, value_name = "[BOARD] NAME")]
        names: Vec<String>,
    },
    /// Compare what all boards hold, row by row, and say where they differ.
    Scrub,
    /// Where boards differ and no majority agrees: say which one is right.
    Repair {
        /// The board whose rows are right.
        #[arg(long, value_name = "BOARD")]
        from: String,
    },
    /// The majority of the group is gone for good: make a new group of what this
    /// board has. Its agent must not run. Without the flag, only say what it has.
    Recover {
        /// Do it.
        #[arg(long = "i-know-what-this-means")]
        sure: bool,
    },
    /// Store a reading.
    Write(readings::Write),
    /// Store what a program prints, line by line: `PROGRAM | understudy ingest`. A line is
    /// `sensor value [time]`, or line protocol. Lines that are not stored are named by
    /// their number on standard error, and the exit code says whether there were any.
    Ingest(readings::Ingest),
    /// Show readings.
    Readings(readings::Show),
    /// Print readings as they come, of these sensors or of all, until interrupted.
    Watch(watch::Arguments),
    /// The group's duties: who holds each, and who may.
    Duty {
        #[command(subcommand)]
        action: Option<duty::Action>,
    },
    /// Leave something to the next holder of a duty (standard input, up to 64 KiB), or print
    /// what was left. The next holder's command finds it in UNDERSTUDY_CHECKPOINT_FILE.
    Checkpoint(checkpoint::Arguments),
    /// What became of the group's boards and duties, and why, as those saw it who were
    /// left.
    History(history::Arguments),
    /// Keep a command: it runs while this board holds a duty, and at no other time. Ended
    /// by a signal it ends the command and exits with 0; 127 and 126 as in a shell.
    Hold(hold::Arguments),
    /// Print a systemd unit that keeps a command for a duty, as a user of this board: the
    /// way for a command that drives hardware.
    Unit(unit::Arguments),
    #[command(hide = true)]
    HoldGuard {
        /// For whoever lists processes.
        #[arg(last = true)]
        duty: String,
    },
    #[command(hide = true)]
    HoldKeeper {
        /// Where it says until when.
        #[arg(long)]
        deadline: String,
        /// For whoever lists processes.
        #[arg(last = true)]
        duty: String,
    },
    #[command(hide = true)]
    HoldHerald {
        /// For whoever lists processes.
        #[arg(last = true)]
        duty: String,
    },
    #[command(hide = true)]
    HoldExec {
        /// Who is to run it.
        #[arg(long)]
        user: Option<String>,
        /// Only try whether it could be run.
        #[arg(long)]
        check: bool,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// How long readings are kept, and what is kept of them after that.
    Retention {
        #[command(subcommand)]
        action: Option<retention::Action>,
    },
    /// Does this board know the time? Readings are stamped by its clock.
    Clock {
        #[command(subcommand)]
        action: Option<readings::ClockAction>,
    },
    /// Copy the database into a file, while writing goes on.
    Backup(backup::Arguments),
    /// Put a file in the place of everything in the group's database.
    Restore(restore::Arguments),
    /// How this board and its group are.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What this machine is, and what its sensors say.
    Board {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look at what this board depends on, its roads to the others among it, and say what to
    /// do about each. The exit code is 1 where something is at fault.
    Doctor(doctor::Arguments),
    /// The configuration of this board.
    Config {
        /// Print a commented sample.
        #[arg(long)]
        doc: bool,
        #[command(subcommand)]
        action: Option<ConfigAction>,
    },
    /// Three boards on this machine: watch one die and another take over.
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoSampler(demo::SamplerArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenAction {
    /// End all tokens: nobody joins with one that was made before.
    Revoke,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigAction {
    /// Check the configuration and print what is in force.
    Check,
}

/// The command line, for what describes it: manual pages, completions.
#[must_use]
pub fn definition() -> clap::Command {
    Arguments::command()
}
