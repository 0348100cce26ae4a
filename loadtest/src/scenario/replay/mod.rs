//! Replay: a recording is done again by bots, a session for each session of then, while somebody watches. The watcher
//! must see everybody come and go, and each where the recording left it.

mod recording;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::recording::{Deed, Entry, Recording};
use super::entrance::Entrance;
use super::ledger::{Ledger, ScenarioReport, until};
use super::on_this_thread;
use super::view::{News, View};
use crate::client::{Client, Incoming, first, granted};
use crate::live::Live;
use crate::options::{ReplayOptions, SceneOptions};
use crate::process::allow_connections;

/// Deeds that wait for one bot. Full: the bot is stuck, and all wait for it.
const DEEDS: usize = 1_024;
/// Poses of one bot that have not arrived yet, of which is known when they were due.
const POSES: usize = 4_096;
/// How far a place may be off and be the same, in metres: servers pass on float32.
const SAME_M: f64 = 0.002;
/// How often is looked whether all has arrived.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

type Place = [f64; 3];

/// A bot, as its driver and the watcher know it.
#[derive(Debug, Default)]
struct Bot {
    session: RefCell<String>,
    /// Poses that were sent and have not been seen, with when they were due.
    sent: RefCell<VecDeque<(Place, Instant)>>,
    last_sent: Cell<Option<Place>>,
    last_seen: Cell<Option<Place>>,
    /// Deeds that have not been done or answered.
    open: Cell<usize>,
}

#[derive(Debug)]
struct World {
    ledger: RefCell<Ledger>,
    bots: Vec<Bot>,
    room: String,
}

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &ReplayOptions, live: &Live) -> Result<ScenarioReport> {
    on_this_thread(play(options, live))
}

