//! `org.freedesktop.systemd1.Unit` and `.Service` of the fake.

use std::fmt::Write as _;

use zbus::{Connection, ObjectPath, OwnedObjectPath, object_server::SignalEmitter};

use super::{Shared, manager, world::FakeUnit};

/// Object path of a unit: every byte that is no letter or digit as `_` and two hexadecimal digits.
pub(super) fn path(name: &str) -> zbus::Result<OwnedObjectPath> {
    let mut path = format!("{}/unit/", manager::PATH);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(byte.into());
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
    Ok(ObjectPath::try_from(path)?.into())
}

/// Tells watchers that a unit has changed, as systemd does: which properties, they have to ask.
pub(super) async fn announce(connection: &Connection, name: &str) -> zbus::Result<()> {
    let emitter = SignalEmitter::new(connection, path(name)?)?;
    zbus::fdo::Properties::properties_changed(
        &emitter,
        zbus::names::InterfaceName::from_static_str_unchecked("org.freedesktop.systemd1.Unit"),
        std::collections::HashMap::new(),
        std::borrow::Cow::Borrowed(&["ActiveState", "SubState"]),
    )
    .await
}

pub(super) struct Unit {
    world: Shared,
    name: String,
}

impl Unit {
    pub(super) fn new(world: Shared, name: String) -> Self {
        Self { world, name }
    }

    fn get<T>(&self, read: impl FnOnce(&FakeUnit) -> T) -> Option<T> {
        self.world.lock().units.get(&self.name).map(read)
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.name.clone()
    }

    #[zbus(property)]
    fn load_state(&self) -> String {
        self.get(|u| u.load.clone())
            .unwrap_or_else(|| "not-found".to_owned())
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        self.get(|u| u.active.clone())
            .unwrap_or_else(|| "inactive".to_owned())
    }

    #[zbus(property)]
    fn sub_state(&self) -> String {
        self.get(|u| u.sub.clone()).unwrap_or_else(|| "dead".to_owned())
    }

    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        self.get(|u| u.invocation_id.clone()).unwrap_or_default()
    }
}

pub(super) struct Service {
    unit: Unit,
}

impl Service {
    pub(super) fn new(world: Shared, name: String) -> Self {
        Self {
            unit: Unit::new(world, name),
        }
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.unit.get(|u| u.main_pid).unwrap_or_default()
    }

    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> u32 {
        self.unit.get(|u| u.n_restarts).unwrap_or_default()
    }

    #[zbus(property)]
    fn result(&self) -> String {
        self.unit
            .get(|u| u.result.clone())
            .unwrap_or_else(|| "success".to_owned())
    }

    #[zbus(property)]
    fn exec_main_code(&self) -> i32 {
        self.unit.get(|u| u.exec_main_code).unwrap_or_default()
    }

    #[zbus(property)]
    fn exec_main_status(&self) -> i32 {
        self.unit.get(|u| u.exec_main_status).unwrap_or_default()
    }
}
