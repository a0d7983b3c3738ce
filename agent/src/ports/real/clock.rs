//! The clocks of this host.

use std::time::Duration;

use async_trait::async_trait;
use nix::time::{ClockId, clock_gettime};

use crate::ports::Clock;

/// Time since this boot.
pub(super) fn since_boot() -> Duration {
    // The one clock that all processes of a boot share and that counts while the host sleeps. Linux always has it.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The clocks of this host.
#[derive(Debug)]
pub(super) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        since_boot()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
