//! From options to a running board: takes the directory, waits for a group if
//! there is none yet, brings the database forward, starts the drivers, runs.

use std::net::SocketAddr;

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tracing::{error, info};
use understudy_core::{
    event::{ReadLevel, Reply, Request},
    member::Member as MemberRow,
    node::{Config as NodeConfig, Node},
    sql::{self, SqlResponse, StatementOutcome, Value},
    timing::Timing,
};

use crate::{
    call::Caller,
    config::RunOptions,
    control::{ControlRequest, ControlResponse},
    directory,
    driver::{
        clock,
        control::{self, Wish},
        database::DatabaseThread,
        journal::JournalThread,
        notify::Notify,
        udp::{Road, usable_addresses},
    },
    http,
    identity::Identity,
    join::{self, Joined},
    run::{Drivers, Member, Sources},
    seal::{Keys, Seal, public_key},
    settings,
    status::Status,
    store::{
        database::{Database, Options, QueryOutcome},
        journal::{self, Journal},
        restore,
    },
    token::Token,
    view::Facts,
};

/// Events on their way from the threads to the loop.
const EVENTS_MAX: usize = 1_024;

/// Command lines waiting.
const WISHES_MAX: usize = 32;

/// Runs the agent until it is asked to end.
///
/// # Errors
/// In words, for the terminal.
pub fn run(options: RunOptions) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(512 << 10)
        .build()
        .map_err(|error| format!("the agent cannot start: {error}"))?;
    crate::store::ffi::limit_memory(8 << 20);
    let ended = runtime.block_on(board(options));
    runtime.shutdown_background();
    ended
}

async fn board(options: RunOptions) -> Result<(), String> {
    let _lock = directory::take(&options.directory)?;
    let mut journal = Journal::open(&options.directory, &journal::Options::default())
        .map_err(|error| error.to_string())?;
    let mut road = Road::bind(options.udp).map_err(|error| error.to_string())?;
    let control = control::bind(&options.control)
        .map_err(|error| format!("{}: {error}", options.control.display()))?;
    let (wishes, mut wished) = mpsc::channel(WISHES_MAX);
    tokio::spawn(control::serve(control, wishes));
    let stop = on_signal()?;
    tokio::pin!(stop);
    let identity = match journal.identity() {
        Some(identity) => identity.clone(),
        None => {
            Notify::new().ready("waiting for `understudy init` or `understudy join TOKEN`");
            info!(directory = %options.directory.display(), "waiting for init or join");
            tokio::select! {
                identity = wait_for_group(&options, &mut journal, &mut road, &mut wished) => identity?,
                () = &mut stop => return Ok(()),
            }
        }
    };
    let (stopped, stopping) = oneshot::channel();
    let member = member(&options, identity, journal, road, wished, stopping);
    tokio::pin!(member);
    let mut stopped = Some(stopped);
    loop {
        tokio::select! {
            ended = &mut member => return ended,
            () = &mut stop, if stopped.is_some() => {
                // The member may have ended by itself meanwhile.
                let _ = stopped.take().map(|stopped| stopped.send(()));
            }
        }
    }
}

/// Resolves when the process is asked to end.
fn on_signal() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Answers the command line until this board belongs to a group.
async fn wait_for_group(
    options: &RunOptions,
    journal: &mut Journal,
    road: &mut Road,
    wished: &mut mpsc::Receiver<Wish>,
) -> Result<Identity, String> {
    while let Some((request, reply)) = wished.recv().await {
        let response = match request {
            ControlRequest::Init { group, name } => {
                init(options, journal, road, group, name).map(ControlResponse::Token)
            }
            ControlRequest::Join { token, name } => {
                join_group(options, journal, road, &token, name).await
            }
            ControlRequest::Status => {
                Ok(ControlResponse::Status(Box::new(waiting_status(options, road))))
            }
            ControlRequest::Sql { .. } | ControlRequest::Rename { .. } | ControlRequest::Token => {
                Err(String::from(
                    "this board belongs to no group yet: run `understudy init` on the first board, \
                     `understudy join TOKEN` on every other",
                ))
            }
        };
        // A command line that went away needs no answer.
        let _ = reply.send(response.unwrap_or_else(ControlResponse::Refused));
        if let Some(identity) = journal.identity() {
            return Ok(identity.clone());
        }
    }
    Err(String::from("the control socket is gone"))
}

