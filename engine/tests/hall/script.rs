//! What may happen in a hall.

use engine::{ViewOptions, ViewPeriods};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::event::Encoding;

/// How the hall is made.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) hz: u32,
    pub(crate) view: ViewOptions,
    /// How far apart people may stand, in metres: along x and z, and along y.
    pub(crate) width_m: f32,
    pub(crate) height_m: f32,
    /// Its middle, in metres.
    pub(crate) middle: [f32; 3],
}

/// A place, as parts of the hall's width and height: each between 0 and 1.
pub(crate) type Place = [f32; 3];

/// Where somebody looks from, and how far in metres.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    pub(crate) from: Option<Place>,
    pub(crate) radius_m: Option<f32>,
}

/// One thing that happens. `who` counts those who are there, around and around.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Join {
        encoding: Encoding,
        at: Place,
        look: Look,
    },
    Leave {
        who: usize,
    },
    /// Stops, or goes on.
    Halt {
        who: usize,
    },
    Teleport {
        who: usize,
        to: Place,
    },
    /// Joins the room that it is in.
    JoinAgain {
        who: usize,
        encoding: Encoding,
        look: Look,
    },
    Look {
        who: usize,
        look: Look,
    },
    Tick {
        times: u32,
    },
    /// Everybody stands still for as long as it takes until all must be right.
    Settle,
}

impl Setup {
    /// A place in metres.
    pub(crate) fn point(&self, place: Place) -> [f32; 3] {
        let size = [self.width_m, self.height_m, self.width_m];
        [0, 1, 2].map(|axis| self.middle[axis] + (place[axis] - 0.5) * size[axis])
    }
}

pub(crate) fn setup(
    hz: impl Strategy<Value = u32>,
    radius_m: impl Strategy<Value = Option<f32>>,
) -> impl Strategy<Value = Setup> {
    let width_m = prop_oneof![3.0_f32..12.0, 12.0_f32..60.0, 60.0_f32..300.0, 1_000.0_f32..8_000.0];
    let height_m = prop_oneof![Just(0.0_f32), 2.0_f32..400.0];
    let middle = [-5e5_f32..5e5, -100.0_f32..100.0, -5e5_f32..5e5];
    let middle = prop_oneof![Just([0.0; 3]), middle];
    (hz, periods(), radius_m, width_m, height_m, middle).prop_map(
        |(hz, periods, radius_m, width_m, height_m, middle)| {
            let view = ViewOptions { radius_m, periods, ..ViewOptions::default() };
            Setup { hz, view, width_m, height_m, middle }
        },
    )
}

pub(crate) fn periods() -> impl Strategy<Value = ViewPeriods> {
    let some = vec(1..12_u8, 1..6).prop_map(|mut periods| {
        periods.sort_unstable();
        ViewPeriods::new(&periods).unwrap()
    });
    prop_oneof![Just(ViewPeriods::default()), some]
}

pub(crate) fn place() -> impl Strategy<Value = Place> {
    prop::array::uniform3(0.0_f32..1.0)
}

pub(crate) fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![1 => Just(Encoding::Json), 1 => Just(Encoding::Batch), 3 => Just(Encoding::Binary)]
}

pub(crate) fn look() -> impl Strategy<Value = Look> {
    let radius_m = prop_oneof![3 => Just(None), 1 => (0.0_f32..200.0).prop_map(Some)];
    let from = prop_oneof![3 => Just(None), 1 => place().prop_map(Some)];
    (from, radius_m).prop_map(|(from, radius_m)| Look { from, radius_m })
}

pub(crate) fn join() -> impl Strategy<Value = Act> {
    (encoding(), place(), look()).prop_map(|(encoding, at, look)| Act::Join { encoding, at, look })
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..1_000_usize;
    prop_oneof![
        4 => join(),
        2 => who.clone().prop_map(|who| Act::Leave { who }),
        4 => who.clone().prop_map(|who| Act::Halt { who }),
        2 => (who.clone(), place()).prop_map(|(who, to)| Act::Teleport { who, to }),
        1 => (who.clone(), encoding(), look())
            .prop_map(|(who, encoding, look)| Act::JoinAgain { who, encoding, look }),
        1 => (who, look()).prop_map(|(who, look)| Act::Look { who, look }),
        5 => (1..9_u32).prop_map(|times| Act::Tick { times }),
        1 => Just(Act::Settle),
    ]
}

/// A crowd comes in, then things happen.
pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    (vec(join(), 0..110), vec(act(), 0..60)).prop_map(|(mut acts, more)| {
        acts.push(Act::Tick { times: 12 });
        acts.extend(more);
        acts
    })
}
