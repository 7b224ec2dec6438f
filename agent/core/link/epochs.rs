//! Which of a peer's epochs is the present one. Epochs have no order: one never
//! met is the next, one that was left is not returned to, so that a payload
//! that was long on its way changes nothing.

/// Epochs of a peer that are remembered after it left them: as many as it could
/// go through within a payload's life.
const REMEMBERED: usize = 8;

/// What an epoch is to the one who meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The one it was.
    Present,
    /// The peer has begun anew.
    New,
    /// The peer has left it.
    Past,
}

/// The epochs of one peer.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    present: Option<u32>,
    past: heapless::Deque<u32, REMEMBERED>,
}

impl Epochs {
    pub(super) const fn present(&self) -> Option<u32> {
        self.present
    }

    /// Meets `epoch`, which is the present one from now on unless it is past.
    pub(super) fn meet(&mut self, epoch: u32) -> Met {
        if self.present == Some(epoch) {
            return Met::Present;
        }
        if self.past.iter().any(|past| *past == epoch) {
            return Met::Past;
        }
        if let Some(left) = self.present.replace(epoch) {
            if self.past.is_full() {
                self.past.pop_front();
            }
            self.past.push_back(left).expect("there is room now");
        }
        Met::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_was_left_is_not_returned_to() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.meet(7), Met::New);
        assert_eq!(epochs.meet(7), Met::Present);
        for epoch in 8..8 + u32::try_from(REMEMBERED).unwrap() {
            assert_eq!(epochs.meet(epoch), Met::New);
            assert_eq!(epochs.meet(7), Met::Past);
        }
        assert_eq!(epochs.present(), Some(7 + u32::try_from(REMEMBERED).unwrap()));
    }
}
