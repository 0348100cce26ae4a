//! A storm: everybody comes at the same moment. If the server can be restarted, everybody comes back after that too, as
//! a stock client does, and what is measured is how long that takes.

use std::cell::{Cell, RefCell};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::entrance::Entrance;
use super::ledger::{Ledger, ScenarioReport};
use super::on_this_thread;
use super::view::View;
use crate::client::{Client, Incoming, first};
use crate::live::Live;
use crate::options::StormOptions;
use crate::process::{Process, allow_connections};

/// How long a stock client waits before it tries again: at first, at most, and by how much more or less.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(5);
const RETRY_SPREAD: f64 = 0.5;
/// How long one attempt may take, as a stock client has it.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How often is looked whether all are in, or the server has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What everybody shares.
#[derive(Debug)]
struct Weather {
    entrance: Entrance,
    ledger: RefCell<Ledger>,
    views: Vec<RefCell<View>>,
    /// How many are in.
    inside: Cell<usize>,
    /// What is timed at present, and since when.
    since: Cell<(&'static str, Instant)>,
    /// Whether the server has been told to restart, so that sessions may end.
    restarting: Cell<bool>,
    seed: u64,
}

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &StormOptions, live: &Live) -> Result<ScenarioReport> {
    let mut server = match &options.server_cmd {
        Some(command) => Some(Server::start(command, &options.scene.url)?),
        None => None,
    };
    allow_connections(options.scene.users)?;
    on_this_thread(play(options, &mut server, live))
}

async fn play(options: &StormOptions, server: &mut Option<Server>, live: &Live) -> Result<ScenarioReport> {
    let scene = &options.scene;
    let users = scene.users as usize;
    let restarts = options.restart_cmd.is_some() || server.is_some();
    let main = if restarts { "back" } else { "enter" };
    let weather = Rc::new(Weather {
        entrance: Entrance::new(scene, "storm")?,
        ledger: RefCell::new(Ledger::new("storm", main)),
        views: (0..users).map(|_| RefCell::default()).collect(),
        inside: Cell::new(0),
        since: Cell::new(("enter", Instant::now())),
        restarting: Cell::new(false),
        seed: scene.seed,
    });
    if server.is_some() {
        weather.until_open(options.back_within).await?;
    }
    weather.entrance.make_room(scene.users).await?;
    weather.since.set(("enter", Instant::now()));
    let mut lives = JoinSet::new();
    (0..users).for_each(|index| drop(lives.spawn_local(weather_all(weather.clone(), index))));
    live.begin("storm", users as u64);
    weather.until_all_are_in("in", options.back_within, scene.patience, live).await;
    if restarts {
        live.begin("restart", users as u64);
        weather.restarting.set(true);
        weather.since.set(("back", Instant::now()));
        restart(options, server).await?;
        weather.until_open(options.back_within).await?;
        // A server that has forgotten the room makes it anew, for as many.
        if let Err(error) = weather.entrance.make_room(scene.users).await {
            weather.ledger.borrow_mut().blame(&format!("the room after the restart: {error:#}"));
        }
        weather.until_all_are_in("back", options.back_within, scene.patience, live).await;
    }
    lives.abort_all();
    while lives.join_next().await.is_some() {}
    live.end();
    let weather = Rc::into_inner(weather).ok_or_else(|| anyhow!("somebody has not gone home"))?;
    Ok(weather.ledger.into_inner().close(&scene.url, scene.users, None))
}