async fn play(options: &ReplayOptions, live: &Live) -> Result<ScenarioReport> {
    let scene = &options.scene;
    let as_scene = SceneOptions {
        url: scene.url.clone(),
        users: 2,
        transport: scene.transport,
        auth: scene.auth,
        seed: 0,
        patience: scene.patience,
        output: scene.output.clone(),
    };
    let entrance = Entrance::new(&as_scene, "replay")?;
    let recording = read(options, &entrance).await?;
    ensure!(!recording.entries.is_empty(), "there is nothing to be played in the recording");
    allow_connections(recording.bots as u32)?;
    entrance.make_room(recording.bots as u32).await?;
    let world = Rc::new(World {
        ledger: RefCell::new(Ledger::new("replay", "move")),
        bots: (0..recording.bots).map(|_| Bot::default()).collect(),
        room: entrance.room.clone(),
    });
    world.ledger.borrow_mut().count_many("bots", recording.bots as u64);
    world.ledger.borrow_mut().count_many("skipped", recording.skipped);
    let (watcher, present) = entrance.enter("watcher").await?;
    let mut lives = JoinSet::new();
    lives.spawn_local(watch(world.clone(), watcher, present));
    let mut bots = Vec::new();
    live.begin("bots", recording.bots as u64);
    for index in 0..recording.bots {
        let client = entrance.connect(&format!("bot {index}")).await?;
        *world.bots[index].session.borrow_mut() = client.id.clone();
        let (deed, deeds) = mpsc::channel(DEEDS);
        bots.push(deed);
        lives.spawn_local(act(world.clone(), index, client, deeds));
        live.at(index as u64);
    }
    let last_ms = recording.entries.last().map_or(0, |entry| entry.at_ms);
    live.begin("replay", last_ms / 1_000);
    let start = Instant::now();
    for Entry { at_ms, bot, deed } in recording.entries {
        let due = start + Duration::from_millis(at_ms).div_f64(options.speed);
        if due > Instant::now() {
            until(due).await;
            live.at(at_ms / 1_000);
            live.say(world.ledger.borrow().line());
        }
        world.bots[bot].open.set(world.bots[bot].open.get() + 1);
        bots[bot].send((deed, due)).await.map_err(|_| anyhow!("bot {bot} has ended"))?;
    }
    let give_up = Instant::now() + scene.patience;
    while !world.is_done() && Instant::now() < give_up {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    lives.abort_all();
    while lives.join_next().await.is_some() {}
    live.end();
    world.settle();
    let users = world.bots.len() as u32;
    let world = Rc::into_inner(world).ok_or_else(|| anyhow!("a bot has not gone home"))?;
    Ok(world.ledger.into_inner().close(&scene.url, users, None))
}

/// The recording, from a file or from the server.
async fn read(options: &ReplayOptions, entrance: &Entrance) -> Result<Recording> {
    let text = match (&options.recording, &options.from_room) {
        (Some(file), _) => {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (None, Some(room)) => {
            let token = entrance.login("watcher").await?;
            let path = format!("/api/rooms/{}/replay?from=0", utf8_percent_encode(room, NON_ALPHANUMERIC));
            let answer = entrance.target.get(&path, token.as_deref(), Some("application/x-ndjson")).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(answer.status.is_success(), "the replay call answered {}: {text}", answer.status);
            text
        }
        (None, None) => unreachable!("the command line demands one of them"),
    };
    Recording::parse(&text)
}

impl World {
    fn count(&self, what: &'static str) {
        self.ledger.borrow_mut().count(what);
    }

    fn is_done(&self) -> bool {
        let (seen, told) = {
            let ledger = self.ledger.borrow();
            let seen =
                ledger.counted("joins_seen") + ledger.counted("leaves_seen") + ledger.counted("events_seen");
            let told = ledger.counted("joins") + ledger.counted("leaves") + ledger.counted("events");
            (seen, told)
        };
        seen == told && self.bots.iter().all(|bot| bot.open.get() == 0 && bot.is_where_it_should_be())
    }

    /// Compares what was done with what the watcher has seen.
    fn settle(&self) {
        let mut ledger = self.ledger.borrow_mut();
        for (what, done, seen) in [
            ("user-joined at the watcher", "joins", "joins_seen"),
            ("user-left at the watcher", "leaves", "leaves_seen"),
            ("other events at the watcher", "events", "events_seen"),
        ] {
            let (done, seen) = (ledger.counted(done), ledger.counted(seen));
            ledger.check(what, done, seen);
        }
        let there = self.bots.iter().filter(|bot| bot.is_where_it_should_be()).count();
        ledger.check("bots seen last where they went last", self.bots.len() as u64, there as u64);
        let open: usize = self.bots.iter().map(|bot| bot.open.get()).sum();
        ledger.check("deeds without an answer", 0, open as u64);
    }
}

impl Bot {
    fn is_where_it_should_be(&self) -> bool {
        match (self.last_sent.get(), self.last_seen.get()) {
            (Some(sent), Some(seen)) => is_same(sent, seen),
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    fn closes(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }
}

fn is_same(a: Place, b: Place) -> bool {
    // Far out float32 is coarser than that.
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_M.max(a.abs() * 1e-6))
}

fn place_of(pose: &Value) -> Option<Place> {
    let axis = |name: &str| pose["position"][name].as_f64();
    Some([axis("x")?, axis("y")?, axis("z")?])
}

/// One bot: does what it is told, and reads what comes.
async fn act(world: Rc<World>, index: usize, mut client: Client, mut deeds: mpsc::Receiver<(Deed, Instant)>) {
    let mut open: HashMap<u64, &'static str> = HashMap::new();
    let bot = &world.bots[index];
    loop {
        tokio::select! {
            incoming = client.next() => match incoming {
                Ok(Incoming::Ack(id, args)) => {
                    let Some(event) = open.remove(&id) else { continue };
                    bot.closes();
                    match granted(&args) {
                        Ok(()) => world.count("events"),
                        Err(code) => world.ledger.borrow_mut().blame(&format!("{event} was refused: {code}")),
                    }
                }
                Ok(Incoming::Event(event, args)) if event == "error" => {
                    world.ledger.borrow_mut().blame(&format!("error: {args}"));
                }
                Ok(_) => {}
                Err(reason) => return world.ledger.borrow_mut().blame(&format!("a bot's session ended: {reason}")),
            },
            deed = deeds.recv() => {
                let Some((deed, due)) = deed else { return };
                if let Err(fault) = do_it(&world, bot, &mut client, deed, due, &mut open).await {
                    world.ledger.borrow_mut().blame(&fault);
                }
            }
        }
    }
}

async fn do_it(
    world: &World,
    bot: &Bot,
    client: &mut Client,
    deed: Deed,
    due: Instant,
    open: &mut HashMap<u64, &'static str>,
) -> Result<(), String> {
    match deed {
        Deed::Join => {
            client.join(&world.room).await?;
            world.count("joins");
            bot.closes();
        }
        Deed::Leave => {
            client.emit("leave-room", &Value::Null)?;
            world.count("leaves");
            // Whoever has left is nowhere, and what was on its way when it left need not arrive.
            bot.last_sent.set(None);
            bot.sent.borrow_mut().clear();
            bot.closes();
        }
        Deed::Move(pose) => {
            client.emit("update-position", &pose)?;
            world.count("moves");
            if let Some(place) = place_of(&pose) {
                let mut sent = bot.sent.borrow_mut();
                if sent.len() == POSES {
                    sent.pop_front();
                }
                sent.push_back((place, due));
                bot.last_sent.set(Some(place));
            }
            bot.closes();
        }
        Deed::Say(event, payload) => {
            let id = client.ask(event, &payload)?;
            open.insert(id, event);
        }
    }
    Ok(())
}

/// The watcher: sees who comes and goes, and where they are.
async fn watch(world: Rc<World>, mut client: Client, present: String) {
    let mut view = View::default();
    if let Err(fault) = view.take("room-users", &present) {
        world.ledger.borrow_mut().blame(fault);
    }
    loop {
        let (event, args) = match client.next().await {
            Ok(Incoming::Event(event, args)) => (event, args),
            Ok(_) => continue,
            Err(reason) => {
                return world.ledger.borrow_mut().blame(&format!("the watcher's session ended: {reason}"));
            }
        };
        match view.take(&event, &args) {
            Ok(News::Joined(..)) => world.count("joins_seen"),
            Ok(News::Left(_)) => world.count("leaves_seen"),
            Ok(News::All | News::None) => {}
            Err(fault) => world.ledger.borrow_mut().blame(fault),
        }
        match &*event {
            "user-moved" => see(&world, &args),
            "object-created" | "object-updated" | "object-deleted" | "user-updated" | "room-message" => {
                world.count("events_seen");
            }
            _ => {}
        }
    }
}

/// Somebody is seen somewhere.
fn see(world: &World, args: &str) {
    let moved: Value = first(args).unwrap_or_default();
    let session = moved["socketId"].as_str().unwrap_or_default();
    let bot = world.bots.iter().find(|bot| *bot.session.borrow() == session);
    let (Some(bot), Some(place)) = (bot, place_of(&moved)) else {
        return world.ledger.borrow_mut().blame("user-moved of nobody");
    };
    bot.last_seen.set(Some(place));
    let mut sent = bot.sent.borrow_mut();
    // What was sent before it need not arrive any more: the latest wins.
    if let Some(at) = sent.iter().position(|(of, _)| is_same(*of, place)) {
        let (_, due) = sent[at];
        sent.drain(..=at);
        let mut ledger = world.ledger.borrow_mut();
        ledger.time("move", due);
        ledger.count("moves_seen");
    }
}
