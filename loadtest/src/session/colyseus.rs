//! Colyseus: how one gets in, and what its messages mean.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;

use super::{Session, Stage};
use crate::colyseus::{JOINED_ACK, Message, reason};
use crate::websocket::opcode;
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
            Message::Patch => self.count_tick(now),
            Message::Refused => return Err(reason(message)),
            Message::Other => {}
        }
        Ok(())
    }
}
