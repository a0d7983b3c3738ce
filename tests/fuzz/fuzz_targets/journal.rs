//! What noded and the store read back from the disk: any bytes there are refused, or are what would be written again, and
//! nothing in them becomes a path outside its directory.
//!
//! Fields: a letter for the file and its bytes; several files may be there at once.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use node_agent::api::{HistoryEntry, ReleaseInfo};
use node_agent::checked::{self, Checked};
use node_agent::deployment::{Deployment, DeploymentDocument, Seq, current, list, next_seq};
use node_agent::engine::Transaction;
use node_agent::rejected::{self, Rejected};
use node_agent::root::Roots;
use node_agent::{history, newest, pins};

use super::image_documents::same_again;

pub fn run(data: &[u8]) {
    let roots = roots();
    reset(roots);
    for field in data.split(|byte| *byte == 0xff) {
        let Some((kind, bytes)) = field.split_first() else {
            continue;
        };
        let path = match kind {
            b'T' => roots.transaction(),
            b'H' => roots.history(),
            b'C' => roots.checked(),
            b'N' => roots.newest(),
            b'R' => roots.rejected().join(format!("{}.json", "ab".repeat(32))),
            b'P' => roots.pins().join("1"),
            b'D' => roots.deployment(Seq(1)).join("deployment.json"),
            b'L' => roots.deployment(Seq(1)).join("release.json"),
            b'U' => roots.deployment(Seq(1)).join("units/s.service"),
            _ => continue,
        };
        fs::write(path, bytes).expect("written");
        same_again::<Rejected>(bytes);
        same_again::<Checked>(bytes);
        same_again::<DeploymentDocument>(bytes);
        same_again::<HistoryEntry>(bytes);
        same_again::<ReleaseInfo>(bytes);
    }
    check(roots);
}

fn roots() -> &'static Roots {
    static ROOTS: OnceLock<Roots> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("nodectl-fuzz-{}", std::process::id()));
        let roots = Roots::under(&base);
        for directory in [
            roots.rejected(),
            roots.pins(),
            roots.deployment(Seq(1)).join("units"),
        ] {
            fs::create_dir_all(directory).expect("a directory");
        }
        roots
    })
}

fn reset(roots: &Roots) {
    let deployment = roots.deployment(Seq(1));
    for file in [
        roots.transaction(),
        roots.history(),
        roots.checked(),
        roots.newest(),
        roots.pins().join("1"),
    ] {
        let _ = fs::remove_file(file);
    }
    let _ = fs::remove_file(roots.rejected().join(format!("{}.json", "ab".repeat(32))));
    for name in ["deployment.json", "release.json", "units/s.service"] {
        let _ = fs::remove_file(deployment.join(name));
    }
}

fn check(roots: &Roots) {
    if let Ok(Some(transaction)) = Transaction::load(roots) {
        check_transaction(&transaction);
    }
    let entries = history::read(roots).expect("damaged lines are passed over");
    for entry in &entries {
        let count = entries.iter().filter(|other| other.id == entry.id).count();
        assert_eq!(count, 1, "operation {} is there twice", entry.id);
    }
    let used = entries.iter().flat_map(|entry| [entry.from, entry.to]).flatten();
    let used: Vec<Seq> = used.collect();
    if let Ok(next) = next_seq(roots, used.iter().copied()) {
        assert!(
            used.iter().all(|seq| *seq < next) && next > Seq(1),
            "{next} was in use"
        );
        assert_eq!(Seq::parse(&next.to_string()), Some(next));
    }
    assert_eq!(list(roots).expect("a directory"), [Seq(1)]);
    assert_eq!(current(roots).expect("no link"), None);
    assert!(pins::all(roots).expect("pins").len() <= 1);
    assert!(
        rejected::all(roots)
            .expect("a record that is damaged counts")
            .len()
            <= 1
    );
    checked::load(roots);
    if let Ok(deployment) = Deployment::load(roots, Seq(1)) {
        assert_eq!(deployment.document.seq, Seq(1));
        for (name, service) in &deployment.document.services {
            check_name(name);
            check_name(&service.unit);
        }
        let _ = newest::check(roots, &deployment.document.release, None);
    }
}

/// It is joined to the deployment's directory.
fn check_name(name: &str) {
    let inside = Path::new(name)
        .components()
        .eq([std::path::Component::Normal(name.as_ref())]);
    assert!(inside, "{name:?} leads out of the deployment");
}

fn check_transaction(transaction: &Transaction) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    assert!(!transaction.id.is_empty() && transaction.id.len() <= 255 && transaction.id.chars().all(plain));
    let state = transaction.state().expect("it was checked");
    assert_eq!(state.phase(), transaction.phase);
    assert_eq!(state.movement(), Some(&transaction.movement));
    let mut same = transaction.clone();
    same.follow(&state);
    assert_eq!(&same, transaction);
    let text = serde_json::to_vec(transaction).expect("a journal is JSON");
    let back: Transaction = serde_json::from_slice(&text).expect("what was written reads back");
    assert_eq!(&back, transaction);
}
