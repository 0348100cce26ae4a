//! Bytes as a client's WebSocket frames: however the input is cut, the same is read from it, and what is read is
//! what a plain reading of RFC 6455 says of whole frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::websocket::{Message, ReadError, Reader, Step};

const LIMIT: usize = 4_096;

type Read = (Vec<String>, Option<ReadError>);

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(bytes, bytes.len());
    assert_eq!(whole, read(bytes, usize::from(cut) + 1), "it matters how the input is cut");
    let (messages, error) = &whole;
    assert!(messages.len() <= bytes.len() / 6, "a client's frame has six bytes at least");
    if let Some(error) = error {
        assert!([1002, 1007, 1009].contains(&error.close_code()));
    }
});

fn read(bytes: &[u8], piece: usize) -> Read {
    let mut reader = Reader::new(LIMIT);
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            let there = buffer.len();
            match reader.step(&mut buffer) {
                Ok(Step::Incomplete(needed)) => {
                    assert!(needed > there, "it asks for what it has");
                    break;
                }
                Ok(Step::Frame(taken, message)) => {
                    assert!((6..=there).contains(&taken));
                    if let Some(Message::Text(text)) = message {
                        assert!(text.len() <= LIMIT);
                    }
                    messages.extend(message.map(|message| format!("{message:?}")));
                    buffer.drain(..taken);
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
