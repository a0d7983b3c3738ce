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
mod node_toml;
mod release_document;
mod rendered_files;
mod signatures;
mod unit_rendering;
mod unit_syntax;

use std::sync::OnceLock;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("bus_arguments", bus_arguments::run),
    ("foreign_text", foreign_text::run),
    ("image_documents", image_documents::run),
    ("journal", journal::run),
    ("layer_tar", layer_tar::run),
    ("node_toml", node_toml::run),
    ("release_document", release_document::run),
    ("rendered_files", rendered_files::run),
    ("signatures", signatures::run),
    ("unit_rendering", unit_rendering::run),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| chosen()(data));

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
