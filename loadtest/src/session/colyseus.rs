//! Colyseus: how one gets in, and what its messages mean.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;

use super::{Session, Stage};
use crate::colyseus::patch::{self, Entry};
use crate::colyseus::{JOINED_ACK, Message, NUMBER_WRAP, reason};
use crate::websocket::opcode;
use crate::witness::Received;
use crate::worker::{Plan, Shared};

/// Asks for a seat and takes it, and waits for the whole state if the plan goes that far.
pub(super) async fn enter(shared: &Rc<Shared>, plan: &Plan, index: u32) -> Result<Session> {
    let started = plan.arrival(index).unwrap_or_else(Instant::now);
    let seat = plan.target.seat().await?;
    let mut session = Session::open(shared, &plan.target, &seat.websocket_path(), index).await?;
    session.reach(Stage::Connected).await?;
    shared.tally.borrow_mut().connect.record(started.elapsed());
    if plan.stage == Stage::Joined {
        let started = Instant::now();
        session.reach(Stage::Joined).await?;
        shared.tally.borrow_mut().join.record(started.elapsed());
    }
    Ok(session)
}

impl Session {
    pub(super) fn take_room_message(&mut self, message: &[u8], now: Instant) -> Result<(), String> {
        match Message::of(message) {
            Message::Joined => {
                self.stage = self.stage.max(Stage::Connected);
                self.send(opcode::BINARY, &JOINED_ACK)?;
            }
            Message::State => self.stage = self.stage.max(Stage::Joined),
            Message::Patch => {
                self.count_tick(now);
                self.take_patch(&message[1..], now);
            }
            Message::Refused => return Err(reason(message)),
            Message::Other => {}
        }
        Ok(())
    }

    /// Takes the poses of a patch. All share it, so one's own is among them.
    fn take_patch(&mut self, patch: &[u8], now: Instant) {
        let Self { shared, sender, witness, .. } = self;
        let Some((schedule, witness)) = shared.schedule.get().zip(witness.as_mut()) else { return };
        let mut tally = shared.tally.borrow_mut();
        let scene = shared.scene(&schedule);
        let moment = schedule.moment(now);
        witness.look(&scene, now);
        let before = tally.received;
        let outcome = patch::scan(patch, |entry| {
            let known = entry.filter(|entry| entry.stamp.sender < shared.crowd.users);
            let numbered =
                known.and_then(|entry| Some((entry, moment.number(entry.stamp.number, NUMBER_WRAP)?)));
            match numbered {
                None => tally.unreadable += 1,
                Some((entry, _)) if entry.stamp.sender == sender.index => tally.own += 1,
                Some((Entry { stamp, place }, number)) => {
                    witness.take(&scene, moment, Received { from: stamp.sender, number, place }, &mut tally);
                }
            }
        });
        tally.frames_unreadable += u64::from(outcome.is_err());
        Self::note_news(shared, &tally, before, now);
    }
}
