//! Is this board's disk nearly full? Told once, and again only after there was room.

/// It is, with less than this free, hundredths.
const LOW_PERCENT: u64 = 10;

/// It is no more, with this.
const ROOM_PERCENT: u64 = 15;

/// See the module's description.
#[derive(Default)]
pub struct Card {
    is_filling: bool,
}

impl Card {
    /// So much is free of so much, bytes: what is to be told of that.
    pub fn look(&mut self, free_bytes: u64, bytes: u64) -> Option<String> {
        if bytes == 0 {
            return None;
        }
        let percent = u128::from(free_bytes) * 100 / u128::from(bytes);
        let was_filling = self.is_filling;
        let limit = if was_filling { ROOM_PERCENT } else { LOW_PERCENT };
        self.is_filling = percent < u128::from(limit);
        let mb = free_bytes >> 20;
        (self.is_filling && !was_filling).then(|| format!("{mb} MB free, {percent} % of its disk"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_told_to_fill_once_until_there_was_room() {
        let mut card = Card::default();
        let mut told = |free: u64| card.look(free << 20, 100 << 20);
        assert_eq!(told(10), None);
        assert_eq!(told(9).unwrap(), "9 MB free, 9 % of its disk");
        assert_eq!((told(5), told(14), told(9)), (None, None, None));
        assert_eq!((told(15), told(3).is_some()), (None, true));
        assert_eq!(Card::default().look(0, 0), None);
    }
}
