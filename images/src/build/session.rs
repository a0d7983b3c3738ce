//! One run of the builder: the lock on the cache, apt's lists, and the levels one after the other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use super::apt::{Apt, Wanted};
use super::chain::{self, Inherited};
use super::definition::{Archive, Loaded};
use super::dpkg::{Deb, Package};
use super::error::BuildError;
use super::event::{BuildEvent, Observer, Step};
use super::level::{self, Inputs, Level};
use super::{BuildRequest, cache, install, lock};
use crate::digest::Digest;
use crate::durable;

/// A run with the cache to itself.
pub struct Session<'r> {
    request: &'r BuildRequest,
    observer: Observer<'r>,
    apt: Apt,
    work: PathBuf,
    _cache_lock: Flock<File>,
}

/// The lock file of the definition in `file`.
pub fn lock_path(file: &Path) -> PathBuf {
    file.with_extension("lock")
}

impl<'r> Session<'r> {
    /// Waits for the cache and brings the package lists up to date.
    pub fn open(
        request: &'r BuildRequest,
        archive: &Archive,
        observer: Observer<'r>,
    ) -> Result<Self, BuildError> {
        let cache = &request.cache;
        fs::create_dir_all(cache).map_err(BuildError::io("make the cache", cache))?;
        let name = image_name(&request.definition);
        let cache_lock = lock_cache(cache, &name, observer)?;
        // Under the lock, whatever is here was left by a build that was killed.
        let work = cache.join("work");
        clear(&work)?;
        cache::forget_unused(cache, SystemTime::now())?;
        let session = Self {
            request,
            observer,
            apt: Apt::open(cache, archive)?,
            work,
            _cache_lock: cache_lock,
        };
        if session.apt.age().is_none_or(|age| age >= request.refresh_after) {
            session.step(&name, Step::Refresh, || {
                session.apt.refresh(&mut |line| session.output(&name, line))?;
                Ok(((), String::new()))
            })?;
        }
        Ok(session)
    }

    /// Builds or finds every level of `chain`, the lowest first, with the definition's name.
    pub fn levels(&self, chain: &[Loaded]) -> Result<Vec<(String, Level)>, BuildError> {
        let mut levels: Vec<(String, Level)> = Vec::new();
        let mut locks = Vec::new();
        for end in 1..=chain.len() {
            let inherited = chain::inherit(&chain[..end])?;
            let base = levels.last().map(|(_, level)| level);
            let debs = self.resolve(&inherited, base)?;
            let packages: Vec<Package> = debs.iter().map(|deb| deb.package.clone()).collect();
            let lock = lock_path(&inherited.own.file);
            let changes = self.compare_lock(&lock, &packages)?;
            locks.push((inherited.definition().name.clone(), lock, packages, changes));
            let level = self.level(&inherited, base, &debs)?;
            levels.push((inherited.definition().name.clone(), level));
        }
        for (image, path, packages, changes) in locks {
            self.write_lock(image, &path, &packages, changes)?;
        }
        Ok(levels)
    }

    /// Runs `work` as a step with its events; `work` gives its value and a result for people.
    pub fn step<T>(
        &self,
        image: &str,
        step: Step,
        work: impl FnOnce() -> Result<(T, String), BuildError>,
    ) -> Result<T, BuildError> {
        let image = image.to_owned();
        (self.observer)(BuildEvent::Started {
            image: image.clone(),
            step,
        });
        let begun = Instant::now();
        let (value, result) = work()?;
        let took = begun.elapsed();
        (self.observer)(BuildEvent::Finished {
            image,
            step,
            result,
            took,
        });
        Ok(value)
    }

    fn output(&self, image: &str, line: &str) {
        (self.observer)(BuildEvent::Output {
            image: image.to_owned(),
            line: line.to_owned(),
        });
    }

    /// The versions that apt chooses, from the cache where archive and wishes are the same.
    fn resolve(&self, inherited: &Inherited<'_>, base: Option<&Level>) -> Result<Vec<Deb>, BuildError> {
        let definition = inherited.definition();
        if definition.packages.is_empty() && base.is_some() {
            return Ok(Vec::new());
        }
        let status = base.map(Level::status).transpose()?.unwrap_or_default();
        let requests = requests(inherited);
        let wanted = Wanted {
            requests: &requests,
            status: &status,
            stand_ins: &definition.stand_ins,
        };
        let inputs = json!({
            "archive": self.apt.state()?,
            "requests": requests,
            "status": Digest::of(status.as_bytes()),
            "stand-ins": definition.stand_ins,
        });
        let directory = self.request.cache.join("resolved");
        fs::create_dir_all(&directory).map_err(BuildError::io("make", &directory))?;
        let path = directory.join(Digest::of(inputs.to_string().as_bytes()).hex());
        if let Some(debs) = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
        {
            return Ok(debs);
        }
        self.step(&definition.name, Step::Resolve, || {
            let debs = self.apt.resolve(&wanted)?;
            let json = serde_json::to_vec(&debs)
                .map_err(|error| BuildError::unexpected("choice of versions", error))?;
            fs::write(&path, json).map_err(BuildError::io("write", &path))?;
            let result = format!("{} packages", debs.len());
            Ok((debs, result))
        })
    }

