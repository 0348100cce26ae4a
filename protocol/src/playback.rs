//! Watching a recording: which part of it, how fast, and how far it has come.

use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::limits::{MAX_TIME_MS, PLAYBACK_SPEED_RANGE};

/// Which part of a recording is played, and how: `replay` of `join-room`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Replay {
    /// The first moment, Unix ms.
    pub from: u64,
    /// The last one; without, the last that is recorded.
    #[serde(default)]
    pub to: Option<u64>,
    /// How many seconds of it pass in a second; 1 if absent.
    #[serde(default)]
    pub speed: Option<f64>,
    /// Whether it begins again when it has ended; not if absent.
    #[serde(default, rename = "loop")]
    pub looping: Option<bool>,
}

/// What a client asks of its playback.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Control {
    /// `replay-seek`: go on from this moment, Unix ms.
    Seek(u64),
    /// `replay-pause`: stand still, or go on.
    Pause(bool),
    /// `replay-speed`: this many seconds in a second from now on.
    Speed(f64),
}

/// How a playback stands: payload of `replay-state`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReplayState {
    /// The moment that is shown, Unix ms.
    pub time: u64,
    /// The first moment.
    pub from: u64,
    /// The last moment.
    pub to: u64,
    /// How many seconds pass in a second.
    pub speed: f64,
    /// It stands still because the client wants it to.
    pub paused: bool,
    /// There is no more to show.
    pub ended: bool,
}

impl Replay {
    pub(crate) fn validate(&self) -> Result<(), ClientError> {
        check_time(self.from, "replay.from must be a time in Unix ms")?;
        if let Some(to) = self.to {
            check_time(to, "replay.to must be a time in Unix ms")?;
            if to <= self.from {
                return Err(ClientError::bad_request("replay.to must be later than replay.from"));
            }
        }
        self.speed.map_or(Ok(()), check_speed)
    }
}

impl Control {
    /// Reads the event `name`, which is one of the three.
    pub(crate) fn parse(name: &str, payload: &str) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        struct Seek {
            time: u64,
        }
        #[derive(Default, Deserialize)]
        struct Pause {
            #[serde(default)]
            paused: Option<bool>,
        }
        #[derive(Deserialize)]
        struct Speed {
            speed: f64,
        }
        Ok(match name {
            "replay-seek" => {
                const TAKES: &str = "replay-seek takes {time}, in Unix ms";
                let Seek { time } =
                    serde_json::from_str(payload).map_err(|_| ClientError::bad_request(TAKES))?;
                check_time(time, TAKES)?;
                Self::Seek(time)
            }
            "replay-pause" if payload.is_empty() => Self::Pause(true),
            "replay-pause" => {
                let pause: Option<Pause> = serde_json::from_str(payload)
                    .map_err(|_| ClientError::bad_request("replay-pause takes {[paused]}"))?;
                Self::Pause(pause.unwrap_or_default().paused.unwrap_or(true))
            }
            _ => {
                let Speed { speed } = serde_json::from_str(payload)
                    .map_err(|_| ClientError::bad_request("replay-speed takes {speed}"))?;
                check_speed(speed)?;
                Self::Speed(speed)
            }
        })
    }
}

fn check_time(time: u64, message: &'static str) -> Result<(), ClientError> {
    if time <= MAX_TIME_MS { Ok(()) } else { Err(ClientError::bad_request(message)) }
}

fn check_speed(speed: f64) -> Result<(), ClientError> {
    if PLAYBACK_SPEED_RANGE.contains(&speed) {
        return Ok(());
    }
    Err(ClientError::bad_request("speed must be 0.25 to 8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ClientEvent;

    fn control(name: &str, payload: &str) -> Control {
        match ClientEvent::parse(name, payload) {
            Ok(Some(ClientEvent::Playback(control))) => control,
            other => panic!("{name} {payload}: {other:?}"),
        }
    }

    #[test]
    fn a_join_may_be_into_the_past() {
        let replay = |payload: &str| match ClientEvent::parse("join-room", payload) {
            Ok(Some(ClientEvent::JoinRoom(join))) => join.replay,
            other => panic!("{payload}: {other:?}"),
        };
        assert_eq!(replay(r#"{"roomId":"a","replay":null}"#), None);
        let all = Replay { from: 5, to: None, speed: None, looping: None };
        assert_eq!(replay(r#"{"roomId":"a","replay":{"from":5,"later":1}}"#), Some(all));
        let part = Replay { from: 5, to: Some(6), speed: Some(0.25), looping: Some(true) };
        assert_eq!(
            replay(r#"{"roomId":"a","replay":{"from":5,"to":6,"speed":0.25,"loop":true}}"#),
            Some(part)
        );
    }

    #[test]
    fn what_is_no_part_of_a_recording_is_refused() {
        for replay in [
            "7",
            "{}",
            r#"{"from":-1}"#,
            r#"{"from":1.5}"#,
            r#"{"from":"1"}"#,
            r#"{"from":9007199254740992}"#,
            r#"{"from":5,"to":5}"#,
            r#"{"from":5,"to":4}"#,
            r#"{"from":5,"to":9007199254740992}"#,
            r#"{"from":5,"speed":0.24}"#,
            r#"{"from":5,"speed":8.1}"#,
            r#"{"from":5,"speed":-1}"#,
            r#"{"from":5,"speed":"1"}"#,
            r#"{"from":5,"loop":1}"#,
        ] {
            let payload = format!(r#"{{"roomId":"a","replay":{replay}}}"#);
            let error = ClientEvent::parse("join-room", &payload).expect_err(replay);
            assert_eq!(error.code, crate::error::ErrorCode::BadRequest, "{replay}");
        }
    }

    #[test]
    fn a_playback_is_told_what_to_do() {
        assert_eq!(control("replay-seek", r#"{"time":12}"#), Control::Seek(12));
        for payload in ["", "null", "{}", r#"{"paused":null}"#, r#"{"paused":true}"#] {
            assert_eq!(control("replay-pause", payload), Control::Pause(true), "{payload}");
        }
        assert_eq!(control("replay-pause", r#"{"paused":false}"#), Control::Pause(false));
        assert_eq!(control("replay-speed", r#"{"speed":8}"#), Control::Speed(8.0));
        for (name, payload) in [
            ("replay-seek", ""),
            ("replay-seek", "{}"),
            ("replay-seek", r#"{"time":-1}"#),
            ("replay-seek", r#"{"time":9007199254740992}"#),
            ("replay-pause", "1"),
            ("replay-pause", r#"{"paused":1}"#),
            ("replay-speed", ""),
            ("replay-speed", r#"{"speed":0}"#),
            ("replay-speed", r#"{"speed":1e999}"#),
        ] {
            let error = ClientEvent::parse(name, payload).expect_err(payload);
            assert_eq!(error.code, crate::error::ErrorCode::BadRequest, "{name} {payload}");
        }
    }

    #[test]
    fn how_it_stands_is_told_in_the_contracts_words() {
        let state = ReplayState { time: 7, from: 5, to: 9, speed: 0.5, paused: true, ended: false };
        let json = r#"{"time":7,"from":5,"to":9,"speed":0.5,"paused":true,"ended":false}"#;
        assert_eq!(serde_json::to_string(&state).unwrap(), json);
        let whole = serde_json::to_string(&ReplayState { speed: 8.0, ..state }).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&whole).unwrap()["speed"], 8.0);
    }
}
