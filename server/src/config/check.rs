//! What makes given settings valid.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine::TickRate;
use engine::options::TICK_RATE_RULE;
use http::{HeaderValue, Uri};
use tracing_subscriber::EnvFilter;

use super::{Config, ConfigError, Environment, Given, Secret, workers};
use crate::redis::{Nodes, URL_RULE};

/// Bytes of the shortest secret that is taken: as many as the signature's digest has.
pub const MIN_SECRET_BYTES: usize = 32;

/// The most users that any room may be made for: a slot is 16 bits wide, and some values have a meaning.
pub const MAX_USERS_PER_ROOM_LIMIT: usize = 60_000;

/// The most cores that are used. More threads than any machine has are a mistake in the setting.
pub const MAX_CORES: usize = 1_024;

/// The longest time that may be set anywhere, in milliseconds: an hour.
const MAX_TIME_MS: u64 = 3_600_000;

/// The most samples of a pose that are recorded per second.
pub const MAX_REPLAY_HZ: u32 = 30;

/// The most hours that replay is kept for: a year. There is a file for each.
pub const MAX_REPLAY_TTL_HOURS: u64 = 8_784;

/// The least that replay may be held to. An empty hour takes a few pages.
pub const MIN_REPLAY_BYTES: u64 = 1024 * 1024;

/// Where a built page is looked for, seen from the working directory and from above the program.
const PAGE: &str = "web/dist";

/// The configuration that `given` makes.
pub(super) fn accept(given: Given) -> Result<Config, ConfigError> {
    let mut notes = Vec::new();
    let environment = environment(&given.node_env, &mut notes);
    let (jwt_secret, jwt_secret_is_random) = jwt_secret(given.jwt_secret, environment)?;
    if jwt_secret_is_random {
        notes.push("JWT_SECRET is not set: it is random, and no token outlives this process".into());
    }
    let redis = redis(given.redis_url, given.redis_ca_file)?;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = given.cores.unwrap_or(available.min(MAX_CORES));
    if cores > available {
        notes.push(format!("CORES is {cores}, but this process may run on {available}"));
    }
    in_range("CORES", cores as u64, 1, MAX_CORES as u64)?;
    let tick_hz = tick_hz(&given.tick_hz)?;
    in_range("MAX_USERS_PER_ROOM", given.max_users_per_room as u64, 1, MAX_USERS_PER_ROOM_LIMIT as u64)?;
    in_range("DRAIN_MS", given.drain_ms, 0, MAX_TIME_MS)?;
    in_range("RECONNECT_SPREAD_MS", given.reconnect_spread_ms, 0, MAX_TIME_MS)?;
    in_range("MAX_CONNECTIONS", given.max_connections as u64, 1, 10_000_000)?;
    in_range("PING_INTERVAL_MS", given.ping_interval_ms, 1, MAX_TIME_MS)?;
    in_range("PING_TIMEOUT_MS", given.ping_timeout_ms, 1, MAX_TIME_MS)?;
    in_range("REPLAY_HZ", given.replay_hz.into(), 0, MAX_REPLAY_HZ.into())?;
    in_range("REPLAY_TTL_HOURS", given.replay_ttl_hours, 0, MAX_REPLAY_TTL_HOURS)?;
    let replay_max_bytes = bytes("REPLAY_MAX_BYTES", &given.replay_max_bytes)?;
    in_range("REPLAY_MAX_BYTES", replay_max_bytes, MIN_REPLAY_BYTES, i64::MAX.unsigned_abs())?;
    cors_origin(&given.cors_origin)?;
    if let Err(error) = EnvFilter::builder().parse(&given.log) {
        return invalid(format!("LOG is no filter: {error}"));
    }
    let workers = workers::accept(given.workers, &mut notes)?;
    Ok(Config {
        address: SocketAddr::new(given.host, given.port),
        jwt_secret,
        jwt_secret_is_random,
        redis,
        environment,
        cores,
        tick_hz,
        max_users_per_room: given.max_users_per_room,
        data_dir: given.data_dir,
        replay_hz: given.replay_hz,
        replay_ttl_hours: given.replay_ttl_hours,
        replay_max_bytes,
        drain_ms: given.drain_ms,
        reconnect_spread_ms: given.reconnect_spread_ms,
        cors_origin: given.cors_origin,
        web_dir: web_dir(given.web_dir)?,
        log: given.log,
        max_connections: given.max_connections,
        ping_interval_ms: given.ping_interval_ms,
        ping_timeout_ms: given.ping_timeout_ms,
        workers,
        notes,
    })
}

