//! The HTTP API, called without a socket.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod options;
mod site;
mod tasks;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::ports::{RoomStore as _, RoomWrite};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use serde_json::json;
use server::auth::Auth;
use server::http::{MAX_BODY_BYTES, MAX_ROOMS_PER_USER};

use site::{SECRET, Site};

#[tokio::test]
async fn a_login_gives_a_token() {
    let site = Site::new();
    let login = site.post("/api/auth/login", "", json!({"username": "Ada"})).await;
    assert_eq!((login.status, login.header("cache-control")), (StatusCode::OK, "no-store"));
    let login = login.json();
    assert_eq!(login.as_object().unwrap().len(), 3);
    assert_eq!(login["username"], "Ada");
    assert!(login["userId"].as_str().unwrap().starts_with("user_") && login["token"].is_string());
    for body in [json!({}), json!({"username": ""}), json!({"username": null})] {
        site.post("/api/auth/login", "", body).await.check_error(400, "Username required");
    }
    site.post("/api/auth/login", "", json!({"username": 7}))
        .await
        .check_error(400, "username must be a string");
}

#[tokio::test]
async fn rooms_are_made_and_listed() {
    let site = Site::new();
    let token = site.token().await;
    let wanted = json!({"roomId": "lobby", "maxUsers": 8, "persistent": true, "tickHz": 30});
    let made = site.post("/api/rooms", &token, wanted.clone()).await;
    assert_eq!(made.status, StatusCode::OK);
    assert_eq!(made.json()["id"], "lobby");
    let created = made.json()["created"].as_u64().unwrap();
    let again = site.post("/api/rooms", &token, wanted).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, made.json()), "the same room is no conflict");
    let other = site.post("/api/rooms", &token, json!({"roomId": "lobby", "maxUsers": 9})).await;
    other.check_error(409, "A room of that id exists with other options");
    let rooms = site.fetch("/api/rooms").await;
    assert_eq!(rooms.header("x-total-count"), "1");
    let expected = json!([{"id": "lobby", "users": 0, "maxUsers": 8, "created": created, "persistent": true,
                           "tickHz": 30, "currentTickHz": 30, "viewRadius": null, "viewPeriods": [1, 2, 4, 8],
                           "viewBudget": 65_536, "passwordRequired": false, "record": true,
                           "recordMessages": false}]);
    assert_eq!(rooms.json(), expected);
    let stored = site.store.rooms().await.unwrap();
    assert_eq!((stored.len(), &*stored[0].id, stored[0].created_ms), (1, "lobby", created));
}

#[tokio::test]
async fn a_list_of_rooms_has_an_end() {
    let site = Site::new();
    let count = server::http::MAX_LISTED_ROOMS + 5;
    for index in 0..count {
        site.engine.create_room(&format!("room-{index:05}"), &Default::default()).await.unwrap();
    }
    let rooms = site.fetch("/api/rooms").await;
    assert_eq!(rooms.header("x-total-count"), count.to_string());
    let rooms = rooms.json();
    assert_eq!(rooms.as_array().unwrap().len(), server::http::MAX_LISTED_ROOMS);
    assert_eq!(rooms[0]["id"], "room-00000");
}

#[tokio::test]
async fn one_user_makes_only_so_many_rooms() {
    let site = Site::new();
    let (ada, bob) = (site.token().await, site.token().await);
    let make = |token: &str, index: u32| {
        let (site, token) = (&site, token.to_owned());
        async move { site.post("/api/rooms", &token, json!({"roomId": format!("room-{index}")})).await }
    };
    for index in 0..MAX_ROOMS_PER_USER {
        let wrong =
            site.post("/api/rooms", &ada, json!({"roomId": format!("room-{index}"), "tickHz": 91})).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "what is not made is not counted");
        assert_eq!(make(&ada, index).await.status, StatusCode::OK);
    }
    let refused = make(&ada, MAX_ROOMS_PER_USER).await;
    refused.check_error(429, "You have made too many rooms, try again later");
    assert!((1..=3_600).contains(&refused.header("retry-after").parse().unwrap()));
    assert_eq!(make(&ada, 0).await.status, StatusCode::OK, "a room that is there");
    assert_eq!(make(&bob, MAX_ROOMS_PER_USER).await.status, StatusCode::OK, "another user");
}

#[tokio::test]
async fn wrong_wishes_for_a_room_are_refused() {
    let site = Site::new();
    let token = site.token().await;
    for (body, message) in [
        (json!({}), "roomId required"),
        (json!({"roomId": ""}), "roomId required"),
        (json!({"roomId": 7}), "roomId must be a string"),
        (json!({"roomId": "a", "maxUsers": "8"}), "maxUsers must be a whole number"),
        (json!({"roomId": "a", "maxUsers": -1}), "maxUsers must be a whole number"),
        (json!({"roomId": "a", "maxUsers": 10_001}), "maxUsers must be 1 to 10000"),
        (json!({"roomId": "a", "persistent": "yes"}), "persistent must be true or false"),
    ] {
        site.post("/api/rooms", &token, body).await.check_error(400, message);
    }
    assert_eq!(site.engine.room_count(), 0);
}

