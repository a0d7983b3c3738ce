//! What a unit is doing now, as systemd tells it (org.freedesktop.systemd1(5), Unit and Service objects).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::UnitName;

/// An enum over systemd's words that keeps a word it does not know.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A word that this version of nodectl does not know.
            Unknown(String),
        }

        impl $name {
            /// Reads systemd's word.
            #[must_use]
            pub fn parse(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Unknown(other.to_owned()),
                }
            }

            /// systemd's word for it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// `ActiveState`: the state that all kinds of unit share.
    ActiveState {
        /// Started and usable.
        Active = "active",
        /// Active and reading its configuration again.
        Reloading = "reloading",
        /// Not running, no error.
        Inactive = "inactive",
        /// Not running, and the last run ended in an error.
        Failed = "failed",
        /// On the way up.
        Activating = "activating",
        /// On the way down.
        Deactivating = "deactivating",
        /// In maintenance, for units that clean up.
        Maintenance = "maintenance",
    }
}

words! {
    /// `LoadState`: whether systemd could read the unit.
    LoadState {
        /// Read without error.
        Loaded = "loaded",
        /// Known by name, not read.
        Stub = "stub",
        /// No unit file.
        NotFound = "not-found",
        /// The unit file has a setting that cannot be used.
        BadSetting = "bad-setting",
        /// The unit file could not be read.
        Error = "error",
        /// Merged into another unit (an alias).
        Merged = "merged",
        /// Masked by the administrator.
        Masked = "masked",
    }
}

words! {
    /// `SubState` of a service unit.
    SubState {
        /// Not running.
        Dead = "dead",
        /// Checking its conditions.
        Condition = "condition",
        /// Running a command before the start.
        StartPre = "start-pre",
        /// Starting, not ready yet.
        Start = "start",
        /// Running a command after the start.
        StartPost = "start-post",
        /// Running and ready.
        Running = "running",
        /// Active without a process.
        Exited = "exited",
        /// Reading its configuration again.
        Reload = "reload",
        /// Running its stop command.
        Stop = "stop",
        /// Being aborted after a watchdog timeout.
        StopWatchdog = "stop-watchdog",
        /// Sent the stop signal.
        StopSigterm = "stop-sigterm",
        /// Sent SIGKILL.
        StopSigkill = "stop-sigkill",
        /// Running a command after the stop.
        StopPost = "stop-post",
        /// Sent the stop signal once more, at the end.
        FinalSigterm = "final-sigterm",
        /// Sent SIGKILL at the end.
        FinalSigkill = "final-sigkill",
        /// Failed and not to be restarted.
        Failed = "failed",
        /// Waiting for its automatic restart.
        AutoRestart = "auto-restart",
    }
}

words! {
    /// `Result` of a service's last run.
    ServiceResult {
        /// No error so far.
        Success = "success",
        /// systemd ran out of something it needed.
        Resources = "resources",
        /// The process did not follow the notify protocol.
        Protocol = "protocol",
        /// A start, stop or run time limit was reached.
        Timeout = "timeout",
        /// A process ended with a status other than 0.
        ExitCode = "exit-code",
        /// A process was ended by a signal.
        Signal = "signal",
        /// A process was ended by a signal and dumped core.
        CoreDump = "core-dump",
        /// The watchdog was not fed.
        Watchdog = "watchdog",
        /// Started too often.
        StartLimitHit = "start-limit-hit",
        /// The kernel killed it for memory.
        OomKill = "oom-kill",
        /// A condition command said no.
        ExecCondition = "exec-condition",
    }
}

words! {
    /// State of the whole system (`SystemState` of the manager, `systemctl is-system-running`).
    SystemState {
        /// Early in boot.
        Initializing = "initializing",
        /// Late in boot: jobs are still queued.
        Starting = "starting",
        /// Up, no unit failed.
        Running = "running",
        /// Up, and at least one unit failed.
        Degraded = "degraded",
        /// In rescue or emergency mode.
        Maintenance = "maintenance",
        /// On the way down.
        Stopping = "stopping",
    }
}

