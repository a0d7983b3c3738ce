//! Links node-run to a fixed address. A position-independent program of Rust is relocated at more than
//! twenty thousand places each time it starts, which costs a tenth of a launch: pages written, and
//! copied again by each fork. node-run runs for milliseconds and takes no input from outside the node;
//! its libraries are still loaded at random addresses.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=node-run=-no-pie");
    // Needed when it panics only; as the shared libgcc_s it is mapped and relocated at each start, and
    // its mappings are copied by each fork.
    println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
}