#[tokio::test]
async fn a_room_that_cannot_be_stored_is_not_made() {
    let site = Site::new();
    let token = site.token().await;
    site.store.close().await.unwrap();
    let made = site.post("/api/rooms", &token, json!({"roomId": "a", "persistent": true})).await;
    made.check_error(503, "The room could not be stored");
    assert_eq!(site.fetch("/api/rooms").await.json(), json!([]));
    assert_eq!(site.fetch("/api/health").await.json()["status"], "degraded");
}

#[tokio::test]
async fn some_calls_want_a_token() {
    let site = Site::new();
    let login = Auth::new(b"another secret of thirty-two bytes").login("eve", 1_800_000_000).unwrap();
    let old = Auth::new(SECRET.as_bytes()).login("ada", 1_000_000_000).unwrap();
    for (method, path) in [
        (Method::POST, "/api/rooms"),
        (Method::GET, "/api/rooms/a/replay"),
        (Method::POST, "/api/worker/execute"),
    ] {
        let missing = site.call(method.clone(), path, "", "{}").await;
        missing.check_error(401, "Authentication required");
        assert_eq!(missing.header("www-authenticate"), "Bearer");
        for token in ["nonsense", &login.token, &old.token] {
            site.call(method.clone(), path, token, "{}").await.check_error(401, "Invalid token");
        }
        let request = Request::builder().method(&method).uri(path).header("authorization", "Basic YTpi");
        site.send(request.body(Full::default()).unwrap()).await.check_error(401, "Authentication required");
    }
    let request =
        Request::post("/api/rooms").header("authorization", format!("bearer {}", site.token().await));
    let made = site.send(request.body(Full::new(Bytes::from(r#"{"roomId":"a"}"#))).unwrap()).await;
    assert_eq!(made.status, StatusCode::OK, "a scheme's name has no case");
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let site = Site::new();
    let token = site.token().await;
    site.post("/api/rooms", &token, json!({"roomId": "a b/ü"})).await;
    let replay = site.call(Method::GET, "/api/rooms/a%20b%2F%C3%BC/replay?from=0", &token, "").await;
    assert_eq!((replay.status, replay.json()), (StatusCode::OK, json!([])), "nothing has happened in it");
    site.call(Method::GET, "/api/rooms/b/replay", &token, "").await.check_error(404, "Room not found");
    site.call(Method::GET, "/api/rooms/%FF/replay", &token, "").await.check_error(404, "Room not found");
}

#[tokio::test]
async fn health_tells_that_redis_is_away() {
    // Nobody listens on this port.
    let site = Site::with(&[("REDIS_URL", "redis://me:hunter2@127.0.0.1:1")]);
    site.redis.as_ref().unwrap().first_attempt().await;
    let health = site.fetch("/api/health").await;
    assert!(!String::from_utf8_lossy(&health.bytes).contains("hunter2"));
    let health = health.json();
    assert_eq!((&health["status"], &health["redis"]), (&json!("degraded"), &json!(false)));
    assert_eq!(health["storage"]["status"], "healthy", "this machine's disk is not at fault");
    let redis = &health["storage"]["redis"];
    assert_eq!(redis["status"], "degraded");
    assert!(redis["awaySince"].is_u64() && redis["lastError"].is_string(), "{redis}");
    for count in ["waitingRecords", "waitingChanges", "dropped", "setbacks"] {
        assert_eq!(redis[count], 0, "{count}");
    }
    let metrics = site.fetch("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.bytes);
    assert!(metrics.contains("copresence_redis_connected 0") && !metrics.contains("hunter2"), "{metrics}");
}

#[tokio::test]
async fn health_tells_how_the_server_is() {
    let site = Site::with(&[("CORES", "1")]);
    let health = site.fetch("/api/health").await.json();
    assert_eq!((&health["status"], &health["redis"]), (&json!("healthy"), &json!(false)));
    for count in ["users", "rooms", "workers", "uptimeSeconds"] {
        assert!(health[count].is_u64(), "{count}");
    }
    assert_eq!((&health["cores"], &health["storage"]["status"]), (&json!(1), &json!("healthy")));
    assert_eq!((&health["replay"]["status"], &health["replay"]["poseHz"]), (&json!("healthy"), &json!(10)));
    assert_eq!(health["replay"]["reliable"], json!({"waitingBytes": 0, "dropped": 0}));
    // An object needs a room: the store refuses it.
    let orphan = RoomWrite::PutObject {
        room: "none".into(),
        object: engine::ports::StoredObject {
            id: "1".into(),
            version: 1,
            owner: "a".into(),
            json: "{}".into(),
        },
    };
    site.store.write(vec![orphan]).await.unwrap_err();
    let health = site.fetch("/api/health").await.json();
    assert_eq!((&health["status"], &health["storage"]["status"]), (&json!("degraded"), &json!("degraded")));
    assert!(health["storage"]["lastError"].is_string());
    assert_eq!(site.fetch("/readyz").await.status, StatusCode::OK);
    site.engine.begin_drain(0);
    assert_eq!(site.fetch("/api/health").await.json()["status"], "draining");
    site.fetch("/readyz").await.check_error(503, "The server is restarting");
    assert_eq!(site.fetch("/healthz").await.status, StatusCode::OK, "it still lives");
    let token = site.token().await;
    site.post("/api/rooms", &token, json!({"roomId": "a"}))
        .await
        .check_error(503, "the server is restarting");
    let unrecorded = Site::with(&[("REPLAY_TTL_HOURS", "0")]);
    assert_eq!(unrecorded.fetch("/api/health").await.json()["replay"], json!({"status": "off"}));
}

#[tokio::test]
async fn metrics_and_the_description_are_served() {
    let site = Site::new();
    let metrics = site.fetch("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = std::str::from_utf8(&metrics.bytes).unwrap();
    assert!(text.contains("copresence_sessions 0") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(site.fetch("/openapi.json").await.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let site = Site::new();
    for path in ["/nothing", "/api", "/api/rooms/", "/assets/", "/../secret.txt", "/assets/../../secret.txt"]
    {
        site.fetch(path).await.check_error(404, "Not found");
    }
    site.call(Method::POST, "/nothing", "", "").await.check_error(404, "Not found");
    let wrong = site.call(Method::DELETE, "/api/rooms", "", "").await;
    wrong.check_error(405, "Method not allowed");
    assert_eq!(wrong.header("allow"), "GET, HEAD, POST");
    site.call(Method::POST, "/", "", "").await.check_error(405, "Method not allowed");
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let site = Site::new();
    // Not the metrics: what the process has used is more each time, and may be longer.
    for path in ["/api/rooms", "/openapi.json", "/", "/nothing"] {
        let get = site.fetch(path).await;
        let head = site.call(Method::HEAD, path, "", "").await;
        assert_eq!((head.status, head.bytes.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-length"), get.bytes.len().to_string(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_call() {
    let site = Site::with(&[("CORS_ORIGIN", "https://example.com")]);
    let preflight = site.call(Method::OPTIONS, "/api/rooms", "", "").await;
    assert_eq!((preflight.status, preflight.bytes.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "content-type, authorization, x-room-password"
    );
    assert!(preflight.header("access-control-allow-methods").contains("POST"));
    assert!(!preflight.header("access-control-max-age").is_empty());
    for path in ["/api/rooms", "/nothing", "/", "/api/auth/login"] {
        let answer = site.fetch(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "https://example.com", "{path}");
        assert_eq!(answer.header("vary"), "origin");
    }
    let any = Site::new().fetch("/api/rooms").await;
    assert_eq!((any.header("access-control-allow-origin"), any.header("vary")), ("*", ""));
}

#[tokio::test]
async fn the_page_is_served() {
    let site = Site::new();
    let page = site.fetch("/").await;
    assert_eq!((&page.bytes[..], page.header("cache-control")), (&b"<p>the page"[..], "no-cache"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").contains("default-src 'self'"));
    let script = site.fetch("/assets/index-1a2b.js?v=1").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert!(script.header("cache-control").contains("immutable"));
}

#[tokio::test]
async fn without_a_page_the_root_says_how_to_get_it() {
    let site = Site::with(&[("WEB_DIR", "none")]);
    let page = site.fetch("/").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(std::str::from_utf8(&page.bytes).unwrap().contains("cargo xtask run"));
    site.fetch("/index.html").await.check_error(404, "Not found");
}

#[tokio::test]
async fn a_body_must_be_a_json_object_of_limited_size() {
    let site = Site::new();
    for body in ["", "{", "username=ada", "\u{feff}{}", &"[".repeat(10_000)] {
        let answer = site.call(Method::POST, "/api/auth/login", "", body.to_owned()).await;
        answer.check_error(400, "The body is not JSON");
    }
    for body in ["[]", "\"ada\"", "null"] {
        let answer = site.call(Method::POST, "/api/auth/login", "", body).await;
        answer.check_error(400, "The body must be a JSON object");
    }
    let padded = |bytes: usize| {
        let text = r#"{"username":"ada"}"#;
        format!("{text}{}", " ".repeat(bytes - text.len()))
    };
    let fits = site.call(Method::POST, "/api/auth/login", "", padded(MAX_BODY_BYTES)).await;
    assert_eq!(fits.status, StatusCode::OK);
    let large = site.call(Method::POST, "/api/auth/login", "", padded(MAX_BODY_BYTES + 1)).await;
    large.check_error(413, "The body is larger than 64 KiB");
}

/// A body of unknown length that goes on as `next` says.
struct Endless(fn() -> Poll<Option<io::Result<Frame<Bytes>>>>);

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0()
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_not_waited_for() {
    let site = Site::new();
    let post = |body| Request::post("/api/auth/login").body(body).unwrap();
    site.send(post(Endless(|| Poll::Pending))).await.check_error(408, "The body took too long");
    let stream = Endless(|| Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024]))))));
    site.send(post(stream)).await.check_error(413, "The body is larger than 64 KiB");
    let broken = Endless(|| Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))));
    site.send(post(broken)).await.check_error(400, "The body did not come whole");
}
