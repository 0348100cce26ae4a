//! Churn: half of the people stay and move, the other half come and go at a steady rate. Now and then all stop, and then
//! everybody must see exactly those who are there; and each arrival and departure must have been told once to each of
//! those who stayed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::entrance::Entrance;
use super::ledger::{Ledger, ScenarioReport, due, until};
use super::on_this_thread;
use super::view::{News, View};
use crate::client::{Client, Incoming};
use crate::live::Live;
use crate::options::ChurnOptions;
use crate::stamp::write_update;
use crate::walk::{SIDE_M, Walk};
use crate::websocket::opcode;

/// How long somebody stays or keeps away at least: arrivals and departures that fall together may be told together, or
/// not at all.
const DWELL: Duration = Duration::from_millis(300);
/// How often is looked whether something has happened.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What somebody is told to do.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Join, which was due then.
    Join(Instant),
    Leave,
    /// Go without a word.
    HangUp,
}

/// What is known of one person.
#[derive(Debug)]
struct Person {
    view: RefCell<View>,
    /// Since when it is where it is.
    since: Cell<Instant>,
    busy: Cell<bool>,
    joins_seen: Cell<u64>,
    leaves_seen: Cell<u64>,
}

/// What everybody shares.
#[derive(Debug)]
struct World {
    entrance: Entrance,
    ledger: RefCell<Ledger>,
    people: Vec<Person>,
    stayers: usize,
    /// The session of everybody who is in.
    inside: RefCell<BTreeMap<usize, String>>,
    /// When the join of a session was due.
    joins: RefCell<HashMap<String, Instant>>,
    hz: u32,
    seed: u64,
}

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &ChurnOptions, live: &Live) -> Result<ScenarioReport> {
    on_this_thread(play(options, live))
}

async fn play(options: &ChurnOptions, live: &Live) -> Result<ScenarioReport> {
    let scene = &options.scene;
    let entrance = Entrance::new(scene, "churn")?;
    entrance.make_room(scene.users).await?;
    let users = scene.users as usize;
    let person = |_| Person {
        view: RefCell::default(),
        since: Cell::new(Instant::now()),
        busy: Cell::new(false),
        joins_seen: Cell::new(0),
        leaves_seen: Cell::new(0),
    };
    let world = Rc::new(World {
        entrance,
        ledger: RefCell::new(Ledger::new("churn", "presence")),
        people: (0..users).map(person).collect(),
        stayers: users.div_ceil(2),
        inside: RefCell::default(),
        joins: RefCell::default(),
        hz: options.hz,
        seed: scene.seed,
    });
    let mut lives = JoinSet::new();
    let mut orders = Vec::new();
    live.begin("coming in", world.stayers as u64);
    for index in 0..users {
        let (order, ordered) = mpsc::channel(1);
        if index < world.stayers {
            live.at(index as u64);
            let (client, present) = world.entrance.enter(&format!("churn {index}")).await?;
            world.enter(index, &client.id, &present);
            lives.spawn_local(stay(world.clone(), index, client));
        } else {
            lives.spawn_local(come_and_go(world.clone(), index, ordered));
            orders.push(order);
        }
    }
    world.compare(options.scene.patience).await;
    world.people.iter().for_each(|person| person.joins_seen.set(0));
    coordinate(&world, options, &orders, live).await?;
    lives.abort_all();
    while lives.join_next().await.is_some() {}
    live.end();
    world.settle();
    let world = Rc::into_inner(world).ok_or_else(|| anyhow!("somebody has not gone home"))?;
    Ok(world.ledger.into_inner().close(&scene.url, scene.users, None))
}

