//! What Copresence does with the events of its clients: who is let in, and what goes to the engine.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use engine::allowance::Verdict;
use engine::room::ok_packet;
use engine::{Engine, Session, User};
use percent_encoding::percent_decode_str;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use protocol::error::ClientError;
use protocol::event::UPDATE_POSITION;
use protocol::packet::Event;
use protocol::{ClientEvent, Pose};
use serde::{Deserialize, Serialize};

use crate::auth::Auth;
use crate::passwords::TooManyTries;
use crate::replay::playback::Playbacks;
use crate::transport::Link;
use crate::transport::connection::{Accepted, Application, ConnectionError, Refused};
use crate::workers::{SocketTasks, Workers};

/// How every `update-position` of the namespace `/` without an ack begins.
const POSE_PREFIX: &str = "2[\"update-position\",";

/// An `update-position` of the namespace `/` without an ack, whose pose follows as an attachment.
const ENCODED_POSE: &str = r#"51-["update-position",{"_placeholder":true,"num":0}]"#;

/// Characters of a Socket.IO session's id: 120 random bits.
const SOCKET_ID_CHARS: usize = 20;

/// The application behind every connection.
pub struct App {
    engine: Engine,
    auth: Arc<Auth>,
    /// Where clients watch recordings, if there are any.
    playbacks: Option<Arc<Playbacks>>,
    tasks: SocketTasks,
    unknown_events: Counter,
    broken_connections: Counter,
}

impl App {
    /// Joins clients to `engine`, once `auth` has let them in; their tasks go to `workers`.
    pub fn new(engine: Engine, auth: Arc<Auth>, workers: Workers, registry: &mut Registry) -> Self {
        let (unknown_events, broken_connections) = (Counter::default(), Counter::default());
        registry.register("unknown_events", "Events that the contract does not know", unknown_events.clone());
        registry.register(
            "broken_connections",
            "Connections closed because the client broke the protocol",
            broken_connections.clone(),
        );
        let tasks = SocketTasks::new(workers);
        Self { engine, auth, playbacks: None, tasks, unknown_events, broken_connections }
    }

    /// The same with recordings to be watched.
    #[must_use]
    pub fn with_playbacks(self, playbacks: Arc<Playbacks>) -> Self {
        Self { playbacks: Some(playbacks), ..self }
    }

    fn pose_attachments(session: &Arc<Session>, attachments: &[Bytes], ack: Option<u64>) {
        match attachments {
            [attachment] => take_encoded_pose(session, attachment, ack),
            several => {
                let bytes = several.iter().map(Bytes::len).sum();
                let error = ClientError::bad_request("update-position takes one attachment");
                refuse_pose(session, bytes, ack, &error);
            }
        }
    }

    /// Counts the password that comes with a join. Whether it opens the room is for the room to say.
    fn try_password(&self, session: &Session, event: &ClientEvent<'_>) -> Result<(), TooManyTries> {
        let ClientEvent::JoinRoom(join) = event else { return Ok(()) };
        // Most joins bring none, and need no look into the directory for it.
        let Some(given) = join.password.as_deref() else { return Ok(()) };
        let Some(room) = self.engine.room(&join.room_id) else { return Ok(()) };
        self.auth.passwords().check(&room, &session.user().id, Some(given), self.engine.now()).map(drop)
    }

    fn time_sync(&self, session: &Arc<Session>, ack: Option<u64>) {
        #[derive(Serialize)]
        struct Answer {
            time: u64,
        }
        if let Some(packet) = ok_packet(ack, Answer { time: self.engine.now().as_millis() }) {
            session.send(&packet);
        }
    }
}

impl Application for App {
    type Session = Arc<Session>;

    fn pay(&self, link: &Link, bytes: usize) -> Verdict {
        link.allowance.spend(bytes, self.engine.now())
    }

    fn connect(
        &self,
        namespace: &str,
        auth: Option<&str>,
        link: &Link,
    ) -> Result<Accepted<Arc<Session>>, Refused> {
        if namespace != "/" {
            return Err(Refused("Invalid namespace".to_owned()));
        }
        let token = token(auth, &link.query).ok_or_else(|| Refused("Authentication required".to_owned()))?;
        let now_s = self.engine.now().as_millis() / 1000;
        let claims = self.auth.verify(&token, now_s).map_err(|_| Refused("Invalid token".to_owned()))?;
        let sid = socket_id();
        let user = User {
            id: claims.user_id.as_str().into(),
            socket_id: sid.as_str().into(),
            username: claims.username.as_str().into(),
        };
        let session = self.engine.open_session(user, link.outbox.clone(), link.core, link.allowance.clone());
        Ok(Accepted { session, sid })
    }

    fn connected(&self, session: &Arc<Arc<Session>>) {
        // Its connection was there before the drain began, but it was not when all were told.
        if let Some(packet) = self.engine.restart_notice() {
            session.send(&packet);
        }
    }

