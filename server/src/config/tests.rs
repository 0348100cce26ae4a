use std::path::Path;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn load(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_sources(arguments.iter().map(OsString::from), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    })
}

/// `variables` are refused with one line that holds `part`.
fn refused(variables: &[(&str, &str)], part: &str) {
    match load(&[], variables) {
        Err(ConfigError::Invalid(line)) => {
            assert!(line.contains(part) && !line.contains('\n'), "{variables:?}: {line}");
        }
        other => panic!("{variables:?}: {other:?}"),
    }
}

#[test]
fn nothing_given_takes_the_defaults() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.address.to_string(), "0.0.0.0:3001");
    assert_eq!(config.environment, Environment::Development);
    assert!(config.jwt_secret_is_random && config.jwt_secret.expose().len() >= MIN_SECRET_BYTES);
    assert_ne!(config.jwt_secret, load(&[], &[]).unwrap().jwt_secret, "it is made anew at each start");
    assert_eq!((config.tick_hz, config.max_users_per_room), (TickRate::Fixed(20), 10_000));
    assert_eq!((config.ping_interval_ms, config.ping_timeout_ms), (25_000, 20_000));
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!((config.replay_hz, config.replay_ttl_hours, config.replay_max_bytes), (10, 24, 8 << 30));
    assert!(config.cores >= 1 && config.redis.is_none());
    assert!(config.notes.iter().all(|note| note.starts_with("JWT_SECRET")), "{:?}", config.notes);
}

#[test]
fn an_argument_wins_over_a_variable() {
    let variables = [("PORT", "4000"), ("HOST", "127.0.0.1"), ("JWT_SECRET", SECRET)];
    assert_eq!(load(&[], &variables).unwrap().address.to_string(), "127.0.0.1:4000");
    let config = load(&["--port", "5000"], &variables).unwrap();
    assert_eq!(config.address.to_string(), "127.0.0.1:5000");
    assert_eq!(config.jwt_secret.expose(), SECRET);
    assert!(!config.jwt_secret_is_random);
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let empty = ["PORT", "JWT_SECRET", "REDIS_URL", "NODE_ENV", "CORES", "WEB_DIR", "LOG", "CORS_ORIGIN"];
    let config = load(&[], &empty.map(|name| (name, ""))).unwrap();
    assert_eq!(config.address.port(), 3001);
    assert!(config.jwt_secret_is_random && config.redis.is_none());
}

#[test]
fn wrong_settings_are_refused_in_one_line() {
    refused(&[("PORT", "65536")], "--port");
    refused(&[("PORT", "http")], "--port");
    refused(&[("HOST", "nowhere")], "--host");
    refused(&[("CORES", "0")], "CORES must be 1 to");
    for hz in ["0", "91", "-1", "20.5", "fast", "Auto", "2\n0"] {
        let line = format!(r#"TICK_HZ must be 1 to 90 or "auto", not {}"#, hz.escape_debug());
        refused(&[("TICK_HZ", hz)], &line);
    }
    refused(&[("REPLAY_HZ", "31")], "REPLAY_HZ must be 0 to 30");
    refused(&[("REPLAY_TTL_HOURS", "8785")], "REPLAY_TTL_HOURS must be 0 to 8784");
    refused(&[("REPLAY_MAX_BYTES", "1000000")], "REPLAY_MAX_BYTES must be 1048576 to");
    for bytes in ["much", "GiB", "-1", "8 gibi", "1.5GiB", "99999999999999999999", "16777216TiB"] {
        refused(&[("REPLAY_MAX_BYTES", bytes)], "must be a number of bytes such as 500MB or 8GiB");
    }
    refused(&[("MAX_USERS_PER_ROOM", "60001")], "MAX_USERS_PER_ROOM must be 1 to 60000");
    refused(&[("DRAIN_MS", "3600001")], "DRAIN_MS");
    refused(&[("PING_INTERVAL_MS", "0")], "PING_INTERVAL_MS");
    refused(&[("PING_TIMEOUT_MS", "0")], "PING_TIMEOUT_MS");
    refused(&[("MAX_CONNECTIONS", "0")], "MAX_CONNECTIONS");
    refused(&[("WEB_DIR", "/nowhere/at/all")], "holds no index.html");
    refused(&[("LOG", "server=loud")], "LOG");
    for origin in ["example.com", "https://example.com/path", "ftp://example.com", "a b"] {
        refused(&[("CORS_ORIGIN", origin)], "CORS_ORIGIN");
    }
    for origin in ["*", "https://example.com", "http://localhost:8080"] {
        assert_eq!(load(&[], &[("CORS_ORIGIN", origin)]).unwrap().cors_origin, origin);
    }
    assert!(matches!(load(&["--nonsense"], &[]), Err(ConfigError::Invalid(_))));
}

#[test]
fn a_tick_rate_is_a_number_or_auto() {
    for (text, rate) in [("1", TickRate::Fixed(1)), ("90", TickRate::Fixed(90)), ("auto", TickRate::Auto)] {
        assert_eq!(load(&[], &[("TICK_HZ", text)]).unwrap().tick_hz, rate);
        assert_eq!(load(&["--tick-hz", text], &[]).unwrap().tick_hz, rate);
    }
}

#[test]
fn a_number_of_bytes_may_have_a_unit() {
    for (text, bytes) in [
        ("2000000", 2_000_000),
        ("2000000B", 2_000_000),
        ("500MB", 500_000_000),
        ("5000kb", 5_000_000),
        ("2 GiB", 2 << 30),
        ("1tib", 1 << 40),
    ] {
        assert_eq!(load(&[], &[("REPLAY_MAX_BYTES", text)]).unwrap().replay_max_bytes, bytes, "{text}");
    }
}

#[test]
fn secrets_are_checked_and_not_shown() {
    refused(&[("NODE_ENV", "production")], "JWT_SECRET must be set");
    refused(&[("JWT_SECRET", &SECRET[1..])], "at least 32 bytes");
    for url in ["localhost", "http://localhost", "redis://", "hunter2"] {
        refused(&[("REDIS_URL", url)], "REDIS_URL must be");
        let line = load(&[], &[("REDIS_URL", url)]).unwrap_err().to_string();
        assert!(!line.contains("hunter2"));
    }
    let url = "rediss://me:hunter2@localhost:6379/0";
    let variables = [("NODE_ENV", "production"), ("JWT_SECRET", SECRET), ("REDIS_URL", url)];
    let config = load(&[], &variables).unwrap();
    assert_eq!(config.environment, Environment::Production);
    assert!(config.redis.is_some() && config.notes.is_empty());
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn the_authorities_for_redis_are_read() {
    let url = ("REDIS_URL", "rediss://localhost");
    refused(&[url, ("REDIS_CA_FILE", "nowhere/ca.pem")], "REDIS_CA_FILE nowhere/ca.pem");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----").unwrap();
    let path = path.to_str().unwrap();
    assert!(load(&[], &[url, ("REDIS_CA_FILE", path)]).unwrap().redis.is_some());
}

#[test]
fn an_unknown_environment_is_noted() {
    let config = load(&[], &[("NODE_ENV", "staging"), ("JWT_SECRET", SECRET)]).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert!(config.notes[0].contains("staging"));
    assert_eq!(load(&[], &[("NODE_ENV", "test")]).unwrap().environment, Environment::Test);
}

#[test]
fn a_built_page_is_taken_from_where_it_is_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("index.html"), "<p>").unwrap();
    let config = load(&["--web-dir", directory.path().to_str().unwrap()], &[]).unwrap();
    assert_eq!(config.web_dir.as_deref(), Some(directory.path()));
}

