//! Malformed input: guests send what is broken, from a generator that follows from the seed. Each time the server must
//! answer as the contract says, and the users must not notice.

mod attacks;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use self::attacks::{Attack, Input, Must};
use super::guests::{Guests, beside};
use super::ledger::{Ledger, ScenarioReport, due, until};
use crate::client::{Client, Incoming, granted};
use crate::live::Live;
use crate::options::MalformedOptions;

/// Ack ids of attacks; those of questions begin at 0.
const ATTACK_ACK: u64 = 1_000_000;

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &MalformedOptions, live: &Live) -> Result<ScenarioReport> {
    let (rate, patience) = (options.rate, options.patience);
    beside(&options.guest, live, move |guests| misbehave(guests, rate, patience))
}

async fn misbehave(guests: Guests, rate: u32, patience: Duration) -> Result<Ledger> {
    let ledger = Rc::new(RefCell::new(Ledger::new("malformed", "refusal")));
    let guests = Rc::new(guests);
    let mut lives = JoinSet::new();
    for index in 0..guests.count {
        lives.spawn_local(attack_on(guests.clone(), index, rate, patience, ledger.clone()));
    }
    while let Some(outcome) = lives.join_next().await {
        outcome??;
    }
    let ledger = Rc::into_inner(ledger).ok_or_else(|| anyhow!("a guest has not gone home"))?;
    let mut ledger = ledger.into_inner();
    let (attempts, right) = (ledger.counted("attempts"), ledger.counted("answered_rightly"));
    ledger.check("broken inputs answered as the contract says", attempts, right);
    Ok(ledger)
}

/// One guest: attacks when it is due, and comes back as often as it is thrown out.
async fn attack_on(
    guests: Rc<Guests>,
    index: u32,
    rate: u32,
    patience: Duration,
    ledger: Rc<RefCell<Ledger>>,
) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(guests.seed << 32 | u64::from(index));
    let (start, end) = guests.window;
    let mut client = None;
    for number in 0.. {
        let moment = due(start, number, rate);
        if moment >= end || Instant::now() >= end {
            return Ok(());
        }
        until(moment).await;
        let mut present = match client.take() {
            Some(client) => client,
            None => guests.enter(index, None).await?,
        };
        let attack = attacks::choose(&mut random);
        let since = Instant::now();
        let response = tokio::time::timeout(patience, attempt(&mut present, &attack)).await;
        let mut ledger = ledger.borrow_mut();
        ledger.count("attempts");
        ledger.time("refusal", since);
        let response = response.unwrap_or(Response::Silent);
        match judge(&attack, response) {
            Ok(()) => ledger.count("answered_rightly"),
            Err(what) => ledger.blame(&format!("{}: {what}", attack.name)),
        }
        ledger.count(match response {
            Response::Ended => "ended",
            Response::Alive { refused: true } => "refused",
            Response::Alive { refused: false } => "ignored",
            Response::Silent => "silent",
        });
        if matches!(response, Response::Alive { .. }) {
            client = Some(present);
        }
    }
    Ok(())
}

/// What the server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// It ended the session.
    Ended,
    /// It answers questions, and has refused the input or not.
    Alive { refused: bool },
    /// It does neither.
    Silent,
}

fn judge(attack: &Attack, response: Response) -> Result<(), &'static str> {
    match (attack.must, response) {
        (_, Response::Silent) => Err("the server neither answers nor ends the session"),
        (Must::End, Response::Alive { .. }) => Err("the session was to be ended, and goes on"),
        (Must::Refuse | Must::Ignore, Response::Ended) => Err("the session was to go on, and has ended"),
        (Must::Refuse, Response::Alive { refused: false }) => Err("it was to be refused, and was not"),
        (Must::Ignore, Response::Alive { refused: true }) => Err("it was to be ignored, and was refused"),
        _ => Ok(()),
    }
}

/// Sends what is broken and a question behind it, and looks what comes.
async fn attempt(client: &mut Client, attack: &Attack) -> Response {
    let mut refused = false;
    for input in &attack.inputs {
        let sent = match input {
            Input::Text(text) => client.say(text).map_err(|_| ()),
            Input::Binary(bytes) => {
                client.sender().send(crate::websocket::opcode::BINARY, bytes).map_err(|_| ())
            }
            Input::Raw(bytes) => client.sender().send_raw(bytes).map_err(|_| ()),
        };
        if sent.is_err() {
            return Response::Ended;
        }
    }
    // The room answers this one, so that whatever the room has refused before it is told before it.
    let nothing = serde_json::json!({ "id": "no object has this id" });
    let Ok(question) = client.ask("object-delete", &nothing) else { return Response::Ended };
    loop {
        match client.next().await {
            Ok(Incoming::Ack(id, _)) if id == question => return Response::Alive { refused },
            Ok(Incoming::Ack(ATTACK_ACK, args)) => refused |= granted(&args).is_err(),
            Ok(Incoming::Event(event, _)) => refused |= event == "error",
            Ok(_) => {}
            Err(_) => return Response::Ended,
        }
    }
}
