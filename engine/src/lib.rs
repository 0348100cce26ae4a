//! Copresence's engine: rooms of people who see each other move.
//!
//! One [`Shard`](shard::Shard) and one [`Fanout`](fanout::Fanout) run on each core. A shard owns rooms, a
//! fan-out owns the way out to the viewers whose connections live on its core. A session writes its poses
//! straight into its slot of the room ([`table`]); everything else that it says goes to the room's shard as a
//! command. The engine reads no clock, opens no socket and no file: what it needs of the world it asks for
//! through [`ports`].

pub mod allowance;
pub mod broadcast;
mod delivery;
pub mod directory;
pub mod engine;
pub mod fanout;
pub mod interest;
pub mod journal;
pub mod limits;
pub mod metrics;
pub mod options;
pub mod pace;
pub mod ports;
pub mod private;
pub mod room;
pub mod session;
pub mod shard;
pub mod slot;
mod sync;
pub mod table;
pub mod time;
pub mod tries;

pub use allowance::Allowance;
pub use directory::{Recorded, RoomShared};
pub use engine::{Core, CreateError, Created, Engine, EngineConfig, LoadedRooms};
pub use options::{RoomDefaults, RoomOptions, RoomRequest, TickRate, ViewOptions, ViewPeriods};
pub use private::{Departure, PrivateRoom, Stage};
pub use room::{SessionId, User};
pub use session::{Session, Standing};
pub use time::{Clock, Time};