pub(super) fn invalid<T>(line: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid(line.into()))
}

pub(super) fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    invalid(format!("{name} must be {least} to {most}, not {value}"))
}

/// A number of bytes, with or without a unit.
fn bytes(name: &str, text: &str) -> Result<u64, ConfigError> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(known, _)| *known == unit).map(|(_, factor)| *factor);
    let number = digits.parse::<u64>().ok();
    match number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => invalid(format!(
            "{name} must be a number of bytes such as 500MB or 8GiB, not {}",
            text.escape_debug()
        )),
    }
}

fn tick_hz(text: &str) -> Result<TickRate, ConfigError> {
    TickRate::parse(text)
        .or_else(|_| invalid(format!("TICK_HZ must be {TICK_RATE_RULE}, not {}", text.escape_debug())))
}

fn environment(name: &str, notes: &mut Vec<String>) -> Environment {
    match name {
        "development" => Environment::Development,
        "production" => Environment::Production,
        "test" => Environment::Test,
        other => {
            notes.push(format!("NODE_ENV {other:?} is not known and counts as development"));
            Environment::Development
        }
    }
}

fn jwt_secret(given: Option<String>, environment: Environment) -> Result<(Secret, bool), ConfigError> {
    match given {
        Some(text) if text.len() < MIN_SECRET_BYTES => invalid(format!(
            "JWT_SECRET must have at least {MIN_SECRET_BYTES} bytes, not {}: whoever guesses it can be anybody",
            text.len()
        )),
        Some(text) => Ok((Secret::new(text), false)),
        None if environment == Environment::Production => {
            invalid("JWT_SECRET must be set when NODE_ENV is production")
        }
        None => {
            let random: [u8; 32] = rand::random();
            let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok((Secret::new(text), true))
        }
    }
}

/// The text of the URL is never part of the message: it may hold a password.
pub(super) fn redis(url: Option<String>, authorities: Option<PathBuf>) -> Result<Option<Nodes>, ConfigError> {
    let Some(url) = url else { return Ok(None) };
    let Ok(nodes) = Nodes::parse(&url) else {
        return invalid(format!("REDIS_URL must be of the form {URL_RULE}"));
    };
    let Some(path) = authorities else { return Ok(Some(nodes)) };
    match std::fs::read(&path) {
        Ok(pem) => Ok(Some(nodes.with_authorities(Some(pem)))),
        Err(error) => invalid(format!("REDIS_CA_FILE {}: {error}", path.display())),
    }
}

fn cors_origin(text: &str) -> Result<(), ConfigError> {
    if text == "*" {
        return Ok(());
    }
    let uri = text.parse::<Uri>().ok();
    let is_origin = uri.as_ref().is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| text.ends_with(authority.as_str()))
    });
    if !is_origin || HeaderValue::from_str(text).is_err() {
        return invalid("CORS_ORIGIN must be * or one origin such as https://example.com");
    }
    Ok(())
}

fn web_dir(given: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    let holds_page = |directory: &Path| directory.join("index.html").is_file();
    if let Some(directory) = given {
        if !holds_page(&directory) {
            return invalid(format!("WEB_DIR {} holds no index.html", directory.display()));
        }
        return Ok(Some(directory));
    }
    let program = std::env::current_exe().unwrap_or_default();
    let above = program.ancestors().skip(1).map(|directory| directory.join(PAGE));
    Ok(std::iter::once(PathBuf::from(PAGE)).chain(above).find(|directory| holds_page(directory)))
}
