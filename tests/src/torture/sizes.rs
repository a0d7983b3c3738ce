//! A disk of every size around what an upgrade needs: it is done, or nothing was touched, and nothing in between.

use anyhow::{Context, Result};

use super::boundaries::follow;
use super::disk::Mounted;
use super::faults::{Ended, Fault, ended, said};
use super::inside::Place;
use super::inspect::{End, Violations};
use super::step::{Allowed, Step};
use super::tally::Tally;
use super::trace::{Fate, Stop};

/// The version that the upgrade is to.
const VERSION: &str = "2";

/// Once so many sizes in a row were enough, all larger ones are.
const ENOUGH: u32 = 8;

/// What an operation may leave behind: the line in the history that says how it ended, and its directory.
const REMAINS: u64 = 16 << 10;

/// Upgrades with so many bytes free, and by so many more each time, each time from the beginning. The node does not count
/// beforehand what it will need: somebody else may always take what it counted on.
///
/// # Errors
/// The test itself failed.
pub fn grow(place: &Place, from: u64, by: u64) -> Result<Tally> {
    let mut tally = Tally::new("sizes");
    let (mut free, mut enough) = (from, 0);
    while enough < ENOUGH {
        let mounted = place.begin(false)?;
        place.machine.believe_in_room()?;
        let (ended, wrong) = one(place, &mounted, free)?;
        let wrong: Violations = wrong
            .iter()
            .map(|what| format!("with {free} bytes, which ended with {ended:?}: {what}"))
            .collect();
        tally.count(&format!("exit {}", ended.code), &wrong);
        mounted.unmount()?;
        enough = if ended.code == 0 { enough + 1 } else { 0 };
        free += by;
    }
    Ok(tally)
}

fn one(place: &Place, mounted: &Mounted, free: u64) -> Result<(Ended, Violations)> {
    mounted.leave(free)?;
    let services = || Ok::<_, anyhow::Error>(place.machine.engine()?.1.running_services());
    let (before, ran) = (mounted.free()?, services()?);
    let ended = upgrade(place)?;
    let kept = before.saturating_sub(mounted.free()?);
    let step = Step::Upgrade(VERSION.to_owned());
    let mut wrong = said(&ended, Fault::Full, &step, &place.machine.disk());
    if place.machine.roots().transaction().exists() {
        wrong.push("the transaction is still open".to_owned());
    }
    if ended.code != 0 {
        if ended.code != 73 {
            wrong.push("neither done nor left alone".to_owned());
        }
        if kept > REMAINS {
            wrong.push(format!("{kept} bytes are not given back"));
        }
        if services()? != ran {
            wrong.push("a service was restarted".to_owned());
        }
    }
    mounted.empty()?;
    let version = if ended.code == 0 { VERSION } else { "1" };
    let allowed = Allowed::rest(version, false);
    wrong.extend(place.inspector.after(&place.machine, &End::Kill, &allowed)?);
    Ok((ended, wrong))
}

fn upgrade(place: &Place) -> Result<Ended> {
    let mut end = None;
    follow(place, &[Step::Upgrade(VERSION.to_owned())], |stop| {
        if let Stop::Tell(text) = stop {
            end = end.take().or(ended(text));
        }
        Ok(if end.is_some() { Fate::Die } else { Fate::Live })
    })?;
    end.context("the upgrade did not end")
}
