//! The group, as a part asks it under a grant: again and again until it answers, or the grant
//! is over and whoever asks is dropped.

use std::time::Duration;

use understudy_core::{
    event::{ReadLevel, Request},
    fence::Fence,
    sql::{Origin, RequestKind, SqlRequest, SqlResponse, encode},
};

use super::{Stage, sql};

/// Between two tries of what the group or the broker does not take, the first and the longest.
const AGAIN_MS: u64 = 200;
const AGAIN_MS_MAX: u64 = 30_000;

/// See the module's description.
pub struct Grant<'s> {
    /// Whose.
    pub stage: &'s Stage,
    /// Its fencing token.
    pub token: u64,
}

impl Grant<'_> {
    /// What is written under it counts for nobody after it.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.stage.fence(self.token)
    }

    /// Reads what is committed.
    pub async fn read(&self, request: &SqlRequest) -> SqlResponse {
        let level = ReadLevel::Linearizable { timeout_ms: None };
        self.ask(Request::Read { level, sql: encode(request) }).await
    }

    /// Writes.
    pub async fn write(&self, request: &SqlRequest) -> SqlResponse {
        self.ask(Request::Write(encode(request))).await
    }

    async fn ask(&self, request: Request) -> SqlResponse {
        let mut pause = Pause::default();
        loop {
            let why = match sql::ask(&self.stage.caller, request.clone()).await {
                Ok(response) => match response.failure() {
                    None => {
                        self.is_well_after(&pause);
                        return response;
                    }
                    Some(why) => why.to_owned(),
                },
                Err(why) => why,
            };
            self.is_troubled(&why);
            pause.wait().await;
        }
    }

    /// The group takes nothing, for this reason.
    pub fn is_troubled(&self, why: &str) {
        self.stage.progress.lock().trouble = Some(format!("the group takes nothing: {why}"));
    }

    /// It takes things again, where it had to be asked several times.
    pub fn is_well_after(&self, pause: &Pause) {
        if pause.0 > AGAIN_MS {
            self.stage.progress.lock().trouble = None;
        }
    }

    /// Waits until there is a majority.
    pub async fn majority(&self) {
        let nothing = SqlRequest::one(RequestKind::Query, Origin::Agent, "SELECT 1", Vec::new());
        let _ = self.read(&nothing).await;
    }
}

/// Pauses that grow.
pub struct Pause(u64);

impl Default for Pause {
    fn default() -> Self {
        Self(AGAIN_MS)
    }
}

impl Pause {
    /// The next, milliseconds.
    pub const fn next_ms(&mut self) -> u64 {
        let pause = self.0;
        self.0 = if 2 * pause < AGAIN_MS_MAX { 2 * pause } else { AGAIN_MS_MAX };
        pause
    }

    /// Waits for it.
    pub async fn wait(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.next_ms())).await;
    }
}
