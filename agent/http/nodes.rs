//! `/status`, `/nodes` and `/readyz`: this board's view in rqlite's words; `/remove`, and
//! `/nodes/NAME/drain`, which rqlite does not have.

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Map, Value, json};
use understudy_core::{
    error::Refusal,
    event::{Reply, Request},
    member::MemberRequest,
    sql,
};

use super::{Answer, Parameters, json as respond_json, listed, render, text};
use crate::{
    call::{Caller, STOPPING},
    duties, settings,
    status::{MemberStatus, Status},
};

/// Does this board count for the quorum?
pub(super) fn votes(status: &Status) -> bool {
    status.members.iter().any(|member| member.id == status.id && member.voter)
}

/// Refuses what only a member can do.
pub(super) async fn in_group(caller: &Caller) -> Result<(), Response> {
    if seen(caller).await?.role != "waiting" {
        return Ok(());
    }
    let words = "this board belongs to no group yet: `understudy init` makes one, `understudy \
                 join TOKEN` enters one";
    Err(text(StatusCode::SERVICE_UNAVAILABLE, words))
}

/// Refuses as well what only a board with data can do.
pub(super) async fn with_data(caller: &Caller) -> Result<(), Response> {
    in_group(caller).await?;
    let status = seen(caller).await?;
    if !status.witness {
        return Ok(());
    }
    let other = status.members.iter().find(|member| member.leader && !member.witness);
    let other = other.or_else(|| status.members.iter().find(|member| !member.witness));
    let board = other.map(|member| member.name.clone()).unwrap_or_default();
    let http = other.and_then(|member| member.http.clone()).unwrap_or_default();
    let refusal = Refusal::Witness { board, http };
    Err(text(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()))
}

pub(super) async fn seen(caller: &Caller) -> Result<Status, Response> {
    let stopping = || text(StatusCode::SERVICE_UNAVAILABLE, STOPPING);
    caller.status().await.ok_or_else(stopping)
}

pub(super) async fn status(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let status = seen(&caller).await?;
    let mut tree = tree(&status);
    if let Some(key) = parameters.value("key") {
        tree = key
            .split('.')
            .fold(tree, |tree, part| tree.get(part).cloned().unwrap_or_else(|| json!({})));
    }
    Ok(written(&tree, parameters.shape.pretty))
}

pub(super) fn written(tree: &Value, pretty: bool) -> Response {
    respond_json(render::tree(tree, pretty))
}

fn tree(status: &Status) -> Value {
    let leader = status.members.iter().find(|member| member.leader);
    let address = |member: &MemberStatus| member.address.clone().unwrap_or_default();
    let nodes: Vec<Value> = status
        .members
        .iter()
        .map(|member| {
            let suffrage = if member.voter { "Voter" } else { "Nonvoter" };
            json!({"id": member.id.to_string(), "addr": address(member), "suffrage": suffrage})
        })
        .collect();
    let state = match status.role.as_str() {
        "leader" => "Leader",
        "candidate" => "Candidate",
        _ => "Follower",
    };
    json!({
        "store": {
            "open": true,
            "ready": leader.is_some(),
            "node_id": status.id.to_string(),
            "addr": status.udp,
            "leader": {
                "node_id": leader.map(|leader| leader.id.to_string()).unwrap_or_default(),
                "addr": leader.map(address).unwrap_or_default(),
            },
            "raft": {
                "state": state,
                "term": status.term,
                "voter": votes(status),
                "commit_index": status.commit_index,
                "applied_index": status.applied_index,
                "last_log_index": status.last_index,
                "num_peers": status.members.len().saturating_sub(1),
            },
            "fsm_index": status.applied_index,
            "db_applied_index": status.applied_index,
            "nodes": nodes,
            "dir": status.directory,
            "sqlite3": {"version": rusqlite::version(), "fk_constraints": "disabled"},
            "db_conf": {"fk_constraints": false},
        },
        "http": {"bind_addr": status.http, "auth": "disabled"},
        "node": {"uptime": format!("{}ms", status.uptime_ms)},
        "build": {"version": status.version},
        "understudy": status,
    })
}

pub(super) async fn nodes(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    let status = seen(&caller).await?;
    let all = parameters.has("nonvoters");
    let shown = status.members.iter().filter(|member| all || member.voter);
    let tree = if parameters.value("ver") == Some("2") {
        json!({"nodes": shown.map(node).collect::<Vec<_>>()})
    } else {
        Value::Object(shown.map(|member| (member.id.to_string(), node(member))).collect())
    };
    Ok(written(&tree, parameters.shape.pretty))
}

