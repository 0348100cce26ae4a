use proptest::prelude::*;

use super::*;

fn task(
    rows: &[String],
    start: (usize, usize),
    goal: (usize, usize),
    diagonal: bool,
) -> Result<PathTask, Invalid> {
    let given = serde_json::json!({ "rows": rows, "start": start, "goal": goal, "diagonal": diagonal });
    PathTask::new(serde_json::from_value(given).unwrap())
}

/// The price of a step, `None` if it cannot be gone.
fn step(rows: &[String], from: (usize, usize), to: (usize, usize), diagonal: bool) -> Option<u64> {
    let letter =
        |x: usize, y: usize| rows.get(y).and_then(|row| row.as_bytes().get(x)).copied().unwrap_or(b'#');
    let enter = match letter(to.0, to.1) {
        b'#' => return None,
        b'.' => 1,
        digit => u64::from(digit - b'0'),
    };
    match (from.0.abs_diff(to.0), from.1.abs_diff(to.1)) {
        (0, 1) | (1, 0) => Some(enter * UNIT),
        (1, 1) if diagonal && letter(from.0, to.1) != b'#' && letter(to.0, from.1) != b'#' => {
            Some(enter * DIAGONAL)
        }
        _ => None,
    }
}

/// What the cheapest way costs, found by telling all neighbours of better prices until there are none.
fn oracle(rows: &[String], start: (usize, usize), goal: (usize, usize), diagonal: bool) -> Option<u64> {
    let (width, height) = (rows[0].len(), rows.len());
    let mut best = vec![vec![u64::MAX; width]; height];
    best[start.1][start.0] = 0;
    let mut changed = true;
    while changed {
        changed = false;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            for (to_x, to_y) in (0..3).flat_map(|down| (0..3).map(move |right| (x + right, y + down))) {
                let (Some(to_x), Some(to_y)) = (to_x.checked_sub(1), to_y.checked_sub(1)) else { continue };
                let Some(price) = step(rows, (x, y), (to_x, to_y), diagonal) else { continue };
                let total = best[y][x].saturating_add(price);
                if best[y][x] != u64::MAX && total < best[to_y][to_x] {
                    best[to_y][to_x] = total;
                    changed = true;
                }
            }
        }
    }
    Some(best[goal.1][goal.0]).filter(|cost| *cost != u64::MAX)
}

fn grid() -> impl Strategy<Value = Vec<String>> {
    let cell = prop_oneof![5 => Just('.'), 3 => Just('#'), 2 => prop::char::range('1', '9')];
    (1..16usize, 1..16usize).prop_flat_map(move |(width, height)| {
        let row = prop::collection::vec(cell.clone(), width).prop_map(String::from_iter);
        prop::collection::vec(row, height)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_way_is_the_cheapest_and_goes_through_no_wall(
        rows in grid(),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        diagonal: bool,
    ) {
        let free: Vec<(usize, usize)> = (0..rows.len())
            .flat_map(|y| rows[y].match_indices(|letter| letter != '#').map(move |(x, _)| (x, y)))
            .collect();
        prop_assume!(!free.is_empty());
        let (start, goal) = (*ends.0.get(&free), *ends.1.get(&free));
        let way = task(&rows, start, goal, diagonal).unwrap().run();
        let Some(cheapest) = oracle(&rows, start, goal, diagonal) else {
            prop_assert!(!way.found && way.path.is_empty() && way.cost.is_none());
            return Ok(());
        };
        prop_assert!(way.found);
        prop_assert_eq!((way.path.first(), way.path.last()), (Some(&start), Some(&goal)));
        let steps = way.path.windows(2).map(|pair| step(&rows, pair[0], pair[1], diagonal));
        let total: Option<u64> = steps.sum();
        prop_assert_eq!(total, Some(cheapest), "{:?}", way.path);
        prop_assert_eq!(way.cost.map(|cost| (cost * 1e6).round() as u64), Some(cheapest));
    }
}

#[test]
fn a_way_around_a_corner() {
    let rows = ["..#.", ".##.", "...."].map(str::to_owned);
    let straight = task(&rows, (0, 0), (3, 0), false).unwrap().run();
    assert_eq!(straight.cost, Some(7.0));
    let diagonal = task(&rows, (0, 0), (3, 0), true).unwrap().run();
    assert_eq!(diagonal.cost, Some(7.0), "corners are not cut: {:?}", diagonal.path);
    let shut = ["#.#".to_owned(), "###".to_owned(), "#.#".to_owned()];
    assert!(!task(&shut, (1, 0), (1, 2), true).unwrap().run().found);
    assert_eq!(task(&shut, (1, 0), (1, 0), true).unwrap().run().path, [(1, 0)]);
}

#[test]
fn the_largest_grid_is_gone_through() {
    // Walls from either side in turn make the way as long as it can be.
    let side = MAX_GRID_SIDE;
    let row = |y: usize| match y % 4 {
        1 => format!("{}.", "#".repeat(side - 1)),
        3 => format!(".{}", "#".repeat(side - 1)),
        _ => ".".repeat(side),
    };
    let rows: Vec<String> = (0..side).map(row).collect();
    let way = task(&rows, (0, 0), (0, side - 2), false).unwrap().run();
    assert!(way.found && way.path.len() > side * side / 2, "{}", way.path.len());
}

#[test]
fn wrong_grids_are_refused() {
    let rows = |rows: &[&str]| -> Vec<String> { rows.iter().map(|row| (*row).to_owned()).collect() };
    let cases = [
        (rows(&[]), (0, 0), (0, 0), "a grid has 1 to 1024"),
        (rows(&[""]), (0, 0), (0, 0), "a grid has 1 to 1024"),
        (vec![".".repeat(MAX_GRID_SIDE + 1)], (0, 0), (0, 0), "a grid has 1 to 1024"),
        (vec![".".into(); MAX_GRID_SIDE + 1], (0, 0), (0, 0), "a grid has 1 to 1024"),
        (rows(&["..", "..."]), (0, 0), (0, 0), "payload.rows[1]"),
        (rows(&["..", ".0"]), (0, 0), (0, 0), "payload.rows[1]: '0' in column 1"),
        (rows(&[".é"]), (0, 0), (0, 0), "payload.rows[0]: 'é'"),
        (rows(&[".#"]), (0, 0), (1, 0), "payload.goal: [1, 0] is blocked"),
        (rows(&[".#"]), (0, 1), (0, 0), "payload.start: [0, 1] is outside"),
    ];
    for (rows, start, goal, part) in cases {
        let error = task(&rows, start, goal, false).expect_err(part).0;
        assert!(error.contains(part), "{error}");
    }
}
