use std::sync::atomic::AtomicUsize;

use prometheus_client::registry::Registry;
use replay::PoseSamples;
use tracing::{Event as LogEvent, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;

/// Counts lines of the log, and those that were written while something was locked.
struct Log {
    lanes: Arc<Lanes>,
    lines: Arc<[AtomicUsize; 2]>,
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, _: &LogEvent<'_>, _: Context<'_, S>) {
        let is_locked = self.lanes.state.try_lock().is_err() || self.lanes.problem.try_lock().is_err();
        self.lines[0].fetch_add(1, Ordering::Relaxed);
        self.lines[1].fetch_add(usize::from(is_locked), Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_locked_while_a_line_of_the_log_is_written() {
    let lanes = Arc::new(Lanes::new(10, Counts::new(&mut Registry::default())));
    let lines = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let log = Log { lanes: lanes.clone(), lines: lines.clone() };
    let count = || lines.each_ref().map(|count| count.load(Ordering::Relaxed));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
        lanes.is_backend_behind.store(true, Ordering::Relaxed);
        let poses = Record { at_ms: 1_000, content: Content::Poses(PoseSamples::default()) };
        lanes.push(&"room".into(), poses, None).unwrap();
        assert_eq!(count(), [1, 0], "fewer poses");
        lanes.note_time(5_000);
        assert_eq!(count(), [2, 0], "fewer still");
        for problem in [Some("the disk is full"), Some("the disk is full"), None] {
            lanes.note_problem(problem.map(str::to_owned));
        }
        assert_eq!(count(), [4, 0], "a problem that begins and ends");
        lanes.end();
        assert_eq!(count(), [5, 0], "one record is lost");
    });
}
