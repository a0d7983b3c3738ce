//! Which trees living processes have mounted, from mount tables (proc_pid_mountinfo(5)).
//!
//! A guest keeps the mount namespace of the libvirt that started it, and with it that tree, for as long as
//! it runs. What is named here in doubt is kept: the fields are searched, not matched to one store.
//!
//! /proc/PID/mountinfo shows only what is below the root of that process: that of a process in a chroot hides the tree
//! it runs from. So each mount namespace is entered, and its table read from its own root; where that is not permitted,
//! the tables of all its threads have to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::fchdir;

use super::{Store, documents};
use crate::digest::Digest;
use crate::error::StoreError;

/// The processes that have a tree mounted, by image.
pub type Holders = BTreeMap<Digest, BTreeSet<u32>>;

/// A mount namespace.
#[derive(Debug, Default)]
struct Namespace {
    /// Ways to it, one for each thread in it.
    threads: Vec<PathBuf>,
    processes: BTreeSet<u32>,
}

impl Store {
    /// Images of this store whose trees any living process still has mounted, in any mount namespace, and these
    /// processes.
    ///
    /// # Errors
    /// A mount table cannot be read; garbage collection must then not go on.
    pub fn roots_in_use(&self) -> Result<Holders, StoreError> {
        let mut holders = holders(Path::new("/proc"), read_table)?;
        let here: BTreeSet<_> = documents::digests_in(&self.layout.trees())?.into_iter().collect();
        holders.retain(|image, _| here.contains(image));
        Ok(holders)
    }
}

fn holders(proc: &Path, read: fn(&Path) -> io::Result<Vec<u8>>) -> Result<Holders, StoreError> {
    let mut holders = Holders::new();
    for namespace in namespaces(proc)?.values() {
        for image in trees_of(namespace, read)? {
            holders.entry(image).or_default().extend(&namespace.processes);
        }
    }
    Ok(holders)
}

/// The trees that are mounted in a namespace; none if everybody in it is gone.
fn trees_of(
    namespace: &Namespace,
    read: fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<BTreeSet<Digest>, StoreError> {
    for thread in &namespace.threads {
        match read(thread) {
            Ok(table) => return Ok(trees_in(&table)),
            Err(e) if is_gone(&e) => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return trees_seen(namespace),
            Err(e) => return Err(StoreError::io("read the mount table of", thread)(e)),
        }
    }
    Ok(BTreeSet::new())
}

/// The trees that the threads of a namespace see.
fn trees_seen(namespace: &Namespace) -> Result<BTreeSet<Digest>, StoreError> {
    let mut trees = BTreeSet::new();
    for thread in &namespace.threads {
        let path = thread.join("mountinfo");
        match fs::read(&path) {
            Ok(table) => trees.extend(trees_in(&table)),
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(StoreError::io("read", &path)(e)),
        }
    }
    Ok(trees)
}

fn namespaces(proc: &Path) -> Result<BTreeMap<PathBuf, Namespace>, StoreError> {
    let mut found: BTreeMap<PathBuf, Namespace> = BTreeMap::new();
    for process in numbered(proc)? {
        let pid = process
            .file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok());
        for thread in numbered(&process.join("task"))? {
            let name = match fs::read_link(thread.join("ns/mnt")) {
                Ok(name) => name,
                Err(e) if is_gone(&e) => continue,
                // It can't be told apart: it counts as one of its own.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => thread.clone(),
                Err(e) => return Err(StoreError::io("find the mount namespace of", &thread)(e)),
            };
            let namespace = found.entry(name).or_default();
            namespace.threads.push(thread);
            namespace.processes.extend(pid);
        }
    }
    Ok(found)
}

/// Reads the mount table that a process at the root of a thread's mount namespace would see. setns(2) needs a thread
/// whose root and working directory are its own; they are changed with the namespace and go with the thread.
fn read_table(thread: &Path) -> io::Result<Vec<u8>> {
    let namespace = File::open(thread.join("ns/mnt"))?;
    let proc = File::open("/proc")?;
    let inside = move || -> io::Result<Vec<u8>> {
        unshare(CloneFlags::CLONE_FS)?;
        setns(&namespace, CloneFlags::CLONE_NEWNS)?;
        // The namespace need not have a proc file system of its own.
        fchdir(proc.as_raw_fd())?;
        fs::read("thread-self/mountinfo")
    };
    let table = std::thread::spawn(inside).join();
    let table = table.unwrap_or_else(|_| Err(io::Error::other("the thread that reads it panicked")));
    // Whoever was found is still there: what fails now is no end of a process.
    table.map_err(|e| if is_gone(&e) { io::Error::other(e) } else { e })
}

