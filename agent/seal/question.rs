//! "Which group are you of?": the one thing a board answers to anybody, so that
//! a joining board can tell a token of another group from a board that is not
//! there. The answer is the group's tag, which every handshake shows anyway.
//!
//! Question: kind, nonce (8), padding. Answer: kind, the nonce, the tag (4).
//! Answers are rationed, apart from those to handshakes, and no longer than the
//! question. Nothing is authenticated: what is heard here is a hint for
//! people and decides nothing.

use understudy_core::event::Millis;

use super::{Address, Drop, Keys, Opened, Outgoing, QUESTION, Seal, TAG, To, handshake::group_tag};

/// A question's length, and an answer's.
const QUESTION_BYTES: usize = 13;

const NONCE_BYTES: usize = 8;

/// Asks whose board it is that listens at some address.
pub struct Whose {
    nonce: [u8; NONCE_BYTES],
    tag: [u8; 4],
}

impl Whose {
    /// A question by a holder of these keys; `nonce` ties the answer to it.
    #[must_use]
    pub fn new(keys: &Keys, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { nonce, tag: group_tag(keys) }
    }

    /// The datagram to send.
    #[must_use]
    pub fn question(&self) -> [u8; QUESTION_BYTES] {
        let mut question = [0; QUESTION_BYTES];
        question[0] = QUESTION;
        question[1..=NONCE_BYTES].copy_from_slice(&self.nonce);
        question
    }

    /// Is the board that answered of the keys' group? `None` when this is no
    /// answer to the question.
    #[must_use]
    pub fn is_ours(&self, answer: &[u8]) -> Option<bool> {
        let (head, tag) = answer.split_at_checked(1 + NONCE_BYTES)?;
        (head[0] == TAG && head[1..] == self.nonce && tag.len() == 4).then(|| tag == self.tag)
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
        answer.extend(self.marks.tag);
        assert!(answer.len() <= datagram.len(), "no answer is longer than its question");
        out.push(Outgoing { to: To::Address(source), datagram: answer });
        Ok(Opened::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_says_which_group_it_is_of_and_no_more_than_it_was_asked() {
        let keys = |group| Keys { group: [group; 16], group_key: [7; 32], private_key: [1; 32] };
        let mut board = Seal::new(keys(1), 1, 5);
        let source = Address::from(([127, 0, 0, 1], 9));
        for (group, ours) in [(1, true), (2, false)] {
            let whose = Whose::new(&keys(group), [3; 8]);
            let mut out = Vec::new();
            board.open(Millis(0), &whose.question(), source, &mut out);
            assert_eq!(out.len(), 1);
            assert_eq!(whose.is_ours(&out[0].datagram), Some(ours));
            assert_eq!(Whose::new(&keys(group), [4; 8]).is_ours(&out[0].datagram), None);
            assert_eq!(whose.is_ours(&whose.question()), None);
        }
        let mut out = Vec::new();
        for _ in 0..200 {
            let whose = Whose::new(&keys(1), [3; 8]);
            board.open(Millis(0), &whose.question(), source, &mut out);
        }
        assert!(out.len() < 60, "answers are rationed: {}", out.len());
    }
}
