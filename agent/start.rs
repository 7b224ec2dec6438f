//! From options to a running board: takes the directory, waits for a group if
//! there is none yet, brings the database forward, starts the drivers, runs.

use std::{io, net::SocketAddr, os::unix::process::CommandExt, path::Path, time::Duration};

use tokio::{
    net::{TcpListener, UnixDatagram, UnixListener},
    sync::{mpsc, oneshot},
};
use tracing::{error, info, warn};
use understudy_boards::board::{self, Budget};
use understudy_core::{
    event::NodeId,
    node::{Config as NodeConfig, Node},
    restored::Restored,
    sql,
};

use crate::{
    address::Mailbox,
    bridge::{Bridge, Group},
    budget::Budgets,
    call::Caller,
    checks::Runs,
    clock::BoardClock,
    config::RunOptions,
    directory,
    driver::{
        clock, control, database::DatabaseThread, journal::JournalThread, keeper, mdns::Neighbours,
        mqtt::Brokers, notify::Notify, random::random, road::Road, socket::Kept,
    },
    history::ends::Ends,
    http,
    identity::Identity,
    keyring::Keyring,
    links::PowerSave,
    load::Loader,
    notices::bell::Bell,
    readings::{datagram, desk::Desk, stream},
    run::{Drivers, Member, Sources},
    sampling::Samples,
    seal::{Keys, Seal, public_key},
    settings,
    slow::Syncs,
    storage::Storage,
    store::{
        StoreError,
        database::{self, Database, QueryOutcome},
        journal::Journal,
        make_readable, reserve, restore, scratch,
    },
    version,
    view::Facts,
    waiting::{self, Doors},
    will::Will,
    wishes::{self, Home},
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
    let limits = budget()?;
    let sqlite_bytes = i64::try_from(limits.sqlite_bytes_max).map_err(|error| error.to_string())?;
    crate::store::ffi::limit_memory(sqlite_bytes);
    crate::store::ffi::limit_arenas();
    let ended = runtime.block_on(board(options, limits));
    runtime.shutdown_background();
    ended
}

/// What the program may use of this board.
fn budget() -> Result<Budget, String> {
    Ok(board::here(Path::new("/"), std::env::consts::ARCH)?.budget)
}