    #[inline]
    fn shortcut(&self, session: &Arc<Arc<Session>>, text: &str) -> bool {
        let pose = text
            .strip_prefix(POSE_PREFIX)
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|payload| Pose::from_json(payload).ok());
        match pose {
            Some(pose) => {
                session.update_pose(&pose);
                true
            }
            // What is no pose is told so on the usual way.
            None => false,
        }
    }

    #[inline]
    fn announces(&self, text: &str) -> bool {
        text == ENCODED_POSE
    }

    #[inline]
    fn attachment(&self, session: &Arc<Arc<Session>>, attachment: &[u8]) {
        take_encoded_pose(session, attachment, None);
    }

    fn event(
        &self,
        session: &Arc<Arc<Session>>,
        event: &Event<'_>,
        attachments: Vec<Bytes>,
        ack: Option<u64>,
    ) {
        let is_pose = event.name == UPDATE_POSITION;
        // Unknown events are only counted, and poses without an answer are held back by their newest alone.
        if !ClientEvent::is_known(&event.name) {
            self.unknown_events.inc();
            return;
        }
        let bytes = event.args.len() + attachments.iter().map(Bytes::len).sum::<usize>();
        if (!is_pose || ack.is_some()) && !session.pay(bytes, ack) {
            return;
        }
        if is_pose && !attachments.is_empty() {
            return Self::pose_attachments(session, &attachments, ack);
        }
        match ClientEvent::parse(&event.name, event.first_raw()) {
            Ok(Some(ClientEvent::UpdatePosition(pose))) => take_pose(session, &pose, ack),
            Ok(Some(ClientEvent::TimeSync)) => self.time_sync(session, ack),
            Ok(Some(ClientEvent::WorkerTask(task))) => {
                self.tasks.start(session, &task, ack, self.engine.is_draining());
            }
            Ok(Some(event)) if let Err(error) = self.try_password(session, &event) => {
                session.refuse(ack, &error.into());
            }
            Ok(Some(event)) => match (event, &self.playbacks) {
                (ClientEvent::JoinRoom(join), Some(playbacks))
                    if join.replay.is_some() && attachments.is_empty() =>
                {
                    playbacks.join(session, &join, ack);
                }
                (ClientEvent::Playback(control), Some(playbacks)) if attachments.is_empty() => {
                    playbacks.control(session, control, ack);
                }
                (event, _) => session.handle(event, attachments, ack),
            },
            Ok(None) => {}
            Err(error) if is_pose => refuse_pose(session, bytes, ack, &error),
            Err(error) => session.refuse(ack, &error),
        }
    }

    fn disconnected(&self, session: &Arc<Arc<Session>>) {
        session.closed();
        self.tasks.give_up(session.id());
    }

    fn broken(&self, error: &ConnectionError) {
        self.broken_connections.inc();
        tracing::debug!(%error, "a connection is closed because its client broke the protocol");
    }
}

fn take_encoded_pose(session: &Arc<Session>, bytes: &[u8], ack: Option<u64>) {
    let pose = protocol::frame::decode_pose(bytes)
        .map_err(|_| ClientError::bad_request("the attachment is no pose"))
        .and_then(|pose| pose.validate().map(|()| pose));
    match pose {
        Ok(pose) => take_pose(session, &pose, ack),
        Err(error) => refuse_pose(session, bytes.len(), ack, &error),
    }
}

/// Refuses a pose of so many bytes. One without an ack has not been paid for yet: a good pose is free, a bad one is an
/// event like any other.
fn refuse_pose(session: &Arc<Session>, bytes: usize, ack: Option<u64>, error: &ClientError) {
    if ack.is_some() || session.pay(bytes, ack) {
        session.refuse(ack, error);
    }
}

fn take_pose(session: &Arc<Session>, pose: &Pose, ack: Option<u64>) {
    #[derive(Serialize)]
    struct Nothing {}
    let is_kept = session.update_pose(pose);
    // Who wants no answer is not told of each of them.
    if !is_kept && ack.is_some() {
        session.refuse(ack, &ClientError::not_in_room());
    } else if let Some(answer) = ok_packet(ack, Nothing {}) {
        session.send(&answer);
    }
}

/// The token from the CONNECT packet's payload, else from the query string of the connection's first request.
fn token<'a>(auth: Option<&'a str>, query: &'a str) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Credentials<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
    }
    auth.and_then(|json| serde_json::from_str::<Credentials<'a>>(json).ok())
        .map(|credentials| credentials.token)
        .or_else(|| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
            percent_decode_str(value).decode_utf8().ok()
        })
        .filter(|token| !token.is_empty())
}

fn socket_id() -> String {
    use rand::distr::{Alphanumeric, SampleString};
    Alphanumeric.sample_string(&mut rand::rng(), SOCKET_ID_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_come_in_the_packet_or_in_the_query() {
        assert_eq!(token(Some(r#"{"token":"a.b.c"}"#), "").as_deref(), Some("a.b.c"));
        assert_eq!(token(None, "EIO=4&token=a%2Eb&x=1").as_deref(), Some("a.b"));
        assert_eq!(token(Some(r#"{"token":"packet"}"#), "token=query").as_deref(), Some("packet"));
        assert_eq!(token(Some("{}"), "token=query").as_deref(), Some("query"));
        for (auth, query) in [(None, ""), (Some(r#"{"token":""}"#), ""), (Some(r#"{"token":5}"#), "EIO=4")] {
            assert_eq!(token(auth, query), None);
        }
    }
}
