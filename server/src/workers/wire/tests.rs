use super::*;

const HOST: &str = "gpu.internal";

/// An outcome in short.
fn short(progress: Result<Progress, Nonsense>) -> String {
    match progress {
        Ok(Progress::Done(result)) => format!("done {}", result.get()),
        Ok(Progress::Failed(error)) => format!("failed {error}"),
        Ok(Progress::Under(Some(id))) => format!("under {id}"),
        Ok(Progress::Under(None)) => "under".to_owned(),
        Err(Nonsense) => "nonsense".to_owned(),
    }
}

#[test]
fn a_new_task_is_named_or_done_at_once() {
    for (body, expected) in [
        (r#"{"id":"a1"}"#, "under a1"),
        (r#"{"id":17,"status":"pending"}"#, "under 17"),
        (r#" {"id":"a","status":"running","result":null}"#, "done null"),
        (r#"{"id":"a","status":"completed","result":{"b":[1.10]}}"#, r#"done {"b":[1.10]}"#),
        (r#"{"status":"completed"}"#, "done null"),
        (r#"{"result":null}"#, "done null"),
        (r#"{"result":5,"error":null}"#, "done 5"),
        (r#"{"id":"a","status":"failed","error":"no points"}"#, "failed no points"),
        (r#"{"error":{"message":"no points"}}"#, "failed no points"),
        (r#"{"status":"error"}"#, "failed The worker could not do the task"),
        ("[1,2]", "done [1,2]"),
        (r#"{"hull":[]}"#, r#"done {"hull":[]}"#),
        ("", "nonsense"),
        ("<html>", "nonsense"),
        (r#"{"id":"a""#, "nonsense"),
        (r#"{"id":"a"} {"id":"b"}"#, "nonsense"),
        (r#"{"id":"a","id":"b"}"#, "nonsense"),
    ] {
        assert_eq!(short(read_accepted(body.as_bytes(), HOST)), expected, "{body}");
    }
    assert_eq!(short(read_accepted(b"{\"id\":\"\xff\"}", HOST)), "nonsense");
}

#[test]
fn a_state_is_told_by_its_status() {
    for (body, expected) in [
        (r#"{"status":"pending"}"#, "under"),
        (r#"{"status":"running","result":null}"#, "under"),
        (r#"{"status":"queued"}"#, "under"),
        (r#"{"status":"completed","result":[]}"#, "done []"),
        (r#"{"status":"completed"}"#, "done null"),
        (r#"{"status":"failed","error":"too many"}"#, "failed too many"),
        (r#"{"result":1}"#, "done 1"),
        (r#"{"id":"a"}"#, "nonsense"),
        ("[]", "nonsense"),
        (r#"{"status":5}"#, "nonsense"),
    ] {
        assert_eq!(short(read_state(body.as_bytes(), HOST)), expected, "{body}");
    }
}

#[test]
fn an_executed_task_answers_bare_or_in_a_member() {
    for (body, expected) in [
        (r#"{"result":{"id":1}}"#, r#"done {"id":1}"#),
        (r#"{"id":"box","vertices":[]}"#, r#"done {"id":"box","vertices":[]}"#),
        (r#"{"success":false,"error":"no such task"}"#, "failed no such task"),
        ("7", "done 7"),
        ("", "nonsense"),
    ] {
        assert_eq!(short(read_executed(body.as_bytes(), HOST)), expected, "{body}");
    }
}

#[test]
fn a_worker_cannot_send_us_to_another_path() {
    for (id, expected) in [
        (r#""../health""#, "under ..%2Fhealth"),
        (r#""a/b?c#d""#, "under a%2Fb%3Fc%23d"),
        (r#""%2e%2e""#, "under %252e%252e"),
        (r#""a\r\nHost: b""#, "under a%0D%0AHost%3A%20b"),
        (r#""ü""#, "under %C3%BC"),
        (r#""..""#, "nonsense"),
        (r#"".""#, "nonsense"),
        (r#""""#, "nonsense"),
        ("null", "nonsense"),
        ("true", "nonsense"),
        (r#"["a"]"#, "nonsense"),
    ] {
        let body = format!(r#"{{"id":{id}}}"#);
        assert_eq!(short(read_accepted(body.as_bytes(), HOST)), expected, "{id}");
    }
    let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(MAX_REMOTE_ID_BYTES + 1));
    assert_eq!(short(read_accepted(long.as_bytes(), HOST)), "nonsense");
}

#[test]
fn a_result_has_a_size_and_a_depth() {
    let string = |bytes: usize| format!(r#"{{"result":"{}"}}"#, "a".repeat(bytes - 2));
    let whole = short(read_accepted(string(MAX_RESULT_BYTES).as_bytes(), HOST));
    assert_eq!(whole.len(), MAX_RESULT_BYTES + "done ".len());
    let larger = short(read_accepted(string(MAX_RESULT_BYTES + 1).as_bytes(), HOST));
    assert_eq!(larger, "failed The result is larger than 1 MiB");
    let nested = |depth: usize| format!(r#"{{"result":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(short(read_accepted(nested(MAX_RESULT_DEPTH).as_bytes(), HOST)).starts_with("done [["));
    assert_eq!(short(read_accepted(nested(MAX_RESULT_DEPTH + 1).as_bytes(), HOST)), "nonsense");
    assert_eq!(short(read_accepted(nested(500_000).as_bytes(), HOST)), "nonsense");
}

#[test]
fn reasons_are_short_plain_and_tell_nothing_of_the_worker() {
    for (error, expected) in [
        (r#""points required""#, "points required"),
        (r#""a 3/4 turn, x/y only""#, "a 3/4 turn, x/y only"),
        (r#""ENOENT: no such file '/app/src/hull.js'""#, "ENOENT: no such file …"),
        (r#""Error: bad\n    at run (/app/a.js:1:2)""#, "Error: bad"),
        (r#""connect ECONNREFUSED 10.0.0.3:5432""#, "connect ECONNREFUSED …"),
        (r#""no answer, host=10.0.0.3:5432; at 12:30""#, "no answer, … at 12:30"),
        (r#""db(fe80::1:2): refused, 1.5.2""#, "… refused, 1.5.2"),
        (r#""see http://db.internal/x for more""#, "see … for more"),
        (r#""gpu.internal is out of memory""#, "… is out of memory"),
        (r#""C:\\worker\\a.dll is missing""#, "… is missing"),
        (r#""\u001b[31mred\u0000\u0007""#, "[31mred"),
        (r#""  ""#, NO_REASON),
        (r#"{"message":"no","stack":"at /app"}"#, "no"),
        (r#"{"code":5}"#, NO_REASON),
        ("5", NO_REASON),
        ("null", NO_REASON),
    ] {
        let body = format!(r#"{{"status":"failed","error":{error}}}"#);
        assert_eq!(short(read_state(body.as_bytes(), HOST)), format!("failed {expected}"), "{error}");
    }
    let long = format!(r#"{{"error":"{}"}}"#, "ü ".repeat(5_000));
    let Some(TaskError::Failed(reason)) = read_refusal(long.as_bytes(), HOST) else { panic!() };
    assert_eq!(reason.chars().count(), MAX_REASON_CHARS + 1);
    assert_eq!(read_refusal(b"<html>", HOST), None);
}

#[test]
fn what_is_asked_goes_out_as_the_worker_knows_it() {
    let payload: &RawValue = serde_json::from_str(r#"{"x": 1.10}"#).unwrap();
    let task = Task::new("ada", "a\"b", Some(payload)).unwrap();
    assert_eq!(task_body(&task), br#"{"type":"a\"b","payload":{"x": 1.10}}"#);
    assert_eq!(execute_body(&task), br#"{"task":"a\"b","data":{"x": 1.10}}"#);
    let bare = Task::new("ada", "a", None).unwrap();
    assert_eq!(task_body(&bare), br#"{"type":"a","payload":null}"#);
}
