//! Writes that are tried again where that may help: every write of a load may be made
//! twice.

use std::{thread, time::Duration};

use understudy_core::{
    event::{ReadLevel, Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, Value},
};

use super::Failed;
use crate::{
    call::{Caller, STOPPING},
    driver::clock,
};

/// A load gives up when nothing could be written for so long, milliseconds: longer
/// than any group takes to find a leader.
const PATIENCE_MS: u64 = 120_000;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) struct Writer {
    caller: Caller,
}

impl Writer {
    pub(super) const fn new(caller: Caller) -> Self {
        Self { caller }
    }

    /// Do users keep nothing as yet?
    pub(super) fn is_empty(&self) -> Result<bool, Failed> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE \
                   name NOT LIKE '\\_understudy\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\')";
        let request = SqlRequest::one(RequestKind::Query, Origin::User, sql, Vec::new());
        let level = ReadLevel::Linearizable { timeout_ms: None };
        let response = self.ask(&Request::Read { level, sql: sql::encode(&request) })?;
        let unreadable = || Failed::Group(String::from("the schema cannot be read"));
        let rows = response.into_rows().ok_or_else(unreadable)?;
        Ok(rows.first().and_then(|row| row.first()) == Some(&Value::Integer(0)))
    }

    /// Writes; every statement must have succeeded.
    pub(super) fn write(&self, request: &SqlRequest) -> Result<SqlResponse, Failed> {
        succeeded(self.ask(&Request::Write(sql::encode(request)))?)
    }

    /// The same, without another try.
    pub(super) fn write_once(&self, request: &SqlRequest) -> Result<SqlResponse, Failed> {
        match self.caller.request_blocking(Request::Write(sql::encode(request))) {
            Some(Reply::Done { answer, .. }) => succeeded(decoded(&answer)?),
            Some(Reply::Refused(refusal)) => Err(Failed::Group(refusal.to_string())),
            None => Err(stopping()),
        }
    }

    fn ask(&self, request: &Request) -> Result<SqlResponse, Failed> {
        let since = clock::now();
        loop {
            match self.caller.request_blocking(request.clone()) {
                Some(Reply::Done { answer, .. }) => return decoded(&answer),
                Some(Reply::Refused(refusal))
                    if refusal.is_passing() && clock::now().since(since) < PATIENCE_MS =>
                {
                    thread::sleep(PAUSE);
                }
                Some(Reply::Refused(refusal)) => return Err(Failed::Group(refusal.to_string())),
                None => return Err(stopping()),
            }
        }
    }
}

fn stopping() -> Failed {
    Failed::Group(String::from(STOPPING))
}

fn decoded(answer: &[u8]) -> Result<SqlResponse, Failed> {
    sql::decode(answer)
        .map_err(|_| Failed::Group(String::from("the group's answer cannot be read")))
}

fn succeeded(response: SqlResponse) -> Result<SqlResponse, Failed> {
    match response.failure() {
        Some(words) => Err(Failed::Content(String::from(words))),
        None => Ok(response),
    }
}
