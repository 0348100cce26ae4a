use http::Method;
use serde_json::json;
use server::http::MAX_TASK_BODY_BYTES;

use crate::site::Site;

#[tokio::test]
async fn a_task_is_checked_and_wants_a_worker() {
    let site = Site::new();
    let token = site.token().await;
    let execute = async |body: String| site.call(Method::POST, "/api/worker/execute", &token, body).await;
    execute(json!({"task": "bake", "data": [1]}).to_string())
        .await
        .check_error(503, "No healthy workers available");
    let nested = format!(r#"{{"task":"bake","data":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let long = json!({"task": "b".repeat(129)}).to_string();
    for (body, message) in [
        (r#"{"data": 1}"#, "task required"),
        (r#"{"task": ""}"#, "task required"),
        (r#"{"task": null}"#, "task required"),
        (r#"{"task": 5}"#, "task must be a string"),
        (r#"["bake", 1]"#, "The body must be a JSON object"),
        ("5", "The body must be a JSON object"),
        ("", "The body is not JSON"),
        (r#"{"task": "bake""#, "The body is not JSON"),
        (&nested, "The body is nested too deep"),
        (&long, "the name of a task is at most 128 bytes"),
    ] {
        execute(body.to_owned()).await.check_error(400, message);
    }
    let sized = |bytes: usize| {
        let text = r#"{"task":"bake"}"#;
        format!("{text}{}", " ".repeat(bytes - text.len()))
    };
    execute(sized(MAX_TASK_BODY_BYTES)).await.check_error(503, "No healthy workers available");
    execute(sized(MAX_TASK_BODY_BYTES + 1)).await.check_error(413, "The body is larger than 1000000 bytes");
    assert_eq!(site.fetch("/api/worker/status").await.json(), json!([]));
}
