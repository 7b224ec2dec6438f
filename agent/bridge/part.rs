//! The agent's own part in a duty: what it does by itself, in the place of a command,
//! while its board holds that. It is a keeper like any other for the loop, and there is no
//! process beside the agent: it ends with it, so nobody waits for it when that is killed.
//!
//! Who plays a part is asked to end when the duty goes elsewhere in order, and is dropped
//! where it does not end soon, or the lease does. A part that finds it cannot be played here
//! leaves the duty to another board, and tries again until it can.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::sync::{mpsc, watch};
use understudy_core::event::Millis;

use super::Stage;
use crate::{
    driver::clock,
    hold::words::{AgentWord, KeeperWord, Opening},
    keepers::WORDS_MAX,
};

/// Who is asked to end has so long for it: less than an agent that stops waits.
const GRACE_MS: u64 = 2_000;

/// Between two tries where a part cannot be played here.
const AGAIN: Duration = Duration::from_secs(10);

/// While its board holds the duty.
#[derive(Clone)]
pub struct Turn {
    /// Fencing token of the grant.
    pub token: u64,
    /// Becomes true when the part is to end.
    pub ending: watch::Receiver<bool>,
}

impl Turn {
    /// Waits until the part is to end.
    pub async fn over(&mut self) {
        // Whoever would say so is gone together with this.
        let _ = self.ending.wait_for(|is_ending| *is_ending).await;
    }
}

/// Who plays a part.
pub trait Player: Sync {
    /// In which duty, at which broker.
    fn stage(&self) -> &Stage;

    /// Plays it once the duty has come: until it is to end, or, in words, finds that it
    /// cannot go on.
    fn act(&self, turn: Turn) -> impl Future<Output = Result<(), String>> + Send;
}

/// Plays a part for as long as the agent runs, where and while its broker can be reached.
pub async fn play(player: impl Player) {
    let stage = player.stage();
    loop {
        let ended = match can(stage).await {
            Ok(true) => wait_and_act(&player).await,
            Ok(false) => Ok(()),
            Err(why) => Err(why),
        };
        match ended {
            Ok(()) => duties_change(stage).await,
            Err(why) => cannot(stage, why).await,
        }
    }
}

/// Can the part be played here, if it is wanted: there is such a duty, and this board may
/// hold it?
async fn can(stage: &Stage) -> Result<bool, String> {
    let Some(status) = stage.caller.status().await else { return Ok(false) };
    let Some(duty) = status.duties.iter().find(|duty| duty.name == stage.duty) else {
        return Ok(false);
    };
    if duty.rules.keep {
        return Err(String::from(
            "its rule has two boards act at a time (`--without-majority`), and a broker serves one",
        ));
    }
    if status.witness {
        return Ok(false);
    }
    stage.reach().await.map(|()| true)
}

/// Waits until it may be wanted: at the latest for [`AGAIN`].
async fn duties_change(stage: &Stage) {
    let change = async {
        match stage.caller.listen_to_duties().await {
            // What was missed is a change as well.
            Some(Ok(mut listening)) => drop(listening.changes.recv().await),
            Some(Err(_)) | None => std::future::pending().await,
        }
    };
    // In vain, and it is tried all the same.
    let _ = tokio::time::timeout(AGAIN, change).await;
}

/// Says why the part cannot be played here, until it can.
async fn cannot(stage: &Stage, mut why: String) {
    loop {
        let (words, _nobody_listens) = mpsc::channel(WORDS_MAX);
        let (duty, pid) = (stage.duty.clone(), std::process::id());
        let keeper = stage.caller.own_keeper(Opening::Cannot { duty, pid, why }, words).await;
        tokio::time::sleep(AGAIN).await;
        let now = can(stage).await;
        if let Some(Ok(keeper)) = keeper {
            // The loop may have ended, and this with it.
            let _ = stage.caller.keeper_said(keeper, None).await;
        }
        match now {
            Ok(_) => return,
            Err(still) => why = still,
        }
    }
}

/// Waits for the duty and plays the part, again and again: until the loop does not want it,
/// or, in words, it cannot be played here.
async fn wait_and_act(player: &impl Player) -> Result<(), String> {
    let Stage { caller, duty, .. } = player.stage();
    let (words, mut heard) = mpsc::channel(WORDS_MAX);
    let opening = Opening::Hold { duty: duty.clone(), pid: std::process::id(), beats: false };
    // Why it is not wanted, if not, is in this board's status.
    let Some(Ok(keeper)) = caller.own_keeper(opening, words).await else { return Ok(()) };
    while let Some(word) = heard.recv().await {
        let AgentWord::Take { token, until_ms } = word else { continue };
        let ended = turn(&mut heard, token, Millis(until_ms), player).await;
        let gone = KeeperWord::Gone { token, failed: ended.is_err() };
        if caller.keeper_said(keeper, Some(gone)).await.is_none() {
            break;
        }
        if ended.is_err() {
            // As above.
            let _ = caller.keeper_said(keeper, None).await;
            return ended;
        }
    }
    Ok(())
}

