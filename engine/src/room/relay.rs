//! Messages from member to member.

use protocol::Outgoing;
use protocol::error::{ClientError, ErrorCode};

use super::{AckId, Audience, Entry, Nothing, Room};

impl<S: Clone> Room<S> {
    pub(super) fn relay(
        &mut self,
        from: u16,
        to: Option<&str>,
        packet: Outgoing,
        volatile: bool,
        ack: AckId,
    ) -> Result<(), ClientError> {
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
        self.reply_ok(from, ack, Nothing {});
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
}
