//! `org.freedesktop.systemd1.Manager` of the fake.

use zbus::{Connection, ObjectPath, OwnedObjectPath, object_server::SignalEmitter};

use super::{
    Shared,
    unit::{self, Service, Unit},
    world::Outcome,
};
use crate::{JobResult, proxy::ListRow};

pub(super) const PATH: &str = "/org/freedesktop/systemd1";

/// An error reply under any name.
#[derive(Debug)]
pub(super) struct Refusal {
    name: String,
    message: String,
}

impl zbus::DBusError for Refusal {
    fn create_reply(&self, call: &zbus::message::Header<'_>) -> zbus::Result<zbus::Message> {
        zbus::Message::error(call, self.name.as_str()).build(&self.message)
    }

    fn name(&self) -> zbus::names::ErrorName<'_> {
        zbus::names::ErrorName::from_str_unchecked(&self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

impl From<zbus::Error> for Refusal {
    fn from(error: zbus::Error) -> Self {
        Self {
            name: "org.freedesktop.DBus.Error.Failed".to_owned(),
            message: error.to_string(),
        }
    }
}

pub(super) struct Manager {
    world: Shared,
}

impl Manager {
    pub(super) fn new(world: Shared) -> Self {
        Self { world }
    }

    async fn run(
        &self,
        verb: &'static str,
        unit: String,
        connection: &Connection,
    ) -> Result<OwnedObjectPath, Refusal> {
        let (outcome, id) = {
            let mut world = self.world.lock();
            let mut outcome = world.asked(verb, &unit);
            if !world.units.contains_key(&unit) && matches!(outcome, Outcome::Ends(_)) {
                outcome = Outcome::Refused {
                    name: "org.freedesktop.systemd1.NoSuchUnit".to_owned(),
                    message: format!("Unit {unit} not found."),
                };
            }
            (outcome, world.new_job())
        };
        let job = Job {
            path: ObjectPath::try_from(format!("{PATH}/job/{id}"))?.into(),
            id,
            verb,
            unit,
        };
        let path = job.path.clone();
        match outcome {
            Outcome::Refused { name, message } => return Err(Refusal { name, message }),
            Outcome::Hangs => {}
            Outcome::EndsFirst(result) => job.end(&self.world, connection, result).await?,
            Outcome::Ends(result) => {
                let (world, connection) = (self.world.clone(), connection.clone());
                tokio::spawn(async move {
                    // The client may be gone by now, which is its own affair.
                    let _ = job.end(&world, &connection, result).await;
                });
            }
        }
        Ok(path)
    }
}

struct Job {
    path: OwnedObjectPath,
    id: u32,
    verb: &'static str,
    unit: String,
}

impl Job {
    async fn end(self, world: &Shared, connection: &Connection, result: JobResult) -> zbus::Result<()> {
        world.lock().ended(self.verb, &self.unit, self.id, &result);
        unit::announce(connection, &self.unit).await?;
        let emitter = SignalEmitter::new(connection, PATH)?;
        Manager::job_removed(&emitter, self.id, self.path, self.unit, result.to_string()).await
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    fn reload(&self) -> Result<(), Refusal> {
        match self.world.lock().asked("reload", "") {
            Outcome::Refused { name, message } => Err(Refusal { name, message }),
            Outcome::Ends(_) | Outcome::EndsFirst(_) | Outcome::Hangs => Ok(()),
        }
    }

    async fn load_unit(
        &self,
        name: String,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, Refusal> {
        let path = unit::path(&name)?;
        let unit = Unit::new(self.world.clone(), name.clone());
        if server.at(path.as_ref(), unit).await?.is_none() {
            let service = Service::new(self.world.clone(), name);
            server.at(path.as_ref(), service).await?;
        }
        Ok(path)
    }

    async fn start_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Refusal> {
        self.run("start", name, connection).await
    }

    async fn stop_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Refusal> {
        self.run("stop", name, connection).await
    }

    async fn restart_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Refusal> {
        self.run("restart", name, connection).await
    }

    fn reset_failed_unit(&self, name: &str) -> Result<(), Refusal> {
        let mut world = self.world.lock();
        world.asked("reset-failed", name);
        let Some(unit) = world.units.get_mut(name) else {
            return Err(Refusal {
                name: "org.freedesktop.systemd1.NoSuchUnit".to_owned(),
                message: format!("Unit {name} not loaded."),
            });
        };
        unit.n_restarts = 0;
        if unit.active == "failed" {
            unit.active = "inactive".to_owned();
            unit.sub = "dead".to_owned();
        }
        Ok(())
    }

    /// Patterns: a name, or a beginning of names followed by `*`.
    fn list_units_by_patterns(
        &self,
        _states: Vec<String>,
        patterns: Vec<&str>,
    ) -> Result<Vec<ListRow>, Refusal> {
        let matches = move |name: &str| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => *pattern == name,
            })
        };
        let world = self.world.lock();
        let rows = world.units.iter().filter(|(name, _)| matches(name));
        rows.map(|(name, unit)| {
            let path = unit::path(name)?;
            let root = ObjectPath::from_static_str_unchecked("/").into();
            let (load, active, sub) = (unit.load.clone(), unit.active.clone(), unit.sub.clone());
            let empty = String::new;
            Ok((
                name.clone(),
                empty(),
                load,
                active,
                sub,
                empty(),
                path,
                0,
                empty(),
                root,
            ))
        })
        .collect()
    }

    #[zbus(property)]
    fn system_state(&self) -> String {
        "running".to_owned()
    }

    #[zbus(property)]
    fn version(&self) -> String {
        "252.fake".to_owned()
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}
