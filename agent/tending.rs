//! When the leading board has old readings rolled up and trimmed: every so often, and at
//! once again while there is more to do. What is due is for the database to say.

use understudy_core::{
    event::{Millis, NodeId, Reply, Request},
    readings::{Tending, Work},
    sql,
};

/// Between two looks for what is due.
const LOOK_MS: u64 = 60_000;

/// After one that left more.
const MORE_MS: u64 = 500;

/// See the module's description.
#[derive(Default)]
pub struct Tender {
    next: Millis,
    is_asked: bool,
}

impl Tender {
    /// The request, if it is time for one: this board leads. `wall_us` is its wall clock,
    /// where that is set, `is_agreed` whether another's agrees, `start` this board's id
    /// and which start of it this is.
    pub fn due(
        &mut self,
        now: Millis,
        (wall_us, is_agreed): (Option<i64>, bool),
        start: (NodeId, u64),
    ) -> Option<Request> {
        if self.is_asked || now < self.next {
            return None;
        }
        self.is_asked = true;
        let tending = Tending { wall_us, boot_ms: now.0, start, is_agreed };
        Some(Request::Write(Work::Tend(tending).encode()))
    }

    /// What came of it.
    pub fn answered(&mut self, now: Millis, reply: &Reply) {
        let left = match reply {
            Reply::Done { answer, .. } => sql::decode::<u64>(answer).unwrap_or(0),
            Reply::Refused(_) => 0,
        };
        self.is_asked = false;
        self.next = now.plus(if left > 0 { MORE_MS } else { LOOK_MS });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_more_is_asked_again_soon_and_never_twice_at_once() {
        let mut tender = Tender::default();
        let due =
            |tender: &mut Tender, ms| tender.due(Millis(ms), (Some(5), true), (3, 9)).is_some();
        assert!(due(&mut tender, 0) && !due(&mut tender, 100_000));
        let done = |left: u64| Reply::Done { index: 1, answer: sql::encode(&left) };
        tender.answered(Millis(1_000), &done(7));
        assert!(!due(&mut tender, 1_400) && due(&mut tender, 1_500));
        tender.answered(Millis(2_000), &done(0));
        assert!(!due(&mut tender, 61_000) && due(&mut tender, 62_000));
    }
}
