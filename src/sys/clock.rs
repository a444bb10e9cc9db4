//! The system clocks.
//! Turns readings of the kernel into steady time. Knows the boot id.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

use crate::{
    model::steady::{Reading, Saved, Steady, Timeline},
    ports::Clock,
};

/// Changes with each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Clocks read further apart than this are read again, a few times. Chosen: reading all takes a microsecond, unless
/// the thread was interrupted.
const TOGETHER: SignedDuration = SignedDuration::from_millis(1);

pub struct SystemClock {
    boot: String,
    steady: Mutex<Steady>,
}

/// Which start of the machine this is.
#[must_use]
pub fn boot() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

impl SystemClock {
    /// Goes on from what the last daemon saved.
    #[must_use]
    pub fn begin(saved: Option<Saved>) -> Self {
        let boot = boot();
        let steady = Mutex::new(Steady::begin(saved, &read(&boot)));
        Self { boot, steady }
    }

    fn steady(&self) -> MutexGuard<'_, Steady> {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut steady = self.steady();
        steady.now(&read(&self.boot))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn timeline(&self) -> Arc<Timeline> {
        let mut steady = self.steady();
        steady.now(&read(&self.boot));
        steady.timeline().clone()
    }

    fn saved(&self) -> Option<Saved> {
        let mut steady = self.steady();
        Some(steady.saved(&read(&self.boot)))
    }
}

/// All clocks at one moment: a process may lose the processor between two readings.
fn read(boot: &str) -> Reading {
    #[allow(clippy::cast_possible_truncation, reason = "below 10^9")]
    let since = |clock| clock_gettime(clock).map(|at| SignedDuration::new(at.tv_sec(), at.tv_nsec() as i32));
    let counted = || since(ClockId::CLOCK_MONOTONIC).unwrap_or_default();
    let mut count = counted();
    loop {
        let (wall, up) = (Timestamp::now(), since(ClockId::CLOCK_BOOTTIME).unwrap_or(count));
        let after = counted();
        if after.saturating_sub(count) <= TOGETHER {
            return Reading { boot: boot.to_owned(), count, asleep: up.saturating_sub(count), wall };
        }
        count = after;
    }
}
