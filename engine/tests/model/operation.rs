//! What may happen to a room.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::event::Encoding;

/// Sessions that take part.
pub(crate) const SESSIONS: u64 = 9;
/// Objects that are spoken of.
const OBJECTS: u8 = 6;

/// How the room is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) max_users: usize,
    pub(crate) max_objects: usize,
    pub(crate) persistent: bool,
    pub(crate) password: bool,
    pub(crate) recorded: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) setup: Setup,
    pub(crate) operations: Vec<Operation>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Password {
    Right,
    Wrong,
    Absent,
}

/// What an update says that it knows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    Nothing,
    Current,
    Stale,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    Everybody,
    SocketId(u64),
    UserId(u64),
    Nobody,
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Join {
        who: u64,
        encoding: Encoding,
        password: Password,
        ack: bool,
    },
    Leave {
        who: u64,
        ack: bool,
    },
    /// Stores a pose in the slot that it has, or had.
    Move {
        who: u64,
    },
    Create {
        who: u64,
        object: u8,
        big: bool,
        ack: bool,
    },
    Update {
        who: u64,
        object: u8,
        known: Known,
        ack: bool,
    },
    Delete {
        who: u64,
        object: u8,
        ack: bool,
    },
    UserUpdate {
        who: u64,
        big: bool,
        ack: bool,
    },
    Relay {
        who: u64,
        to: To,
        volatile: bool,
        ack: bool,
    },
    Tick,
    Flush,
    /// Time goes on; what is due by then goes out.
    Pass {
        millis: u64,
    },
    /// The store is done with the oldest change that it has.
    Stored {
        ok: bool,
    },
    StoreAgain,
    /// It has what the journal has lost.
    StoredUnrecorded,
    /// The journal is done with the oldest or the newest record that somebody waits for.
    Recorded {
        ok: bool,
        last: bool,
    },
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let setup = (1..7_usize, 1..5_usize, any::<bool>(), prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(max_users, max_objects, persistent, password, recorded)| Setup {
            max_users,
            max_objects,
            persistent,
            password,
            recorded,
        },
    );
    (setup, vec(operation(), 1..120)).prop_map(|(setup, operations)| Case { setup, operations })
}

fn operation() -> impl Strategy<Value = Operation> {
    let who = || 0..SESSIONS;
    let object = || 0..OBJECTS;
    let ack = || prop::bool::weighted(0.6);
    let rarely = || prop::bool::weighted(0.1);
    prop_oneof![
        8 => (who(), encoding(), password(), ack())
            .prop_map(|(who, encoding, password, ack)| Operation::Join { who, encoding, password, ack }),
        4 => (who(), ack()).prop_map(|(who, ack)| Operation::Leave { who, ack }),
        6 => who().prop_map(|who| Operation::Move { who }),
        4 => (who(), object(), rarely(), ack())
            .prop_map(|(who, object, big, ack)| Operation::Create { who, object, big, ack }),
        4 => (who(), object(), known(), ack())
            .prop_map(|(who, object, known, ack)| Operation::Update { who, object, known, ack }),
        2 => (who(), object(), ack()).prop_map(|(who, object, ack)| Operation::Delete { who, object, ack }),
        2 => (who(), rarely(), ack()).prop_map(|(who, big, ack)| Operation::UserUpdate { who, big, ack }),
        4 => (who(), to(), any::<bool>(), ack())
            .prop_map(|(who, to, volatile, ack)| Operation::Relay { who, to, volatile, ack }),
        4 => Just(Operation::Tick),
        3 => Just(Operation::Flush),
        6 => (any::<bool>(), any::<bool>()).prop_map(|(ok, last)| Operation::Recorded { ok, last }),
        1 => Just(Operation::StoredUnrecorded),
        3 => (1..80_u64).prop_map(|millis| Operation::Pass { millis }),
        4 => prop::bool::weighted(0.6).prop_map(|ok| Operation::Stored { ok }),
        2 => Just(Operation::StoreAgain),
        1 => (1_000..40_000_u64).prop_map(|millis| Operation::Pass { millis }),
    ]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Json), Just(Encoding::Batch), Just(Encoding::Binary)]
}

fn password() -> impl Strategy<Value = Password> {
    prop_oneof![6 => Just(Password::Right), 1 => Just(Password::Wrong), 1 => Just(Password::Absent)]
}

fn known() -> impl Strategy<Value = Known> {
    prop_oneof![Just(Known::Nothing), Just(Known::Current), Just(Known::Stale)]
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        3 => Just(To::Everybody),
        2 => (0..SESSIONS).prop_map(To::SocketId),
        2 => (0..SESSIONS).prop_map(To::UserId),
        1 => Just(To::Nobody),
    ]
}
