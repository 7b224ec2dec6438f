//! `understudy execute` and `understudy query`: SQL from the command line.

use std::process::ExitCode;

use understudy_core::{
    fence::Fence,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement},
};

use super::{ask, show, something_else};
use crate::{
    config::Places,
    control::{ControlRequest, ControlResponse},
};

/// Runs statements that write, all in one request.
pub(super) fn execute(
    places: &Places,
    sql: Vec<String>,
    transaction: bool,
    fence: Option<Fence>,
) -> Result<ExitCode, String> {
    run(places, SqlRequest { transaction, fence, ..request(RequestKind::Mixed, sql) })
}

/// Runs one that reads.
pub(super) fn query(places: &Places, sql: String) -> Result<ExitCode, String> {
    run(places, request(RequestKind::Query, vec![sql]))
}

fn request(kind: RequestKind, sql: Vec<String>) -> SqlRequest {
    let statements = sql.into_iter().map(|sql| Statement::new(sql, Vec::new())).collect();
    SqlRequest::new(kind, Origin::User, statements)
}

fn run(places: &Places, request: SqlRequest) -> Result<ExitCode, String> {
    let (read, transaction) = (request.kind == RequestKind::Query, request.transaction);
    let response = asked(places, request, read)?;
    Ok(if show::sql(&response, transaction)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for SQL on behalf of another command, as a read or as a write: whatever it says.
pub(super) fn asked(
    places: &Places,
    request: SqlRequest,
    read: bool,
) -> Result<SqlResponse, String> {
    let ControlResponse::Sql(response) = ask(places, &ControlRequest::Sql { request, read })?
    else {
        return something_else();
    };
    Ok(response)
}

/// The same, where it is to succeed.
pub(super) fn done(
    places: &Places,
    request: SqlRequest,
    read: bool,
) -> Result<SqlResponse, String> {
    let response = asked(places, request, read)?;
    match response.failure() {
        Some(reason) => Err(String::from(reason)),
        None => Ok(response),
    }
}
