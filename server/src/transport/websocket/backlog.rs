//! What has come on a connection and has not been taken yet.

/// The beginning of a frame whose rest has not come, or frames that are left for the connection's next turn. Empty
/// nearly always, and then without memory of its own.
///
/// Each byte is copied into it once, and nothing is looked at again before that can be of use: a client that sends
/// a large frame in small pieces costs no more than its bytes.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
    /// How many must stand behind those before there can be a whole frame; 0 if there may be one already.
    needed: usize,
}

/// How far a look at the input has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes of the frames that were taken.
    pub(super) taken: usize,
    /// How many bytes must stand behind those before there can be a whole frame; 0 if there may be one already.
    pub(super) needed: usize,
}

impl Backlog {
    /// A backlog of these bytes, none of which has been looked at.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there may be a whole frame in it.
    pub(super) fn is_ready(&self) -> bool {
        let waiting = self.bytes.len() - self.taken;
        waiting > 0 && waiting >= self.needed
    }

    /// Adds what has come.
    pub(super) fn extend(&mut self, came: &[u8]) {
        self.bytes.extend_from_slice(came);
    }

    /// Has `take` look at what is waiting, and forgets what it has taken.
    ///
    /// # Errors
    /// Those of `take`; the connection is over then, and its backlog empty.
    pub(super) fn take<E>(&mut self, take: impl FnOnce(&mut [u8]) -> Result<Progress, E>) -> Result<(), E> {
        let Self { mut bytes, taken, .. } = std::mem::take(self);
        let progress = take(&mut bytes[taken..])?;
        let taken = taken + progress.taken;
        *self = match progress.needed {
            _ if taken == bytes.len() => Self::default(),
            // Left for the next turn. Where it lies it costs nothing, however many turns it takes.
            0 => Self { bytes, taken, needed: 0 },
            // Waits for more. It may wait long, and shall not hold the memory of what was before it.
            needed if taken > 0 => Self { bytes: bytes[taken..].to_vec(), taken: 0, needed },
            needed => Self { bytes, taken, needed },
        };
        Ok(())
    }

    /// Keeps what is left of `input` after a look at it in its place. Only for a backlog that is empty.
    pub(super) fn keep(&mut self, input: &[u8], progress: Progress) {
        debug_assert!(self.is_empty());
        if progress.taken < input.len() {
            *self = Self { bytes: input[progress.taken..].to_vec(), taken: 0, needed: progress.needed };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use protocol::websocket::{Reader, Step};

    use super::*;

    /// A masked binary frame of `bytes` zeros.
    fn frame(bytes: u32) -> Vec<u8> {
        let mut frame = vec![0x82, 0x80 | 127];
        frame.extend_from_slice(&u64::from(bytes).to_be_bytes());
        frame.resize(10 + 4 + bytes as usize, 0);
        frame
    }

    #[test]
    fn a_frame_in_small_pieces_is_looked_at_and_moved_a_few_times_only() {
        let mut backlog = Backlog::default();
        let mut reader = Reader::new(1_000_000);
        let (mut steps, mut moves, mut frames) = (0, 0, 0);
        for piece in frame(999_000).chunks(7) {
            let before = backlog.bytes.capacity();
            backlog.extend(piece);
            moves += usize::from(backlog.bytes.capacity() != before);
            if backlog.is_ready() {
                steps += 1;
                let look = |input: &mut [u8]| {
                    Ok::<_, Infallible>(match reader.step(input).unwrap() {
                        Step::Incomplete(needed) => Progress { taken: 0, needed },
                        Step::Frame(taken, _) => {
                            frames += 1;
                            Progress { taken, needed: 0 }
                        }
                    })
                };
                backlog.take(look).unwrap();
            }
        }
        assert_eq!(frames, 1);
        // For its length, for its mask, and for its end.
        assert!(steps <= 3, "{steps} steps");
        assert!(moves <= 20, "{moves} moves");
        assert_eq!(backlog.bytes.capacity(), 0, "an empty backlog holds no memory");
    }

    #[test]
    fn what_is_left_for_the_next_turn_stays_where_it_lies() {
        let mut backlog = Backlog::new(vec![7; 10]);
        for left in (0..5).rev() {
            assert!(backlog.is_ready());
            backlog.take(|input| Ok::<_, ()>(Progress { taken: input.len() - 2 * left, needed: 0 })).unwrap();
            assert!(left == 0 || backlog.bytes.len() == 10);
        }
        assert!(backlog.is_empty() && !backlog.is_ready());
    }

    #[test]
    fn what_waits_for_its_rest_does_not_hold_the_memory_of_what_was_before() {
        let mut backlog = Backlog::new(vec![7; 100_000]);
        backlog.take(|_| Ok::<_, ()>(Progress { taken: 99_990, needed: 20 })).unwrap();
        assert!(backlog.bytes.capacity() < 100);
        assert!(!backlog.is_ready());
        backlog.extend(&[7; 10]);
        assert!(backlog.is_ready());
        backlog.take(|input| Ok::<_, ()>(Progress { taken: input.len(), needed: 0 })).unwrap();
        backlog.keep(&[1, 2, 3], Progress { taken: 1, needed: 3 });
        assert!(!backlog.is_ready());
    }
}
