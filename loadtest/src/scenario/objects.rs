//! Objects: everybody edits the same few objects at once, naming the version that they know. Of all edits of one version
//! exactly one may be granted; everybody must hear of each that was, once; and in the end all must know the same state.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::entrance::Entrance;
use super::ledger::{Ledger, ScenarioReport, until};
use super::on_this_thread;
use crate::client::{Client, Incoming, first, granted};
use crate::live::Live;
use crate::options::ObjectsOptions;

/// How often is looked whether all have heard.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// An object at one version.
type Edition = (String, u64);

/// An object as it is told.
#[derive(Debug, Clone, Deserialize)]
struct Told {
    id: String,
    /// A new object's need not be told: it is 1.
    #[serde(default = "first_version")]
    version: u64,
    /// Which edit it was: the member that edits change.
    edit: Option<String>,
}

fn first_version() -> u64 {
    1
}

/// What is open.
#[derive(Debug, Clone, PartialEq)]
enum Open {
    /// An edit of this edition, with what it says.
    Edit(Edition, String),
    Delete(String),
}

/// What one editor knows.
#[derive(Debug, Default)]
struct Editor {
    /// The version that it knows of each object.
    versions: RefCell<BTreeMap<String, u64>>,
    /// What it was told, or was granted, of each edition.
    heard: RefCell<HashMap<Edition, String>>,
    open: Cell<usize>,
    deletes_heard: Cell<u64>,
}

/// What is to be done at present.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Edit { start: Instant, end: Instant },
    Rest,
    Delete,
}

#[derive(Debug)]
struct World {
    ledger: RefCell<Ledger>,
    editors: Vec<Editor>,
    /// What each edition says, by the edit that was granted.
    winners: RefCell<HashMap<Edition, String>>,
    deleted: RefCell<BTreeMap<String, u64>>,
    objects: Vec<String>,
    rate: u32,
    seed: u64,
}

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &ObjectsOptions, live: &Live) -> Result<ScenarioReport> {
    on_this_thread(play(options, live))
}

async fn play(options: &ObjectsOptions, live: &Live) -> Result<ScenarioReport> {
    let scene = &options.scene;
    let entrance = Entrance::new(scene, "objects")?;
    entrance.make_room(scene.users).await?;
    let world = Rc::new(World {
        ledger: RefCell::new(Ledger::new("objects", "edit")),
        editors: (0..scene.users).map(|_| Editor::default()).collect(),
        winners: RefCell::default(),
        deleted: RefCell::default(),
        objects: (0..options.objects).map(|number| format!("object {number}")).collect(),
        rate: options.rate,
        seed: scene.seed,
    });
    let (phase, phases) = watch::channel(Phase::Rest);
    let clients = world.gather(&entrance, live).await?;
    let mut lives = JoinSet::new();
    for (index, client) in clients.into_iter().enumerate() {
        lives.spawn_local(edit(world.clone(), index, client, phases.clone()));
    }
    let known =
        |world: &World| world.editors.iter().all(|e| e.versions.borrow().len() == world.objects.len());
    world.wait(scene.patience, known).await;
    ensure!(known(&world), "not everybody was told of the objects within {:?}", scene.patience);

    let start = Instant::now();
    live.begin("editing", options.duration.as_secs());
    phase.send_replace(Phase::Edit { start, end: start + options.duration });
    while start.elapsed() < options.duration {
        tokio::time::sleep(Duration::from_millis(200)).await;
        live.at(start.elapsed().as_secs());
        live.say(world.ledger.borrow().line());
    }
    phase.send_replace(Phase::Rest);
    world.wait(scene.patience, World::all_heard).await;
    world.settle(&entrance).await?;
    phase.send_replace(Phase::Delete);
    world.wait(scene.patience, World::all_deleted).await;
    world.settle_deletes();
    lives.abort_all();
    while lives.join_next().await.is_some() {}
    live.end();
    let world = Rc::into_inner(world).ok_or_else(|| anyhow!("somebody has not gone home"))?;
    Ok(world.ledger.into_inner().close(&scene.url, scene.users, None))
}

