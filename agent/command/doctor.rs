//! `understudy doctor`: looks at what the board depends on, and says what to do about it.

use std::{fmt::Write as _, fs::File, io::ErrorKind, path::Path, process::ExitCode};

use serde_json::json;
use understudy_boards::board;

use super::{ask, asked_status};
use crate::{
    config::{BrokerConfig, Config, Places, RunFlags, RunOptions},
    control::{ControlRequest, ControlResponse},
    doctor::{self, Finding, Place, Verdict, mqtt},
    driver::{
        clock,
        hook::{self, Hook},
    },
    status::Status,
    terminal,
};

/// What is to be looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Look whether MQTT brokers are good for the group's datagrams: those of this board's
    /// configuration, or one that is named. The exit code says so too.
    Mqtt {
        /// Look at this one, mqtt://HOST or mqtts://HOST, without an account.
        #[arg(long, value_name = "URL")]
        broker: Option<String>,
    },
}

/// # Errors
/// When there is nothing to look at.
pub(super) fn run(places: &Places, arguments: Arguments) -> Result<ExitCode, String> {
    match arguments.action {
        Some(Action::Mqtt { broker }) => brokers(places, broker),
        None => board(places, arguments.json),
    }
}

fn board(places: &Places, is_json: bool) -> Result<ExitCode, String> {
    let root = Path::new("/");
    let mut found: Vec<Finding> = configuration(places).err().into_iter().collect();
    let status = asked_status(places);
    let status = status.map_err(|reason| found.push(doctor::no_agent(&reason))).ok();
    let place = Place {
        root,
        directory: &places.directory,
        ask: &|program, words| Hook::default().said(program, words, hook::SAYS),
        is_synchronised: clock::is_synchronised(),
        is_pi: board::compatible(root).iter().any(|name| name.starts_with("raspberrypi,")),
        board: &board::here(root, std::env::consts::ARCH)?,
    };
    found.extend(doctor::board(&place, status.as_ref()));
    found.extend(status.map(|status| others(places, &status)).unwrap_or_default());
    match is_json {
        true => terminal::line(&json!({ "findings": found }).to_string())?,
        false => terminal::prose(&shown(&found))?,
    }
    let is_fine = found.iter().all(|it| it.verdict != Verdict::Fault);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Nothing that is looked at depends on it, but the agent does: with one that is wrong it does
/// not start.
fn configuration(places: &Places) -> Result<(), Finding> {
    let opened = File::open(&places.config).map(drop);
    let may_read = !opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let found = |reason: String| doctor::no_config(&reason, may_read);
    let config = Config::read(places).map_err(found)?;
    RunOptions::resolve(places, &config, RunFlags::default()).map(drop).map_err(found)
}

/// What is found of the other boards of the group, if there are any.
fn others(places: &Places, status: &Status) -> Vec<Finding> {
    if status.members.len() < 2 {
        return Vec::new();
    }
    match ask(places, &ControlRequest::Probe) {
        Ok(ControlResponse::Probed(boards)) => doctor::peers(&boards),
        Ok(_) => Vec::new(),
        Err(reason) => vec![doctor::not_probed(&reason)],
    }
}

fn shown(found: &[Finding]) -> String {
    let width = found.iter().map(|it| it.about.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { about, verdict, found, advice } in found {
        let found = found.replace('\n', "\n       ");
        let _ = writeln!(out, "{:<6} {about:<width$}  {found}", verdict.word());
        if let Some(advice) = advice {
            let _ = writeln!(out, "       {advice}");
        }
    }
    out
}

fn brokers(places: &Places, broker: Option<String>) -> Result<ExitCode, String> {
    let config = Config::read(places)?;
    let brokers = match broker {
        Some(url) => vec![BrokerConfig { url, user: None, password: None, ca: None, boards: true }],
        None => config.named_brokers(),
    };
    if brokers.is_empty() {
        return Err(format!(
            "{} names no [[broker]]; --broker URL looks at any",
            places.config.display()
        ));
    }
    let mut are_fine = true;
    for broker in brokers {
        let found = mqtt::look(&broker.broker()?, &config.mqtt.topic_prefix);
        are_fine &= found.is_fine;
        for words in found.words {
            terminal::line(&format!("{}: {words}", broker.url))?;
        }
    }
    Ok(if are_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