/// One turn under one grant.
async fn turn(
    heard: &mut mpsc::Receiver<AgentWord>,
    token: u64,
    mut until: Millis,
    player: &impl Player,
) -> Result<(), String> {
    let (end, ending) = watch::channel(false);
    let mut acting = pin!(player.act(Turn { token, ending }));
    loop {
        let left = Duration::from_millis(until.0.saturating_sub(clock::now().0));
        tokio::select! {
            biased;
            () = tokio::time::sleep(left) => return Ok(()),
            word = heard.recv() => match word {
                Some(AgentWord::Until { token: of, until_ms }) if of == token && !*end.borrow() => {
                    until = Millis(until_ms);
                }
                Some(AgentWord::Stop { token: of, .. }) if of == token => {
                    end.send_replace(true);
                    until = Millis(until.0.min(clock::now().plus(GRACE_MS).0));
                }
                Some(_) => {}
                None => return Ok(()),
            },
            ended = poll_fn(|context| match clock::now() < until {
                true => acting.as_mut().poll(context),
                // It stood still meanwhile, and sleeps are not told of that.
                false => Poll::Ready(Ok(())),
            }) => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        bridge::{Group, Progress},
        call::{Call, Caller},
        clock::BoardClock,
        driver::mqtt::Broker,
        keepers::KeeperCall,
    };

    /// Ends as it is told to: `None` when it is asked to end, never where that is not heard.
    struct Actor {
        stage: Stage,
        ends: Option<Result<(), String>>,
        hears: bool,
        turns: Arc<Mutex<Vec<u64>>>,
    }

    impl Player for Actor {
        fn stage(&self) -> &Stage {
            &self.stage
        }

        async fn act(&self, mut turn: Turn) -> Result<(), String> {
            self.turns.lock().unwrap().push(turn.token);
            match &self.ends {
                Some(ended) => return ended.clone(),
                None if self.hears => turn.over().await,
                None => std::future::pending().await,
            }
            Ok(())
        }
    }

    fn actor(ends: Option<Result<(), String>>, hears: bool) -> (Actor, mpsc::Receiver<Call>) {
        let (caller, calls) = Caller::channel();
        let broker = Broker { host: "hub".into(), port: 1, account: None, authorities: None };
        let group = Group { name: "g".into(), tag: "00000001".into(), node: 1 };
        let (duty, progress) = (String::from("mqtt-in"), Progress::default());
        let clock = BoardClock::new(1, Vec::new(), std::path::Path::new("/nowhere"));
        let stage = Stage { caller, clock, group, duty, broker, progress };
        (Actor { stage, ends, hears, turns: Arc::default() }, calls)
    }

    /// Runs it against a loop that says these words, and then nothing: what the loop heard.
    async fn heard(
        actor: &Actor,
        calls: &mut mpsc::Receiver<Call>,
        says: &[AgentWord],
    ) -> Vec<KeeperWord> {
        let (answers, mut heard) = (Mutex::new(Vec::new()), None);
        let the_loop = async {
            while let Some(call) = calls.recv().await {
                let Call::Keeper(call) = call else { panic!("a part asks for nothing else") };
                match call {
                    KeeperCall::Came { is_own, words, reply, .. } => {
                        assert!(is_own, "nobody is to wait for it when the agent has ended");
                        reply.send(Ok(7)).unwrap();
                        for word in says {
                            words.send(word.clone()).await.unwrap();
                        }
                        heard = Some(words);
                    }
                    KeeperCall::Said(7, word) => {
                        answers.lock().unwrap().push(word);
                        // Nothing is said any more.
                        heard = None;
                    }
                    KeeperCall::Said(..) | KeeperCall::Left(_) => heard = None,
                }
            }
        };
        tokio::select! {
            _ = wait_and_act(actor) => {}
            () = the_loop => {}
        }
        let mut answers = answers.into_inner().unwrap();
        while let Ok(Call::Keeper(call)) = calls.try_recv() {
            if let KeeperCall::Said(7, word) = call {
                answers.push(word);
            }
        }
        answers
    }

    fn take(token: u64, ms: u64) -> AgentWord {
        AgentWord::Take { token, until_ms: clock::now().plus(ms).0 }
    }

    fn on_runtime<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn who_is_asked_to_end_does_and_says_so() {
        let (actor, mut calls) = actor(None, true);
        let stop = AgentWord::Stop { token: 5, why: String::new() };
        let old = AgentWord::Stop { token: 4, why: String::new() };
        let says = [AgentWord::Waits, old, take(5, DAY_MS), stop];
        let heard = on_runtime(heard(&actor, &mut calls, &says));
        assert_eq!(heard, [KeeperWord::Gone { token: 5, failed: false }]);
        assert_eq!(*actor.turns.lock().unwrap(), [5]);
    }

    #[test]
    fn who_does_not_hear_is_dropped_with_the_lease_or_soon_after_it_is_asked_to_end() {
        for says in [
            vec![take(5, 20)],
            vec![take(5, DAY_MS), AgentWord::Stop { token: 5, why: String::new() }],
        ] {
            let (actor, mut calls) = actor(None, false);
            let heard = on_runtime(heard(&actor, &mut calls, &says));
            assert_eq!(heard, [KeeperWord::Gone { token: 5, failed: false }]);
        }
    }

    #[test]
    fn a_lease_that_goes_on_is_not_over() {
        let (actor, mut calls) = actor(None, true);
        let longer = AgentWord::Until { token: 5, until_ms: clock::now().plus(DAY_MS).0 };
        let says = [take(5, 50), longer];
        let ended = on_runtime(async {
            let playing = heard(&actor, &mut calls, &says);
            tokio::time::timeout(Duration::from_millis(300), playing).await
        });
        assert!(ended.is_err(), "{ended:?}");
    }

    #[test]
    fn who_cannot_go_on_leaves_the_duty_to_another_board() {
        let (actor, mut calls) = actor(Some(Err("no broker".into())), false);
        let heard = on_runtime(heard(&actor, &mut calls, &[take(5, DAY_MS)]));
        assert_eq!(heard, [KeeperWord::Gone { token: 5, failed: true }]);
    }
}
