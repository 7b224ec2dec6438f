//! The agent's log, on standard error: a line each, without the time, which whoever keeps it
//! adds. Where that is systemd's journal each line begins with its priority, as `sd-daemon(3)`
//! has it, so that `journalctl -p warning` finds what is wrong.
//!
//! Left out: files of its own, and the journal's fields.

use std::{fmt, io};

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer},
    },
    registry::LookupSpan,
};

/// Begins to log what is at least so bad.
pub fn begin(level: Level) {
    let lines = Format::default().without_time().with_target(false);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        // A log that nobody reads any more must not end the agent.
        .log_internal_errors(false)
        .event_format(Lines { lines, has_priorities: is_journal() })
        .init();
}

/// Does systemd's journal take what goes to standard error? It says which device and inode
/// its end is, `systemd.exec(5)`: standard error may have been sent elsewhere since.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

struct Lines {
    lines: Format<Full, ()>,
    has_priorities: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.has_priorities {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        self.lines.format_event(context, writer, event)
    }
}

/// As syslog counts: 3 is an error, 7 what only helps to find one.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
