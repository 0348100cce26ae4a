//! What a patch of the room's state says, read in place: whose poses are in it.
//!
//! `@colyseus/schema` names what it changes by a number that it gave out when it first told of it. This state is a map of
//! players and nothing else, so it is enough to know the two that come first: 0 is the state, 1 the map, and all others
//! are players. Which player it is says the [stamp](super::stamped) in its numbers.

use super::{POSE_NUMBERS, STAMP_AT, Stamp, stamp_of};

/// Before the number of what the following changes are of.
const SWITCH: u8 = 255;
/// Before the number of a class, if it is not the one that the map is declared with.
const TYPE_ID: u8 = 213;
/// What is done to a field or an entry: bits that stand above its number, or alone.
const DELETE: u8 = 0x40;
const ADD: u8 = 0x80;
const OPERATION_MASK: u8 = 0xC0;

/// The state, and its map of players.
const STATE: u32 = 0;
const PLAYERS: u32 = 1;

const CUT_SHORT: &str = "a patch cut short";
const UNKNOWN: &str = "a patch of another state";

/// A player's pose in a patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    /// x and z in metres, if both have changed.
    pub(crate) place: Option<[f32; 2]>,
}

/// Calls `each` with every pose in a patch, without the first byte that says that it is one; with `None` for one that
/// has a stamp that nobody here has sent. Who has not moved yet is left out.
///
/// # Errors
/// If the bytes are not exactly one patch; some poses may have been given out by then.
pub(crate) fn scan(patch: &[u8], mut each: impl FnMut(Option<Entry>)) -> Result<(), &'static str> {
    let mut bytes = Bytes(patch);
    let mut of = STATE;
    while let Some(&first) = bytes.0.first() {
        if first == SWITCH {
            bytes.0 = &bytes.0[1..];
            of = bytes.number()?;
            continue;
        }
        match of {
            STATE => bytes.skip_state()?,
            PLAYERS => bytes.skip_entry()?,
            _ => {
                if let Some(entry) = bytes.player()? {
                    each(entry);
                }
            }
        }
    }
    Ok(())
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (&first, rest) = self.0.split_first().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (first, rest) = self.0.split_first_chunk().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number that counts something.
    fn number(&mut self) -> Result<u32, &'static str> {
        match self.byte()? {
            small @ 0..0x80 => Ok(small.into()),
            0xCC => self.byte().map(u32::from),
            0xCD => self.array().map(|bytes| u16::from_le_bytes(bytes).into()),
            0xCE => self.array().map(u32::from_le_bytes),
            _ => Err(UNKNOWN),
        }
    }

    /// The state's only field: where its map is.
    fn skip_state(&mut self) -> Result<(), &'static str> {
        if self.byte()? != ADD || self.number()? != PLAYERS { Err(UNKNOWN) } else { Ok(()) }
    }

    /// Somebody who comes or goes.
    fn skip_entry(&mut self) -> Result<(), &'static str> {
        let operation = self.byte()?;
        if operation & !OPERATION_MASK != 0 {
            return Err(UNKNOWN);
        }
        self.number()?;
        if operation & ADD != 0 {
            let key_bytes = match self.byte()? {
                short @ 0xA0..0xC0 => short & 0x1F,
                0xD9 => self.byte()?,
                _ => return Err(UNKNOWN),
            };
            self.0 = self.0.get(usize::from(key_bytes)..).ok_or(CUT_SHORT)?;
        }
        if operation != DELETE {
            self.number()?;
            if self.0.first() == Some(&TYPE_ID) {
                self.byte()?;
                self.number()?;
            }
        }
        Ok(())
    }

    /// All changes of one player; the outer `None` if it has sent no pose.
    #[inline]
    fn player(&mut self) -> Result<Option<Option<Entry>>, &'static str> {
        let mut numbers = [None; POSE_NUMBERS];
        while let Some(&first) = self.0.first() {
            if first == SWITCH {
                break;
            }
            self.0 = &self.0[1..];
            if first & OPERATION_MASK == DELETE {
                return Err(UNKNOWN);
            }
            let number = numbers.get_mut(usize::from(first & !OPERATION_MASK)).ok_or(UNKNOWN)?;
            *number = Some(f32::from_le_bytes(self.array()?));
        }
        let place = numbers[0].zip(numbers[2]).map(|(x, z)| [x, z]);
        Ok(match numbers[STAMP_AT] {
            None | Some(0.0) => None,
            Some(number) => Some(stamp_of(number).map(|stamp| Entry { stamp, place })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::bytes;
    use super::super::{NUMBER_WRAP, stamped};
    use super::*;
    use crate::stamp::SENDERS_MAX;

    fn scanned(patch: &[u8]) -> Result<Vec<Option<Entry>>, &'static str> {
        let mut entries = Vec::new();
        scan(patch, |entry| entries.push(entry)).map(|()| entries)
    }

    fn patch_of(poses: &[(u32, [f64; POSE_NUMBERS])]) -> Vec<u8> {
        let mut patch = Vec::new();
        for (at, numbers) in poses {
            patch.extend([SWITCH, 0xCD]);
            patch.extend((*at as u16).to_le_bytes());
            for (field, number) in (0..).zip(numbers) {
                patch.push(ADD | field);
                patch.extend((*number as f32).to_le_bytes());
            }
        }
        patch
    }

    #[test]
    fn poses_are_found_with_their_stamps_and_places() {
        let pose = |sender, number, x, z| [x, 1.6, z, stamped(sender, number), 0.5, 0.25];
        let last = (SENDERS_MAX - 1, NUMBER_WRAP - 1);
        let patch = patch_of(&[(2, pose(0, 0, 1.0, 2.0)), (9_999, pose(last.0, last.1, -3.5, 4.0))]);
        let entry =
            |sender, number, place| Some(Entry { stamp: Stamp { sender, number }, place: Some(place) });
        assert_eq!(scanned(&patch), Ok(vec![entry(0, 0, [1.0, 2.0]), entry(last.0, last.1, [-3.5, 4.0])]));
        for cut in [1, 3, 5, patch.len() - 1] {
            assert_eq!(scanned(&patch[..cut]), Err(CUT_SHORT), "{cut}");
        }
        // Whole, but for what else would belong to it.
        assert_eq!(scanned(&patch[..patch.len() / 2]).map(|entries| entries.len()), Ok(1));
    }

    /// What the server of 0.18.17 has sent after two poses, while somebody came and then somebody left, behind the first
    /// byte; and what its official client (`@colyseus/sdk` 0.18.4) has made of it.
    #[test]
    fn patches_of_the_real_server_say_what_its_own_client_says() {
        let entry = |number, place| vec![Some(Entry { stamp: Stamp { sender: 7, number }, place })];
        for (hex, entries) in [
            ("ff03800000a03f82000060c0830030e03b84000010c0850000803e", entry(5, Some([1.25, -3.5]))),
            (
                "ff03800000c03f830038e03b850000003fff018002a9726d7178383945585804ff04800000000081cdcccc3f82000000008300\
                 00000084000000008500000000",
                entry(6, None),
            ),
            ("ff014001", vec![]),
        ] {
            assert_eq!(scanned(&bytes(hex)), Ok(entries), "{hex}");
        }
    }

    #[test]
    fn what_nobody_has_sent_is_told_and_who_stands_still_is_left_out() {
        let stamp = |number| patch_of(&[(2, [0.0, 1.6, 0.0, number, 0.0, 0.0])]);
        assert_eq!(scanned(&stamp(0.0)), Ok(vec![]));
        for odd in [-1.0, 0.3, 1e9, f64::NAN] {
            assert_eq!(scanned(&stamp(odd)), Ok(vec![None]), "{odd}");
        }
        for patch in [
            &[0x81, 1][..],
            &[0x80, 2],
            &[SWITCH, 1, 0x21, 0],
            &[SWITCH, 2, 0x86, 0, 0, 0, 0],
            &[SWITCH, 0xC0],
        ] {
            assert_eq!(scanned(patch), Err(UNKNOWN), "{patch:?}");
        }
    }
}
