//! Where an image of a release is. Pure.

use node_images::digest::Digest;
use node_images::reference::{Reference, ReferenceError};

/// The reference of an image by its repository in the release: absolute where its first part names a registry, else a
/// sibling of the release's own repository. `None` where the release is in a file: its images are in the same file.
///
/// # Errors
///
/// The repository is no legal name.
pub fn image(
    release: &Reference,
    repository: &str,
    digest: &Digest,
) -> Result<Option<Reference>, ReferenceError> {
    let first = repository.split('/').next().unwrap_or_default();
    let names_registry = repository.contains('/') && (first == "localhost" || first.contains(['.', ':']));
    let name = match (names_registry, release.repository()) {
        (true, _) => repository.to_owned(),
        (false, Some(own)) => match own.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{repository}"),
            None => return Ok(None),
        },
        (false, None) => return Ok(None),
    };
    let reference: Reference = format!("{name}@{digest}").parse()?;
    // `oci:./x` has a colon, too: a release of a registry names no files of this host.
    match reference {
        Reference::Registry(_) => Ok(Some(reference)),
        Reference::Layout { .. } | Reference::Archive { .. } => {
            Err(ReferenceError::Repository(repository.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_siblings_of_the_release_unless_they_name_a_registry() {
        let digest = Digest::of(b"x");
        let table = [
            (
                "r.example:5000/a/compute-release:1",
                "libvirt",
                Some("r.example:5000/a/libvirt"),
            ),
            (
                "r.example:5000/compute-release:1",
                "libvirt",
                Some("r.example:5000/libvirt"),
            ),
            (
                "r.example:5000/compute-release:1",
                "sub/libvirt",
                Some("r.example:5000/sub/libvirt"),
            ),
            (
                "r.example/compute-release:1",
                "q.example/kolla/libvirt",
                Some("q.example/kolla/libvirt"),
            ),
            (
                "r.example/compute-release:1",
                "localhost/libvirt",
                Some("localhost/libvirt"),
            ),
            ("oci:/tmp/x", "libvirt", None),
            ("./bundle.tar", "libvirt", None),
            (
                "./bundle.tar",
                "q.example/kolla/libvirt",
                Some("q.example/kolla/libvirt"),
            ),
        ];
        for (release, repository, expected) in table {
            let release: Reference = release.parse().unwrap();
            let found = image(&release, repository, &digest).unwrap();
            let name = found.as_ref().and_then(Reference::repository);
            assert_eq!(name.as_deref(), expected, "{repository}");
            assert!(found.is_none_or(|reference| reference.digest() == Some(digest)));
        }
    }

    #[test]
    fn a_file_of_the_host_is_no_repository() {
        let release: Reference = "r.example/a/release:1".parse().unwrap();
        for repository in ["oci:./x", "oci:/srv/x", "oci-archive:/srv/x.tar", "./x", "../x"] {
            let found = image(&release, repository, &Digest::of(b"x"));
            assert!(found.is_err(), "{repository} is {found:?}");
        }
    }
}