fn waiting_status(options: &RunOptions, road: &Road) -> Status {
    Status {
        role: String::from("waiting"),
        udp: road.address().to_string(),
        agent_pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        directory: options.directory.display().to_string(),
        http_open: options.http_open,
        ..Status::default()
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(bytes)
}

fn own_addresses(options: &RunOptions, road: &Road) -> Vec<String> {
    if options.announce.is_empty() {
        let usable = usable_addresses(road.address());
        return usable.iter().map(SocketAddr::to_string).collect();
    }
    options.announce.clone()
}

fn init(
    options: &RunOptions,
    journal: &mut Journal,
    road: &Road,
    group_name: String,
    name: String,
) -> Result<String, String> {
    let identity = Identity {
        group: random()?,
        group_name,
        group_key: random()?,
        node: 1,
        private_key: random()?,
        disk: random()?,
        acquaintances: Vec::new(),
    };
    let founder = MemberRow {
        id: 1,
        name: options.name.clone().unwrap_or(name),
        key: public_key(&identity.private_key),
        addresses: own_addresses(options, road),
        voter: true,
    };
    restore::found(journal, &identity, founder).map_err(|error| error.to_string())?;
    info!(group = identity.group_name, "a new group");
    Ok(token(options, &identity, road))
}

fn token(options: &RunOptions, identity: &Identity, road: &Road) -> String {
    let mut addresses = own_addresses(options, road);
    if road.address().ip().is_unspecified()
        && let Some(host) = host_name()
    {
        addresses.push(format!("{host}:{}", road.address().port()));
    }
    Token {
        group: identity.group,
        group_name: identity.group_name.clone(),
        group_key: identity.group_key,
        issuer: public_key(&identity.private_key),
        addresses,
    }
    .encode()
}

/// This machine's host name, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty() && name != "localhost").then_some(name)
}

async fn join_group(
    options: &RunOptions,
    journal: &mut Journal,
    road: &mut Road,
    token: &str,
    name: String,
) -> Result<ControlResponse, String> {
    let token = Token::decode(token)?;
    let private_key = random()?;
    let name = options.name.clone().unwrap_or(name);
    let wish = join::Wish { name, addresses: own_addresses(options, road) };
    let joined = join::join(&token, &wish, private_key, road).await;
    let Joined { member, members } = joined.map_err(|error| error.to_string())?;
    let response = ControlResponse::Joined {
        group: token.group_name.clone(),
        name: member.name.clone(),
        wished: wish.name.clone(),
        members: members.len(),
    };
    let identity = Identity {
        group: token.group,
        group_name: token.group_name,
        group_key: token.group_key,
        node: member.id,
        private_key,
        disk: random()?,
        acquaintances: members,
    };
    let nothing = journal::Persist {
        entries: Vec::new(),
        hard_state: understudy_core::event::HardState::default(),
        promises: Vec::new(),
        confirmed: false,
    };
    journal.found(&identity, &nothing).map_err(|error| error.to_string())?;
    info!(group = identity.group_name, board = member.name, "joined");
    Ok(response)
}

/// Everything a member is made of, started and run.
async fn member(
    options: &RunOptions,
    identity: Identity,
    mut journal: Journal,
    road: Road,
    wished: mpsc::Receiver<Wish>,
    stop: oneshot::Receiver<()>,
) -> Result<(), String> {
    let directory = &options.directory;
    let mut database =
        Database::open(directory, Options::default()).map_err(|error| error.to_string())?;
    let restored = restore::restore(directory, &mut journal, &mut database)
        .map_err(|error| error.to_string())?;
    let timing = timing(&mut database);
    let seed = u64::from_le_bytes(random()?);
    let config = NodeConfig { id: identity.node, seed, boot: journal.boot(), timing };
    let listener = TcpListener::bind(options.http)
        .await
        .map_err(|error| format!("HTTP {} cannot be bound: {error}", options.http))?;
    let http_address = listener.local_addr().map_err(|error| error.to_string())?;
    let (mut node, first) = Node::new(clock::now(), config, restored);
    node.set_presence(format!("http://{http_address}"));
    let keys = Keys {
        group: identity.group,
        group_key: identity.group_key,
        private_key: identity.private_key,
    };
    let seal = Seal::new(keys, u32::from_le_bytes(random()?));
    let (report, events) = mpsc::channel(EVENTS_MAX);
    let notify = Notify::new();
    notify.ready("serving");
    let invite = token(options, &identity, &road);
    let drivers = Drivers {
        journal: JournalThread::start(journal, report.clone(), |reason| halt("journal", reason)),
        database: DatabaseThread::start(database, report, |reason| halt("database", reason)),
        road,
        notify,
    };
    let facts = Facts {
        identity,
        started: clock::now(),
        http: Some(http_address),
        http_open: options.http_open,
        directory: directory.clone(),
    };
    let (caller, calls) = Caller::channel();
    tokio::spawn(http::serve(listener, http::router(caller.clone())));
    tokio::spawn(serve_wishes(wished, caller, invite));
    info!(http = %http_address, "serving");
    Member::new(node, first, seal, drivers, facts).run(Sources { events, calls, stop }).await;
    Ok(())
}

