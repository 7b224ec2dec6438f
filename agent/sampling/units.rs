//! Units of the sensors of one bus that have none in the table, set once each.
//!
//! Nobody waits for it: without a majority such a write is answered only when its time is up,
//! and readings are taken meanwhile, for the spool. One is under way at most; what came of it
//! is looked at when the next would begin.

use std::collections::BTreeSet;

use tokio::sync::oneshot::{Receiver, error::TryRecvError};
use understudy_core::{
    event::{Reply, Request},
    sql::{self, Origin, RequestKind, SqlRequest, SqlResponse, StatementOutcome, Value},
};

use super::record::Job;
use crate::call::Caller;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// Sensors that need nothing more.
    set: BTreeSet<String>,
    /// The sensors that a write is under way for, and where its answer comes.
    asked: Option<(Vec<String>, Receiver<Reply>)>,
}

impl Units {
    /// Begins to set what is still to be set of these, which readings came of; again where a
    /// sensor was not in the table yet.
    pub(super) async fn set(&mut self, caller: &Caller, jobs: &[&Job]) {
        if self.is_under_way() {
            return;
        }
        let is_new = |job: &&Job| !job.source.unit.is_empty() && !self.set.contains(&job.sensor);
        let new: Vec<&Job> = jobs.iter().copied().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let statement = |job: &&Job| {
            let set = "UPDATE sensor SET unit = coalesce(unit, ?2) WHERE name = ?1";
            let values = vec![Value::text(&job.sensor), Value::text(job.source.unit)];
            sql::Statement::new(set, values)
        };
        let statements = new.iter().map(statement).collect();
        let request = SqlRequest::new(RequestKind::Execute, Origin::Agent, statements);
        let answer = caller.begin(Request::Write(sql::encode(&request))).await;
        let sensors = new.iter().map(|job| job.sensor.clone()).collect();
        self.asked = answer.map(|answer| (sensors, answer));
    }

    /// Is there no answer yet? What one says is kept.
    fn is_under_way(&mut self) -> bool {
        let Some((sensors, mut answer)) = self.asked.take() else { return false };
        match answer.try_recv() {
            Err(TryRecvError::Empty) => {
                self.asked = Some((sensors, answer));
                return true;
            }
            Ok(Reply::Done { answer, .. }) => self.learn(sensors, &answer),
            Ok(Reply::Refused(_)) | Err(TryRecvError::Closed) => {}
        }
        false
    }

    fn learn(&mut self, sensors: Vec<String>, answer: &[u8]) {
        let Ok(response) = sql::decode::<SqlResponse>(answer) else { return };
        for (sensor, result) in sensors.into_iter().zip(response.results) {
            if matches!(result.outcome, StatementOutcome::Changed { rows_affected: 1, .. }) {
                self.set.insert(sensor);
            }
        }
    }

    /// Sensors that are no more are forgotten.
    pub(super) fn retain(&mut self, jobs: &[Job]) {
        self.set.retain(|sensor| jobs.iter().any(|job| job.sensor == *sensor));
    }
}
