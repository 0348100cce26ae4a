//! Which calls there are.

use ::http::Method;

/// A call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Login,
    ListRooms,
    CreateRoom,
    Replay,
    Execute,
    WorkerStatus,
    Health,
    Metrics,
    Live,
    Ready,
    OpenApi,
}

/// Stands for any one segment of a path.
const ROOM: &str = "{roomId}";

/// Every call, with its paths as the API's description writes them.
pub(super) const ROUTES: [(Method, &str, Route); 11] = [
    (Method::POST, "/api/auth/login", Route::Login),
    (Method::GET, "/api/rooms", Route::ListRooms),
    (Method::POST, "/api/rooms", Route::CreateRoom),
    (Method::GET, "/api/rooms/{roomId}/replay", Route::Replay),
    (Method::POST, "/api/worker/execute", Route::Execute),
    (Method::GET, "/api/worker/status", Route::WorkerStatus),
    (Method::GET, "/api/health", Route::Health),
    (Method::GET, "/metrics", Route::Metrics),
    (Method::GET, "/healthz", Route::Live),
    (Method::GET, "/readyz", Route::Ready),
    (Method::GET, "/openapi.json", Route::OpenApi),
];

impl Route {
    /// Whether the call is for those only who have logged in.
    pub(super) fn wants_token(self) -> bool {
        matches!(self, Self::CreateRoom | Self::Replay | Self::Execute)
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A call, and the room's id in its path as it stands there.
    Route(Route, Option<&'a str>),
    /// The path exists, but with these methods only.
    OtherMethods(String),
    Nothing,
}

/// What `path` leads to. HEAD goes where GET goes.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut others = Vec::new();
    for (of_route, pattern, route) in &ROUTES {
        match capture(pattern, path) {
            Some(room) if of_route == method => return Found::Route(*route, room),
            Some(_) if of_route == Method::GET => others.extend(["GET", "HEAD"]),
            Some(_) => others.push(of_route.as_str()),
            None => {}
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// Whether `path` is of this pattern, and what stands in it for the room.
fn capture<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let mut room = None;
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(room),
            (Some(ROOM), Some(segment)) if !segment.is_empty() => room = Some(segment),
            (Some(a), Some(b)) if a == b => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_calls() {
        assert_eq!(find(&Method::GET, "/api/rooms"), Found::Route(Route::ListRooms, None));
        assert_eq!(find(&Method::HEAD, "/api/rooms"), Found::Route(Route::ListRooms, None));
        assert_eq!(find(&Method::POST, "/api/rooms"), Found::Route(Route::CreateRoom, None));
        let replay = find(&Method::GET, "/api/rooms/a%20b/replay");
        assert_eq!(replay, Found::Route(Route::Replay, Some("a%20b")));
        assert_eq!(find(&Method::PUT, "/api/rooms"), Found::OtherMethods("GET, HEAD, POST".into()));
        assert_eq!(find(&Method::GET, "/api/auth/login"), Found::OtherMethods("POST".into()));
        for path in
            ["/api/rooms/", "/api/rooms//replay", "/api", "/", "", "/api/rooms/a/replay/b", "api/rooms"]
        {
            assert_eq!(find(&Method::GET, path), Found::Nothing, "{path}");
        }
    }

    /// The calls that the API's description has.
    fn described() -> Vec<(String, String, bool)> {
        let description: serde_json::Value = serde_json::from_str(crate::http::OPENAPI).unwrap();
        let mut calls = Vec::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for (method, call) in item.as_object().unwrap() {
                if method != "parameters" {
                    let is_open = call["security"].as_array().is_none_or(Vec::is_empty);
                    calls.push((method.to_uppercase(), path.clone(), !is_open));
                }
            }
        }
        calls.sort();
        calls
    }

    #[test]
    fn the_description_has_every_call_and_no_other() {
        let mut calls: Vec<_> = ROUTES
            .iter()
            .map(|(method, path, route)| (method.to_string(), (*path).to_owned(), route.wants_token()))
            .collect();
        calls.sort();
        assert_eq!(described(), calls);
    }
}
