//! Inputs that the benchmarks share: messages as clients send them and rooms as people fill them.
//!
//! Numbers have as many digits as three.js and a headset produce, because parsing and printing them is a large
//! part of the cost.

mod hall;

use std::sync::Arc;

use engine::broadcast::TickPoses;
use engine::directory::RoomShared;
use engine::room::{Command, Effect, Room};
use engine::{RoomDefaults, RoomOptions, SessionId, Time, User};
use protocol::event::{Encoding, View};
use protocol::{ClientEvent, Packet, Part, Pose, Rotation};

pub use hall::Hall;

/// The servers' allocator, so that what allocates costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a headset's page sends 20 times a second: `update-position` as a Socket.IO packet, without hands.
pub const UPDATE_HEAD: &str = r#"2["update-position",{"position":{"x":3.2518,"y":1.6132,"z":-7.0481},"rotation":{"x":-0.0721,"y":2.4169,"z":0.0133}}]"#;

/// The same with both hands and quaternions.
pub const UPDATE_HANDS: &str = r#"2["update-position",{"position":{"x":3.2518,"y":1.6132,"z":-7.0481},"rotation":{"x":-0.0336,"y":0.9342,"z":0.0119,"w":0.3548},"leftHand":{"position":{"x":3.0127,"y":1.1045,"z":-7.2214},"rotation":{"x":0.2113,"y":0.8341,"z":-0.1172,"w":0.4957}},"rightHand":{"position":{"x":3.4902,"y":1.0871,"z":-7.2009},"rotation":{"x":0.1874,"y":0.9012,"z":0.0713,"w":0.3842}}}]"#;

/// What somebody who moves a chair sends.
pub const UPDATE_OBJECT: &str = r#"219["object-update",{"id":"chair-by-the-window","version":12,"position":{"x":3.2518,"y":0.4132,"z":-7.0481},"rotation":{"x":0,"y":2.4169,"z":0},"heldBy":"user_000000000017"}]"#;

/// What somebody who says something sends.
pub const MESSAGE: &str = r#"220["room-message",{"type":"chat","data":{"text":"Shall we meet at the fountain?","at":1700000000000}}]"#;

/// What somebody who comes in sends.
pub const JOIN: &str = r#"217["join-room",{"roomId":"lobby-of-the-gallery","encoding":"batch"}]"#;

/// People per square metre in a crowd: 2,000 in a square of 200 m.
pub const CROWD_DENSITY: f32 = 2_000.0 / (200.0 * 200.0);

/// The side, in metres, of the square that a crowd of so many fills.
pub fn crowd_side_m(members: u16) -> f32 {
    (f32::from(members) / CROWD_DENSITY).sqrt()
}

/// An event's whole way from its text to its type, as a connection goes it. `None` if it is not legal.
pub fn event(text: &str) -> Option<ClientEvent<'_>> {
    let packet = Packet::decode_header(text).ok()?;
    let event = packet.event().ok()?;
    ClientEvent::parse(&event.name, event.first_raw()).ok()?
}

/// A pose of the member `index` at the step `step`, different for each.
pub fn pose(index: u16, step: u32) -> Pose {
    let along = f32::from(index) * 0.731 + (step % 1_024) as f32 * 0.0613;
    Pose {
        head: Part {
            position: [along.sin() * 18.0, 1.6 + along.cos() * 0.02, along.cos() * 18.0],
            rotation: Rotation::Euler([along.sin() * 0.1, along % 3.1, 0.0]),
        },
        left_hand: None,
        right_hand: None,
    }
}

/// The same where people are spread evenly over a square of `side_m` metres.
pub fn pose_in_crowd(index: u16, step: u32, side_m: f32) -> Pose {
    let mut pose = pose(index, step);
    // Two sequences that fill a square evenly and in no order.
    let [x, z] = [0.754_877_7_f64, 0.569_840_3].map(|ratio| (f64::from(index) * ratio).fract() as f32);
    let [dx, _, dz] = pose.head.position;
    pose.head.position = [x * side_m + dx * 0.05, 1.6, z * side_m + dz * 0.05];
    pose
}

