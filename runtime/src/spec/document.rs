//! The configuration as a document that is the same whenever the configuration is: a bundle is named
//! by its bytes, and a name that changes by itself would restart the service.

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::SpecError;

/// The configuration as JSON, with its sets in alphabetical order: the OCI types keep capabilities
/// in hash sets, whose order differs from run to run.
///
/// # Errors
/// The configuration has no JSON form.
pub fn document(spec: &Spec) -> Result<Value, SpecError> {
    let mut document =
        serde_json::to_value(spec).map_err(|e| SpecError::invalid("config.json", e.to_string()))?;
    let sets = document
        .pointer_mut("/process/capabilities")
        .and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
        if let Value::Array(names) = set {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder, ProcessBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn the_document_does_not_depend_on_the_order_of_hash_sets() {
        let spec = || {
            let all = [
                Capability::Chown,
                Capability::Kill,
                Capability::Setuid,
                Capability::Setgid,
                Capability::NetAdmin,
                Capability::SysAdmin,
                Capability::Mknod,
                Capability::Fowner,
            ];
            // Each set has a hasher of its own, so equal sets iterate in different orders.
            let capabilities = LinuxCapabilitiesBuilder::default()
                .bounding(std::collections::HashSet::from(all))
                .build()
                .unwrap();
            let process = ProcessBuilder::default()
                .capabilities(capabilities)
                .build()
                .unwrap();
            SpecBuilder::default().process(process).build().unwrap()
        };
        let first = document(&spec()).unwrap().to_string();
        for _ in 0..20 {
            assert_eq!(document(&spec()).unwrap().to_string(), first);
        }
    }
}