async fn board(options: RunOptions, limits: Budget) -> Result<(), String> {
    let will = match options.parent {
        Some(_) => Will::over_stdin().map_err(|error| format!("the agent's parent: {error}"))?,
        None => Will::default(),
    };
    // Root would leave files that the folder's user cannot open. One that nobody has used yet
    // may be meant for a container's root.
    let is_used = options.directory.join("journal.db").exists();
    if rustix::process::geteuid().is_root() && is_used {
        directory::is_own(&options.directory)?;
    }
    let _lock = directory::take(&options.directory)?;
    reserve::lend(&options.directory);
    let mut notify = Notify::new();
    notify.starting(clock::now());
    scratch::clear(&options.directory)?;
    let mut journal = Journal::open_own(&options.directory).map_err(|error| error.to_string())?;
    let mut road = Road::bind(options.udp, options.transport).map_err(|error| error.to_string())?;
    let listener =
        TcpListener::bind(options.http).await.map_err(|error| not_bound(options.http, &error))?;
    let http = listener.local_addr().map_err(|error| error.to_string())?;
    let control = control::bind(&options.control)?;
    let (caller, calls) = Caller::channel();
    let clock = BoardClock::new(journal.boot(), options.clock_set_by.clone(), &options.directory);
    let desk = Desk::new(caller.clone(), clock.clone(), options.readings.batch_window_ms);
    take_readings(&options, &desk)?;
    let (wisher, wishes) = mpsc::channel(WISHES_MAX);
    let mut doors = Doors { wishes, calls, http, notify, clock };
    let loader = Loader::new(caller.clone(), options.directory.clone());
    let router = http::router(caller.clone(), loader, desk.clone());
    tokio::spawn(http::serve(listener, router.clone()));
    let converse = move |stream| http::converse(stream, router.clone());
    let kept = caller.clone();
    let hold = move |stream, opening| keeper::serve(stream, opening, kept.clone());
    tokio::spawn(control::serve(control, wisher, converse, hold));
    let stop = on_signal()?;
    tokio::pin!(stop);
    let identity = match journal.identity() {
        Some(identity) => identity.clone(),
        None => {
            doors.notify.ready("waiting for `understudy init` or `understudy join TOKEN`");
            info!(directory = %options.directory.display(), "waiting for init or join");
            tokio::select! {
                identity = waiting::wait(&options, &mut journal, &mut road, &mut doors) => identity?,
                () = &mut stop => {
                    doors.notify.stopping();
                    return Ok(());
                }
            }
        }
    };
    let (stopped, stopping) = oneshot::channel();
    let own = (journal, road, doors);
    let member = member((&options, limits), (identity, will), own, (caller, desk), stopping);
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

fn not_bound(http: SocketAddr, error: &io::Error) -> String {
    let is_for_root = error.kind() == io::ErrorKind::PermissionDenied && http.port() < 1024;
    let way_out = if is_for_root {
        ". Ports below 1024 are not for everybody: take another (`address` of [http]), or with \
         `systemctl edit understudy` write under [Service] two lines, \
         AmbientCapabilities=CAP_NET_BIND_SERVICE and CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    } else {
        ""
    };
    format!("HTTP {http} cannot be bound: {error}{way_out}")
}

/// Opens the sockets for readings.
fn take_readings(options: &RunOptions, desk: &Desk) -> Result<(), String> {
    let at = |name| options.readings_directory.join(name);
    let mode = options.readings.mode().unwrap_or(0o600);
    let datagrams = Kept::bind(&at(datagram::NAME), mode, |path| UnixDatagram::bind(path))?;
    let streams = Kept::bind(&at(stream::NAME), mode, |path| UnixListener::bind(path))?;
    tokio::spawn(datagram::serve(datagrams, desk.clone()));
    tokio::spawn(stream::serve(streams, desk.clone()));
    Ok(())
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

/// Everything a member is made of, started and run.
async fn member(
    (options, limits): (&RunOptions, Budget),
    (identity, mut will): (Identity, Will),
    (mut journal, mut road, mut doors): (Journal, Road, Doors),
    (caller, desk): (Caller, Desk),
    stop: oneshot::Receiver<()>,
) -> Result<(), String> {
    let directory = &options.directory;
    let witness = journal.is_witness();
    let (mut database, restored) = brought_forward(options, &mut journal, &mut doors)?;
    let stored = stored_settings(&mut database)?;
    let timing = settings::timing(&stored);
    let budgets = budgets(options, limits, witness);
    let seed = u64::from_le_bytes(random()?);
    let nonce = u64::from_le_bytes(random()?);
    let mut keyring = Keyring::new(&identity);
    keyring.foresee(&restored.tail);
    let (id, boot) = (identity.node, journal.boot());
    let config = NodeConfig { id, seed, boot, nonce, timing, witness };
    let (mut node, first) = Node::new(clock::now(), config, restored);
    node.set_presence(format!("http://{}", doors.http));
    if witness {
        node.set_witness_log(options.witness.log_mb << 20);
    }
    node.set_intake(options.readings.intake());
    let keys = keyring.seal_keys();
    let mailbox = Mailbox::of(&public_key(&keys.private_key));
    let tag = keys.tag();
    road.set_patience(timing.leader_silent_ms());
    road.attach(Brokers::open(options.posts(), tag, mailbox));
    will.name_post(tag, mailbox);
    let neighbours = neighbours(options, &keys, identity.node, road.address().port());
    let seal = Seal::new(keys, journal.boot(), u32::from_le_bytes(random()?));
    let (report, events) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(doors.clock.clone().keep(caller.clone(), identity.node));
    tokio::spawn(wishes::serve(
        doors.wishes,
        caller.clone(),
        Home {
            identity: identity.clone(),
            options: options.clone(),
            bound: road.address(),
            clock: doors.clock.clone(),
        },
    ));
    let work = work(options, &group(&identity, tag), (&caller, &desk, &doors.clock));
    let facts = facts(options, (identity, boot), (doors.http, road.address()), (work, budgets));
    let drivers = Drivers {
        journal: JournalThread::start(
            journal,
            report.clone(),
            facts.syncs.clone(),
            halt("journal", directory),
        ),
        database: DatabaseThread::start(database, report, halt("database", directory)),
        road,
        neighbours,
        notify: doors.notify,
        clock: doors.clock,
        checks: Runs::start(&options.checks, &caller),
    };
    reserve::keep(directory);
    drivers.notify.ready("serving");
    info!(http = %doors.http, "serving");
    let sources = Sources { events, calls: doors.calls, stop };
    let mut member = Member::new(node, first, (seal, keyring), drivers, (facts, will));
    member.follow(clock::now(), &stored);
    match member.run(sources).await {
        None => Ok(()),
        Some((waiting, drivers)) => forget(directory, waiting, drivers).await,
    }
}

/// The database, brought forward to what the journal knows to be committed.
fn brought_forward(
    options: &RunOptions,
    journal: &mut Journal,
    doors: &mut Doors,
) -> Result<(Database, Restored), String> {
    let directory = &options.directory;
    let text = |error: StoreError| error.to_string();
    make_readable(&directory.join("state.db")).map_err(text)?;
    let board_clock = doors.clock.clone();
    let wall = database::Wall::new(move || board_clock.wall_us());
    let witness = journal.is_witness();
    let kept = database::Options { witness, wall, ..options.database.options() };
    let mut tell = || doors.notify.starting(clock::now());
    tell();
    let mut database = Database::open(directory, kept).map_err(text)?;
    stored_settings(&mut database)?;
    let restored = restore::restore_telling(directory, journal, &mut database, tell);
    if restored.is_err() {
        // What it cannot read may be what a newer release wrote.
        stored_settings(&mut database)?;
    }
    Ok((database, restored.map_err(text)?))
}

/// What the agent does beside: at brokers, and with the board's own sensors.
fn work(
    options: &RunOptions,
    group: &Group,
    (caller, desk, clock): (&Caller, &Desk, &BoardClock),
) -> (Bridge, Samples) {
    let samples =
        Samples::start(&options.samples, (Path::new("/"), &options.directory), caller, desk);
    (Bridge::start(&options.parts, group, (caller, desk, clock)), samples)
}

/// What is true of this board beside its node.
fn facts(
    options: &RunOptions,
    (identity, boot): (Identity, u64),
    (http, bound): (SocketAddr, SocketAddr),
    ((bridge, samples), budgets): ((Bridge, Samples), Budgets),
) -> Facts {
    let forgets = forgets(&options.directory);
    Facts {
        identity,
        started: clock::now(),
        http: Some(http),
        http_open: options.http_open,
        directory: options.directory.clone(),
        forgets,
        budgets,
        boot,
        ends: Ends::begin(&options.directory, boot),
        bell: Bell::new(options.notify.clone()),
        not_trimmed: None,
        turn: None,
        capabilities: options.capabilities.clone(),
        checks: options.checks.clone(),
        kept: kept(options),
        bridge,
        samples,
        parent: options.parent,
        syncs: Syncs::default(),
        power_save: PowerSave::watch(bound),
    }
}

/// What the agent uses of its board; the spool and a witness's log, in the journal's file,
/// have bounds of their own.
fn budgets(options: &RunOptions, limits: Budget, witness: bool) -> Budgets {
    let witness_mb = if witness { options.witness.log_mb } else { 0 };
    let beside_bytes = (options.readings.spool_mb + witness_mb) << 20;
    Budgets::new(clock::now(), &options.directory, limits, beside_bytes)
}

/// What becomes of the data with the machine's next start, if it does not stay.
fn forgets(directory: &Path) -> Option<String> {
    let forgets = Storage::of(Path::new("/"), directory)?.forgets;
    if let Some(reason) = &forgets {
        warn!(reason, directory = %directory.display(), "what this board holds does not stay");
    }
    forgets
}

/// The group, as it is called where others than boards look.
fn group(identity: &Identity, tag: [u8; 4]) -> Group {
    let tag = format!("{:08x}", u32::from_be_bytes(tag));
    Group { name: identity.group_name.clone(), tag, node: identity.node }
}

/// Duties for which something is done here.
fn kept(options: &RunOptions) -> Vec<String> {
    let commands = options.duties.iter().map(|task| &task.name);
    commands.chain(options.parts.iter().map(|part| &part.duty)).cloned().collect()
}

/// The command line has its answer by then.
const ANSWERED: Duration = Duration::from_millis(200);

/// Ends what there is of the group, and begins anew as a board without one: in another
/// program in the place of this, so that nothing is closed that has a successor.
async fn forget(
    directory: &Path,
    waiting: oneshot::Sender<()>,
    drivers: Drivers,
) -> Result<(), String> {
    directory::forget(directory)?;
    info!(directory = %directory.display(), "the group is forgotten");
    // A command line that went away needs no answer.
    let _ = waiting.send(());
    tokio::time::sleep(ANSWERED).await;
    let error =
        std::process::Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    drop(drivers);
    Err(format!("the group is forgotten; start the agent again, it cannot by itself: {error}"))
}

fn neighbours(options: &RunOptions, keys: &Keys, node: NodeId, port: u16) -> Option<Neighbours> {
    if !options.looks_for_boards() {
        return None;
    }
    let told = Neighbours::tell(keys.tag(), node, port);
    told.inspect_err(|reason| warn!(reason, "boards on this network are not looked for")).ok()
}

/// A broken disk or a change that does not fit: this process must not go on, and
/// must leave nothing half-done to an orderly end.
fn halt(part: &'static str, directory: &Path) -> impl Fn(&str) + Send + 'static {
    let directory = directory.display().to_string();
    move |reason| {
        error!(part, directory, reason, "this board cannot go on");
        std::process::abort();
    }
}

/// The group's settings as this board's own database has them; none where they
/// cannot be read: then the defaults hold.
///
/// # Errors
/// When the group has gone beyond this program.
fn stored_settings(database: &mut Database) -> Result<Vec<(String, String)>, String> {
    let answer = database.query(&sql::encode(&settings::read_all()));
    let Ok(QueryOutcome::Answered(answer)) = answer else { return Ok(Vec::new()) };
    let stored = sql::decode(&answer).ok().and_then(settings::rows).unwrap_or_default();
    version::too_new(&stored).map_or(Ok(stored), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_take_a_low_port_is_told_the_right_that_it_needs() {
        let told = |port: u16, kind: io::ErrorKind| {
            not_bound(SocketAddr::from(([0, 0, 0, 0], port)), &io::Error::from(kind))
                .contains("CapabilityBoundingSet=CAP_NET_BIND_SERVICE")
        };
        assert!(told(80, io::ErrorKind::PermissionDenied));
        assert!(!told(4_001, io::ErrorKind::PermissionDenied));
        assert!(!told(80, io::ErrorKind::AddrInUse));
    }
}
