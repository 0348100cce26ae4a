//! How often a room ticks and how much of it its members see, as `/api/rooms` takes and tells it.

use http::StatusCode;
use serde_json::{Value, json};
use server::passwords::MAX_WRONG_OF_USER;

use super::site::Site;

/// What the list says of the only room, as far as this is about it.
async fn listed(site: &Site) -> Value {
    let rooms = site.fetch("/api/rooms").await.json();
    assert_eq!(rooms.as_array().unwrap().len(), 1);
    json!(
        ["tickHz", "currentTickHz", "viewRadius", "viewPeriods", "viewBudget"]
            .map(|name| rooms[0][name].clone())
    )
}

#[tokio::test]
async fn a_room_has_the_rate_and_the_view_that_were_asked_for() {
    let site = Site::new();
    let token = site.token().await;
    let wanted = json!({"roomId": "hall", "tickHz": "auto", "viewRadius": 12.5, "viewPeriods": [1, 1, 3],
                        "viewBudget": 40_960});
    let made = site.post("/api/rooms", &token, wanted.clone()).await;
    assert_eq!(made.status, StatusCode::OK);
    assert_eq!((&made.json()["tickHz"], &made.json()["currentTickHz"]), (&json!("auto"), &json!(90)));
    assert_eq!(listed(&site).await, json!(["auto", 90, 12.5, [1, 1, 3], 40_960]));
    assert_eq!(site.post("/api/rooms", &token, wanted.clone()).await.json(), made.json(), "no conflict");
    for (name, value) in [
        ("tickHz", json!(90)),
        ("tickHz", Value::Null),
        ("viewRadius", json!(12)),
        ("viewRadius", Value::Null),
        ("viewPeriods", json!([1, 1, 3, 3])),
        ("viewBudget", json!(40_961)),
    ] {
        let mut other = wanted.clone();
        other[name] = value;
        let answer = site.post("/api/rooms", &token, other).await;
        answer.check_error(409, "A room of that id exists with other options");
    }
}

#[tokio::test]
async fn asking_for_a_room_that_is_there_is_a_try_of_its_password() {
    let site = Site::new();
    let (owner, eve) = (site.token().await, site.token_of("eve").await);
    let with = |password: &str| json!({"roomId": "vault", "password": password});
    assert_eq!(site.post("/api/rooms", &owner, with("sesame")).await.status, StatusCode::OK);
    for guess in 0..MAX_WRONG_OF_USER {
        let answer = site.post("/api/rooms", &eve, with(&guess.to_string())).await;
        answer.check_error(409, "A room of that id exists with other options");
    }
    let answer = site.post("/api/rooms", &eve, with("sesame")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(site.post("/api/rooms", &owner, with("sesame")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_room_is_recorded_as_was_asked_for() {
    let site = Site::new();
    let token = site.token().await;
    for (index, (wanted, record, messages)) in [
        (json!({}), true, false),
        (json!({"record": null, "recordMessages": null}), true, false),
        (json!({"record": false}), false, false),
        (json!({"recordMessages": true}), true, true),
        (json!({"password": "sesame"}), false, false),
        (json!({"password": ""}), true, false),
        (json!({"password": "sesame", "record": true}), true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wanted = wanted;
        wanted["roomId"] = json!(format!("room {index}"));
        let made = site.post("/api/rooms", &token, wanted.clone()).await;
        assert_eq!(made.status, StatusCode::OK);
        assert_eq!(
            (&made.json()["record"], &made.json()["recordMessages"]),
            (&json!(record), &json!(messages))
        );
        for (name, value) in [("record", json!(!record)), ("recordMessages", json!(!messages))] {
            let mut other = wanted.clone();
            other[name] = value;
            let answer = site.post("/api/rooms", &token, other).await;
            answer.check_error(409, "A room of that id exists with other options");
        }
    }
    for name in ["record", "recordMessages"] {
        let mut wanted = json!({"roomId": "odd"});
        wanted[name] = json!(1);
        let refused = site.post("/api/rooms", &token, wanted).await;
        refused.check_error(400, &format!("{name} must be true or false"));
    }
}

#[tokio::test]
async fn what_is_absent_or_null_takes_the_servers_default() {
    for wanted in [
        json!({"roomId": "a"}),
        json!({"roomId": "a", "tickHz": null, "viewRadius": null, "viewPeriods": null, "viewBudget": null}),
    ] {
        let site = Site::with(&[("TICK_HZ", "auto")]);
        let token = site.token().await;
        assert_eq!(site.post("/api/rooms", &token, wanted).await.status, StatusCode::OK);
        assert_eq!(listed(&site).await, json!(["auto", 90, null, [1, 2, 4, 8], 65_536]));
    }
}

#[tokio::test]
async fn rates_and_views_out_of_range_are_refused() {
    const RATE: &str = r#"tickHz must be 1 to 90 or "auto""#;
    const RADIUS: &str = "viewRadius must be 1 to 1000000 metres";
    const PERIODS: &str =
        "viewPeriods must be 1 to 8 whole numbers of 1 to 90, none less than the one before it";
    const BUDGET: &str = "viewBudget must be 4096 to 1048576 bytes per second";
    let site = Site::new();
    let token = site.token().await;
    for (name, values, message) in [
        ("tickHz", json!([0, 91, -1, 20.5, "20", "fast", true, {}]), RATE),
        ("viewRadius", json!([0, 0.99, -1, 1_000_000.5, 1e300]), RADIUS),
        ("viewRadius", json!(["12", [12]]), "viewRadius must be a number"),
        (
            "viewPeriods",
            json!([[], [0], [91], [300], [2, 1], [1.5], [1, 1, 1, 1, 1, 1, 1, 1, 1], ["1"], 1, {}]),
            PERIODS,
        ),
        ("viewBudget", json!([0, 4_095, 1_048_577]), BUDGET),
        ("viewBudget", json!([-1, 1e10, 5_000.5, "5000"]), "viewBudget must be a whole number"),
    ] {
        for value in values.as_array().unwrap() {
            let mut wanted = json!({"roomId": "a"});
            wanted[name] = value.clone();
            site.post("/api/rooms", &token, wanted).await.check_error(400, message);
        }
    }
    for rate in [json!(17), json!("auto")] {
        let wanted = json!({"roomId": "a", "tickHz": rate, "viewBudget": 4_100});
        site.post("/api/rooms", &token, wanted)
            .await
            .check_error(400, "viewBudget must be at least 256 bytes for each tick of a second");
    }
    assert_eq!(site.engine.room_count(), 0);
}

#[tokio::test]
async fn a_persistent_room_has_its_options_after_a_restart() {
    let site = Site::new();
    let token = site.token().await;
    let wanted = json!({"roomId": "hall", "persistent": true, "maxUsers": 7, "tickHz": "auto", "viewRadius": 0.1e2,
                        "viewPeriods": [2], "viewBudget": 50_000});
    let made = site.post("/api/rooms", &token, wanted.clone()).await;
    assert_eq!(made.status, StatusCode::OK);
    let site = site.restarted().await;
    assert_eq!(listed(&site).await, json!(["auto", 90, 10.0, [2], 50_000]));
    let again = site.post("/api/rooms", &token, wanted).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, made.json()), "no conflict either");
}
