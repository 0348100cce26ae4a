//! Interest: who is shown to whom, how often, so that a crowd does not cost its square.
//!
//! Two streams make up what a viewer sees. The *base* is the same for all: everybody's turn comes once a second at
//! the latest, and sooner as far as half of the budget carries. *Near* is what is around a viewer: the members in its
//! cell and the cells beside it at every tick, those in further rings of cells in longer periods. Viewers in one cell
//! see the same and share one frame. Where everything that has moved fits into the budget of a tick, everybody gets
//! all of it as base, and nothing is left for near: a small room pays for nothing of this.
//!
//! Bytes are counted as a binary frame has them, whatever encoding a viewer takes: who sees whom does not depend on it.

mod cell;
mod grid;
mod select;
mod tracks;

pub use cell::{CELL_EDGE_M, Cell, layers_within, rings_within};
pub use grid::{CellRun, Grid, Run, Shown};
pub use select::{Viewpoint, select_near, select_within};
pub use tracks::{Plan, Tracks};

#[cfg(all(test, not(loom_model)))]
#[allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
mod tests;
