//! Moves everybody of one core when it is time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::binary::{ANNOUNCEMENT, write_pose};
use crate::colyseus;
use crate::options::{Encoding, Protocol};
use crate::schedule::Schedule;
use crate::sender::Sender;
use crate::stamp::write_update;
use crate::walk::Walk;
use crate::websocket::opcode;
use crate::worker::{Phase, Plan, Shared};

/// Poses sent in one go before arrivals are looked at again.
const SENDS_PER_YIELD: usize = 32;
/// How long everybody moves on after the last pose that counts, so that it arrives under the same load.
const GRACE: Duration = Duration::from_secs(1);

/// A core's arrivals are over when none has come for this long after its last pose, and everything is sent and answered…
const QUIET: Duration = Duration::from_millis(500);
/// …or after this long, whatever comes.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Somebody who moves as soon as there is a way out.
struct Mover {
    index: u32,
    walk: Walk,
    hands: bool,
}

/// Everybody who moves on one core, in the order of the schedule.
pub(crate) struct Pacer {
    movers: Vec<Mover>,
    encoding: Encoding,
    asks_each: Option<u32>,
    /// Of the same order as `movers`; `None` for those who are not in yet.
    pub(crate) senders: Rc<RefCell<Vec<Option<Rc<Sender>>>>>,
}

impl Pacer {
    /// The users `indices`, in ascending order.
    pub(crate) fn new(shared: &Shared, plan: &Plan, indices: &[u32]) -> Self {
        let movers = indices.iter().map(|&index| {
            let mut walk = Walk::new(plan.seed, index, plan.side_m, plan.hz);
            // Whoever is not in yet is somewhere already.
            let start = walk.step();
            shared.board.put(index, [start.x, start.z]);
            Mover { index, walk, hands: has_hands(shared.crowd.place_in_room(index), plan.hands) }
        });
        let movers = movers.collect();
        let senders = Rc::new(RefCell::new(vec![None; indices.len()]));
        Self { movers, encoding: plan.encoding, asks_each: plan.asks_each, senders }
    }

    /// Sends everybody's poses when they are due, until the end of what counts is over. One that is late is sent at
    /// once and never left out for it.
    pub(crate) async fn run(&mut self, shared: &Shared, phase: &mut watch::Receiver<Phase>) {
        let mut text = Vec::new();
        let mut sends = 0;
        for number in 0.. {
            let Phase::Moving(schedule) = *phase.borrow_and_update() else { return };
            shared.schedule.set(Some(schedule));
            // Everybody has gone.
            if number >= schedule.end_of_sending(GRACE) || phase.has_changed().is_err() {
                return;
            }
            for at in 0..self.movers.len() {
                let due = schedule.due(self.movers[at].index, number);
                let mut now = Instant::now();
                if due > now {
                    tokio::time::sleep_until(due.into()).await;
                    now = Instant::now();
                    sends = 0;
                } else if sends >= SENDS_PER_YIELD {
                    tokio::task::yield_now().await;
                    now = Instant::now();
                    sends = 0;
                }
                sends += 1;
                self.move_one(shared, &schedule, at, number, now, &mut text);
            }
        }
    }

    fn move_one(
        &mut self,
        shared: &Shared,
        schedule: &Schedule,
        at: usize,
        number: u32,
        now: Instant,
        text: &mut Vec<u8>,
    ) {
        let Mover { index, walk, hands } = &mut self.movers[at];
        let senders = self.senders.borrow();
        let Some(sender) = senders[at].as_ref().filter(|sender| !sender.closed.get()) else { return };
        let place = walk.step();
        shared.board.put(*index, [place.x, place.z]);
        text.clear();
        // They take turns, so that the server is not asked by all at once.
        let asks =
            self.asks_each.is_some_and(|each| (number + *index).is_multiple_of(each)) && sender.ask(number);
        let question = if asks { format!("42{}[\"time-sync\"]", number + 1) } else { String::new() };
        let mut messages = Vec::with_capacity(3);
        match (shared.protocol, self.encoding) {
            (Protocol::Colyseus, _) => {
                colyseus::write_pose(&colyseus::numbers(&place, *index, number), text);
                messages.push((opcode::BINARY, &text[..]));
            }
            (Protocol::Socketio, Encoding::Json | Encoding::Batch) => {
                write_update(&place, *index, number, text);
                messages.push((opcode::TEXT, &text[..]));
            }
            (Protocol::Socketio, Encoding::Binary) => {
                write_pose(&place, number, *hands, text);
                messages.extend([(opcode::TEXT, ANNOUNCEMENT), (opcode::BINARY, &text[..])]);
            }
        }
        if asks {
            messages.push((opcode::TEXT, question.as_bytes()));
        }
        let sent = sender.send_volatile(&messages);
        // What could not be sent is not asked either.
        let asks = asks && (matches!(sent, Ok(true)) || !sender.answered(number));
        // An error is the reader's to find and to count.
        let sent = sent.unwrap_or(false);
        let mut tally = shared.tally.borrow_mut();
        tally.sent_in_all += u64::from(sent);
        if schedule.counts(number) {
            *(if sent { &mut tally.sent } else { &mut tally.not_sent }) += 1;
            tally.acks_asked += u64::from(asks);
            tally.lateness.record(now.saturating_duration_since(schedule.due(*index, number)));
        }
    }
}

/// Whether whoever has that place in the room is one of the `share` of people with tracked hands.
fn has_hands(place: u32, share: f64) -> bool {
    let up_to = |places: u32| (f64::from(places) * share).floor();
    up_to(place + 1) > up_to(place)
}

/// Waits until what is on its way has arrived, here and there: a server that is behind must not lose by it.
pub(crate) async fn drain(shared: &Shared, senders: &RefCell<Vec<Option<Rc<Sender>>>>) {
    let sent = Instant::now();
    let is_over = || {
        let is_quiet = sent.max(shared.last_pose.get().unwrap_or(sent)).elapsed() >= QUIET;
        is_quiet && senders.borrow().iter().flatten().all(|sender| sender.is_settled())
    };
    while sent.elapsed() < DRAIN_MAX && !is_over() {
        tokio::time::sleep(QUIET / 10).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_have_hands_as_asked_for() {
        for (share, expected) in [(0.0, 0), (0.25, 25), (0.6, 60), (1.0, 100)] {
            assert_eq!((0..100).filter(|place| has_hands(*place, share)).count(), expected, "{share}");
        }
    }
}
