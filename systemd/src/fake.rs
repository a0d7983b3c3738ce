//! A scriptable systemd manager on a socket pair, for tests of what drives systemd (feature `fake`).
//!
//! Units are in memory. Start, stop and restart answer with a job and end it as the script says; without
//! a script a job is done. Everything that was asked is written down in order.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use node_systemd::{JobResult, UnitName, fake::{FakeSystemd, Outcome}};
//! use std::time::Duration;
//!
//! let (fake, systemd) = FakeSystemd::start().await.unwrap();
//! let unit = UnitName::parse("nova-compute.service").unwrap();
//! fake.add(&unit);
//! fake.script("start", &unit, Outcome::Ends(JobResult::Failed));
//! let result = systemd.start(&unit, Duration::from_secs(5)).await.unwrap();
//! assert_eq!(result, JobResult::Failed);
//! assert_eq!(fake.calls(), ["start nova-compute.service"]);
//! # });
//! ```

mod manager;
mod unit;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use zbus::{Connection, Guid, connection::Builder};

use crate::{UnitName, client::Systemd, error::Result};
use world::World;
pub use world::{FakeUnit, Outcome};

/// The manager's side. Dropping it ends the connection, as a crash of systemd would.
#[derive(Debug)]
pub struct FakeSystemd {
    world: Shared,
    connection: Connection,
}

/// The units and the script, shared with the objects on the bus.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// A panic of another test thread leaves data that is still of use.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeSystemd {
    /// A manager without units, and a client that is connected to it.
    ///
    /// # Errors
    /// The connection could not be made.
    pub async fn start() -> Result<(Self, Systemd)> {
        let (world, connection, client) = connect().await.map_err(|source| crate::Error::Protocol {
            intent: "start the fake".to_owned(),
            source,
        })?;
        let systemd = Systemd::over(client).await?;
        Ok((Self { world, connection }, systemd))
    }

    /// Adds a unit that is loaded and inactive, or resets it to that.
    pub fn add(&self, unit: &UnitName) {
        self.world
            .lock()
            .units
            .insert(unit.to_string(), FakeUnit::default());
    }

    /// Takes a unit away, as a daemon-reload does that no longer finds its file.
    pub fn remove(&self, unit: &UnitName) {
        self.world.lock().units.remove(unit.as_str());
    }

    /// Changes a unit; adds it first if it is not there. Watchers are not told: see [`FakeSystemd::announce`].
    pub fn change(&self, unit: &UnitName, change: impl FnOnce(&mut FakeUnit)) {
        change(self.world.lock().units.entry(unit.to_string()).or_default());
    }

    /// Tells watchers that the unit has changed.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn announce(&self, unit: &UnitName) -> zbus::Result<()> {
        unit::announce(&self.connection, unit.as_str()).await
    }

    /// What becomes of the next `verb` (`start`, `stop`, `restart`, or `reload` with any unit) on a unit.
    /// Several scripts for the same are used up one by one.
    pub fn script(&self, verb: &str, unit: &UnitName, outcome: Outcome) {
        let key = world::key(verb, unit.as_str());
        self.world
            .lock()
            .scripts
            .entry(key)
            .or_default()
            .push_back(outcome);
    }

    /// All that was asked so far, in order, for example `start libvirtd.service` and `reload`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.world.lock().calls.clone()
    }

    /// The state of a unit, if there is one.
    #[must_use]
    pub fn unit(&self, unit: &UnitName) -> Option<FakeUnit> {
        self.world.lock().units.get(unit.as_str()).cloned()
    }
}

async fn connect() -> zbus::Result<(Shared, Connection, Connection)> {
    let (server, client) = UnixStream::pair()?;
    let world = Shared::default();
    let server = Builder::unix_stream(server.into_std()?)
        .server(Guid::generate())
        .p2p()
        .serve_at(manager::PATH, manager::Manager::new(world.clone()))
        .build();
    let client = Builder::unix_stream(client.into_std()?).p2p().build();
    let (server, client) = tokio::try_join!(server, client)?;
    Ok((world, server, client))
}
