use proptest::prelude::*;

use super::*;

fn task(points: &[[f64; 3]]) -> Result<HullTask, Invalid> {
    HullTask::new(serde_json::from_value(serde_json::json!({ "points": points })).unwrap())
}

/// What must be true of a hull: it is closed, its corners are points, and nothing lies outside of any of its faces.
fn check(points: &[[f64; 3]], hull: &Hull) -> Result<(), TestCaseError> {
    prop_assert!(is_closed(hull.vertices.len(), &hull.triangles), "it has gaps");
    prop_assert!(hull.vertices.iter().all(|vertex| points.contains(vertex)), "a corner is no point");
    let size = points.iter().flatten().fold(0.0f64, |size, part| size.max(part.abs()));
    let corners: Vec<Vector> = hull.vertices.iter().map(|vertex| (*vertex).into()).collect();
    let mut volume = 0.0;
    for triangle in &hull.triangles {
        let [a, b, c] = triangle.map(|index| corners[index as usize]);
        volume += a.dot(b.cross(c)) / 6.0;
        // Slivers have no direction; their neighbours stand for them.
        let normal = (b - a).cross(c - a);
        if normal.length() < 1e-6 * size * size {
            continue;
        }
        for point in points {
            let outside = (Vector::from(*point) - a).dot(normal.normalize());
            prop_assert!(outside < 1e-6 * size, "{point:?} is {outside} outside of {triangle:?}");
        }
    }
    prop_assert!(volume > 0.0, "it is inside out");
    Ok(())
}

fn cloud(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<[f64; 3]>> {
    let scattered = prop::collection::vec(prop::array::uniform3(-10.0..10.0f64), count.clone());
    // Many points in one plane, in one line, and at one place.
    let raster = prop::collection::vec(prop::array::uniform3((-3..4i32).prop_map(f64::from)), count.clone());
    let sphere = prop::collection::vec(prop::array::uniform3(-1.0..1.0f64), count).prop_map(|points| {
        let outward = |point: [f64; 3]| {
            Vector::from(point).normalize_or(Vector::X) * 5.0 + Vector::new(100.0, 0.0, 0.0)
        };
        points.into_iter().map(|point| outward(point).into()).collect()
    });
    prop_oneof![scattered, raster, sphere]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_hull_is_closed_and_convex_and_contains_all_points(points in cloud(4..80)) {
        let Ok(task) = task(&points) else { return Ok(()) };
        let hull = task.run().map_err(TestCaseError::fail)?;
        check(&points, &hull)?;
    }
}

proptest! {
    #[test]
    fn extremes_give_a_true_hull_or_an_error(
        points in prop::collection::vec(prop::array::uniform3(prop_oneof![
            Just(0.0), Just(1e6), Just(-1e6), Just(1e-6), -1e6..1e6f64, -1e-3..1e-3f64,
        ]), 4..40),
    ) {
        if let Ok(task) = task(&points)
            && let Ok(hull) = task.run()
        {
            check(&points, &hull)?;
        }
    }
}

/// Among these are some where the library goes wrong at the first attempt.
#[test]
fn points_on_a_raster_have_a_true_hull() {
    let mut state = 1u64;
    let mut part = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u8::try_from((state >> 33) % 7).unwrap()) - 3.0
    };
    for _ in 0..600 {
        let points: Vec<[f64; 3]> = (0..40).map(|_| [part(), part(), part()]).collect();
        let hull = task(&points).unwrap().run().unwrap();
        check(&points, &hull).unwrap_or_else(|error| panic!("{error}: {points:?}"));
    }
}

#[test]
fn the_hull_of_a_cube_is_the_cube() {
    let mut points: Vec<[f64; 3]> = Vec::new();
    for index in 0..125u8 {
        points.push([index % 5, index / 5 % 5, index / 25].map(f64::from));
    }
    let hull = task(&points).unwrap().run().unwrap();
    check(&points, &hull).unwrap();
    for corner in [[0.0, 0.0, 0.0], [4.0, 4.0, 4.0], [0.0, 4.0, 0.0]] {
        assert!(hull.vertices.contains(&corner), "{corner:?} is missing from {:?}", hull.vertices);
    }
}

#[test]
fn points_that_enclose_nothing_are_refused() {
    let line: Vec<[f64; 3]> = (0..9u8).map(|i| [f64::from(i), f64::from(2 * i), 1.0]).collect();
    let plane: Vec<[f64; 3]> = (0..9u8).map(|i| [f64::from(i % 3), f64::from(i / 3), 7.0]).collect();
    let mut nearly = plane.clone();
    nearly[4][2] += 1e-9;
    let cases = [
        (vec![], "not 0"),
        (vec![[0.0; 3]; 3], "not 3"),
        (vec![[1.0, 2.0, 3.0]; 9], "at one place"),
        (line, "in a line"),
        (plane, "in a plane"),
        (nearly, "in a plane"),
        (vec![[0.0; 3]; MAX_POINTS + 1], "not 50001"),
        (vec![[0.0, 0.0, 1e7]; 4], "payload.points[0]"),
    ];
    for (points, part) in cases {
        let error = task(&points).expect_err(part).0;
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn flat_clouds_get_a_true_hull_or_an_error() {
    // Just thick enough to be accepted, in every direction.
    for (tilt, height) in [(0.0, 1.1e-3), (0.3, 1.1e-3), (1.1, 2e-3), (0.7, 5e-3), (0.2, 1e-2)] {
        let (sin, cos) = f64::sin_cos(tilt);
        let points: Vec<[f64; 3]> = (0..60u32)
            .map(|i| {
                let (x, y) = (f64::from(i * 7919 % 101) / 101.0, f64::from(i * 104_729 % 97) / 97.0);
                let z = height * f64::from(i % 7) / 3.0;
                [x * cos - z * sin, y, x * sin + z * cos]
            })
            .collect();
        if let Ok(hull) = task(&points).unwrap().run() {
            check(&points, &hull).unwrap_or_else(|error| panic!("{tilt} {height}: {error}"));
        }
    }
}

#[test]
fn a_closed_surface_is_told_from_one_with_a_gap() {
    let closed = [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]];
    assert!(is_closed(4, &closed));
    assert!(!is_closed(4, &closed[..3]), "a face is missing");
    assert!(!is_closed(4, &[[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 0, 3]]), "a face is the wrong way round");
    assert!(!is_closed(8, &closed), "corners that belong to no face");
}
