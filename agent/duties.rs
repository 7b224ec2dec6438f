//! Duties of the group, as people make and change them: replicated rows, checked before
//! they are proposed.

use understudy_core::{
    event::NodeId,
    limits::DUTIES_MAX,
    member::check_name,
    sql::{Origin, RequestKind, SqlRequest, Value},
};

use crate::status::Status;

/// The request that makes a duty; it changes no row where there is one of that name, or
/// no room for another.
///
/// # Errors
/// Says what is wrong with its name.
pub fn add(name: &str, candidates: &[NodeId]) -> Result<SqlRequest, String> {
    check_name("duty", name).map_err(|refusal| refusal.to_string())?;
    let sql = format!(
        "INSERT INTO _understudy_duty(name, token, lease_ms, candidates, paused) \
         SELECT ?1, 0, 0, ?2, 0 WHERE (SELECT count(*) FROM _understudy_duty) < {DUTIES_MAX} \
         ON CONFLICT(name) DO NOTHING"
    );
    Ok(change(&sql, vec![Value::text(name), listed(candidates)]))
}

/// The request that removes one.
#[must_use]
pub fn remove(name: &str) -> SqlRequest {
    change("DELETE FROM _understudy_duty WHERE name = ?1", vec![Value::text(name)])
}

/// The request that has nobody hold it, or somebody again.
#[must_use]
pub fn pause(name: &str, is_paused: bool) -> SqlRequest {
    let paused = Value::Integer(i64::from(is_paused));
    change(
        "UPDATE _understudy_duty SET paused = ?2 WHERE name = ?1",
        vec![Value::text(name), paused],
    )
}

/// The request that has it go to a board as soon as that is ready for it.
#[must_use]
pub fn transfer(name: &str, board: NodeId) -> SqlRequest {
    let board = Value::Integer(board.cast_signed());
    change(
        "UPDATE _understudy_duty SET wanted = ?2 WHERE name = ?1",
        vec![Value::text(name), board],
    )
}

/// The request that says which boards may hold it, the first choice first; any where there
/// are none.
#[must_use]
pub fn candidates(name: &str, boards: &[NodeId]) -> SqlRequest {
    let sql = "UPDATE _understudy_duty SET candidates = ?2 WHERE name = ?1";
    change(sql, vec![Value::text(name), listed(boards)])
}

/// The board of that name, if it is one that can hold a duty.
///
/// # Errors
/// Says why it is none.
pub fn id(status: &Status, board: &str) -> Result<NodeId, String> {
    let member = status.members.iter().find(|member| member.name == board);
    let member = member
        .ok_or_else(|| format!("there is no board {board} in this group: `understudy members`"))?;
    if member.witness {
        return Err(format!("{board} is the witness, which holds no duty"));
    }
    Ok(member.id)
}

/// May this board hold that duty?
///
/// # Errors
/// Says how it may.
pub fn check_transfer(status: &Status, name: &str, board: NodeId) -> Result<(), String> {
    let Some(duty) = status.duties.iter().find(|duty| duty.name == name) else { return Ok(()) };
    let member = status.members.iter().find(|member| member.id == board);
    let Some(member) = member else { return Ok(()) };
    if !duty.candidates.is_empty() && !duty.candidates.contains(&member.name) {
        return Err(format!(
            "{} may not hold {name}: `understudy duty candidates {name} BOARD...` says who may",
            member.name
        ));
    }
    Ok(())
}

fn listed(boards: &[NodeId]) -> Value {
    let ids: Vec<String> = boards.iter().map(NodeId::to_string).collect();
    Value::text(&ids.join(","))
}

fn change(sql: &str, values: Vec<Value>) -> SqlRequest {
    SqlRequest::one(RequestKind::Execute, Origin::Agent, sql, values)
}
