//! What a part asks of the group's database, and does in it.

use understudy_core::{
    event::{ReadLevel, Reply, Request},
    sql::{self, SqlRequest, SqlResponse},
};

use crate::call::Caller;

/// Reads.
///
/// # Errors
/// In words.
pub async fn read(
    caller: &Caller,
    level: ReadLevel,
    request: &SqlRequest,
) -> Result<SqlResponse, String> {
    ask(caller, Request::Read { level, sql: sql::encode(request) }).await
}

/// Writes: all of it is done, or it is not known.
///
/// # Errors
/// In words.
pub async fn write(caller: &Caller, request: &SqlRequest) -> Result<(), String> {
    let response = ask(caller, Request::Write(sql::encode(request))).await?;
    response.failure().map_or(Ok(()), |why| Err(String::from(why)))
}

async fn ask(caller: &Caller, request: Request) -> Result<SqlResponse, String> {
    match caller.request(request).await {
        Some(Reply::Done { answer, .. }) => {
            sql::decode(&answer).map_err(|error| format!("the answer is unreadable: {error}"))
        }
        Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
        None => Err(String::from("this board is stopping")),
    }
}
