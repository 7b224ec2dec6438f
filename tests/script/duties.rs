//! Duties as a script's database has them: rows are texts, and some of them are about
//! duties, told one after the other.
//!
//! `duty 1` makes one (`duty 1 for 3 2`: only those boards, the first choice first);
//! `pause 1`, `resume 1`, `transfer 1 to 2` and `release 1` say what is wanted of it; a
//! grant is the text that comes of the write which makes it. A text that ends with
//! `under 1:7` counts only while duty 1 has token 7, as a fence does.

use std::collections::BTreeMap;

use understudy_core::duty::{self, ANOTHER, Claim, Duty, Grant, Incarnation};

/// What a fence of a text is written after.
const UNDER: &str = " under ";

/// What these rows, in order, come to.
pub(crate) fn of(rows: &[String]) -> Vec<Duty> {
    let mut duties: BTreeMap<u64, Duty> = BTreeMap::new();
    for row in rows {
        let words: Vec<&str> = row.split(' ').collect();
        let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok());
        let Some(id) = number(1) else { continue };
        if words[0] == "duty" {
            let candidates = words.iter().skip(3).filter_map(|word| word.parse().ok()).collect();
            let name = format!("duty-{id}");
            duties.insert(id, Duty { id, name, candidates, ..Duty::default() });
        }
        let Some(duty) = duties.get_mut(&id) else { continue };
        match words[0] {
            "pause" => duty.is_paused = true,
            "resume" => duty.is_paused = false,
            "transfer" => duty.wanted = number(3),
            "release" => duty.wanted = Some(ANOTHER),
            "granted" => {
                (duty.token, duty.wanted) = (number(3).unwrap_or(0), None);
                duty.lease_ms = number(5).unwrap_or(0);
                let holder = number(7).zip(number(9));
                duty.holder = holder.map(|(board, boot)| Incarnation { board, boot, nonce: 0 });
            }
            _ => {}
        }
    }
    duties.into_values().collect()
}

/// The text of a grant, which [`of`] reads; no start of a script has a nonce.
fn text_of(grant: &Grant) -> String {
    let Grant { claim: Claim { duty, token }, holder, lease_ms, .. } = grant;
    let whom = holder
        .map_or("nobody".to_owned(), |holder| format!("{} start {}", holder.board, holder.boot));
    format!("granted {duty} under {token} for {lease_ms} to {whom}")
}

/// The texts that come of requests, each on top of those before it, and the answers.
pub(crate) fn execute(rows: &[String], requests: &[Vec<u8>]) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut all = rows.to_vec();
    let mut answers = Vec::new();
    for request in requests {
        let text = String::from_utf8_lossy(request).into_owned();
        let duties = of(&all);
        let stands = |claim: Claim| duties.iter().any(|duty| duty.claim() == claim);
        match (duty::grants(request), stale(&text, stands)) {
            (Some(grant), _) => {
                let before = Claim { token: grant.before, ..grant.claim };
                all.extend(stands(before).then(|| text_of(&grant)));
                answers.push(Vec::new());
            }
            (None, Some(why)) => answers.push(why.into_bytes()),
            (None, None) => {
                answers.push(request.clone());
                all.push(text);
            }
        }
    }
    (all.split_off(rows.len()), answers)
}

/// Why this text counts no more, if it does not.
fn stale(text: &str, stands: impl Fn(Claim) -> bool) -> Option<String> {
    let (_, fence) = text.rsplit_once(UNDER)?;
    let (duty, token) = fence.split_once(':')?;
    let claim = Claim { duty: duty.parse().ok()?, token: token.parse().ok()? };
    (!stands(claim)).then(|| format!("fence {fence} is stale"))
}
