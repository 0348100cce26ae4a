//! What goes to members as it is: messages from each other, and word of the room itself.

use protocol::Outgoing;
use protocol::error::{ClientError, ErrorCode};
use replay::Action;
use serde::Serialize;

use super::recording::argument;
use super::{AckId, Audience, Entry, Nothing, Room, ok_packet};
use crate::pace::RateChange;

impl<S: Clone> Room<S> {
    pub(super) fn relay(
        &mut self,
        from: u16,
        to: Option<&str>,
        packet: Outgoing,
        volatile: bool,
        ack: AckId,
    ) -> Result<(), ClientError> {
        let is_recorded = to.is_none() && self.records_messages();
        let action = is_recorded.then(|| Action::Message {
            message: argument(&packet).to_owned(),
            attachments: packet.attachments().to_vec(),
        });
        match to {
            None => self.push_relayed(Audience::Others(from), packet, volatile),
            Some(name) => {
                let slots = self.addressed(name);
                if slots.is_empty() {
                    return Err(ClientError::new(ErrorCode::NotFound, "there is no such member in the room"));
                }
                for slot in slots {
                    self.push_relayed(Audience::One(slot), packet.clone(), volatile);
                }
            }
        }
        self.answer_recorded(from, action, ok_packet(ack, Nothing {}), ack);
        Ok(())
    }

    fn push_relayed(&mut self, audience: Audience, packet: Outgoing, volatile: bool) {
        self.out.entries.push(Entry { audience, packet, volatile, in_welcome: false });
        self.out.urgent = true;
    }

    /// The slots of the member with this socketId, or of all members with this user id.
    fn addressed(&self, name: &str) -> Vec<u16> {
        let members = || {
            self.members.iter().enumerate().filter_map(|(slot, member)| Some((slot as u16, member.as_ref()?)))
        };
        if let Some((slot, _)) = members().find(|(_, member)| &*member.user.socket_id == name) {
            return vec![slot];
        }
        members().filter(|(_, member)| &*member.user.id == name).map(|(slot, _)| slot).collect()
    }

    /// Tells everybody how many ticks a second there are from now on.
    pub fn announce_rate(&mut self, change: RateChange) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct RoomRate {
            tick_hz: u32,
            reason: &'static str,
        }
        let rate = RoomRate { tick_hz: change.hz, reason: change.reason.as_str() };
        self.out.entries.push(Entry {
            audience: Audience::All,
            packet: Outgoing::event("room-rate", &rate),
            volatile: false,
            // Who joins with this flush may have been given the old rate with its answer.
            in_welcome: false,
        });
        self.out.urgent = true;
    }
}
