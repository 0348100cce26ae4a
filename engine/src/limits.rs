//! Every bound inside the engine, and what happens when it is reached.

use std::time::Duration;

/// Commands that wait for one shard. Full: the command is refused with `overloaded`, except that a session's
/// departure waits for its place.
pub const MAILBOX_CAPACITY: usize = 8_192;

/// Commands that a shard takes in one go before it looks after its ticks again.
pub const COMMANDS_PER_WAKE: usize = 256;

/// Messages that wait for one core's fan-out. Full: the shard waits, and its ticks come later.
pub const FANOUT_CAPACITY: usize = 1_024;

/// Sends after which a fan-out lets its core's I/O go on, and other rooms' ticks.
pub const SENDS_PER_YIELD: usize = 256;

/// Messages that a fan-out takes between two slices of the ticks that it is sending.
pub const MESSAGES_PER_SLICE: usize = 64;

/// The least time between two announcements of who came and went in a room. The first goes at once; what comes
/// within this time after it goes together. It is also the least time between two welcomes, each of which needs
/// the room's lists of users and objects.
pub const PRESENCE_INTERVAL: Duration = Duration::from_millis(50);

/// The least time between two full refreshes of a room for viewers that had to skip a tick.
pub const REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// How long a viewer may go without taking anything from its queue before it is disconnected.
pub const STALLED_VIEWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a room that was made over HTTP and that nobody has entered is kept.
pub const UNENTERED_ROOM_TTL: Duration = Duration::from_secs(600);

/// How often rooms past [`UNENTERED_ROOM_TTL`] are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Rooms that exist at once. Full: a join that would make one more, or its creation over HTTP, gets `limit`.
/// Cores that make rooms in the same moment may overshoot it, each by one. Rooms that the store holds at the start
/// come in even so.
pub const MAX_ROOMS: usize = 100_000;

/// Persistent rooms that exist at once; they never go. Full: the creation of one more gets `limit`, and rooms that
/// are not persistent still have their places. Rooms that the store holds at the start come in even so.
pub const MAX_PERSISTENT_ROOMS: usize = 10_000;

/// Reliable events of one connection: this many at once…
pub const EVENT_BURST: u32 = 500;

/// …and this many per second in the long run. Above: `rate_limited`. Poses do not count; the latest wins.
pub const EVENTS_PER_SECOND: u32 = 200;

/// An event counts once more for each so many bytes that it carries…
pub const EVENT_UNIT_BYTES: usize = 1024;

/// …and so many times at most: less than a burst, so that whoever may send one may also say something else.
pub const EVENT_COST_MAX: u32 = 400;

/// Refusals that a client may ignore before its connection is closed.
pub const MAX_REFUSALS: u32 = 1_000;

/// Bytes of one object as JSON. Above: `limit`.
pub use protocol::limits::MAX_OBJECT_BYTES;

/// Bytes of all objects of one room as JSON: they reach a late joiner as one packet. Above: `limit`.
pub const MAX_ROOM_OBJECT_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of what a user says of itself, all its `user-update`s merged. Above: `limit`.
pub const MAX_PROFILE_BYTES: usize = 4 * 1024;

/// Objects of one shard that are changed but not yet known to be stored. Full: changes to persistent rooms get
/// `overloaded` until the store has caught up.
pub const MAX_UNSTORED: usize = 4_096;

/// Commands that one room holds back while its objects are read from the store. Full: `overloaded`.
pub const MAX_DEFERRED: usize = 20_000;

/// How long after a failed write to the store the shard tries again.
pub const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long an ack, or a welcome, waits for the journal. Longer: the ack says `storage`, the welcome goes out.
pub const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);

/// Acks and welcomes of one shard that wait for the journal. Full: the next ones do not wait, as if their time were up.
pub const MAX_AWAITED_RECORDS: usize = 65_536;

/// How often it is written down how everything in a room stands, while somebody is in it: reading begins there.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(30);

/// How long after the journal has refused to take that it is tried again.
pub const KEYFRAME_RETRY: Duration = Duration::from_secs(1);

/// Poses of about so long go to the journal together. It is also how often the journal is asked for how many it wants.
pub const POSE_CHUNK: Duration = Duration::from_secs(1);

/// Samples of poses a second, however many more the journal wants: no room ticks faster.
pub const MAX_POSE_HZ: u32 = *protocol::limits::TICK_HZ_RANGE.end();

/// Steps that a private room's driver may hand over at once. It hands over no more before these are carried out.
pub const MAX_PLAY_STEPS: usize = 16_384;

/// Who may be in a private room, its viewer included: more than fit into any other. Above: who comes is not shown.
pub const MAX_PRIVATE_USERS: usize = 60_001;

// Whoever fills the server with persistent rooms must leave room for others.
const _: () = assert!(MAX_PERSISTENT_ROOMS * 2 < MAX_ROOMS);