/// Tells people to come and to go, each when it is due, and has all compared now and then.
async fn coordinate(
    world: &World,
    options: &ChurnOptions,
    orders: &[mpsc::Sender<Order>],
    live: &Live,
) -> Result<()> {
    live.begin("churn", options.duration.as_secs());
    let mut start = Instant::now();
    let (mut rested, mut compared) = (Duration::ZERO, start);
    let mut next = 0;
    for number in 0.. {
        let moment = due(start, number, options.rate);
        if moment - start >= options.duration {
            break;
        }
        if moment - compared >= options.check_every {
            let begun = Instant::now();
            world.compare(options.scene.patience).await;
            // Nothing was due meanwhile.
            rested = begun.elapsed();
            start += rested;
            compared = moment + rested;
        }
        let moment = moment + std::mem::take(&mut rested);
        until(moment).await;
        let Some(index) = world.somebody_free(&mut next, options.scene.patience).await else {
            world.ledger.borrow_mut().blame("nobody gets in or out any more");
            break;
        };
        let order = match world.inside.borrow().contains_key(&index) {
            false => Order::Join(moment),
            true if number % 3 == 0 => Order::HangUp,
            true => Order::Leave,
        };
        world.people[index].busy.set(true);
        orders[index - world.stayers].send(order).await?;
        live.at((moment - start).as_secs());
        live.say(world.ledger.borrow().line());
    }
    world.compare(options.scene.patience).await;
    Ok(())
}

impl World {
    /// Somebody has been told who is there, and so is in.
    fn enter(&self, index: usize, session: &str, present: &str) {
        let news = self.people[index].view.borrow_mut().take("room-users", present);
        if let Err(fault) = news {
            self.ledger.borrow_mut().blame(fault);
        }
        self.inside.borrow_mut().insert(index, session.to_owned());
        self.people[index].since.set(Instant::now());
        self.people[index].busy.set(false);
    }

    fn leave(&self, index: usize) {
        self.inside.borrow_mut().remove(&index);
        self.people[index].view.borrow_mut().clear();
        self.people[index].since.set(Instant::now());
        self.people[index].busy.set(false);
    }

