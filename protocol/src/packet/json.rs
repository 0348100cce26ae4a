//! Walking over JSON text without building anything from it.

use memchr::memchr2;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::DecodeError;

/// The white space that JSON knows; `str::trim_ascii` also takes form feeds.
pub(super) const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Walks over comma-separated JSON values; see [`super::Event::raw_args`].
#[derive(Clone, Debug)]
pub struct RawArgs<'a> {
    rest: &'a str,
}

impl<'a> RawArgs<'a> {
    /// Over `args` as [`super::Event::args`] or [`super::Packet::ack_args`] give them.
    pub fn new(args: &'a str) -> Self {
        Self { rest: args.trim_matches(JSON_SPACE) }
    }
}

impl<'a> Iterator for RawArgs<'a> {
    type Item = Result<&'a str, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match take_value::<&'a RawValue>(self.rest) {
            Ok((raw, rest)) => {
                self.rest = rest;
                Some(Ok(raw.get()))
            }
            Err(error) => {
                self.rest = "";
                Some(Err(error))
            }
        }
    }
}

/// Whether `json` nests arrays and objects no deeper than `depth_max`. Looks at brackets only, not at syntax.
///
/// # Errors
/// [`DecodeError::TooDeep`] when it nests deeper.
pub fn check_depth(json: &str, depth_max: usize) -> Result<(), DecodeError> {
    let mut depth = 0_usize;
    let mut bytes = json.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return Err(DecodeError::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What stands before the first comma that is in no string and no bracket. A bracket too many stays in.
pub(super) fn first_value(list: &str) -> &str {
    let mut depth = 0_usize;
    let mut bytes = list.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                // A comma is one byte, and so is a character boundary on both sides.
                return list[..list.len() - bytes.len() - 1].trim_matches(JSON_SPACE);
            }
            _ => {}
        }
    }
    list.trim_matches(JSON_SPACE)
}

/// Goes on behind the string's closing quote. Long strings are most of a long text, hence the search by vectors.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(at) = memchr2(b'"', b'\\', bytes.as_slice()) {
        if bytes.nth(at) == Some(&b'"') {
            return;
        }
        bytes.next();
    }
    *bytes = [].iter();
}

/// Reads one value off a non-empty comma-separated list; gives it and the rest after the comma.
pub(super) fn take_value<'a, T: Deserialize<'a>>(list: &'a str) -> Result<(T, &'a str), DecodeError> {
    let mut stream = serde_json::Deserializer::from_str(list).into_iter::<T>();
    let value = match stream.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) if error.is_data() => return Err(DecodeError::InvalidArgument),
        Some(Err(_)) | None => return Err(DecodeError::InvalidJson),
    };
    let rest = list[stream.byte_offset()..].trim_start_matches(JSON_SPACE);
    if rest.is_empty() {
        return Ok((value, ""));
    }
    let rest = rest
        .strip_prefix(',')
        .map(|rest| rest.trim_start_matches(JSON_SPACE))
        .filter(|rest| !rest.is_empty());
    Ok((value, rest.ok_or(DecodeError::InvalidJson)?))
}
