//! The command line: what a person types, turned into one call, and its answer
//! into text. No logic of the agent lives here.

use std::{io::Read as _, process::ExitCode};

use clap::Parser as _;

pub use self::definition::definition;
use self::definition::{Arguments, Command, TokenAction};
use crate::{
    config::{Config, Places, RunFlags, RunOptions, SAMPLE},
    control::{ControlRequest, ControlResponse},
    demo,
    driver::control,
    hold, log,
    notices::options,
    parent, recover, settings, start,
    status::Status,
    terminal,
};

mod backup;
mod board;
mod bridges;
mod checkpoint;
mod definition;
mod doctor;
mod drain;
mod duty;
mod exchange;
mod history;
mod members;
mod plot;
mod readings;
mod releases;
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
        | Command::Leave
        | Command::Reset { .. }) => of_membership(command, places)?,
        Command::Turn(arguments) => return turn::run(places, &arguments),
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
        Command::Board { json } => board::run(&places.directory, json)?,
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
    log::begin(level);
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