/// Every field is always there: some clients break without.
fn node(member: &MemberStatus) -> Value {
    let mut node = Map::new();
    node.insert("id".into(), json!(member.id.to_string()));
    node.insert("api_addr".into(), json!(member.http.clone().unwrap_or_default()));
    node.insert("addr".into(), json!(member.address.clone().unwrap_or_default()));
    node.insert("name".into(), json!(member.name));
    node.insert("version".into(), json!(super::VERSION));
    node.insert("voter".into(), json!(member.voter));
    node.insert("witness".into(), json!(member.witness));
    node.insert("drained".into(), json!(member.drained));
    node.insert("reachable".into(), json!(member.reachable));
    node.insert("leader".into(), json!(member.leader));
    node.insert("time".into(), json!(0.0));
    node.insert("time_s".into(), json!("0s"));
    if !member.reachable {
        let error = if member.unknown { "not known yet" } else { "not heard from lately" };
        node.insert("error".into(), json!(error));
    }
    Value::Object(node)
}

pub(super) async fn readyz(State(caller): State<Caller>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query.as_deref())?;
    if parameters.has("noleader") {
        return Ok(text(StatusCode::OK, "[+]node ok"));
    }
    let status = seen(&caller).await?;
    let unready = |body: &str| Err(text(StatusCode::SERVICE_UNAVAILABLE, body));
    if status.leader_id.is_none() {
        return unready("[+]node ok\n[+]leader does not exist");
    }
    if status.contact_ms.is_none_or(|ms| ms > 10_000) {
        return unready("[+]node ok\n[+]leader not contactable: not heard from lately");
    }
    if status.fenced {
        return unready("[+]node ok\n[+]leader ok\n[+]store fenced: its rows are wrong");
    }
    if status.witness {
        return unready("[+]node ok\n[+]leader ok\n[+]store absent: a witness keeps no data");
    }
    if parameters.has("sync") && status.applied_index < status.commit_index {
        return unready("[+]node ok\n[+]leader ok\n[+]store ok\n[+]sync behind");
    }
    let sync = if parameters.has("sync") { "\n[+]sync ok" } else { "" };
    let body = format!("[+]node ok\n[+]leader ok\n[+]store ok{sync}\n[+]db ok");
    Ok(text(StatusCode::OK, &body))
}

/// `POST /nodes/NAME/drain` and `/undrain`. It is done when the group has it written down:
/// what the board has goes elsewhere from then on.
pub(super) async fn change(
    State(caller): State<Caller>,
    Path((board, what)): Path<(String, String)>,
) -> Answer {
    with_data(&caller).await?;
    let is_drained = match what.as_str() {
        "drain" => true,
        "undrain" => false,
        other => {
            let why = format!("{other} is neither drain nor undrain");
            return Err(text(StatusCode::BAD_REQUEST, &why));
        }
    };
    let status = seen(&caller).await?;
    let id = duties::id(&status, &board).map_err(|why| text(StatusCode::NOT_FOUND, &why))?;
    let request = Request::Write(sql::encode(&settings::drain(id, is_drained)));
    let response = listed::responded(caller.request(request).await)?;
    match response.failure() {
        Some(why) => Err(listed::unavailable(why)),
        None => Ok(text(StatusCode::OK, "")),
    }
}

/// A body that names a board is shorter than this, bytes.
const REMOVAL_BYTES_MAX: usize = 4_096;

/// `DELETE /remove` with `{"id": "ID"}`, as rqlite takes it; a name does as well.
pub(super) async fn remove(State(caller): State<Caller>, body: Body) -> Answer {
    let bad = |why: &str| text(StatusCode::BAD_REQUEST, why);
    let body = axum::body::to_bytes(body, REMOVAL_BYTES_MAX).await;
    let body = body.map_err(|_| bad("the body is longer than a board's id"))?;
    let wish: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(board) = wish.get("id").and_then(Value::as_str) else {
        return Err(bad("the body is {\"id\": \"ID\"}, with the id of a board as /nodes has it"));
    };
    let status = seen(&caller).await?;
    let named = |member: &&MemberStatus| member.id.to_string() == board || member.name == board;
    let id = match (status.members.iter().find(named), board.parse()) {
        (Some(member), _) => member.id,
        (None, Ok(id)) => id,
        (None, Err(_)) => return Err(bad(&format!("no board is named {board}"))),
    };
    match caller.request(Request::Member(MemberRequest::Remove(id))).await {
        Some(Reply::Done { .. }) => Ok(text(StatusCode::OK, "")),
        Some(Reply::Refused(Refusal::Invalid(why))) => Err(bad(&why)),
        Some(Reply::Refused(refusal)) => {
            Err(text(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()))
        }
        None => Err(text(StatusCode::SERVICE_UNAVAILABLE, STOPPING)),
    }
}
