//! "Which group are you of?": the one thing a board answers to anybody, so that
//! a joining board can tell a token of another group from a board that is not
//! there. The answer is the group's tag, which every handshake shows anyway, and the
//! number of the newest key that this board knows of the group, so that a token from
//! before a change of the key can be told from one of this time.
//!
//! Question: kind, nonce (8), padding. Answer: kind, the nonce, the tag (4), the
//! number (4).
//! Answers are rationed, apart from those to handshakes, and no longer than the
//! question. Nothing is authenticated: what is heard here is a hint for
//! people and decides nothing.

use std::cmp::Ordering;

use understudy_core::event::Millis;

use super::{Address, Drop, Keys, Opened, Outgoing, QUESTION, Seal, TAG, To};

/// A question's length, and an answer's.
const QUESTION_BYTES: usize = 17;

const NONCE_BYTES: usize = 8;

/// Asks whose board it is that listens at some address.
pub struct Whose {
    nonce: [u8; NONCE_BYTES],
    tag: [u8; 4],
    key: u32,
}

/// Who answered, as the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// A board of another group.
    Stranger,
    /// One of the same group, under the same key.
    Ours,
    /// One of the same group that knows a newer key.
    Ahead,
    /// One of the same group that does not know this key yet.
    Behind,
}

impl Whose {
    /// A question by a holder of these keys; `nonce` ties the answer to it.
    #[must_use]
    pub fn new(keys: &Keys, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { nonce, tag: keys.tag(), key: keys.newest }
    }

    /// The datagram to send.
    #[must_use]
    pub fn question(&self) -> [u8; QUESTION_BYTES] {
        let mut question = [0; QUESTION_BYTES];
        question[0] = QUESTION;
        question[1..=NONCE_BYTES].copy_from_slice(&self.nonce);
        question
    }

    /// Of what group is the board that answered? `None` when this is no answer to the
    /// question.
    #[must_use]
    pub fn answered(&self, answer: &[u8]) -> Option<Answerer> {
        let (head, rest) = answer.split_at_checked(1 + NONCE_BYTES)?;
        let (tag, key) = rest.split_at_checked(4)?;
        let key = u32::from_le_bytes(key.try_into().ok()?);
        if head[0] != TAG || head[1..] != self.nonce {
            return None;
        }
        Some(match key.cmp(&self.key) {
            _ if tag != self.tag => Answerer::Stranger,
            Ordering::Equal => Answerer::Ours,
            Ordering::Greater => Answerer::Ahead,
            Ordering::Less => Answerer::Behind,
        })
    }
}

impl Seal {
    pub(super) fn on_question(
        &mut self,
        now: Millis,
        datagram: &[u8],
        source: Address,
        out: &mut Vec<Outgoing>,
    ) -> Result<Opened, Drop> {
        if datagram.len() != QUESTION_BYTES {
            return Err(Drop::Malformed);
        }
        self.questions.spend(now)?;
        let mut answer = vec![TAG];
        answer.extend(&datagram[1..=NONCE_BYTES]);
        answer.extend(self.tag);
        answer.extend(self.keys.newest.to_le_bytes());
        assert!(answer.len() <= datagram.len(), "no answer is longer than its question");
        out.push(Outgoing { to: To::Address(source), datagram: answer });
        Ok(Opened::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::GroupKey;

    #[test]
    fn a_board_says_which_group_it_is_of_and_no_more_than_it_was_asked() {
        let keys =
            |group, number| Keys::of_one([group; 16], GroupKey { number, key: [7; 32] }, [1; 32]);
        let mut board = Seal::new(keys(1, 4), 1, 5);
        let source = Address::Udp(([127, 0, 0, 1], 9).into());
        for (group, number, answerer) in [
            (1, 4, Answerer::Ours),
            (1, 3, Answerer::Ahead),
            (1, 5, Answerer::Behind),
            (2, 4, Answerer::Stranger),
        ] {
            let keys = |group| keys(group, number);
            let whose = Whose::new(&keys(group), [3; 8]);
            let mut out = Vec::new();
            board.open(Millis(0), &whose.question(), source, &mut out);
            assert_eq!(out.len(), 1);
            assert_eq!(whose.answered(&out[0].datagram), Some(answerer));
            assert_eq!(Whose::new(&keys(group), [4; 8]).answered(&out[0].datagram), None);
            assert_eq!(whose.answered(&whose.question()), None);
        }
        let mut out = Vec::new();
        for _ in 0..200 {
            let whose = Whose::new(&keys(1, 4), [3; 8]);
            board.open(Millis(0), &whose.question(), source, &mut out);
        }
        assert!(out.len() < 60, "answers are rationed: {}", out.len());
    }
}
