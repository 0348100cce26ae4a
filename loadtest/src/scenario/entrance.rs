//! How the people of a scenario get in.

use anyhow::{Context, Result};

use crate::client::Client;
use crate::http::Target;
use crate::options::{Auth, RoomOptions, SceneOptions, Transport};

/// A server's door: everybody who enters a scenario comes through it.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    pub(super) target: Target,
    pub(super) auth: Auth,
    pub(super) transport: Transport,
    /// The room of the scenario, different for each run.
    pub(super) room: String,
}

/// Places in a room besides the users', for those who look in.
const SPARE_PLACES: u32 = 4;

impl Entrance {
    pub(super) fn new(scene: &SceneOptions, scenario: &str) -> Result<Self> {
        let room = format!("{scenario}-{:08x}", rand::random::<u32>());
        let SceneOptions { auth, transport, .. } = *scene;
        Ok(Self { target: Target::new(&scene.url)?, auth, transport, room })
    }

    /// Logs in, if that is what one does there.
    ///
    /// # Errors
    /// If the server refuses.
    pub(super) async fn login(&self, name: &str) -> Result<Option<String>> {
        match self.auth {
            Auth::Login => self.target.login(name).await.map(Some),
            Auth::None => Ok(None),
        }
    }

    /// Makes the room, large enough for so many.
    ///
    /// # Errors
    /// If the server refuses.
    pub(super) async fn make_room(&self, users: u32) -> Result<()> {
        let Some(token) = self.login("host").await? else { return Ok(()) };
        self.target.create_room(&token, &self.room, users + SPARE_PLACES, &RoomOptions::default()).await
    }

    /// Connects somebody new of that name.
    ///
    /// # Errors
    /// If that fails.
    pub(super) async fn connect(&self, name: &str) -> Result<Client> {
        let token = self.login(name).await?;
        Client::connect(&self.target, self.transport, token.as_deref(), None).await.context(name.to_owned())
    }

    /// The same, and joins the room. Gives what `room-users` says.
    ///
    /// # Errors
    /// If that fails.
    pub(super) async fn enter(&self, name: &str) -> Result<(Client, String)> {
        let mut client = self.connect(name).await?;
        let users = client.join(&self.room).await.map_err(anyhow::Error::msg)?;
        Ok((client, users))
    }
}
