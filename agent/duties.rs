//! Duties of the group, as people make and change them: replicated rows, checked before
//! they are proposed.

use understudy_core::{
    duty::{ANOTHER, Fresh, Rules},
    event::NodeId,
    fence::Fence,
    limits::{CHECKPOINT_BYTES_MAX, DUTIES_MAX, DUTY_NEEDS_MAX, SENSOR_NAME_BYTES_MAX},
    member::check_name,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, Statement, Value},
};

use crate::{retention::duration_s, status::Status};

/// What stands in the place of a duty's name over HTTP.
const STREAM: &str = "stream";

/// The request that makes a duty; it changes no row where there is one of that name, or
/// no room for another.
///
/// # Errors
/// Says what is wrong with its name.
pub fn add(name: &str, candidates: &[NodeId], rules: &Rules) -> Result<SqlRequest, String> {
    check_name("duty", name).map_err(|refusal| refusal.to_string())?;
    if name == STREAM {
        return Err(format!("no duty is called {STREAM}: GET /duties/{STREAM} has all of them"));
    }
    let sql = format!(
        "INSERT INTO _understudy_duty(name, token, lease_ms, candidates, paused, rules) \
         SELECT ?1, 0, 0, ?2, 0, ?3 WHERE (SELECT count(*) FROM _understudy_duty) < {DUTIES_MAX} \
         ON CONFLICT(name) DO NOTHING"
    );
    Ok(change(&sql, vec![Value::text(name), listed(candidates), written(rules)]))
}

/// The request that says how its holder is chosen.
#[must_use]
pub fn choose(name: &str, rules: &Rules) -> SqlRequest {
    let sql = "UPDATE _understudy_duty SET rules = ?2 WHERE name = ?1";
    change(sql, vec![Value::text(name), written(rules)])
}

fn written(rules: &Rules) -> Value {
    Value::text(&serde_json::to_string(rules).unwrap_or_default())
}

/// Reads `SENSOR 30s`.
///
/// # Errors
/// When it is something else.
pub fn fresh(text: &str) -> Result<Fresh, String> {
    let parts = text.trim().rsplit_once(' ').map(|(sensor, time)| (sensor.trim(), time));
    let parts = parts.filter(|(sensor, _)| !sensor.is_empty());
    let fresh = parts.and_then(|(sensor, time)| {
        let within_ms = duration_s(time)?.checked_mul(1_000)?;
        Some(Fresh { sensor: sensor.to_owned(), within_ms })
    });
    let fresh = fresh.ok_or_else(|| {
        format!("{text:?} names no sensor and time: \"SENSOR 30s\" does (s, m, h or d)")
    })?;
    if fresh.sensor.len() > SENSOR_NAME_BYTES_MAX {
        return Err(format!("a sensor's name has at most {SENSOR_NAME_BYTES_MAX} bytes"));
    }
    Ok(fresh)
}

/// What a board must be able to do, as `a,b` names it.
///
/// # Errors
/// Says what is wrong with which.
pub fn needs(names: &[String]) -> Result<Vec<String>, String> {
    for name in names {
        check_name("capability", name).map_err(|refusal| refusal.to_string())?;
    }
    match names.len() {
        0..=DUTY_NEEDS_MAX => Ok(names.to_vec()),
        more => Err(format!("{more} capabilities: a duty needs at most {DUTY_NEEDS_MAX}")),
    }
}

/// The request that removes one that nobody has, and what was left for its next holder.
/// While somebody has it, it changes no row: another of that name may be made at once, and
/// nobody would wait for this one's lease.
#[must_use]
pub fn remove(name: &str) -> SqlRequest {
    let sql = "DELETE FROM _understudy_duty WHERE name = ?1 AND board IS NULL";
    let mut request = change(sql, vec![Value::text(name)]);
    request.statements.push(Statement::new(
        "DELETE FROM _understudy_checkpoint WHERE duty NOT IN (SELECT id FROM _understudy_duty)",
        Vec::new(),
    ));
    request
}

/// The request by which a holder leaves this to the next; refused once that holds it.
///
/// # Errors
/// When it is too large.
pub fn leave(fence: Fence, data: Vec<u8>) -> Result<SqlRequest, String> {
    if data.len() > CHECKPOINT_BYTES_MAX {
        return Err(format!(
            "a checkpoint has at most {CHECKPOINT_BYTES_MAX} bytes, this one has {}: keep what is \
             larger in a table of your own",
            data.len()
        ));
    }
    let sql = "INSERT INTO _understudy_checkpoint(duty, data) \
               SELECT id, ?2 FROM _understudy_duty WHERE name = ?1 \
               ON CONFLICT(duty) DO UPDATE SET data = ?2";
    let request = change(sql, vec![Value::text(&fence.duty), Value::Blob(data)]);
    Ok(SqlRequest { fence: Some(fence), ..request })
}

/// The request that reads what was left last.
#[must_use]
pub fn left(name: &str) -> SqlRequest {
    let sql = "SELECT c.data FROM _understudy_checkpoint AS c JOIN _understudy_duty AS d \
               ON d.id = c.duty WHERE d.name = ?1";
    SqlRequest::one(RequestKind::Query, Origin::Agent, sql, vec![Value::text(name)])
}

/// What [`left`] was answered: nothing where nothing was left.
///
/// # Errors
/// Says what is wrong with it.
pub fn what_was_left(response: SqlResponse) -> Result<Option<Vec<u8>>, String> {
    if let Some(reason) = response.failure() {
        return Err(String::from(reason));
    }
    let rows = response.into_rows().unwrap_or_default();
    Ok(rows.into_iter().flatten().find_map(|value| match value {
        Value::Blob(data) => Some(data),
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) => None,
    }))
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

/// The request that has it go to any board but its holder, as soon as one is ready.
#[must_use]
pub fn release(name: &str) -> SqlRequest {
    transfer(name, ANOTHER)
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
    if member.slow || member.id == status.id && status.slow.is_some() {
        return Err(format!(
            "{} is too slow for duties, as `understudy status` says: it would not keep {name}",
            member.name
        ));
    }
    if member.drained {
        return Err(format!("{0} is drained: `understudy undrain {0}` ends that", member.name));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_and_a_time_are_read_and_anything_else_is_named() {
        let fine = fresh("green house/temp 30s").unwrap();
        assert_eq!((fine.sensor.as_str(), fine.within_ms), ("green house/temp", 30_000));
        for wrong in ["", "temp", "30s", " 30s", "temp 30", "temp -3s", "temp 0s", "temp soon"] {
            assert!(fresh(wrong).unwrap_err().contains("30s"), "{wrong}");
        }
        assert!(fresh(&format!("{} 3s", "x".repeat(200))).unwrap_err().contains("at most"));
    }

    #[test]
    fn what_a_duty_needs_is_named_and_not_too_much() {
        assert_eq!(needs(&["gps".into()]), Ok(vec!["gps".into()]));
        assert!(needs(&["".into()]).is_err());
        assert!(needs(&vec!["x".into(); 9]).unwrap_err().contains("at most 8"));
    }
}
