//! The part that tells the world: each reading as it is committed and each change of a duty,
//! as JSON on topics of their own, and what makes Home Assistant know them.
//!
//! Whoever plays it goes on behind what was told before, on whichever board that was, and
//! tells again what that told after it had left its place last: each message has its
//! index, the same whoever tells it. Nothing counts as told that the broker has not
//! acknowledged.

use super::{
    Lines, Stage, keep_at_it,
    part::{self, Player, Turn},
    position::Position,
    publication::Publication,
    telling,
};

/// Plays the part for as long as the agent runs.
pub async fn play(stage: Stage, publication: Publication) {
    part::play(Publisher { stage, publication }).await;
}

struct Publisher {
    stage: Stage,
    publication: Publication,
}

impl Player for Publisher {
    fn stage(&self) -> &Stage {
        &self.stage
    }

    async fn act(&self, mut turn: Turn) -> Result<(), String> {
        let (stage, token) = (&self.stage, turn.token);
        let mut told = Told { publisher: self, token, position: None };
        let ended = tokio::select! {
            () = turn.over() => Ok(()),
            ended = keep_at_it(stage, &mut told) => ended,
        };
        if let Some(position) = &mut told.position {
            // Where it cannot be left, what was told since is told again.
            let _ = position.leave(stage, token).await;
        }
        ended
    }
}

/// One turn, and up to where it has told.
struct Told<'p> {
    publisher: &'p Publisher,
    token: u64,
    /// Known once it could be read.
    position: Option<Position>,
}

impl Lines for Told<'_> {
    async fn session(&mut self) -> Result<(), String> {
        let Publisher { stage, publication } = self.publisher;
        let known = match self.position.take() {
            Some(known) => known,
            None => Position::read(stage).await?,
        };
        let position = self.position.insert(known);
        telling::session(stage, publication, self.token, position).await
    }
}
