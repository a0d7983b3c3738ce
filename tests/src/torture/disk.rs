//! A disk whose content at any instant can be kept: an image file on a file system that has reflinks.
//!
//! The file system under test is loop-mounted from the image. A clone of the image (FICLONE, atomic against writes)
//! holds what has reached the disk and nothing of what is still in the page cache: what a power cut would leave. To
//! mount a clone is to come back after the cut: the journal is replayed.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::command::{command, output};

/// File system of the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileSystem {
    /// ext4 with its defaults.
    Ext4,
    /// XFS with its defaults.
    Xfs,
}

impl FileSystem {
    /// Its name, as mount(8) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn format(self, image: &Path) -> Result<()> {
        let mut mkfs = match self {
            // Nothing is to be initialised behind our back later. Few inodes: a disk has to be full soon.
            Self::Ext4 => command(
                "mkfs.ext4",
                ["-q", "-N", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            ),
            Self::Xfs => command("mkfs.xfs", ["-q"]),
        };
        output(mkfs.arg(image)).map(drop)
    }

    /// Neither has a timer that writes metadata back before the test asks for it.
    fn quiet(self) -> &'static str {
        match self {
            Self::Ext4 => "loop,commit=3600",
            Self::Xfs => "loop",
        }
    }
}

/// What fills a disk.
const BALLAST: &str = "ballast";

/// The image files, on an XFS of their own.
#[derive(Debug)]
pub struct Disks {
    directory: PathBuf,
    kind: FileSystem,
}

/// A mounted disk; unmounted when it goes.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    device: String,
    there: bool,
}

impl Disks {
    /// Makes the file system for images below `scratch`. It goes with the mount namespace.
    ///
    /// # Errors
    /// No loop devices, no reflinks (XFS in the kernel, xfsprogs), no space.
    pub fn make(scratch: &Path, kind: FileSystem) -> Result<Self> {
        let backing = scratch.join("disks.xfs");
        let directory = scratch.join("disks");
        sparse(&backing, 24 << 30)?;
        output(command("mkfs.xfs", ["-q", "-m", "reflink=1"]).arg(&backing))?;
        fs::create_dir_all(&directory)?;
        output(command("mount", ["-o", "loop"]).arg(&backing).arg(&directory))?;
        Ok(Self { directory, kind })
    }

    /// Makes an empty disk.
    ///
    /// # Errors
    /// mkfs fails.
    pub fn format(&self, name: &str) -> Result<()> {
        let image = self.image(name);
        sparse(&image, 1 << 30)?;
        self.kind.format(&image)
    }

    /// Keeps what is on a disk now, mounted or not, as another disk.
    ///
    /// # Errors
    /// The clone cannot be made.
    pub fn clone_disk(&self, from: &str, to: &str) -> Result<()> {
        output(
            command("cp", ["--reflink=always", "--"])
                .arg(self.image(from))
                .arg(self.image(to)),
        )
        .map(drop)
    }

    /// Forgets a disk.
    ///
    /// # Errors
    /// It is not there.
    pub fn forget(&self, name: &str) -> Result<()> {
        let image = self.image(name);
        fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))
    }

    /// Mounts a disk as a node would.
    ///
    /// # Errors
    /// The file system cannot be mounted: after a cut, that is a finding by itself.
    pub fn mount(&self, name: &str, at: &Path) -> Result<Mounted> {
        self.mount_with(name, at, "loop")
    }

    /// Mounts a disk so that nothing is written back unless it is asked for.
    ///
    /// # Errors
    /// As [`Disks::mount`].
    pub fn mount_quiet(&self, name: &str, at: &Path) -> Result<Mounted> {
        self.mount_with(name, at, self.kind.quiet())
    }

    fn mount_with(&self, name: &str, at: &Path, options: &str) -> Result<Mounted> {
        fs::create_dir_all(at)?;
        output(
            command("mount", ["-t", self.kind.name(), "-o", options])
                .arg(self.image(name))
                .arg(at),
        )?;
        Mounted::find(at)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.img"))
    }
}

