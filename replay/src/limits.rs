//! Every bound that encoded records have. What is beyond one is not encoded, and not read, whatever the bytes say.

/// Bytes of an event, before compression. A packet from a client has at most 1,000,000.
pub const EVENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of a keyframe, before compression. A room of 10,000 members has 4 KiB of each, and 4 MiB of objects.
pub const KEYFRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of a chunk of poses, before compression. As many as it may have take 18 MB at the worst.
pub const CHUNK_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Members of a keyframe, or of a chunk. Members of a room are numbered with 16 bits.
pub const MEMBERS_MAX: usize = 1 << 16;
/// Attachments of a message.
pub const ATTACHMENTS_MAX: usize = protocol::limits::MAX_ATTACHMENTS;
/// Instants of a chunk.
pub const CHUNK_INSTANTS_MAX: usize = 1_024;
/// Poses of a chunk: 10,000 members at 20 Hz for a second fit.
pub const CHUNK_SAMPLES_MAX: usize = 1 << 18;
/// Milliseconds from a chunk's first instant to its last.
pub const CHUNK_SPAN_MAX_MS: u64 = 4_000;
/// Bytes of an encoded record. The largest is a keyframe that does not get smaller by compression.
pub const RECORD_BYTES_MAX: usize = KEYFRAME_BYTES_MAX + 64;
/// Milliseconds of an id: what stores recordings compares them as numbers with a sign.
pub const ID_MS_MAX: u64 = i64::MAX as u64;
/// Bytes of what an archive says of its room.
pub const ARCHIVE_OPTIONS_BYTES_MAX: usize = 64 * 1024;
