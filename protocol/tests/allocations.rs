//! What the hot path allocates (nothing), and that hostile input cannot make anything allocate out of
//! proportion to its own length.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::Bytes;
use protocol::attachments::{Assembler, Begin, placeholders_valid};
use protocol::frame::{FrameReader, decode_pose};
use protocol::outgoing::TextFrames;
use protocol::{Outgoing, Packet, Pose};

thread_local! {
    // Per thread, because the test harness allocates on its own ones.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // During a thread's end the counters are gone already, and nobody asks any more.
    let _ = COUNT.try_with(|total| total.set(total.get() + 1));
    let _ = BYTES.try_with(|total| total.set(total.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes, and of how many bytes together.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, usize) {
    let before = (COUNT.get(), BYTES.get());
    let result = black_box(work());
    let after = (COUNT.get(), BYTES.get());
    drop(result);
    (after.0 - before.0, after.1 - before.1)
}

const POSITION: &str = r#"{"position":{"x":1.1,"y":1.6,"z":-0.25},"rotation":{"x":0,"y":0.5,"z":0}}"#;

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| vec![0_u8; 100]), (1, 100));
}

#[test]
fn a_pose_comes_in_without_allocating() {
    let text = format!("2[\"update-position\",{POSITION}]");
    let mut assembler = Assembler::default();
    let made = allocations(|| {
        let Ok(Begin::Complete(packet)) = assembler.begin(&text, 0) else { panic!("has no attachments") };
        let event = packet.event().unwrap();
        (event.name.len(), Pose::from_json(event.first_raw()).unwrap())
    });
    assert_eq!(made, (0, 0));
}

#[test]
fn sending_to_one_more_allocates_nothing() {
    let packet =
        Outgoing::binary_event_raw("a", r#"{"_placeholder":true,"num":0}"#, vec![Bytes::from(vec![1; 500])]);
    // The first clone of a buffer makes its counter.
    let _first = (packet.frame(), packet.attachments()[0].clone());
    let made = allocations(|| {
        let headers: usize = packet.attachment_frames().map(|frame| frame.header().len()).sum();
        (packet.clone(), packet.frame(), packet.text_bytes(), packet.attachments()[0].clone(), headers)
    });
    assert_eq!(made, (0, 0));
}

#[test]
fn a_packet_is_built_in_one_buffer() {
    // The buffer, and the counter that lets others share it.
    let (count, bytes) = allocations(|| Outgoing::event_raw("user-moved", POSITION));
    assert!(count <= 2 && bytes < POSITION.len() + 150, "{count} allocations of {bytes} bytes");
}

#[test]
fn a_ticks_frames_share_one_buffer() {
    let mut frames = TextFrames::with_capacity(100 * (POSITION.len() + 8));
    let made = allocations(|| {
        for _ in 0..100 {
            frames.begin(POSITION.len()).extend_from_slice(POSITION.as_bytes());
            frames.end();
        }
    });
    assert_eq!(made, (0, 0));
}

#[test]
fn counts_in_a_frame_make_nobody_allocate() {
    let mut hostile = vec![1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(allocations(|| FrameReader::new(&hostile).is_err()), (0, 0));
    hostile.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff, 9, 9, 0]);
    assert_eq!(allocations(|| FrameReader::new(&hostile).is_err()), (0, 0));
    assert_eq!(allocations(|| decode_pose(&hostile).is_err()), (0, 0));
}

#[test]
fn hostile_texts_make_nobody_allocate_more_than_their_length() {
    let attachments = |args: &str| format!("510-[\"a\",{args}]");
    let hostile = [
        "2[".repeat(100_000),
        format!("2[\"a\",{}", "[".repeat(100_000)),
        format!("2[\"a\"{}]", ",1".repeat(100_000)),
        format!("2[\"\\u0061{}\"]", "x".repeat(100_000)),
        format!("2{}[\"a\"]", "9".repeat(100_000)),
        format!("5{}-[\"a\"]", "9".repeat(100_000)),
        format!("0/{},", "x".repeat(100_000)),
        attachments(&"{\"_placeholder\":true,\"num\":0},".repeat(3_000)),
        attachments(&format!("1{}", ",{\"_placeholder\":true,\"num\":0}".repeat(3_000))),
        attachments(&format!("\"{}\"", "\\u0061".repeat(20_000))),
    ];
    for text in &hostile {
        let mut assembler = Assembler::default();
        let (_, bytes) = allocations(|| {
            let _ = Packet::decode(text).map(|packet| packet.event().map(|event| event.args_count()));
            let _ = placeholders_valid(text, 3);
            assembler.begin(text, 0).is_ok()
        });
        // Escapes are the one thing that is copied while reading, into a buffer that doubles as it grows:
        // at most twice the text per reading, and there are a few readings here.
        let allowed = 10 * text.len() + 2048;
        assert!(bytes <= allowed, "{bytes} bytes for {} of {:?}…", text.len(), &text[..20]);
    }
}