impl World {
    /// Everybody comes in; the first of them makes the objects.
    async fn gather(&self, entrance: &Entrance, live: &Live) -> Result<Vec<Client>> {
        live.begin("coming in", self.editors.len() as u64);
        let mut clients = Vec::with_capacity(self.editors.len());
        for index in 0..self.editors.len() {
            clients.push(entrance.enter(&format!("objects {index}")).await?.0);
            live.at(index as u64);
        }
        for id in &self.objects {
            let ack = clients[0].call("object-create", &json!({ "id": id, "edit": "new" })).await;
            granted(&ack.map_err(anyhow::Error::msg)?).map_err(|code| anyhow!("object-create: {code}"))?;
            self.editors[0].versions.borrow_mut().insert(id.clone(), 1);
        }
        Ok(clients)
    }

    async fn wait(&self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + patience;
        while !done(self) && Instant::now() < give_up {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether nothing is open and everybody has heard of every edit that was granted.
    fn all_heard(&self) -> bool {
        let winners = self.winners.borrow().len();
        self.editors.iter().all(|editor| editor.open.get() == 0 && editor.heard.borrow().len() >= winners)
    }

    fn all_deleted(&self) -> bool {
        let (objects, granted) = (self.objects.len() as u64, self.deleted.borrow().values().sum::<u64>());
        let heard: u64 = self.editors.iter().map(|editor| editor.deletes_heard.get()).sum();
        granted >= objects
            && heard >= objects * (self.editors.len() as u64 - 1)
            && self.editors.iter().all(|editor| editor.open.get() == 0)
    }

    fn blame(&self, fault: &str) {
        self.ledger.borrow_mut().blame(fault);
    }

    /// An editor has been told of an edition, or was granted it.
    fn hear(&self, index: usize, edition: Edition, edit: String) {
        let editor = &self.editors[index];
        let mut versions = editor.versions.borrow_mut();
        let version = versions.entry(edition.0.clone()).or_default();
        *version = (*version).max(edition.1);
        if editor.heard.borrow_mut().insert(edition, edit).is_some() {
            self.blame("somebody was told of an edition twice");
        }
    }

    /// What everybody has heard is compared with what was granted, and so is what a newcomer is told.
    async fn settle(&self, entrance: &Entrance) -> Result<()> {
        let newcomer = newcomer(entrance).await?;
        let winners = self.winners.borrow();
        let mut ledger = self.ledger.borrow_mut();
        let heard = self.editors.iter().map(|editor| {
            let heard = editor.heard.borrow();
            winners.iter().filter(|(edition, edit)| heard.get(*edition) == Some(*edit)).count() as u64
        });
        ledger.check("edits heard by everybody", (winners.len() * self.editors.len()) as u64, heard.sum());
        let told: usize = self.editors.iter().map(|editor| editor.heard.borrow().len()).sum();
        ledger.check("editions told in all", (winners.len() * self.editors.len()) as u64, told as u64);
        let (sent, edits, conflicts) =
            (ledger.counted("sent"), ledger.counted("edits"), ledger.counted("conflicts"));
        ledger.check("edits answered", sent, edits + conflicts);
        let mut right = 0;
        for id in &self.objects {
            let of_it = winners.keys().filter(|(of, _)| of == id).count() as u64;
            let last = (id.clone(), of_it + 1);
            let edit = winners.get(&last).map_or("new", String::as_str);
            let as_told = newcomer.iter().find(|told| told.id == *id);
            let is_right = |told: &Told| told.version == last.1 && told.edit.as_deref() == Some(edit);
            right += u64::from(as_told.is_some_and(is_right));
        }
        ledger.check("objects that a newcomer sees as they are", self.objects.len() as u64, right);
        Ok(())
    }

    fn settle_deletes(&self) {
        let mut ledger = self.ledger.borrow_mut();
        let objects = self.objects.len() as u64;
        ledger.check("deletions granted", objects, self.deleted.borrow().values().sum());
        let heard = self.editors.iter().map(|editor| editor.deletes_heard.get()).sum();
        ledger.check("object-deleted at the others", objects * (self.editors.len() as u64 - 1), heard);
    }
}

/// What the room tells somebody who comes in.
async fn newcomer(entrance: &Entrance) -> Result<Vec<Told>> {
    let (mut client, _) = entrance.enter("objects newcomer").await?;
    loop {
        if let Incoming::Event(event, args) = client.next().await.map_err(anyhow::Error::msg)?
            && event == "room-objects"
        {
            return first(&args).ok_or_else(|| anyhow!("room-objects cannot be read: {args}"));
        }
    }
}

/// Somebody who edits when it is due.
async fn edit(world: Rc<World>, index: usize, mut client: Client, mut phases: watch::Receiver<Phase>) {
    let mut random = SmallRng::seed_from_u64(world.seed << 32 | index as u64);
    let mut open: HashMap<u64, (Instant, Open)> = HashMap::new();
    let (mut number, mut deleted) = (0, false);
    loop {
        let phase = *phases.borrow_and_update();
        if phase == Phase::Delete && !deleted {
            deleted = true;
            for id in &world.objects {
                if let Ok(ack) = client.ask("object-delete", &json!({ "id": id })) {
                    open.insert(ack, (Instant::now(), Open::Delete(id.clone())));
                }
            }
        }
        let due = match phase {
            // Everybody at the same moment: that is when they are in each other's way.
            Phase::Edit { start, end } => {
                Some(super::ledger::due(start, number, world.rate)).filter(|due| *due < end)
            }
            Phase::Rest | Phase::Delete => None,
        };
        tokio::select! {
            biased;
            incoming = client.next() => match incoming {
                Ok(incoming) => take(&world, index, incoming, &mut open),
                Err(reason) => return world.blame(&format!("a session ended: {reason}")),
            },
            () = async { match due { Some(due) => until(due).await, None => std::future::pending().await } } => {
                let due = due.unwrap_or_else(Instant::now);
                let id = world.objects[random.random_range(0..world.objects.len())].clone();
                let version = world.editors[index].versions.borrow().get(&id).copied().unwrap_or_default();
                let edit = format!("{index}/{number}");
                number += 1;
                world.ledger.borrow_mut().count("sent");
                let asked = client.ask("object-update", &json!({ "id": id, "version": version, "edit": edit }));
                if let Ok(ack) = asked {
                    open.insert(ack, (due, Open::Edit((id, version), edit)));
                }
            }
            changed = phases.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        world.editors[index].open.set(open.len());
    }
}

/// Takes what has come to an editor.
fn take(world: &World, index: usize, incoming: Incoming, open: &mut HashMap<u64, (Instant, Open)>) {
    match incoming {
        Incoming::Ack(id, args) => {
            let Some((due, asked)) = open.remove(&id) else {
                return world.blame("an answer that nobody had asked for");
            };
            answered(world, index, due, asked, granted(&args));
        }
        Incoming::Event(event, args) => match &*event {
            "object-created" => {
                let Some(told) = first::<Told>(&args) else {
                    return world.blame("object-created cannot be read");
                };
                world.editors[index].versions.borrow_mut().insert(told.id, told.version);
            }
            "object-updated" => match first::<Told>(&args) {
                Some(Told { id, version, edit: Some(edit) }) => world.hear(index, (id, version), edit),
                _ => world.blame("object-updated cannot be read"),
            },
            "object-deleted" => {
                let heard = &world.editors[index].deletes_heard;
                heard.set(heard.get() + 1);
            }
            "error" => world.blame(&format!("error: {args}")),
            _ => {}
        },
        Incoming::Connected(_) | Incoming::Other => {}
    }
}

fn answered(world: &World, index: usize, due: Instant, asked: Open, outcome: Result<(), String>) {
    match (asked, outcome) {
        (Open::Edit((id, version), edit), Ok(())) => {
            let edition = (id, version + 1);
            if world.winners.borrow_mut().insert(edition.clone(), edit.clone()).is_some() {
                world.blame("two edits of one version were granted");
            }
            world.hear(index, edition, edit);
            let mut ledger = world.ledger.borrow_mut();
            ledger.time("edit", due);
            ledger.count("edits");
        }
        (Open::Edit(..), Err(code)) if code == "stale_version" => {
            let mut ledger = world.ledger.borrow_mut();
            ledger.time("edit", due);
            ledger.count("conflicts");
        }
        (Open::Delete(id), Ok(())) => *world.deleted.borrow_mut().entry(id).or_default() += 1,
        (Open::Delete(_), Err(code)) if code == "not_found" => {}
        (_, Err(code)) => world.blame(&format!("refused with {code}")),
    }
}