impl Weather {
    /// Waits until the server takes connections.
    async fn until_open(&self, within: Duration) -> Result<()> {
        let give_up = Instant::now() + within;
        loop {
            let Err(error) = self.entrance.target.connect().await else { return Ok(()) };
            if Instant::now() >= give_up {
                return Err(error.context("the server does not come up"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until everybody is in and sees everybody, and writes down whether that came to be.
    async fn until_all_are_in(&self, how: &str, within: Duration, patience: Duration, live: &Live) {
        let users = self.views.len();
        let give_up = Instant::now() + within;
        // After a restart, those who have not noticed yet are counted as in.
        let (_, since) = self.since.get();
        let timed = |weather: &Self| weather.ledger.borrow().counted(how) as usize;
        while timed(self) < users && Instant::now() < give_up {
            tokio::time::sleep(LOOK_INTERVAL).await;
            live.at(timed(self) as u64);
            live.say(format!("{} in after {:.1} s", timed(self), since.elapsed().as_secs_f64()));
        }
        let all = Instant::now() + patience;
        while self.seeing_all() < users && Instant::now() < all {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let (found, seeing) = (timed(self) as u64, self.seeing_all() as u64);
        let mut ledger = self.ledger.borrow_mut();
        ledger.check(format!("people who are {how}"), users as u64, found);
        ledger.check(format!("people who see everybody, once {how}"), users as u64, seeing);
    }

    fn seeing_all(&self) -> usize {
        let users = self.views.len();
        self.views.iter().filter(|view| view.borrow().sessions().len() == users).count()
    }

    /// One attempt to get in.
    async fn attempt(&self, index: usize) -> Result<Client, String> {
        let entered = tokio::time::timeout(ATTEMPT, self.entrance.enter(&format!("storm {index}"))).await;
        let (client, present) = entered
            .map_err(|_| "an attempt took too long".to_owned())?
            .map_err(|error| format!("{error:#}"))?;
        let told = self.views[index].borrow_mut().take("room-users", &present);
        let mut ledger = self.ledger.borrow_mut();
        if let Err(fault) = told {
            ledger.blame(fault);
        }
        let (what, since) = self.since.get();
        ledger.time(what, since);
        ledger.count(if what == "enter" { "in" } else { "back" });
        self.inside.set(self.inside.get() + 1);
        Ok(client)
    }

    /// Looks on until the session ends. Gives how long to keep away, if the server has said.
    async fn look_on(&self, index: usize, client: &mut Client) -> (String, Option<Duration>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Restart {
            reconnect_in_ms: u64,
        }
        let mut away = None;
        loop {
            match client.next().await {
                Ok(Incoming::Event(event, args)) if event == "server-restart" => {
                    let restart: Option<Restart> = first(&args);
                    away = restart.map(|restart| Duration::from_millis(restart.reconnect_in_ms));
                    self.ledger.borrow_mut().count("told_of_restart");
                }
                Ok(Incoming::Event(event, args)) => {
                    // While it goes down, people leave in an order of their own.
                    let told = self.views[index].borrow_mut().take(&event, &args);
                    if let Err(fault) = told
                        && !self.restarting.get()
                    {
                        self.ledger.borrow_mut().blame(fault);
                    }
                }
                Ok(_) => {}
                Err(reason) => return (reason, away),
            }
        }
    }
}

/// One person: comes in, looks on, and comes back as often as it must.
async fn weather_all(weather: Rc<Weather>, index: usize) {
    let mut random = SmallRng::seed_from_u64(weather.seed << 32 | index as u64);
    let mut pause = RETRY_FIRST;
    loop {
        match weather.attempt(index).await {
            Ok(mut client) => {
                pause = RETRY_FIRST;
                let (reason, away) = weather.look_on(index, &mut client).await;
                weather.inside.set(weather.inside.get() - 1);
                weather.views[index].borrow_mut().clear();
                if !weather.restarting.get() {
                    weather.ledger.borrow_mut().blame(&format!("a session ended: {reason}"));
                }
                if let Some(away) = away {
                    tokio::time::sleep(away).await;
                    continue;
                }
            }
            Err(reason) => {
                let mut ledger = weather.ledger.borrow_mut();
                ledger.count("attempts_failed");
                if !weather.restarting.get() {
                    ledger.blame(&reason);
                }
            }
        }
        let spread = 1.0 + random.random_range(-RETRY_SPREAD..RETRY_SPREAD);
        tokio::time::sleep(pause.mul_f64(spread)).await;
        pause = (2 * pause).min(RETRY_MOST);
    }
}

async fn restart(options: &StormOptions, server: &mut Option<Server>) -> Result<()> {
    if let Some(server) = server {
        return server.restart(options.kill, options.back_within).await;
    }
    let Some(command) = options.restart_cmd.clone() else { return Ok(()) };
    let run = move || {
        Command::new("/bin/sh").args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).status()
    };
    let status = tokio::task::spawn_blocking(run).await?.context("the restart command does not run")?;
    ensure!(status.success(), "the restart command ended with {status}");
    Ok(())
}

/// A server that this started, and ends with it.
struct Server {
    command: String,
    port: u16,
    child: Child,
}

impl Server {
    fn start(command: &str, url: &str) -> Result<Self> {
        let uri: hyper::Uri = url.parse().context("the URL")?;
        let port = uri.port_u16().context("--server-cmd wants a port in the URL")?;
        Ok(Self { command: command.to_owned(), port, child: spawn(command, port)? })
    }

    /// Ends it and starts it again.
    async fn restart(&mut self, kill: bool, within: Duration) -> Result<()> {
        if kill {
            self.child.kill()?;
        } else {
            Process(self.child.id()).terminate()?;
        }
        let give_up = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < give_up, "the server does not end when asked to");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.child = spawn(&self.command, self.port)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &str, port: u16) -> Result<Child> {
    let mut words = command.split_whitespace();
    let mut server = Command::new(words.next().context("an empty --server-cmd")?);
    server.args(words).env("PORT", port.to_string());
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    server.spawn().with_context(|| format!("{command} does not start"))
}