/// The entries of a directory of /proc whose names are numbers; none if the process is gone.
fn numbered(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
                paths.push(entry.path());
            }
        }
        Ok(paths)
    };
    match list() {
        Err(e) if is_gone(&e) => Ok(Vec::new()),
        other => other.map_err(StoreError::io("list", dir)),
    }
}

/// A process that ended meanwhile, or a zombie, which has no mounts any more.
fn is_gone(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || raw == Some(nix::libc::ESRCH) || raw == Some(nix::libc::EINVAL)
}

/// What follows `trees/` in the root of a bind mount or the layers of an overlay.
fn trees_in(table: &[u8]) -> BTreeSet<Digest> {
    let table = String::from_utf8_lossy(table);
    let named = table.split("/trees/").skip(1);
    named
        .filter_map(|after| Digest::from_hex(after.get(..64)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_found_wherever_the_table_names_them() {
        let [a, b, c] = ["a", "b", "c"].map(|s| Digest::of(s.as_bytes()));
        let table = format!(
            "36 35 98:0 /var/lib/nodectl/store/trees/{} / ro,noatime shared:1 - ext4 /dev/vda ro\n\
             37 35 98:0 /store/trees/{}/usr /mnt ro - ext4 /dev/vdb ro\n\
             38 35 0:9 / /x rw - overlay overlay rw,lowerdir=/s/trees/{}:/s/trees/short,workdir=/w\n\
             39 35 98:0 / /trees/ rw - ext4 /dev/vda rw\n",
            a.hex(),
            b.hex(),
            c.hex()
        );
        assert_eq!(trees_in(table.as_bytes()), BTreeSet::from([a, b, c]));
    }

    fn thread(proc: &Path, process: &str, thread: &str, namespace: &str, table: Option<&str>) {
        let directory = proc.join(process).join("task").join(thread);
        fs::create_dir_all(directory.join("ns")).unwrap();
        std::os::unix::fs::symlink(namespace, directory.join("ns/mnt")).unwrap();
        if let Some(table) = table {
            fs::write(directory.join("mountinfo"), table).unwrap();
        }
    }

    #[test]
    fn every_namespace_counts_once_and_is_read_through_whoever_lives() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|s| Digest::of(s.as_bytes()));
        let line = |digest: Digest| format!("1 1 1:1 /store/trees/{} / ro - ext4 d ro\n", digest.hex());
        thread(dir.path(), "7", "7", "mnt:[1]", Some(&line(a)));
        thread(dir.path(), "7", "8", "mnt:[2]", Some(&line(b)));
        // The first in a namespace has ended meanwhile, or never was whole.
        thread(dir.path(), "5", "5", "mnt:[1]", None);
        thread(dir.path(), "9", "9", "mnt:[3]", None);
        fs::create_dir_all(dir.path().join("10/task/10")).unwrap();
        fs::create_dir_all(dir.path().join("11")).unwrap();
        fs::create_dir_all(dir.path().join("sys/task")).unwrap();
        let found = holders(dir.path(), |thread| fs::read(thread.join("mountinfo"))).unwrap();
        let expected = [(a, BTreeSet::from([5, 7])), (b, BTreeSet::from([7]))];
        assert_eq!(found, Holders::from(expected));
    }

    #[test]
    fn where_entering_is_not_permitted_all_that_is_seen_counts() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|s| Digest::of(s.as_bytes()));
        let line = |digest: Digest| format!("1 1 1:1 /store/trees/{} / ro - ext4 d ro\n", digest.hex());
        thread(dir.path(), "7", "7", "mnt:[1]", Some(&line(a)));
        thread(dir.path(), "8", "8", "mnt:[1]", Some(&line(b)));
        thread(dir.path(), "9", "9", "mnt:[1]", None);
        let found = holders(dir.path(), |_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([a, b]));
    }

    #[test]
    fn a_table_that_cannot_be_read_stops_everything() {
        let dir = tempfile::tempdir().unwrap();
        thread(dir.path(), "7", "7", "mnt:[1]", Some(""));
        let error = holders(dir.path(), |_| Err(io::ErrorKind::OutOfMemory.into())).unwrap_err();
        assert!(error.to_string().contains("7/task/7"), "{error}");
    }
}
