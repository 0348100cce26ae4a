//! `path`: the cheapest way through a grid.

use pathfinding::directed::astar::astar;
use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::limits::MAX_GRID_SIDE;

/// Costs are added up in millionths, so that sums do not depend on their order.
const UNIT: u64 = 1_000_000;

/// A step to a diagonal neighbour: the root of two.
const DIAGONAL: u64 = 1_414_214;

/// A cell that nobody can enter.
const BLOCKED: u8 = 0;

/// The input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    rows: Vec<String>,
    start: (usize, usize),
    goal: (usize, usize),
    #[serde(default)]
    diagonal: bool,
}

/// A grid, and from where to where.
#[derive(Debug)]
pub struct PathTask {
    width: usize,
    height: usize,
    /// What it costs to enter each cell, row by row.
    costs: Vec<u8>,
    start: (usize, usize),
    goal: (usize, usize),
    diagonal: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Path {
    found: bool,
    /// The cells from start to goal, both of them included; none if there is no way.
    path: Vec<(usize, usize)>,
    /// What it costs; null if there is no way.
    cost: Option<f64>,
}

impl PathTask {
    /// The task that `given` describes.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(super) fn new(given: Given) -> Result<Self, Invalid> {
        let height = given.rows.len();
        let width = given.rows.first().map_or(0, String::len);
        if !(1..=MAX_GRID_SIDE).contains(&width) || !(1..=MAX_GRID_SIDE).contains(&height) {
            return Err(Invalid(format!("payload.rows: a grid has 1 to {MAX_GRID_SIDE} rows and columns")));
        }
        let mut costs = Vec::with_capacity(width * height);
        for (y, row) in given.rows.iter().enumerate() {
            for (x, letter) in row.chars().enumerate() {
                costs.push(cost_of(letter).ok_or_else(|| {
                    Invalid(format!(
                        "payload.rows[{y}]: {letter:?} in column {x} is none of '.', '#', '1' to '9'"
                    ))
                })?);
            }
            if costs.len() != width * (y + 1) {
                return Err(Invalid(format!("payload.rows[{y}]: must be as long as the first, {width}")));
            }
        }
        let Given { start, goal, diagonal, .. } = given;
        let task = Self { width, height, costs, start, goal, diagonal };
        for (name, (x, y)) in [("start", start), ("goal", goal)] {
            if x >= width || y >= height {
                return Err(Invalid(format!("payload.{name}: [{x}, {y}] is outside of the grid")));
            }
            if task.cost(x, y) == BLOCKED {
                return Err(Invalid(format!("payload.{name}: [{x}, {y}] is blocked")));
            }
        }
        Ok(task)
    }

    /// The way.
    pub(super) fn run(&self) -> Path {
        let found = astar(
            &self.start,
            |cell| self.steps(*cell),
            |cell| self.least_cost(*cell),
            |cell| *cell == self.goal,
        );
        match found {
            #[expect(clippy::cast_precision_loss, reason = "a million cells cost less than 2^53 millionths")]
            Some((path, cost)) => Path { found: true, path, cost: Some(cost as f64 / UNIT as f64) },
            None => Path { found: false, path: Vec::new(), cost: None },
        }
    }

    fn cost(&self, x: usize, y: usize) -> u8 {
        self.costs[y * self.width + x]
    }

    /// Where one can go from a cell, and for how much. A diagonal step needs both corners that it passes to be free.
    fn steps(&self, (x, y): (usize, usize)) -> impl Iterator<Item = ((usize, usize), u64)> {
        const AROUND: [(isize, isize); 8] =
            [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)];
        let directions = if self.diagonal { &AROUND[..] } else { &AROUND[..4] };
        let is_free = move |x, y| x < self.width && y < self.height && self.cost(x, y) != BLOCKED;
        directions.iter().filter_map(move |&(right, down)| {
            // Beyond the left or upper border this is none.
            let (to_x, to_y) = (x.checked_add_signed(right)?, y.checked_add_signed(down)?);
            let is_diagonal = right != 0 && down != 0;
            let fits = is_free(to_x, to_y) && (!is_diagonal || is_free(to_x, y) && is_free(x, to_y));
            let length = if is_diagonal { DIAGONAL } else { UNIT };
            fits.then(|| ((to_x, to_y), length * u64::from(self.cost(to_x, to_y))))
        })
    }

    /// What the rest of the way costs at least.
    fn least_cost(&self, (x, y): (usize, usize)) -> u64 {
        let (across, down) = (x.abs_diff(self.goal.0) as u64, y.abs_diff(self.goal.1) as u64);
        if self.diagonal {
            DIAGONAL * across.min(down) + UNIT * across.abs_diff(down)
        } else {
            UNIT * (across + down)
        }
    }
}

fn cost_of(letter: char) -> Option<u8> {
    match letter {
        '.' => Some(1),
        '#' => Some(BLOCKED),
        '1'..='9' => letter.to_digit(10).and_then(|cost| cost.try_into().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
