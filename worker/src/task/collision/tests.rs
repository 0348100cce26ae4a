//! Random worlds against an oracle that knows nothing of the library: the separating axis theorem, written out.

use proptest::prelude::*;
use serde_json::json;

use super::*;

type Vec3 = [f64; 3];

/// A body as the oracle sees it: a centre, three axes, half extents along them, and a radius around all.
#[derive(Debug, Clone)]
struct Plain {
    centre: Vec3,
    axes: [Vec3; 3],
    half: Vec3,
    radius: f64,
    json: serde_json::Value,
}

fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The columns of the matrix that a unit quaternion stands for.
fn columns([x, y, z, w]: [f64; 4]) -> [Vec3; 3] {
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + z * w), 2.0 * (x * z - y * w)],
        [2.0 * (x * y - z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + x * w)],
        [2.0 * (x * z + y * w), 2.0 * (y * z - x * w), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

/// How far two boxes are apart along the axis that separates them best; negative: how deep they are in each other.
fn separation_of_boxes(a: &Plain, b: &Plain) -> f64 {
    let between = sub(b.centre, a.centre);
    let edges = a.axes.iter().flat_map(|one| b.axes.iter().map(|two| cross(*one, *two)));
    let axes = a.axes.into_iter().chain(b.axes).chain(edges);
    axes.filter_map(|axis| {
        let length = dot(axis, axis).sqrt();
        let reach =
            |body: &Plain| -> f64 { (0..3).map(|i| body.half[i] * dot(body.axes[i], axis).abs()).sum() };
        (length > 1e-6).then(|| (dot(between, axis).abs() - reach(a) - reach(b)) / length)
    })
    .fold(f64::NEG_INFINITY, f64::max)
}

/// How far a point is from a box; negative: how deep it is inside.
fn separation_of_point(point: Vec3, body: &Plain) -> f64 {
    let offset = sub(point, body.centre);
    let beyond: Vec<f64> = (0..3).map(|i| dot(offset, body.axes[i]).abs() - body.half[i]).collect();
    let outside: f64 = beyond.iter().map(|part| part.max(0.0).powi(2)).sum();
    if outside > 0.0 { outside.sqrt() } else { beyond.into_iter().fold(f64::NEG_INFINITY, f64::max) }
}

fn separation(a: &Plain, b: &Plain) -> f64 {
    match (a.radius > 0.0, b.radius > 0.0) {
        (true, true) => dot(sub(a.centre, b.centre), sub(a.centre, b.centre)).sqrt() - a.radius - b.radius,
        (true, false) => separation_of_point(a.centre, b) - a.radius,
        (false, true) => separation_of_point(b.centre, a) - b.radius,
        (false, false) => separation_of_boxes(a, b),
    }
}

/// Places on a raster as often as between: faces that lie exactly on each other are where libraries go wrong.
fn number(range: std::ops::Range<i32>) -> impl Strategy<Value = f64> {
    let (low, high) = (f64::from(range.start), f64::from(range.end));
    prop_oneof![range.prop_map(f64::from), low..high]
}

/// Coordinates of very different sizes, up to what is accepted.
fn extreme() -> impl Strategy<Value = Vec3> {
    let part =
        prop_oneof![Just(0.0), Just(1e6), Just(-1e6), Just(1e-6), Just(-1.0), -1e6..1e6f64, -1e-3..1e-3f64];
    [part.clone(), part.clone(), part]
}

fn quaternion() -> impl Strategy<Value = [f64; 4]> {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let tilted = prop::array::uniform4(-1.0..1.0f64).prop_filter_map("has a length", |q| {
        let length = q.iter().map(|part| part * part).sum::<f64>().sqrt();
        (length > 0.1).then(|| q.map(|part| part / length))
    });
    prop_oneof![Just([0.0, 0.0, 0.0, 1.0]), Just([half, 0.0, 0.0, half]), tilted]
}

fn body() -> impl Strategy<Value = Plain> {
    let place = || [number(-4..5), number(-4..5), number(-4..5)];
    let extent = || prop_oneof![Just(0.5), Just(1.0), 0.05..2.0f64, Just(4.0)];
    let sphere = (place(), extent()).prop_map(|(centre, radius)| Plain {
        centre,
        axes: columns([0.0, 0.0, 0.0, 1.0]),
        half: [0.0; 3],
        radius,
        json: json!({ "shape": "sphere", "position": centre, "radius": radius }),
    });
    let cuboid =
        (place(), [extent(), extent(), extent()], quaternion()).prop_map(|(centre, half, rotation)| Plain {
            centre,
            axes: columns(rotation),
            half,
            radius: 0.0,
            json: json!({ "shape": "box", "position": centre, "halfExtents": half, "rotation": rotation }),
        });
    prop_oneof![1 => sphere, 2 => cuboid]
}

fn run(bodies: &[serde_json::Value]) -> Result<Collisions, String> {
    let given = json!({ "bodies": bodies }).to_string();
    CollisionTask::new(serde_json::from_str(&given).unwrap()).unwrap().run()
}

fn check(bodies: &[Plain]) -> Result<(), TestCaseError> {
    let json: Vec<_> = bodies.iter().map(|body| body.json.clone()).collect();
    let found = run(&json).unwrap();
    prop_assert!(!found.truncated);
    prop_assert!(found.pairs.is_sorted_by_key(|pair| (pair.a, pair.b)));
    for a in 0..bodies.len() {
        for b in a + 1..bodies.len() {
            let apart = separation(&bodies[a], &bodies[b]);
            let pair = found.pairs.iter().find(|pair| (pair.a, pair.b) == (a, b));
            // What only just touches may be told either way.
            prop_assert!(apart > -1e-9 || pair.is_some(), "{apart} apart and not told: {a} {b}");
            let Some(pair) = pair else { continue };
            prop_assert!(apart < 1e-9, "{apart} apart and told: {pair:?}");
            prop_assert!((pair.depth + apart).abs() < 1e-6, "{apart} apart, but told: {pair:?}");
            prop_assert!((dot(pair.normal, pair.normal) - 1.0).abs() < 1e-6, "{pair:?}");
            // Moved along the normal by the depth, b touches a no more.
            let mut moved = bodies[b].clone();
            for (i, part) in moved.centre.iter_mut().enumerate() {
                *part += pair.normal[i] * (pair.depth + 1e-5);
            }
            let after = separation(&bodies[a], &moved);
            prop_assert!(after > 0.0, "{after} apart after moving: {pair:?}");
            // The middle of the contact is no farther from either body than they are deep in each other.
            for body in [&bodies[a], &bodies[b]] {
                let distance = separation_of_point(pair.point, body) - body.radius;
                prop_assert!(distance <= pair.depth / 2.0 + 1e-6, "{distance} from the contact: {pair:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_touches_is_what_the_oracle_says(bodies in prop::collection::vec(body(), 2..24)) {
        check(&bodies)?;
    }

    #[test]
    fn extremes_give_numbers(
        bodies in prop::collection::vec((extreme(), extreme(), quaternion(), any::<bool>()), 2..12),
    ) {
        let positive = |part: f64| part.abs().clamp(MIN_EXTENT, MAX_COORDINATE);
        let json: Vec<_> = bodies
            .into_iter()
            .map(|(position, size, rotation, is_sphere)| match is_sphere {
                true => json!({ "shape": "sphere", "position": position, "radius": positive(size[0]) }),
                false => json!({
                    "shape": "box", "position": position, "halfExtents": size.map(positive), "rotation": rotation,
                }),
            })
            .collect();
        for pair in run(&json).unwrap().pairs {
            let numbers = pair.point.into_iter().chain(pair.normal).chain([pair.depth]);
            prop_assert!(numbers.clone().all(f64::is_finite), "{pair:?}");
            prop_assert!((dot(pair.normal, pair.normal) - 1.0).abs() < 1e-6, "{pair:?}");
        }
    }

    #[test]
    fn a_pair_touches_as_the_oracle_says(pair in prop::collection::vec(body(), 2)) {
        check(&pair)?;
    }
}

#[test]
fn a_contact_is_where_one_would_point_at() {
    let bodies = [
        json!({ "shape": "box", "position": [0, 0, 0], "halfExtents": [10, 1, 10] }),
        json!({ "shape": "box", "position": { "x": 2, "y": 1.75, "z": 3 }, "halfExtents": [1, 1, 1] }),
        json!({ "shape": "sphere", "position": [-4, 1.5, 0], "radius": 1 }),
    ];
    let pairs = run(&bodies).unwrap().pairs;
    let told: Vec<_> =
        pairs.iter().map(|pair| (pair.a, pair.b, pair.point, pair.normal, pair.depth)).collect();
    let up = [0.0, 1.0, 0.0];
    assert_eq!(told, [(0, 1, [2.0, 0.875, 3.0], up, 0.25), (0, 2, [-4.0, 0.75, 0.0], up, 0.5)]);
}

#[test]
fn ten_thousand_bodies_are_compared() {
    let row = |i: usize| {
        let (x, y, z) = (i % 22 * 2, i / 22 % 22 * 2, i / 484 * 2);
        json!({ "shape": "sphere", "position": [x, y, z], "radius": 0.9 })
    };
    let mut bodies: Vec<_> = (0..MAX_BODIES).map(row).collect();
    bodies[5_000] = bodies[4_999].clone();
    let pairs = run(&bodies).unwrap().pairs;
    assert_eq!(pairs.iter().map(|pair| (pair.a, pair.b)).collect::<Vec<_>>(), [(4_999, 5_000)]);
    assert!((pairs[0].depth - 1.8).abs() < 1e-9, "{pairs:?}");
}

#[test]
fn a_crowd_is_cut_off_and_a_heap_fails() {
    let same = json!({ "shape": "sphere", "position": [1, 2, 3], "radius": 1 });
    let crowd = run(&vec![same.clone(); 200]).unwrap();
    assert!(crowd.truncated && crowd.pairs.len() == MAX_PAIRS, "{}", crowd.pairs.len());
    let error = run(&vec![same; MAX_BODIES]).unwrap_err();
    assert!(error.contains("bounding boxes overlap"), "{error}");
}

#[test]
fn degenerate_bodies_are_refused() {
    let cases = [
        (r#"{"shape":"sphere","position":[0,0,0],"radius":0}"#, "bodies[0].radius"),
        (r#"{"shape":"sphere","position":[0,0,0],"radius":-1}"#, "bodies[0].radius"),
        (r#"{"shape":"sphere","position":[0,2e6,0],"radius":1}"#, "bodies[0].position"),
        (r#"{"shape":"box","position":[0,0,0],"halfExtents":[1,0,1]}"#, "bodies[0].halfExtents"),
        (
            r#"{"shape":"box","position":[0,0,0],"halfExtents":[1,1,1],"rotation":[0,0,0,0]}"#,
            "bodies[0].rotation",
        ),
        (
            r#"{"shape":"box","position":[0,0,0],"halfExtents":[1,1,1],"rotation":[1e300,1e300,0,1]}"#,
            "rotation",
        ),
    ];
    for (body, part) in cases {
        let given = serde_json::from_str(&format!("{{\"bodies\":[{body}]}}")).unwrap();
        let error = CollisionTask::new(given).expect_err(body).0;
        assert!(error.contains(part), "{body}: {error}");
    }
    let body = r#"{"shape":"sphere","position":[0,0,0],"radius":1}"#;
    let many = format!("{{\"bodies\":[{}]}}", vec![body; MAX_BODIES + 1].join(","));
    assert!(CollisionTask::new(serde_json::from_str(&many).unwrap()).unwrap_err().0.contains("at most"));
}
