//! apt on the build host, in a directory of its own: package lists, the choice of versions, and
//! the shared directory of .deb files. Nothing of the host's own apt state is read or changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::definition::{Archive, StandIn};
use super::dpkg::{Deb, parse_uri_line};
use super::error::BuildError;
use super::process;
use crate::digest::{Digest, HashingReader};

/// An archive's package lists on this host.
pub struct Apt {
    directory: PathBuf,
    debs: PathBuf,
}

/// Packages to choose versions for.
pub struct Wanted<'w> {
    /// What to install, as arguments of `apt-get install`.
    pub requests: &'w [String],
    /// Text of dpkg's status file of what is there already.
    pub status: &'w str,
    /// Packages that count as installed.
    pub stand_ins: &'w BTreeMap<String, StandIn>,
}

/// The lines of sources.list(5).
#[must_use]
pub fn source_lines(archive: &Archive) -> Vec<String> {
    let line = |source: &super::definition::Source| {
        format!(
            "deb [arch={} signed-by={}] {} {} {}",
            archive.architecture,
            source.keyring.display(),
            source.uri,
            source.suite,
            source.components.join(" ")
        )
    };
    archive.sources.iter().map(line).collect()
}

impl Apt {
    /// Prepares apt's directory for `archive` below `cache`.
    ///
    /// # Errors
    /// [`BuildError::Io`] where files cannot be written.
    pub fn open(cache: &Path, archive: &Archive) -> Result<Self, BuildError> {
        let sources = source_lines(archive).join("\n") + "\n";
        let hex = Digest::of(sources.as_bytes()).hex();
        let directory = cache.join("apt").join(&hex[..16]);
        let debs = cache.join("debs");
        for path in [
            directory.join("lists/partial"),
            directory.join("empty/partial"),
            debs.join("partial"),
        ] {
            fs::create_dir_all(&path).map_err(BuildError::io("make", &path))?;
        }
        let apt = Self { directory, debs };
        write(&apt.directory.join("sources.list"), &sources)?;
        write(&apt.conf(), &apt.configuration(&archive.architecture))?;
        Ok(apt)
    }

    /// The directory of .deb files.
    #[must_use]
    pub fn debs(&self) -> &Path {
        &self.debs
    }

    /// The directory of package lists.
    #[must_use]
    pub fn lists(&self) -> PathBuf {
        self.directory.join("lists")
    }

