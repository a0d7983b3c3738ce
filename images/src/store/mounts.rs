//! Which trees living processes have mounted, from /proc/*/mountinfo (proc(5)).
//!
//! A guest keeps the mount namespace of the libvirt that started it, and with it that tree, for as long as
//! it runs. What is named here in doubt is kept: the fields are searched, not matched to one store.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Store, documents};
use crate::digest::Digest;
use crate::error::StoreError;

impl Store {
    /// Images of this store whose trees any living process still has mounted, in any mount namespace.
    ///
    /// # Errors
    /// A mount table cannot be read; garbage collection must then not go on.
    pub fn roots_in_use(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut roots = mounted_trees(Path::new("/proc"))?;
        let here: BTreeSet<_> = documents::digests_in(&self.layout.trees())?.into_iter().collect();
        roots.retain(|root| here.contains(root));
        Ok(roots)
    }
}

fn mounted_trees(proc: &Path) -> Result<BTreeSet<Digest>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut roots = BTreeSet::new();
    for process in numbered(proc)? {
        for thread in numbered(&process.join("task"))? {
            // Most threads share a mount namespace; one that cannot be told apart is read.
            let namespace = fs::read_link(thread.join("ns/mnt"));
            if namespace.is_ok_and(|namespace| !seen.insert(namespace)) {
                continue;
            }
            let path = thread.join("mountinfo");
            match fs::read(&path) {
                Ok(table) => trees_in(&String::from_utf8_lossy(&table), &mut roots),
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(StoreError::io("read", &path)(e)),
            }
        }
    }
    Ok(roots)
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

/// Collects what follows `trees/` in the root of a bind mount or the layers of an overlay.
fn trees_in(table: &str, roots: &mut BTreeSet<Digest>) {
    for after in table.split("/trees/").skip(1) {
        if let Some(digest) = after.get(..64).and_then(|hex| Digest::from_hex(hex).ok()) {
            roots.insert(digest);
        }
    }
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
        let mut roots = BTreeSet::new();
        trees_in(&table, &mut roots);
        assert_eq!(roots, BTreeSet::from([a, b, c]));
    }

    #[test]
    fn every_namespace_counts_and_dead_processes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        let task = dir.path().join("7/task/8");
        fs::create_dir_all(&task).unwrap();
        fs::create_dir_all(dir.path().join("9/task/9")).unwrap();
        fs::create_dir_all(dir.path().join("10")).unwrap();
        fs::create_dir_all(dir.path().join("sys/task")).unwrap();
        let line = format!("1 1 1:1 /store/trees/{} / ro - ext4 d ro\n", digest.hex());
        fs::write(task.join("mountinfo"), line).unwrap();
        assert_eq!(mounted_trees(dir.path()).unwrap(), BTreeSet::from([digest]));
    }
}
