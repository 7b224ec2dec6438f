//! Readings on the command line: written one by one, taken from a program line by line,
//! and shown.

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use understudy_core::{readings::Level, sql::Value};

use super::{ask, asked_status, plot, something_else, sql};
use crate::{
    config::{Config, Places},
    control::{ControlRequest, ControlResponse},
    driver::{clock, control},
    readings::{
        Draft, line,
        moment::{self, Unit},
        query::{self, Range, Row},
        stream::{self, level_name},
        value::{self, Bare},
    },
    status::Status,
    terminal,
};

/// The answer to one reading is waited for no longer than this.
const ANSWER: Duration = Duration::from_secs(60);

/// Bytes taken from a program at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Between two words on how far it is, milliseconds.
const PROGRESS_MS: u64 = 1_000;

/// Lines that are not stored and named one by one; the others are counted.
const NAMED_MAX: u64 = 100;

/// `understudy write`.
#[derive(Debug, clap::Args)]
pub(super) struct Write {
    /// The sensor's name.
    sensor: String,
    /// A number, true, false, or a text in quotes ('"open"').
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The value is a text as it stands.
    #[arg(long)]
    text: bool,
    /// When it was taken: 1700000000 (seconds; or with ms, us, ns), or
    /// 2023-11-14T22:13:20Z. Now when absent.
    #[arg(long, allow_hyphen_values = true)]
    time: Option<String>,
    /// Your own name for this reading: given again within a day, it is the same one.
    #[arg(long)]
    id: Option<String>,
    /// Fencing token of the duty it was taken for.
    #[arg(long)]
    token: Option<u64>,
    /// How far it has come before this command ends: committed (on a majority of the
    /// boards) or spooled (on this board's disk).
    #[arg(long, default_value = "committed", value_parser = parse_level)]
    until: Level,
}

/// `understudy ingest`.
#[derive(Debug, clap::Args)]
pub(super) struct Ingest {
    /// How far a line has come before the next are taken: spooled or committed.
    #[arg(long, default_value = "spooled", value_parser = parse_level)]
    until: Level,
}

/// `understudy readings`.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Of these sensors; of all when absent.
    #[arg(value_name = "SENSOR")]
    sensors: Vec<String>,
    /// Not before: so long ago (90s, 15m, 1h, 30d) or a time.
    #[arg(long, allow_hyphen_values = true)]
    since: Option<String>,
    /// Before.
    #[arg(long, allow_hyphen_values = true)]
    until: Option<String>,
    /// So many at the most, the newest (1000).
    #[arg(long)]
    limit: Option<String>,
    /// As CSV.
    #[arg(long, conflicts_with_all = ["json", "plot"])]
    csv: bool,
    /// As JSON.
    #[arg(long, conflicts_with = "plot")]
    json: bool,
    /// As a plot of each sensor.
    #[arg(long)]
    plot: bool,
}

/// `understudy clock`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ClockAction {
    /// The clock of this board shows the right time: take it.
    Confirm,
}

fn parse_level(text: &str) -> Result<Level, String> {
    match text {
        "committed" => Ok(Level::Committed),
        "spooled" => Ok(Level::Spooled),
        _ => Err(String::from("it is committed or spooled")),
    }
}

/// The stream socket, greeted.
fn connect(places: &Places, until: Level) -> Result<UnixStream, String> {
    // Whoever may write need not be one who may read the configuration.
    let read = Config::read(places);
    let path: PathBuf =
        places.readings(read.as_ref().unwrap_or(&Config::default())).join(stream::NAME);
    let mut stream = control::connect_beside(&path, &places.control).map_err(|reason| {
        read.err().map_or(reason.clone(), |unread| unread_too(&reason, &unread))
    })?;
    let greeting = format!("ack {}\n", level_name(until));
    stream.write_all(greeting.as_bytes()).map_err(|error| broken(&error))?;
    Ok(stream)
}

/// A socket that is not where it would be by default may be where one cannot read that it is.
fn unread_too(reason: &str, unread: &str) -> String {
    format!(
        "{reason}. Or it is elsewhere: the configuration, which may name another \
         `readings_directory`, could not be read ({unread}). Ask as one who may read it, or name \
         with `--config FILE` one of your own that has that line"
    )
}

fn broken(error: &io::Error) -> String {
    format!("the agent did not answer: {error}")
}

/// Hands one reading over.
pub(super) fn write(places: &Places, arguments: Write) -> Result<(), String> {
    let Write { sensor, value, text, time, id, token, until } = arguments;
    let value = if text {
        Value::Text(value.into_bytes())
    } else {
        value::parse(&value, Bare::Integer).map_err(|reason| format!("{reason} (or --text)"))?
    };
    let time = time.map(|time| moment::parse(&time, Unit::Second)).transpose()?;
    let draft = Draft { sensor, value, time, id, token };
    draft.check()?;
    let line = line::written(&draft);
    if line.contains('\n') {
        return Err(String::from("a text with a line break is written as JSON: POST /readings"));
    }
    let mut stream = connect(places, until)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(|error| broken(&error))?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(|error| broken(&error))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| broken(&error))?;
    let answer = answer.trim_end();
    match answer.strip_prefix("ok ") {
        Some(level) => terminal::line(level),
        None if answer.is_empty() => {
            Err(String::from("the agent ended before it answered: it is not known what it stored"))
        }
        None => Err(answer.strip_prefix("line 1: ").unwrap_or(answer).to_owned()),
    }
}

/// What has become of a program's lines.
#[derive(Default)]
struct Tally {
    stored: u64,
    /// Of those, on this board alone as yet.
    spooled: u64,
    refused: u64,
}

