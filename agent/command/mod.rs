//! The command line: what a person types, turned into one call, and its answer
//! into text. No logic of the agent lives here.

use std::{io::Read as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use understudy_core::fence::Fence;

use crate::{
    config::{Config, Places, RunFlags, RunOptions, SAMPLE},
    control::{ControlRequest, ControlResponse},
    demo,
    driver::control,
    hold,
    notices::options,
    parent, recover, settings, start,
    status::Status,
    terminal,
};

mod backup;
mod board;
mod bridges;
mod checkpoint;
mod doctor;
mod drain;
mod duty;
mod exchange;
mod history;
mod members;
mod plot;
mod readings;
mod restore;
mod retention;
mod scrub;
mod sentence;
mod show;
mod sql;
mod turn;
mod unit;
mod upgrade;
mod watch;

/// One database on every board of a sensor group, agreed through Raft.
#[derive(Debug, Parser)]
#[command(name = "understudy", version)]
struct Arguments {
    /// Keep everything under this directory.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Read this configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// error, warn, info, debug or trace.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<tracing::Level>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
enum TokenAction {
    /// End all tokens: nobody joins with one that was made before.
    Revoke,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check the configuration and print what is in force.
    Check,
}

/// The command line, for what describes it: manual pages, completions.
#[must_use]
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// Runs the program: from its arguments to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let places = Places::new(arguments.dir.as_deref(), arguments.config.as_deref());
    match carry_out(arguments, &places) {
        Ok(code) => code,
        Err(reason) => {
            terminal::complain(&format!("understudy: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// The process above the agent.
fn run_parent(places: &Places) -> Result<ExitCode, String> {
    let config = Config::read(places)?;
    let (brokers, arguments) = (config.brokers()?, std::env::args_os().skip(1).collect());
    let posts = (brokers.as_slice(), config.mqtt.topic_prefix.as_str());
    parent::run(&places.control, &config.tasks(), posts, arguments)
}

fn carry_out(arguments: Arguments, places: &Places) -> Result<ExitCode, String> {
    match arguments.command {
        Command::Run { http, http_open, udp, name, die_with_parent, of_parent } => {
            if die_with_parent || of_parent.is_some() {
                die_with(of_parent)?;
            }
            if of_parent.is_none() {
                return run_parent(places);
            }
            let flags = RunFlags { http, http_open, udp, name, parent: of_parent };
            return run(places, flags, arguments.log_level);
        }
        Command::Init(arguments) => members::init(places, arguments)?,
        Command::Join { token, name, replace: replaces, witness } => {
            let token = token.map_or_else(read_token, Ok)?;
            let answer = ask(places, &ControlRequest::Join { token, replaces, name, witness })?;
            terminal::prose(&show::joined(&answer))?;
        }
        command @ (Command::Token { .. }
        | Command::RotateKey
        | Command::Members { .. }
        | Command::Remove { .. }
        | Command::Transfer { .. }
        | Command::Promote { .. }
        | Command::Demote { .. }
        | Command::Rename { .. }
        | Command::Drain(_)
        | Command::Undrain { .. }
        | Command::Upgrade
        | Command::Turn(_)
        | Command::Leave
        | Command::Reset { .. }) => of_membership(command, places)?,
        Command::Execute { sql, transaction, fence } => {
            return sql::execute(places, sql, transaction, fence);
        }
        Command::Query { sql } => return sql::query(places, sql),
        command @ (Command::Set { .. } | Command::Get { .. } | Command::Settings) => {
            of_settings(command, places)?;
        }
        Command::Scrub => return scrub::run(places),
        Command::Repair { from } => scrub::repair(places, &from)?,
        Command::Recover { sure } => recover(places, sure)?,
        Command::Write(arguments) => readings::write(places, arguments)?,
        Command::Ingest(arguments) => return readings::ingest(places, &arguments),
        Command::Readings(arguments) => readings::show(places, arguments)?,
        Command::Watch(arguments) => watch::run(places, &arguments)?,
        command @ (Command::Hold(_)
        | Command::HoldGuard { .. }
        | Command::HoldKeeper { .. }
        | Command::HoldHerald { .. }
        | Command::HoldExec { .. }) => return of_holding(command, places),
        Command::Unit(arguments) => unit::run(places, &arguments)?,
        Command::Checkpoint(arguments) => checkpoint::run(places, arguments)?,
        Command::Duty { action } => duty::run(places, action)?,
        Command::History(arguments) => history::run(places, arguments)?,
        Command::Retention { action } => retention::run(places, action)?,
        Command::Clock { action } => readings::clock(places, action)?,
        Command::Backup(arguments) => backup::run(places, &arguments)?,
        Command::Restore(arguments) => restore::run(places, &arguments)?,
        Command::Status { json } => return status(places, json),
        Command::Config { doc, action } => config(places, doc, action.is_some())?,
        Command::Board { json } => board::run(json)?,
        Command::Doctor(arguments) => return doctor::run(places, arguments),
        Command::Demo(arguments) => return Ok(demo::run(&arguments)),
        Command::DemoSampler(arguments) => demo::sample(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "its caller chooses the commands")]
fn of_settings(command: Command, places: &Places) -> Result<(), String> {
    match command {
        Command::Set { name, value } => {
            sql::done(places, settings::set(&name, &value)?, false).map(drop)
        }
        Command::Get { name } => {
            let setting = settings::find(&name).ok_or_else(|| settings::unknown(&name))?;
            terminal::line(value_of(&stored(places)?, setting))
        }
        _ => terminal::prose(&show::settings(&stored(places)?)),
    }
}

/// The processes around a duty's command.
#[expect(clippy::wildcard_enum_match_arm, reason = "its caller chooses the commands")]
fn of_holding(command: Command, places: &Places) -> Result<ExitCode, String> {
    match command {
        Command::Hold(arguments) => hold::run(places, arguments),
        Command::HoldGuard { .. } => hold::run_guard(),
        Command::HoldKeeper { deadline, .. } => hold::run_keeper(&deadline),
        Command::HoldHerald { .. } => hold::herald::run(),
        Command::HoldExec { user, check, command } => hold::exec(user.as_deref(), check, &command),
        _ => something_else(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "its caller chooses the commands")]
fn of_membership(command: Command, places: &Places) -> Result<(), String> {
    match command {
        Command::Token { action: Some(TokenAction::Revoke), .. } => {
            members::done(places, &ControlRequest::RevokeTokens, "No token holds any longer.")
        }
        Command::Token { expires, uses, action: None } => {
            terminal::print(&show::token(&members::token(places, &expires, uses)?))
        }
        Command::RotateKey => members::done(places, &ControlRequest::RotateKey, members::ROTATED),
        Command::Members { json } => members::members(places, json),
        Command::Remove { board } => {
            let said = format!("{board} is no member any more.");
            members::done(places, &ControlRequest::Remove { board }, &said)
        }
        Command::Transfer { board } => {
            let said = format!("{} leads.", board.as_deref().unwrap_or("Another board"));
            members::done(places, &ControlRequest::Transfer { board }, &said)
        }
        Command::Promote { board } => {
            let said = format!("{board} votes, or does as soon as there is room for its vote.");
            members::done(places, &ControlRequest::Vote { board, voter: true }, &said)
        }
        Command::Demote { board } => {
            let said = format!("{board} follows, without a vote.");
            members::done(places, &ControlRequest::Vote { board, voter: false }, &said)
        }
        Command::Rename { mut names } => {
            let name = names.pop().unwrap_or_default();
            ask(places, &ControlRequest::Rename { board: names.pop(), name }).map(drop)
        }
        Command::Drain(arguments) => drain::drain(places, arguments),
        Command::Undrain { board } => drain::undrain(places, board),
        Command::Upgrade => upgrade::run(places),
        Command::Turn(arguments) => turn::run(places, &arguments),
        Command::Leave => members::leave(places),
        Command::Reset { yes } => members::reset(places, yes),
        _ => Ok(()),
    }
}

/// Ends when the process above it does, which is this one where it is said which.
fn die_with(parent: Option<u32>) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("the parent cannot be watched: {error}"))?;
    match parent.is_some_and(|parent| parent != std::os::unix::process::parent_id()) {
        true => Err(String::from("the parent has ended already")),
        false => Ok(()),
    }
}

fn run(
    places: &Places,
    flags: RunFlags,
    level: Option<tracing::Level>,
) -> Result<ExitCode, String> {
    let config = Config::read(places)?;
    let level = level.or(config.level()?).unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // A log that nobody reads any more must not end the agent.
        .log_internal_errors(false)
        .without_time()
        .init();
    start::run(RunOptions::resolve(places, &config, flags)?)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each caller takes the answer it asked for")]
fn ask(places: &Places, request: &ControlRequest) -> Result<ControlResponse, String> {
    match control::ask(&places.control, request)? {
        ControlResponse::Refused(reason) => Err(reason),
        response => Ok(response),
    }
}

fn something_else<T>() -> Result<T, String> {
    Err(String::from("the agent answered something else"))
}

fn read_token() -> Result<String, String> {
    let mut token = String::new();
    let read = std::io::stdin().take(8_192).read_to_string(&mut token);
    read.map_err(|error| format!("standard input: {error}"))?;
    if token.trim().is_empty() {
        return Err(String::from(
            "no token: `understudy join TOKEN`, or the token on standard input",
        ));
    }
    Ok(token)
}

/// The settings that were ever set: name and value.
fn stored(places: &Places) -> Result<Vec<(String, String)>, String> {
    let request = settings::read_all();
    let response = sql::done(places, request, true)?;
    settings::rows(response).ok_or_else(|| String::from("the settings cannot be read"))
}

fn value_of<'a>(stored: &'a [(String, String)], setting: &'a settings::Setting) -> &'a str {
    let found = stored.iter().find(|(name, _)| name == setting.name);
    found.map_or(setting.default, |(_, value)| value)
}

fn asked_status(places: &Places) -> Result<Status, String> {
    let ControlResponse::Status(status) = ask(places, &ControlRequest::Status)? else {
        return something_else();
    };
    Ok(*status)
}

fn status(places: &Places, json: bool) -> Result<ExitCode, String> {
    let status = asked_status(places)?;
    if json {
        let json = serde_json::to_string_pretty(&status).map_err(|error| error.to_string())?;
        terminal::line(&json)?;
    } else {
        terminal::prose(&show::status(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn recover(places: &Places, sure: bool) -> Result<(), String> {
    let options = RunOptions::resolve(places, &Config::read(places)?, RunFlags::default())?;
    terminal::prose(&show::recovered(&recover::recover(&options, sure)?, sure))
}

fn config(places: &Places, doc: bool, check: bool) -> Result<(), String> {
    if doc {
        return terminal::print(&[SAMPLE, options::SAMPLE].concat());
    }
    if !check {
        return Err(String::from("`understudy config check` or `understudy config --doc`"));
    }
    let config = Config::read(places)?;
    let options = RunOptions::resolve(places, &config, RunFlags::default())?;
    terminal::print(&show::options(places, &options))
}
