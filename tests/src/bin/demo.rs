//! `demo`: tells the story of a compute node, and leaves the node up to be looked at.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use node_tests::story::Story;
use node_tests::tale::{NODE, Props, tell};

/// The story of a compute node that runs from images.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The tree that `make install DESTDIR=TREE` has made
    #[arg(long, value_name = "TREE")]
    stage: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut story = Story::begin("A compute node that runs from images");
    match tell(
        &mut story,
        &Props {
            stage: arguments.stage,
        },
    ) {
        Ok(_) => {
            story.end();
            look_around();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            look_around();
            ExitCode::FAILURE
        }
    }
}

fn look_around() {
    let program = std::env::current_exe()
        .unwrap_or_default()
        .with_file_name("testnode");
    // Whoever came here through sudo needs it again.
    let sudo = if std::env::var_os("SUDO_USER").is_some() {
        "sudo "
    } else {
        ""
    };
    let testnode = format!("{sudo}{}", program.display());
    eprintln!(
        "\nEverything that is up stays up. To look around:\n\
         \x20 {testnode} shell {NODE}\n\
         \x20 {testnode} exec {NODE} -- nodectl status\n\
         \x20 {testnode} exec {NODE} -- systemctl list-units 'ovs*' 'virt*' 'libvirt*' 'nova*'\n\
         \x20 {testnode} control-plane openstack -- server list\n\
         To take all of it down:\n\
         \x20 make demo-down"
    );
}
