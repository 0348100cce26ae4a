//! What is written down of a room, and how it is read back.
//!
//! A recording is a sequence of records in the order of their [ids](RecordId): events as they happened, poses in
//! chunks of about a second, and keyframes that say how everything stands, so that reading may begin anywhere. Nothing
//! here knows a clock, a disk or a network.

pub mod archive;
mod chunk;
mod codec;
mod id;
pub mod json;
pub mod limits;
mod moment;
mod record;
pub mod timeline;
pub mod world;

pub use codec::{Damaged, Decoder, Encoder, FORMAT_VERSION, TooLarge, decode, encode};
pub use id::{InvalidId, RecordId};
pub use moment::{Filter, Moment, Types, What, Who};
pub use record::{
    Action, Content, Event, Keyframe, MemberId, Objects, PoseSample, PoseSamples, Record, RecordKind,
    StoredRecord,
};
pub use timeline::Timeline;
pub use world::World;
