//! From a unit's D-Bus properties to [`UnitStatus`].

use std::collections::HashMap;

use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo::PropertiesProxy};

use crate::{
    name::{UnitKind, UnitName},
    state::{ActiveState, LoadState, MainExit, ServiceResult, SubState, UnitStatus},
};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Reads the properties of the unit at `path`: two calls for a service, one for the others.
pub(crate) async fn read(
    connection: &Connection,
    path: OwnedObjectPath,
    asked: &UnitName,
) -> zbus::Result<UnitStatus> {
    let proxy = PropertiesProxy::builder(connection)
        .destination("org.freedesktop.systemd1")
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?;
    let mut all = Properties(proxy.get_all(UNIT.try_into()?).await?);
    let name = all.take::<String>("Id")?;
    let name = UnitName::parse(&name).unwrap_or_else(|_| asked.clone());
    if name.kind() == Some(UnitKind::Service) {
        all.0.extend(proxy.get_all(SERVICE.try_into()?).await?);
    }
    all.status(name)
}

/// Properties by name. One that is missing counts as its empty value, since units of other kinds
/// than services and older versions of systemd do not have all of them; one of another type is an error.
struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    fn take<T>(&mut self, name: &str) -> zbus::Result<T>
    where
        T: TryFrom<OwnedVariant> + Default,
        T::Error: Into<zbus::Error>,
    {
        self.0
            .remove(name)
            .map_or_else(|| Ok(T::default()), |v| T::try_from(v).map_err(Into::into))
    }

    /// A number for which systemd's 0 means that there is none.
    fn nonzero<T>(&mut self, name: &str) -> zbus::Result<Option<T>>
    where
        T: TryFrom<OwnedVariant> + Default + PartialEq,
        T::Error: Into<zbus::Error>,
    {
        let number = self.take::<T>(name)?;
        Ok((number != T::default()).then_some(number))
    }

    fn word(&mut self, name: &str) -> zbus::Result<String> {
        self.take(name)
    }

    fn result(&mut self) -> zbus::Result<ServiceResult> {
        let word = self.word("Result")?;
        Ok(if word.is_empty() {
            ServiceResult::Success
        } else {
            ServiceResult::parse(&word)
        })
    }

    /// `InvocationID` is an array of 16 bytes, empty if the unit never ran.
    fn invocation_id(&mut self) -> zbus::Result<String> {
        let bytes: Vec<u8> = self.take("InvocationID")?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// `Job` is the number and path of the queued job.
    fn job(&mut self) -> zbus::Result<Option<u32>> {
        let Some(value) = self.0.remove("Job") else {
            return Ok(None);
        };
        let (number, _): (u32, OwnedObjectPath) = value.try_into()?;
        Ok((number != 0).then_some(number))
    }

    fn status(mut self, name: UnitName) -> zbus::Result<UnitStatus> {
        Ok(UnitStatus {
            name,
            description: self.word("Description")?,
            load: LoadState::parse(&self.word("LoadState")?),
            active: ActiveState::parse(&self.word("ActiveState")?),
            sub: SubState::parse(&self.word("SubState")?),
            result: self.result()?,
            main_pid: self.nonzero("MainPID")?,
            n_restarts: self.take("NRestarts")?,
            main_exit: MainExit::from_properties(self.take("ExecMainCode")?, self.take("ExecMainStatus")?),
            active_enter_usec: self.nonzero("ActiveEnterTimestamp")?,
            active_enter_monotonic_usec: self.nonzero("ActiveEnterTimestampMonotonic")?,
            main_start_monotonic_usec: self.nonzero("ExecMainStartTimestampMonotonic")?,
            need_daemon_reload: self.take("NeedDaemonReload")?,
            invocation_id: self.invocation_id()?,
            fragment_path: self.word("FragmentPath")?,
            status_text: self.word("StatusText")?,
            control_group: self.word("ControlGroup")?,
            kill_mode: self.word("KillMode")?,
            job: self.job()?,
        })
    }
}