/// Takes a program's lines, as fast as they are stored.
pub(super) fn ingest(places: &Places, arguments: &Ingest) -> Result<ExitCode, String> {
    let stream = connect(places, arguments.until)?;
    let answers = stream.try_clone().map_err(|error| broken(&error))?;
    let listener = std::thread::spawn(move || listen(answers));
    let sent = send_all(stream);
    let tally = listener.join().map_err(|_| String::from("the answers were not read"))?;
    let tally = tally.map_err(|error| broken(&error))?;
    let Tally { stored, spooled, refused } = tally;
    let committed = stored - spooled;
    terminal::complain(&format!(
        "{stored} lines stored ({committed} committed, {spooled} spooled), {refused} not stored"
    ));
    sent?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Standard input goes to the agent as it comes. What the agent makes of lines is for
/// its answers to say.
fn send_all(mut stream: UnixStream) -> Result<(), String> {
    let mut stdin = io::stdin().lock();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = stdin.read(&mut piece).map_err(|error| format!("standard input: {error}"));
        let count = count.inspect_err(|_| drop(stream.shutdown(Shutdown::Write)))?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write).map_err(|error| broken(&error));
        }
        stream.write_all(&piece[..count]).map_err(|error| {
            format!(
                "the agent takes no more ({error}): it is not known what became of the lines \
                 after those that are counted"
            )
        })?;
    }
}

fn listen(answers: UnixStream) -> io::Result<Tally> {
    let is_watched = io::stderr().is_terminal();
    let mut tally = Tally::default();
    let mut told = clock::now();
    for answer in BufReader::new(answers).lines() {
        let answer = answer?;
        match answer.strip_prefix("ok ") {
            Some(level) => {
                tally.stored += 1;
                tally.spooled += u64::from(level == level_name(Level::Spooled));
            }
            None => {
                tally.refused += 1;
                if tally.refused <= NAMED_MAX {
                    terminal::complain(&answer);
                }
            }
        }
        let now = clock::now();
        if is_watched && now.since(told) >= PROGRESS_MS {
            told = now;
            let Tally { stored, refused, .. } = tally;
            // Whether anybody sees it is all the same.
            let _ = write!(io::stderr(), "\r{stored} lines stored, {refused} not\r");
        }
    }
    Ok(tally)
}

/// Shows what is stored.
pub(super) fn show(places: &Places, arguments: Show) -> Result<(), String> {
    let Show { sensors, since, until, limit, csv, json, plot } = arguments;
    let is_one = sensors.len() == 1;
    let range = Range::new(sensors, since.as_deref(), until.as_deref(), limit.as_deref())?;
    let rows = query::rows(sql::asked(places, query::request(&range), true)?)?;
    if csv {
        return terminal::print(&query::csv(&rows));
    }
    if json {
        return terminal::line(&query::json(&rows));
    }
    if rows.is_empty() {
        terminal::complain("no readings yet");
        if since.is_some() {
            terminal::complain(
                "(those from before their board's clock was set have no time yet: leave out \
                 --since to see them)",
            );
        }
        return Ok(());
    }
    if plot {
        return terminal::print(&plot::plots(&rows, terminal::columns()));
    }
    terminal::print(&table(&rows, &asked_status(places)?, is_one))
}

fn table(rows: &[Row], status: &Status, is_one: bool) -> String {
    let board = |id: i64| {
        let member = status.members.iter().find(|member| member.id.cast_signed() == id);
        member.map_or_else(|| format!("board {id}"), |member| member.name.clone())
    };
    let cells = rows.iter().map(|row| {
        let token = row.token.map(|token| format!("token {token}"));
        let far = row.is_far.then(|| String::from("far from the board's clock"));
        let notes: Vec<String> = token.into_iter().chain(far).collect();
        let all =
            [row.when(), row.sensor.clone(), row.shown_value(), board(row.board), notes.join(", ")];
        all.map(text_value).to_vec()
    });
    let columns = ["time", "sensor", "value", "board", "note"].map(String::from);
    let mut cells: Vec<Vec<Value>> = cells.collect();
    let mut columns = columns.to_vec();
    let has_notes = cells.iter().any(|row| row.last() != Some(&text_value(String::new())));
    if !has_notes {
        columns.pop();
        cells.iter_mut().for_each(|row| drop(row.pop()));
    }
    if is_one {
        columns.remove(1);
        cells.iter_mut().for_each(|row| drop(row.remove(1)));
    }
    super::show::table(&columns, &cells)
}

/// Does this board know the time? Or: it does.
pub(super) fn clock(places: &Places, action: Option<ClockAction>) -> Result<(), String> {
    let confirm = matches!(action, Some(ClockAction::Confirm));
    let ControlResponse::Clock(state) = ask(places, &ControlRequest::Clock { confirm })? else {
        return something_else();
    };
    terminal::prose(&super::show::clock(&state))
}

fn text_value(text: String) -> Value {
    Value::Text(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_configuration_cannot_be_read_the_sockets_may_be_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        // Nobody reads a folder as a file, root neither.
        let unread = Places::new(Some(folder.path()), Some(folder.path()));
        let error = connect(&unread, Level::Committed).unwrap_err();
        let named = folder.path().display().to_string();
        for words in ["no agent is running", "`readings_directory`", &named, "--config FILE"] {
            assert!(error.contains(words), "no {words}: {error}");
        }
        let none = Places::new(Some(folder.path()), None);
        let error = connect(&none, Level::Committed).unwrap_err();
        assert!(!error.contains("readings_directory"), "{error}");
    }
}
