//! What a part asks of the group's database, and does in it.

use understudy_core::{
    event::{ReadLevel, Reply, Request},
    sql::{self, SqlRequest, SqlResponse, Value},
};

use crate::call::{Caller, STOPPING};

/// How the database of this board has it, which need not be the newest.
const HERE: ReadLevel = ReadLevel::None { freshness_ms: None };

/// Rows as this board has them; none where there is no such table, as before the first
/// reading.
///
/// # Errors
/// In words: what cannot be read is not taken for empty.
pub async fn rows(caller: &Caller, request: &SqlRequest) -> Result<Vec<Vec<Value>>, String> {
    let response = read(caller, HERE, request).await?;
    match response.failure() {
        Some(why) if why.contains("no such table") => Ok(Vec::new()),
        Some(why) => Err(String::from(why)),
        None => Ok(response.into_rows().unwrap_or_default()),
    }
}

/// Reads, and leaves what the statements came to to the caller.
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

/// Asks.
///
/// # Errors
/// In words.
pub async fn ask(caller: &Caller, request: Request) -> Result<SqlResponse, String> {
    match caller.request(request).await {
        Some(Reply::Done { answer, .. }) => {
            sql::decode(&answer).map_err(|error| format!("the answer is unreadable: {error}"))
        }
        Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
        None => Err(String::from(STOPPING)),
    }
}