/// How a main process ended (`ExecMainCode` and `ExecMainStatus`, waitid(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MainExit {
    /// It has not ended, or none was started since the unit was loaded.
    None,
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// This signal ended it, with a core dump.
    Dumped(i32),
}

impl MainExit {
    /// From the two properties: `code` is a `CLD_*` number, 0 for none.
    #[must_use]
    pub fn from_properties(code: i32, status: i32) -> Self {
        match code {
            nix::libc::CLD_EXITED => Self::Exited(status),
            nix::libc::CLD_KILLED => Self::Killed(status),
            nix::libc::CLD_DUMPED => Self::Dumped(status),
            _ => Self::None,
        }
    }
}

/// One unit as systemd sees it at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitStatus {
    /// The unit's own name; another one than asked for if that was an alias.
    pub name: UnitName,
    /// Text for people.
    pub description: String,
    /// Whether systemd could read the unit.
    pub load: LoadState,
    /// The state that all kinds of unit share.
    pub active: ActiveState,
    /// The state in detail.
    pub sub: SubState,
    /// The result of the last run. [`ServiceResult::Success`] for other kinds than services.
    pub result: ServiceResult,
    /// Main process, if one runs.
    pub main_pid: Option<u32>,
    /// Automatic restarts since the unit was last started by hand.
    pub n_restarts: u32,
    /// How the last main process ended.
    pub main_exit: MainExit,
    /// When the unit last became active: microseconds since 1970, `None` for never.
    pub active_enter_usec: Option<u64>,
    /// The same on the monotonic clock: microseconds since boot.
    pub active_enter_monotonic_usec: Option<u64>,
    /// When the main process was started: microseconds on the monotonic clock.
    pub main_start_monotonic_usec: Option<u64>,
    /// The unit file changed since it was read.
    pub need_daemon_reload: bool,
    /// Identity of this run: 32 hex digits, empty if the unit never ran (systemd.exec(5), `$INVOCATION_ID`).
    pub invocation_id: String,
    /// Where the unit was read from; empty for none.
    pub fragment_path: String,
    /// What the service says about itself (`STATUS=` of sd_notify(3)).
    pub status_text: String,
    /// The unit's cgroup below the cgroup root; empty if it has none.
    pub control_group: String,
    /// `KillMode=`: what a stop does to the processes of the control group besides the main one
    /// (systemd.kill(5)); empty for units that run no processes.
    pub kill_mode: String,
    /// Number of the job that is queued for it.
    pub job: Option<u32>,
}

impl UnitStatus {
    /// True for a service that runs and has said that it is ready.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.active == ActiveState::Active && self.sub == SubState::Running
    }
}

/// One row of a listing: only what systemd gives without asking each unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnitRow {
    /// The unit.
    pub name: UnitName,
    /// Text for people.
    pub description: String,
    /// Whether systemd could read the unit.
    pub load: LoadState,
    /// The state that all kinds of unit share.
    pub active: ActiveState,
    /// The state in detail.
    pub sub: SubState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_unknown_ones_are_kept() {
        for word in ["active", "failed", "activating", "refreshing"] {
            assert_eq!(ActiveState::parse(word).as_str(), word);
        }
        assert_eq!(SubState::parse("auto-restart"), SubState::AutoRestart);
        assert_eq!(
            SubState::parse("auto-restart-queued"),
            SubState::Unknown("auto-restart-queued".into())
        );
        assert_eq!(LoadState::parse("not-found"), LoadState::NotFound);
    }

    #[test]
    fn exits_are_read_from_the_two_numbers() {
        assert_eq!(MainExit::from_properties(0, 0), MainExit::None);
        assert_eq!(MainExit::from_properties(1, 7), MainExit::Exited(7));
        assert_eq!(MainExit::from_properties(2, 9), MainExit::Killed(9));
        assert_eq!(MainExit::from_properties(3, 11), MainExit::Dumped(11));
    }
}