    /// Whoever comes and goes and has nothing to do, in turns; `None` if nobody has for so long.
    async fn somebody_free(&self, next: &mut usize, patience: Duration) -> Option<usize> {
        let give_up = Instant::now() + patience;
        let comers = self.people.len() - self.stayers;
        while Instant::now() < give_up {
            for _ in 0..comers {
                let index = self.stayers + *next % comers;
                *next += 1;
                let person = &self.people[index];
                if !person.busy.get() && person.since.get().elapsed() >= DWELL {
                    return Some(index);
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        None
    }

    /// An event at somebody who is in.
    fn hear(&self, index: usize, event: &str, args: &str) {
        let person = &self.people[index];
        let news = person.view.borrow_mut().take(event, args);
        match news {
            Ok(News::Joined(_, session)) => {
                person.joins_seen.set(person.joins_seen.get() + 1);
                let due = self.joins.borrow().get(&session).copied();
                if let Some(due) = due.filter(|_| index < self.stayers) {
                    self.ledger.borrow_mut().time("presence", due);
                }
            }
            Ok(News::Left(_)) => person.leaves_seen.set(person.leaves_seen.get() + 1),
            Ok(News::All | News::None) => {}
            Err(fault) => self.ledger.borrow_mut().blame(fault),
        }
        if event == "error" {
            self.ledger.borrow_mut().blame(&format!("error: {args}"));
        }
    }

    /// How many of those inside see exactly those inside.
    fn agreeing(&self) -> usize {
        let inside = self.inside.borrow();
        let mut truth: Vec<&str> = inside.values().map(String::as_str).collect();
        truth.sort_unstable();
        inside.keys().filter(|index| self.people[**index].view.borrow().sessions() == truth).count()
    }

    /// Waits until nobody is on the way and everybody sees the same, and writes down whether that came to be.
    async fn compare(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        let settled = || {
            let busy = self.people.iter().any(|person| person.busy.get());
            !busy && self.agreeing() == self.inside.borrow().len()
        };
        while !settled() && Instant::now() < give_up {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let (inside, agreeing) = (self.inside.borrow().len() as u64, self.agreeing() as u64);
        let mut ledger = self.ledger.borrow_mut();
        ledger.count_many("views", inside);
        ledger.count_many("views_right", agreeing);
    }

    /// Compares what was done with what those who stayed have seen of it.
    fn settle(&self) {
        let mut ledger = self.ledger.borrow_mut();
        let stayers = &self.people[..self.stayers];
        let seen = |count: fn(&Person) -> u64| stayers.iter().map(count).sum::<u64>();
        for (what, done, seen) in [
            ("user-joined at those who stayed", "joins", seen(|person| person.joins_seen.get())),
            ("user-left at those who stayed", "leaves", seen(|person| person.leaves_seen.get())),
        ] {
            let done = ledger.counted(done) * stayers.len() as u64;
            ledger.check(what, done, seen);
        }
        let (views, right) = (ledger.counted("views"), ledger.counted("views_right"));
        ledger.check("views that agree with who is there", views, right);
    }
}

/// Somebody who stays, moves and looks on.
async fn stay(world: Rc<World>, index: usize, mut client: Client) {
    let mut walk = Walk::new(world.seed, index as u32, SIDE_M, world.hz);
    let (mut text, mut number) = (Vec::new(), 0);
    let mut steps = tokio::time::interval(Duration::from_secs(1) / world.hz);
    loop {
        tokio::select! {
            incoming = client.next() => match incoming {
                Ok(Incoming::Event(event, args)) => world.hear(index, &event, &args),
                Ok(_) => {}
                Err(reason) => return world.ledger.borrow_mut().blame(&format!("a session ended: {reason}")),
            },
            _ = steps.tick() => {
                text.clear();
                write_update(&walk.step(), index as u32, number, &mut text);
                number += 1;
                // If it fails the session has ended, and that is found out by reading.
                let _ = client.sender().send_volatile(&[(opcode::TEXT, &text)]);
            }
        }
    }
}

/// Somebody who does as told.
async fn come_and_go(world: Rc<World>, index: usize, mut orders: mpsc::Receiver<Order>) {
    let mut client: Option<Client> = None;
    loop {
        let incoming = async {
            match &mut client {
                Some(client) => client.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            incoming = incoming => {
                let session = client.as_ref().map_or("", |client| &client.id);
                match incoming {
                    Ok(Incoming::Event(event, args)) if event == "room-users" => {
                        world.ledger.borrow_mut().count("joins");
                        world.enter(index, session, &args);
                    }
                    // What was on its way when it left is not for it any more.
                    Ok(Incoming::Event(event, args)) if world.inside.borrow().contains_key(&index) => {
                        world.hear(index, &event, &args);
                    }
                    Ok(_) => {}
                    Err(reason) => {
                        world.ledger.borrow_mut().blame(&format!("a session ended: {reason}"));
                        client = None;
                        world.leave(index);
                    }
                }
            }
            order = orders.recv() => {
                let Some(order) = order else { return };
                if let Err(error) = world.obey(index, order, &mut client).await {
                    world.ledger.borrow_mut().blame(&error);
                    client = None;
                    world.leave(index);
                }
            }
        }
    }
}

impl World {
    async fn obey(&self, index: usize, order: Order, client: &mut Option<Client>) -> Result<(), String> {
        match order {
            Order::Join(due) => {
                if client.is_none() {
                    // A new login each time, so that its id says which of its sessions has left.
                    let connected = self.entrance.connect(&format!("churn {index}")).await;
                    *client = Some(connected.map_err(|error| format!("{error:#}"))?);
                }
                let Some(client) = client else { return Ok(()) };
                self.joins.borrow_mut().insert(client.id.clone(), due);
                client.emit("join-room", &serde_json::json!({ "roomId": self.entrance.room }))
            }
            Order::Leave => {
                let left = client.as_ref().map_or(Ok(()), |client| client.emit("leave-room", &Value::Null));
                self.ledger.borrow_mut().count("leaves");
                self.leave(index);
                left
            }
            Order::HangUp => {
                if let Some(client) = client.take() {
                    client.hang_up();
                }
                self.ledger.borrow_mut().count("leaves");
                self.leave(index);
                Ok(())
            }
        }
    }
}