#[test]
fn help_lists_every_setting_with_its_variable_and_default() {
    let Err(ConfigError::Answer(help)) = load(&["--help"], &[("JWT_SECRET", SECRET)]) else { panic!() };
    assert!(help.starts_with("The multiplayer server for WebXR\n"), "{help}");
    for argument in command().get_arguments() {
        assert!(help.contains(&format!("[env: {}]", variable(argument))), "{help}");
        let default = argument.get_default_values().first().and_then(|value| value.to_str());
        assert!(help.contains(&format!("[default: {}", default.unwrap_or_default())), "{help}");
    }
    assert_eq!(help.matches("[env: ").count(), 31);
    assert!(!help.contains(SECRET));
    let Err(ConfigError::Answer(version)) = load(&["--version"], &[]) else { panic!() };
    assert!(version.starts_with("copresence "));
}

fn invoke(arguments: &[&str], variables: &[(&str, &str)]) -> Result<ReplayCommand, ConfigError> {
    let invocation = Invocation::from_sources(arguments.iter().map(OsString::from), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    });
    match invocation? {
        Invocation::Replay(command) => Ok(command),
        Invocation::Serve(_) => panic!("{arguments:?} serves"),
    }
}

#[test]
fn a_recording_is_exported_and_imported() {
    let command =
        invoke(&["replay", "export", "--room", "a b", "--from", "5", "--to=1970-01-01T00:00:01Z", "-"], &[]);
    let command = command.unwrap();
    assert!(command.data_dir.as_path() == Path::new("./data") && command.redis.is_none());
    let (room, file) = ("a b".to_owned(), PathBuf::from("-"));
    let export = ReplayAction::Export { room, from: Some(5), to: Some(1_000), force: false, file };
    assert_eq!(command.action, export);
    let import = invoke(&["replay", "import", "--force", "a.rec", "--room=b"], &[]).unwrap().action;
    assert_eq!(import, ReplayAction::Import { room: Some("b".into()), force: true, file: "a.rec".into() });
}

#[test]
fn commands_share_the_servers_settings_where_they_need_them() {
    // A server with these would not come up. What has to do with no token needs no secret.
    let variables = [("NODE_ENV", "production"), ("DATA_DIR", "/a"), ("REDIS_URL", "redis://localhost")];
    let import = ["replay", "import", "a.rec"];
    let command = invoke(&import, &variables).unwrap();
    assert_eq!(command.data_dir, PathBuf::from("/a"));
    assert!(command.redis.is_some());
    for arguments in
        [["--data-dir", "/b", "replay", "import", "a.rec"], ["replay", "import", "--data-dir", "/b", "a.rec"]]
    {
        assert_eq!(invoke(&arguments, &variables).unwrap().data_dir, PathBuf::from("/b"));
    }
    let refused = |arguments: &[&str], variables, part: &str| match invoke(arguments, variables) {
        Err(ConfigError::Invalid(line)) => assert!(line.contains(part), "{arguments:?}: {line}"),
        other => panic!("{arguments:?}: {other:?}"),
    };
    refused(&import, &[("REDIS_URL", "hunter2")], "REDIS_URL must be of the form");
    refused(&["replay"], &[], "subcommand");
    refused(&["replay", "export", "a.rec"], &[], "--room");
    refused(&["replay", "export", "--room", "a", "--from", "noon", "-"], &[], "Unix milliseconds");
    let Err(ConfigError::Answer(help)) = invoke(&["replay", "export", "--help"], &[]) else { panic!() };
    assert!(
        help.contains("--data-dir") && help.contains("[env: DATA_DIR]") && help.contains("--room"),
        "{help}"
    );
    let Err(ConfigError::Answer(help)) = load(&["--help"], &[]) else { panic!() };
    assert!(help.contains("Commands:\n  replay  "), "{help}");
}
