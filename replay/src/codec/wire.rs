//! Numbers and texts as bytes.

use bytes::Bytes;

use super::Damaged;

/// Appends a number, seven bits to a byte, lowest first; the highest bit of a byte says that there are more.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and so many bytes.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A number with a sign as one without: 0, -1, 1, -2, … become 0, 1, 2, 3, …
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Takes [`zigzag`] back.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads what the functions above have written, from the front.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let (byte, rest) = self.rest.split_first().ok_or(Damaged)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Damaged> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Result<u64, Damaged> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Damaged);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Damaged> {
        self.varint().map(unzigzag)
    }

    /// A number that counts something of which there are at most `max`.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, Damaged> {
        let count = usize::try_from(self.varint()?).map_err(|_| Damaged)?;
        if count <= max { Ok(count) } else { Err(Damaged) }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let count = self.count(self.rest.len())?;
        self.take(count)
    }

    pub(crate) fn copied(&mut self) -> Result<Bytes, Damaged> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)
    }

    /// Everything has been read.
    pub(crate) fn end(&self) -> Result<(), Damaged> {
        if self.rest.is_empty() { Ok(()) } else { Err(Damaged) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        for value in [0, -1, 1, 63, -64, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn numbers_that_do_not_end_or_are_too_large_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11]] {
            assert_eq!(Reader::new(bytes).varint(), Err(Damaged), "{bytes:?}");
        }
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert_eq!(Reader::new(&too_large).varint(), Err(Damaged));
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(), Err(Damaged), "more bytes than there are");
        assert_eq!(Reader::new(&[1, 0xff]).text(), Err(Damaged));
    }
}