/// A broken disk or a change that does not fit: this process must not go on, and
/// must leave nothing half-done to an orderly end.
fn halt(part: &str, reason: &str) {
    error!(part, reason, "this board cannot go on");
    std::process::abort();
}

/// The group's timing profile, as this board's database has it.
fn timing(database: &mut Database) -> Timing {
    let answer = database.query(&sql::encode(&settings::read_all()));
    let Ok(QueryOutcome::Answered(answer)) = answer else { return Timing::WIRED };
    let rows = sql::decode::<SqlResponse>(&answer).ok().and_then(|response| {
        match response.results.into_iter().next()?.outcome {
            StatementOutcome::Rows { rows, .. } => Some(rows),
            StatementOutcome::Changed { .. } | StatementOutcome::Error(_) => None,
        }
    });
    let named = |row: &Vec<Value>| match row.as_slice() {
        [Value::Text(name), Value::Text(value)] if name == b"profile" => {
            Timing::named(&String::from_utf8_lossy(value))
        }
        _ => None,
    };
    rows.unwrap_or_default().iter().find_map(named).unwrap_or(Timing::WIRED)
}

/// Answers the command line of a member, several at a time.
async fn serve_wishes(mut wished: mpsc::Receiver<Wish>, caller: Caller, invite: String) {
    while let Some((request, reply)) = wished.recv().await {
        let (caller, invite) = (caller.clone(), invite.clone());
        tokio::spawn(async move {
            let response = answer(&caller, request, invite).await;
            // A command line that went away needs no answer.
            let _ = reply.send(response.unwrap_or_else(ControlResponse::Refused));
        });
    }
}

async fn answer(
    caller: &Caller,
    request: ControlRequest,
    invite: String,
) -> Result<ControlResponse, String> {
    let ended = || String::from("the agent is stopping");
    match request {
        ControlRequest::Status => {
            let status = caller.status().await.ok_or_else(ended)?;
            Ok(ControlResponse::Status(Box::new(status)))
        }
        ControlRequest::Init { .. } | ControlRequest::Join { .. } => {
            let status = caller.status().await.ok_or_else(ended)?;
            Err(format!("this board is {} of the group {} already", status.board, status.group))
        }
        ControlRequest::Token => Ok(ControlResponse::Token(invite)),
        ControlRequest::Sql { request, read } => {
            let sql = sql::encode(&request);
            let request = if read {
                Request::Read { level: ReadLevel::Linearizable, sql }
            } else {
                Request::Write(sql)
            };
            let answer = done(caller, request).await?;
            let response = sql::decode(&answer).map_err(|error| error.to_string())?;
            Ok(ControlResponse::Sql(response))
        }
        ControlRequest::Rename { board, name } => {
            let status = caller.status().await.ok_or_else(ended)?;
            let board = board.unwrap_or_else(|| status.board.clone());
            let member = status.members.iter().find(|member| member.name == board);
            let member = member.ok_or_else(|| format!("no board is named {board}"))?;
            done(caller, Request::Rename { id: member.id, name }).await?;
            Ok(ControlResponse::Done)
        }
    }
}

async fn done(caller: &Caller, request: Request) -> Result<Vec<u8>, String> {
    match caller.request(request).await {
        Some(Reply::Done { answer, .. }) => Ok(answer),
        Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
        None => Err(String::from("the agent is stopping")),
    }
}
