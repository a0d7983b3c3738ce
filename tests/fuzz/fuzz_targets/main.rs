//! All targets of the fuzzer in one program: linking what noded consists of once takes a minute, a dozen times would
//! take a quarter of an hour. `NODECTL_FUZZ_TARGET` names the target; `run.sh` sets it.
//!
//! A target takes any bytes. It panics, which the fuzzer reports, where a promise of the code does not hold.

#![no_main]

mod bus_arguments;
mod fields;
mod foreign_text;
mod image_documents;
mod journal;
mod layer_tar;
mod mutations;
mod node_toml;
mod oci_configuration;
mod release_document;
mod rendered_files;
mod signatures;
mod unit_rendering;
mod unit_syntax;

use std::sync::OnceLock;

use mutations::Dice;

/// What is done with an input, and how inputs are changed.
type Target = (fn(&[u8]), fn(&[u8], &mut Dice) -> Vec<u8>);

const TARGETS: &[(&str, Target)] = &[
    ("bus_arguments", (bus_arguments::run, mutations::text)),
    ("foreign_text", (foreign_text::run, mutations::text)),
    ("image_documents", (image_documents::run, mutations::text)),
    ("journal", (journal::run, mutations::text)),
    ("layer_tar", (layer_tar::run, mutations::archive)),
    ("node_toml", (node_toml::run, mutations::text)),
    ("oci_configuration", (oci_configuration::run, mutations::text)),
    ("release_document", (release_document::run, mutations::text)),
    ("rendered_files", (rendered_files::run, mutations::text)),
    ("signatures", (signatures::run, mutations::text)),
    ("unit_rendering", (unit_rendering::run, mutations::text)),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| (chosen().0)(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    // The other half is the fuzzer's own, which takes words from the dictionary.
    if dice.below(2) == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let input = match dice.below(3) {
        0 => mutations::seed(&mut dice).unwrap_or(&data[..size]),
        _ => &data[..size],
    };
    let changed = (chosen().1)(input, &mut dice);
    let size = changed.len().min(max_size);
    data[..size].copy_from_slice(&changed[..size]);
    size
});

fn chosen() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("NODECTL_FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(known, _)| *known == name) {
            Some((_, run)) => *run,
            None => panic!("NODECTL_FUZZ_TARGET={name:?} names none of the targets"),
        }
    })
}
