//! What is logged of workers, and what is not.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::worker::{Mode, Worker};
use crate::{Site, settings};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_that_a_worker_says_is_logged_and_no_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    // For all threads, as the bridge has its own. Other tests of this process may log too.
    tracing::subscriber::set_global_default(subscriber.finish()).expect("no other test sets one");
    for mode in [
        Mode::Say(500, "evil \u{1b}[31m\nwords"),
        Mode::Say(200, "evil words"),
        Mode::Say(200, r#"{"id":"evil words"}"#),
        Mode::Say(200, r#"{"status":"failed","error":"evil words"}"#),
        Mode::Say(401, "evil words"),
        Mode::AcceptThenSay(500, "evil words"),
        Mode::Redirect("http://evil.example/words".to_owned()),
    ] {
        let worker = Worker::start(mode);
        let mut settings = settings(&[&worker]);
        settings.workers[0].secret = Some(server::config::Secret::new("hunter2"));
        let site = Site::with(settings).await;
        for user in ["ada", "bob", "cleo", "dora"] {
            let _ = site.run(user, json!("private payload")).await;
        }
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a worker gets no tasks for now") && text.contains("answered 500"), "{text}");
    for secret in ["evil", "words", "\u{1b}[31m", "hunter2", "private payload"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is in the log");
    }
}