impl Mounted {
    fn find(at: &Path) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
        let device = mounts
            .lines()
            .filter_map(|line| {
                let (left, right) = line.split_once(" - ")?;
                let target = left.split(' ').nth(4)?;
                let source = right.split(' ').nth(1)?;
                (Path::new(target) == at).then(|| source.trim_start_matches("/dev/").to_owned())
            })
            .next_back();
        Ok(Self {
            at: at.to_owned(),
            device: device.with_context(|| format!("{} is not mounted", at.display()))?,
            there: true,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// How much was ever written to the device: while this stays the same, so does what a cut would leave.
    ///
    /// # Errors
    /// The statistics cannot be read.
    pub fn written(&self) -> Result<u64> {
        let path = Path::new("/sys/class/block").join(&self.device).join("stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let sectors = text.split_whitespace().nth(6).and_then(|word| word.parse().ok());
        sectors.with_context(|| format!("{} has no count of written sectors", path.display()))
    }

    /// Writes everything back.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn sync(&self) -> Result<()> {
        node_images::durable::sync_filesystem(&self.at).map_err(Into::into)
    }

    /// Takes every block and inode that is left, as somebody else on the same file system would.
    ///
    /// # Errors
    /// It fails in another way than for lack of space.
    pub fn fill(&self) -> Result<()> {
        let ballast = self.at.join(BALLAST);
        fs::create_dir_all(&ballast)?;
        let file = fs::File::create(ballast.join("blocks"))?;
        take_blocks(&file)?;
        for number in 0.. {
            // With some content where that fits: there is room for it elsewhere than in the file.
            match fs::write(ballast.join(number.to_string()), [0; 4096]) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                    if !ballast.join(number.to_string()).exists() {
                        return Ok(());
                    }
                }
                Err(e) => return Err(e).context("fill the disk"),
            }
        }
        Ok(())
    }

    /// Takes every block that is left but these.
    ///
    /// # Errors
    /// It fails in another way than for lack of space.
    pub fn leave(&self, bytes: u64) -> Result<()> {
        let ballast = self.at.join(BALLAST);
        fs::create_dir_all(&ballast)?;
        let file = fs::File::create(ballast.join("blocks"))?;
        let taken = take_blocks(&file)?;
        file.set_len(taken.saturating_sub(bytes))?;
        // Only what is durably gone is free on every file system.
        file.sync_all().context("fill the disk")
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn free(&self) -> Result<u64> {
        self.sync()?;
        let found = nix::sys::statvfs::statvfs(&self.at).context("ask for free space")?;
        Ok(found.blocks_free() * found.fragment_size())
    }

    /// Ends the file system as an error of its journal does (FS_IOC_SHUTDOWN without a flush): it takes no write any more,
    /// and loses what had not reached the disk.
    ///
    /// # Errors
    /// It refuses, or xfsprogs are missing.
    pub fn shut_down(&self) -> Result<()> {
        output(command("xfs_io", ["-x", "-c", "shutdown"]).arg(&self.at)).map(drop)
    }

    /// Gives back what [`Mounted::fill`] or [`Mounted::leave`] took.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn empty(&self) -> Result<()> {
        crate::cache::remove(&self.at.join(BALLAST))
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// Something still uses it.
    pub fn unmount(mut self) -> Result<()> {
        nix::mount::umount(&self.at).with_context(|| format!("unmount {}", self.at.display()))?;
        self.there = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            // On the way out of a failure; the mount namespace ends soon anyway.
            let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn sparse(path: &Path, size: u64) -> Result<()> {
    let file = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(size)
        .with_context(|| format!("make {} large enough", path.display()))
}

/// Gives a file every block that is left; returns its size.
fn take_blocks(file: &fs::File) -> Result<u64> {
    let (mut have, mut step) = (0, 1_i64 << 30);
    while step >= 4096 {
        match fallocate(file.as_raw_fd(), FallocateFlags::empty(), have, step) {
            Ok(()) => have += step,
            Err(Errno::ENOSPC) => step /= 2,
            Err(e) => return Err(e).context("fill the disk"),
        }
    }
    Ok(have.cast_unsigned())
}
