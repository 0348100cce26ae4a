//! How the server is: for people, for whatever keeps it running, and for whatever watches it.

use ::http::{Response, StatusCode};
use prometheus_client::encoding::text;
use serde_json::{Value, json};
use tracing::error;

use super::reply::{ApiError, Reply};
use super::{ApiParts, process, reply};
use crate::net::serve::Body;
use crate::redis::RedisHealth;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Always 200: whoever is up can tell how it is.
pub(super) fn health(parts: &ApiParts) -> Response<Body> {
    let store = parts.store.health();
    let is_store_degraded = store.last_error.is_some();
    let journal = parts.journal.as_ref().map(|journal| journal.health());
    let redis = parts.redis.as_ref().map(|redis| redis.health());
    let is_redis_away = redis.as_ref().is_some_and(|redis| !redis.connected);
    let is_degraded =
        is_store_degraded || is_redis_away || journal.as_ref().is_some_and(|journal| journal.is_degraded);
    let status = match (parts.engine.is_draining(), is_degraded) {
        (true, _) => "draining",
        (false, true) => "degraded",
        (false, false) => "healthy",
    };
    let mut storage = json!({
        "kind": "sqlite",
        "status": if is_store_degraded { "degraded" } else { "healthy" },
        "queued": store.queued,
    });
    if let Some(reason) = store.last_error {
        storage["lastError"] = json!(reason);
    }
    // Its file name alone: where the directory is does not concern whoever reads this.
    if let Some(name) = store.corrupt_moved_to.as_deref().and_then(|path| path.file_name()) {
        storage["corruptMovedTo"] = json!(name.to_string_lossy());
    }
    let is_redis_there = redis.as_ref().is_some_and(|redis| redis.connected);
    if let Some(redis) = redis {
        storage["redis"] = of_redis(redis);
    }
    reply::json(&json!({
        "status": status,
        "users": parts.engine.session_count(),
        "rooms": parts.engine.room_count(),
        "redis": is_redis_there,
        "workers": parts.workers.healthy(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": parts.started.elapsed().as_secs(),
        "cores": parts.config.cores,
        "storage": storage,
        "replay": journal.map_or_else(|| json!({"status": "off"}), |journal| journal.told),
    }))
}

fn of_redis(redis: RedisHealth) -> Value {
    let mut told = json!({
        "status": if redis.connected { "healthy" } else { "degraded" },
        "waitingRecords": redis.waiting_records,
        "waitingChanges": redis.waiting_changes,
        "spoolBytes": redis.spool_bytes,
        "dropped": redis.dropped,
        "setbacks": redis.setbacks,
    });
    if let Some(since_ms) = redis.away_since_ms {
        told["awaySince"] = json!(since_ms);
    }
    if let Some(reason) = redis.last_error {
        told["lastError"] = json!(reason);
    }
    told
}

/// The process answers, so it lives.
pub(super) fn live() -> Response<Body> {
    status("ok")
}

/// Whether new clients may be sent here.
pub(super) fn ready(parts: &ApiParts) -> Reply {
    if parts.engine.is_draining() {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The server is restarting"));
    }
    Ok(status("ready"))
}

fn status(status: &str) -> Response<Body> {
    reply::json(&Value::from_iter([("status", status)]))
}

pub(super) fn metrics(parts: &ApiParts) -> Reply {
    let mut body = String::new();
    let written = text::encode_registry(&mut body, &process::registry())
        .and_then(|()| text::encode(&mut body, &parts.registry));
    if let Err(error) = written {
        error!(%error, "the metrics cannot be written");
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written"));
    }
    Ok(reply::of_type(METRICS_TYPE, body))
}