    fn level(
        &self,
        inherited: &Inherited<'_>,
        base: Option<&Level>,
        debs: &[Deb],
    ) -> Result<Level, BuildError> {
        let name = &inherited.definition().name;
        let key = level::key(inherited, base, debs);
        if let Some(level) = Level::find(&self.request.cache, key)? {
            (self.observer)(BuildEvent::Cached {
                image: name.clone(),
                step: Step::Layer,
            });
            return Ok(level);
        }
        clear(&self.work)?;
        let root = base.map(Level::root_path);
        let installed = match level::installation(inherited, root.as_deref(), debs) {
            Some(installation) => Some(self.install(inherited, base, &installation)?),
            None => None,
        };
        let inputs = Inputs {
            inherited,
            base,
            debs,
            facts: installed.as_ref().map(|i| i.facts.as_path()),
        };
        let tar = installed.as_ref().map(|i| i.tar.clone()).or(root);
        let tar = tar.ok_or_else(|| BuildError::unexpected("level", "neither base nor packages"))?;
        let tree = self.step(name, Step::Normalise, || {
            let tree = level::read_root(&inputs, &tar)?;
            let result = format!("{} entries", tree.len());
            Ok((tree, result))
        })?;
        let level = self.step(name, Step::Layer, || {
            let level = level::write(&inputs, &tree, &tar, (&self.request.cache, &self.work, key))?;
            let result = format!("{} bytes", level.record.layer.size);
            Ok((level, result))
        })?;
        clear(&self.work)?;
        Ok(level)
    }

    fn install(
        &self,
        inherited: &Inherited<'_>,
        base: Option<&Level>,
        installation: &install::Installation<'_>,
    ) -> Result<install::Installed, BuildError> {
        let name = &inherited.definition().name;
        let status = base.map(Level::status).transpose()?.unwrap_or_default();
        let requests = requests(inherited);
        let wanted = Wanted {
            requests: &requests,
            status: &status,
            stand_ins: &inherited.definition().stand_ins,
        };
        let debs = installation.debs;
        self.step(name, Step::Download, || {
            self.apt
                .download(&wanted, debs, &mut |line| self.output(name, line))?;
            Ok(((), format!("{} packages", debs.len())))
        })?;
        self.step(name, Step::Install, || {
            let mut on_line = |line: &str| self.output(name, line);
            let installed = install::install(installation, &self.apt, &self.work, &mut on_line)?;
            Ok((installed, format!("{} packages", debs.len())))
        })
    }

    /// How the lock file differs; `None` where there is none.
    fn compare_lock(
        &self,
        path: &Path,
        packages: &[Package],
    ) -> Result<Option<Vec<lock::Change>>, BuildError> {
        let Ok(text) = fs::read_to_string(path) else {
            return if self.request.locked {
                Err(BuildError::NoLock(path.to_owned()))
            } else {
                Ok(None)
            };
        };
        if !self.request.locked {
            // A lock file that is to be written anew need not be readable.
            let locked = lock::parse(&text, path).unwrap_or_default();
            return Ok(Some(lock::compare(&locked, packages)));
        }
        let changes = lock::compare(&lock::parse(&text, path)?, packages);
        if changes.is_empty() {
            return Ok(Some(changes));
        }
        Err(BuildError::Locked {
            file: path.to_owned(),
            changes,
        })
    }

    fn write_lock(
        &self,
        image: String,
        path: &Path,
        packages: &[Package],
        changes: Option<Vec<lock::Change>>,
    ) -> Result<(), BuildError> {
        match changes {
            Some(changes) if changes.is_empty() => return Ok(()),
            Some(changes) => {
                let packages = changes.len();
                (self.observer)(BuildEvent::LockChanged { image, packages });
            }
            None => {}
        }
        let text = lock::render(packages);
        durable::write_file(path, text.as_bytes(), 0o644).map_err(BuildError::Durable)
    }
}

/// Arguments for apt: the minimal system for a definition without base, and the packages.
fn requests(inherited: &Inherited<'_>) -> Vec<String> {
    let definition = inherited.definition();
    let minimal: &[&str] = match definition.base {
        None => &["?essential", "?priority(required)", "apt"],
        Some(_) => &[],
    };
    let minimal = minimal.iter().map(ToString::to_string);
    minimal.chain(definition.packages.iter().cloned()).collect()
}

fn lock_cache(cache: &Path, name: &str, observer: Observer<'_>) -> Result<Flock<File>, BuildError> {
    let path = cache.join("lock");
    let open = || File::create(&path).map_err(BuildError::io("open", &path));
    if let Ok(lock) = Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        return Ok(lock);
    }
    let image = name.to_owned();
    observer(BuildEvent::Started {
        image: image.clone(),
        step: Step::Wait,
    });
    let begun = Instant::now();
    let lock = Flock::lock(open()?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| BuildError::io("lock", &path)(errno.into()))?;
    let (took, result) = (begun.elapsed(), String::new());
    observer(BuildEvent::Finished {
        image,
        step: Step::Wait,
        result,
        took,
    });
    Ok(lock)
}

fn clear(work: &Path) -> Result<(), BuildError> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(BuildError::io("clear", work)(error));
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(work).map_err(BuildError::io("make", work))
}

fn image_name(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
