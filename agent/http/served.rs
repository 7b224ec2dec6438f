//! Which board carried a request out, for `X-RQLITE-SERVED-BY`: this one, by its
//! HTTP address, or the leader, by its own, for a write that was passed on.
//!
//! The loop is asked once in a while, not once per request: right after a
//! takeover the header may still name the last leader.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use understudy_core::event::Millis;

use crate::{call::Caller, driver::clock, status::Status};

/// Addresses older than this are asked for anew.
const AGE_MS_MAX: u64 = 1_000;

#[derive(Clone, Default)]
pub(super) struct Addresses {
    own: Option<HeaderValue>,
    leader: Option<HeaderValue>,
}

/// What is known of addresses, shared by all connections.
#[derive(Clone, Default)]
pub(super) struct Served(Arc<Mutex<Option<(Millis, Addresses)>>>);

impl Served {
    /// Who has carried out a request of this board: it reads by itself.
    pub(super) async fn by(&self, caller: &Caller, is_read: bool) -> Option<HeaderValue> {
        let now = clock::now();
        let addresses = match self.known(now) {
            Some(addresses) => addresses,
            None => {
                let addresses = Addresses::of(&caller.status().await?);
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((now, addresses.clone()));
                addresses
            }
        };
        addresses.server(is_read)
    }

    fn known(&self, now: Millis) -> Option<Addresses> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, addresses) = known.as_ref().filter(|(at, _)| now.since(*at) < AGE_MS_MAX)?;
        Some(addresses.clone())
    }
}

impl Addresses {
    pub(super) fn of(status: &Status) -> Self {
        let member = |id: u64| status.members.iter().find(|member| member.id == id);
        let said = member(status.id).and_then(|own| own.http.as_deref());
        let said = said.map(|http| http.trim_start_matches("http://"));
        let other = status.leader_id.filter(|leader| *leader != status.id);
        let leader = other.and_then(member).and_then(|leader| leader.address.as_deref());
        let header = |address: &str| HeaderValue::from_str(address).ok();
        Self {
            own: said.or(status.http.as_deref()).and_then(header),
            leader: leader.and_then(header),
        }
    }

    pub(super) fn server(self, is_read: bool) -> Option<HeaderValue> {
        if is_read { self.own } else { self.leader.or(self.own) }
    }
}