    /// How long ago the package lists were fetched; `None` before the first time.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let fetched = fs::metadata(self.stamp()).ok()?.modified().ok()?;
        // A clock that was set back makes the lists new, not a failure.
        Some(fetched.elapsed().unwrap_or_default())
    }

    /// Fetches the package lists where the archive has newer ones; apt checks their signatures.
    ///
    /// # Errors
    /// [`BuildError::Program`] where the archive cannot be reached or is not signed by its key ring.
    pub fn refresh(&self, on_line: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
        let mut command = self.apt_get(&[]);
        command.args(["--error-on=any", "update"]);
        process::run(&mut command, "apt", "fetching package lists", on_line)?;
        write(&self.stamp(), "")
    }

    /// Identifies what apt would choose from at this time: digest of release files and configuration.
    ///
    /// # Errors
    /// [`BuildError::Io`] where they cannot be read.
    pub fn state(&self) -> Result<Digest, BuildError> {
        let lists = self.lists();
        let conf = self.conf();
        let settings = fs::read(&conf).map_err(BuildError::io("read", &conf))?;
        let mut releases = vec![(conf, Digest::of(&settings))];
        for entry in fs::read_dir(&lists).map_err(BuildError::io("list", &lists))? {
            let path = entry.map_err(BuildError::io("list", &lists))?.path();
            if path.to_string_lossy().ends_with("Release") {
                let bytes = fs::read(&path).map_err(BuildError::io("read", &path))?;
                releases.push((path, Digest::of(&bytes)));
            }
        }
        releases.sort();
        Ok(Digest::of(format!("{releases:?}").as_bytes()))
    }

    /// Chooses package versions. Nothing is fetched.
    ///
    /// # Errors
    /// [`BuildError::Program`] with apt's explanation where the wish cannot be fulfilled.
    pub fn resolve(&self, wanted: &Wanted<'_>) -> Result<Vec<Deb>, BuildError> {
        self.write_status(wanted)?;
        let empty = self.directory.join("empty");
        let mut command = self.apt_get(&[("Dir::Cache::Archives", &empty)]);
        command.args(["--print-uris", "--quiet=2", "--yes", "install"]);
        command.args(wanted.requests);
        let mut debs = Vec::new();
        process::run(&mut command, "apt", "choosing package versions", &mut |line| {
            debs.extend(parse_uri_line(line));
        })?;
        debs.sort_by(|a, b| a.package.cmp(&b.package));
        Ok(debs)
    }

    /// Fetches the files of `debs`, as [`Apt::resolve`] chose them, and checks their digests.
    ///
    /// # Errors
    /// [`BuildError::Program`] where a file cannot be fetched, [`BuildError::Unexpected`] where
    /// what arrived is not what was chosen.
    pub fn download(
        &self,
        wanted: &Wanted<'_>,
        debs: &[Deb],
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), BuildError> {
        let mut missing = 0;
        for deb in debs {
            if !self.is_whole(deb)? {
                missing += 1;
            }
        }
        if missing == 0 {
            return Ok(());
        }
        self.write_status(wanted)?;
        let mut command = self.apt_get(&[("Dir::Cache::Archives", &self.debs)]);
        command.args(["--download-only", "--quiet=1", "--yes", "install"]);
        command.args(wanted.requests);
        process::run(&mut command, "apt", "fetching packages", on_line)?;
        for deb in debs {
            if !self.is_whole(deb)? {
                let what = self.debs.join(&deb.file).display().to_string();
                return Err(BuildError::unexpected(
                    what,
                    "not the file that the archive promised",
                ));
            }
        }
        Ok(())
    }

    /// Whether the file is there with its size and digest; a wrong one is removed.
    fn is_whole(&self, deb: &Deb) -> Result<bool, BuildError> {
        let path = self.debs.join(&deb.file);
        let Ok(file) = File::open(&path) else {
            return Ok(false);
        };
        let mut reader = HashingReader::new(file);
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(BuildError::io("read", &path))?;
        let (digest, size, _) = reader.finish();
        if size == deb.size && deb.package.digest.is_none_or(|wanted| wanted == digest) {
            return Ok(true);
        }
        fs::remove_file(&path).map_err(BuildError::io("remove the broken", &path))?;
        Ok(false)
    }

    fn apt_get(&self, options: &[(&str, &Path)]) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("--config-file")
            .arg(self.conf());
        for (key, path) in options {
            command.arg("--option").arg(format!("{key}={}", path.display()));
        }
        command
    }

    /// Overrides every path of the host's configuration and keeps the rest of it, proxies above all.
    fn configuration(&self, architecture: &str) -> String {
        let directory = self.directory.display();
        format!(
            r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Default-Release "";
APT::Get::List-Cleanup "true";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
Dir::Cache "{directory}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::SourceList "{directory}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Log "{directory}";
Dir::State "{directory}";
Dir::State::Lists "{directory}/lists";
Dir::State::extended_states "{directory}/extended_states";
Dir::State::status "{directory}/status";
"#
        )
    }

    fn write_status(&self, wanted: &Wanted<'_>) -> Result<(), BuildError> {
        let mut status = wanted.status.to_owned();
        for (name, stand_in) in wanted.stand_ins {
            // Writing to a String cannot fail.
            let _ = write!(
                status,
                "\n{}Status: install ok installed\n",
                control(name, stand_in)
            );
        }
        write(&self.directory.join("status"), &status)
    }

    fn conf(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }

    fn stamp(&self) -> PathBuf {
        self.directory.join("stamp")
    }
}

/// The control file of a stand-in.
#[must_use]
pub fn control(name: &str, stand_in: &StandIn) -> String {
    let provides = match &stand_in.provides[..] {
        [] => String::new(),
        names => format!("Provides: {}\n", names.join(", ")),
    };
    format!(
        "Package: {name}\nVersion: 99:0+stand-in\nArchitecture: all\nMulti-Arch: foreign\n\
         Maintainer: nodectl image build\n{provides}Description: empty stand-in: {}\n",
        stand_in.reason.replace('\n', " ")
    )
}

fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    fs::write(path, text).map_err(BuildError::io("write", path))
}