/// The part of a member's pose that never changes in JSON, with ids as long as the server's.
pub fn ids_json(index: u16) -> String {
    format!("\"id\":\"user_{index:012}\",\"socketId\":\"s{index:019}\",")
}

/// A room of `members`, all of whom want `encoding`, with its first flush behind it.
pub struct FullRoom {
    /// The room's table, among others.
    pub shared: Arc<RoomShared>,
    /// Slot and generation of each member.
    pub seats: Vec<(u16, u32)>,
    room: Room<u64>,
    now: Time,
    step: u32,
    effects: Vec<Effect<u64>>,
}

impl FullRoom {
    /// Lets everybody in.
    ///
    /// # Panics
    /// If the room does not take them.
    pub fn new(members: u16, encoding: Encoding) -> Self {
        let options = RoomOptions { max_users: usize::from(members), ..RoomDefaults::default().options() };
        let now = Time::from_micros(1_700_000_000_000_000);
        let shared = RoomShared::detached("benchmark", options, now);
        let mut room = Room::new(shared.clone(), 0, Vec::new());
        let mut effects = Vec::new();
        for member in 0..members {
            let id = u64::from(member);
            room.handle_command(now, SessionId(id), &id, join(member, encoding), None, &mut effects);
        }
        room.handle_tick(now, &mut effects);
        let seats: Vec<(u16, u32)> = effects
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::Admit { slot, generation, .. } => Some((slot, generation)),
                _ => None,
            })
            .collect();
        assert_eq!(seats.len(), usize::from(members), "everybody gets in");
        Self { shared, seats, room, now, step: 0, effects }
    }

    /// From now on what happens is written down, with so many samples of poses a second.
    pub fn record(&mut self, pose_hz: u32) {
        self.room.begin_recording(self.now, 0, &mut self.effects);
        self.room.sample_poses_at(pose_hz);
    }

    /// Everybody moves, close together.
    ///
    /// # Panics
    /// If a slot refuses its own member.
    pub fn move_all(&mut self) {
        self.move_by(pose);
    }

    /// Everybody moves, spread over a square of `side_m` metres.
    ///
    /// # Panics
    /// If a slot refuses its own member.
    pub fn move_crowd(&mut self, side_m: f32) {
        self.move_by(|slot, step| pose_in_crowd(slot, step, side_m));
    }

    fn move_by(&mut self, pose: impl Fn(u16, u32) -> Pose) {
        self.step += 1;
        for &(slot, generation) in &self.seats {
            let pose = pose(slot, self.step);
            self.shared.table.store(slot, generation, &pose).expect("one writer, still a member");
        }
    }

    /// One tick, 50 ms after the one before; gives the effects of it.
    pub fn tick(&mut self) -> &[Effect<u64>] {
        self.effects.clear();
        self.now = self.now + std::time::Duration::from_millis(50);
        self.room.handle_tick(self.now, &mut self.effects);
        &self.effects
    }
}

impl FullRoom {
    /// The poses of one tick.
    ///
    /// # Panics
    /// If nobody has moved.
    pub fn tick_poses(&mut self) -> TickPoses {
        self.tick();
        let poses = self.effects.drain(..).find_map(|effect| match effect {
            Effect::Tick(poses) => Some(*poses),
            _ => None,
        });
        poses.expect("somebody has moved")
    }
}

fn join(member: u16, encoding: Encoding) -> Command {
    let user = User {
        id: format!("user_{member:012}").into(),
        socket_id: format!("s{member:019}").into(),
        username: format!("Visitor {member}").into(),
    };
    Command::Join { user, encoding, password: None, view: View::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_ticks_with_everybody_in_it() {
        let mut room = FullRoom::new(50, Encoding::Json);
        room.move_all();
        let [Effect::Tick(poses)] = room.tick() else { panic!("one tick and nothing else") };
        assert_eq!(poses.len(), 50);
        assert!(poses.json(0).is_some() && poses.batch(0).is_none());
        assert!(room.tick().is_empty(), "nobody has moved since");
    }

    #[test]
    fn the_messages_are_legal() {
        for text in [UPDATE_HEAD, UPDATE_HANDS, UPDATE_OBJECT, MESSAGE, JOIN] {
            assert!(event(text).is_some(), "{text}");
        }
    }
}
