//! `testnode`: machines, network, registry and cloud for people; a thin shell over the library.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use node_tests::command::output;
use node_tests::node::{Kind, Name, Node, Setup};
use node_tests::progress::Progress;
use node_tests::{control_plane, guest, lab, paths, registry, teardown};

/// Test machines for nodectl on this host.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Which surroundings; tests have their own
    #[arg(long, value_name = "NAME", default_value = "nodectl")]
    instance: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a node: a new one, or one that was cut
    Up {
        name: Name,
        /// Copy this tree (of `make install DESTDIR=TREE`) over the root of a new node before it boots
        #[arg(long, value_name = "TREE")]
        install: Option<PathBuf>,
        /// A new node on a kernel of its own, user-mode-linux: one CPU at nearly the host's speed
        #[arg(long, conflicts_with = "vm")]
        uml: bool,
        /// A new node on a kernel and hardware of its own, QEMU
        #[arg(long)]
        vm: bool,
    },
    /// Run a command in a machine, as root
    Exec {
        name: Name,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// A root shell in a machine
    Shell { name: Name },
    /// Power cut: every process of the machine is killed at once, its disk stays
    Cut { name: Name },
    /// Reboot through the machine's own systemd
    Reboot { name: Name },
    /// Remove a machine, or everything: machines, registry, network
    Down(Down),
    /// Machines and what they are doing
    List,
    /// The network that joins machines
    #[command(subcommand)]
    Lab(Switch),
    /// The registry at 127.0.0.1:5000 in the lab, 198.51.100.1:5000 for nodes
    #[command(subcommand)]
    Registry(Switch),
    /// Run a command of this host in the lab's network
    InLab {
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// The cloud
    #[command(subcommand)]
    ControlPlane(ControlPlane),
    /// Make the guest image and print its directory
    GuestImage,
}

#[derive(Args)]
struct Down {
    #[arg(required_unless_present_any = ["all", "instance_only"])]
    name: Option<Name>,
    /// Everything of every instance
    #[arg(long, conflicts_with_all = ["name", "instance_only"])]
    all: bool,
    /// Everything of this instance
    #[arg(long, conflicts_with = "name")]
    instance_only: bool,
}

#[derive(Subcommand, Clone, Copy)]
enum Switch {
    /// Start
    Up,
    /// Stop and forget
    Down,
}

#[derive(Subcommand)]
enum ControlPlane {
    /// Build it if needed, boot it, wait until it serves
    Up,
    /// Remove it; its cached root stays
    Down,
    /// The services of nova and their states
    Status,
    /// What a compute node has to know to join, secrets included, as JSON
    Access,
    /// Run the openstack client as administrator
    Openstack {
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    paths::choose_instance(&arguments.instance);
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testnode: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up {
            name,
            install,
            uml,
            vm,
        } => {
            let kind = match (uml, vm) {
                (true, _) => Some(Kind::Uml),
                (false, true) => Some(Kind::Vm),
                (false, false) => None,
            };
            up(&name, kind, install.as_deref())?;
        }
        Command::Exec { name, argv } => return exec(&name, &argv),
        Command::Shell { name } => return Err(replace(&mut Node::find(&name)?.shell()?)),
        Command::Cut { name } => Node::find(&name)?.cut()?,
        Command::Reboot { name } => Node::find(&name)?.reboot()?,
        Command::Down(Down { name: Some(name), .. }) => Node::find(&name)?.down()?,
        Command::Down(Down { all: true, .. }) => everything()?,
        Command::Down(Down { .. }) => teardown::everything()?,
        Command::List => list()?,
        Command::Lab(Switch::Up) => lab::up()?,
        Command::Lab(Switch::Down) => lab::down()?,
        Command::Registry(Switch::Up) => registry::up()?,
        Command::Registry(Switch::Down) => registry::down()?,
        Command::InLab { argv } => return Err(replace(lab::command_inside(&argv[0]).args(&argv[1..]))),
        Command::ControlPlane(what) => cloud(what)?,
        Command::GuestImage => print(&format!("{}\n", guest::image(&Progress::start())?.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &Name, kind: Option<Kind>, install: Option<&Path>) -> Result<()> {
    match Node::find(name) {
        Ok(_) if install.is_some() => bail!("{name} exists: its disk is not made again"),
        Ok(node) => match kind.filter(|kind| *kind != node.kind()) {
            Some(kind) => bail!("{name} is a {}, not a {kind}", node.kind()),
            None => node.boot(),
        },
        Err(_) => {
            let setup = Setup::node_on(kind.unwrap_or(Kind::Box))?;
            let setup = install.iter().fold(setup, |setup, tree| setup.install(tree));
            Node::up(name, &setup).map(drop)
        }
    }
}

fn exec(name: &Name, argv: &[String]) -> Result<ExitCode> {
    Err(replace(&mut Node::find(name)?.command(argv)?))
}

/// Becomes the command; returns only when that fails.
fn replace(command: &mut std::process::Command) -> anyhow::Error {
    let error = command.exec();
    anyhow::Error::new(error).context(format!("start {}", command.get_program().display()))
}

/// Every instance is taken down by a process of its own: a process has one.
fn everything() -> Result<()> {
    let program = std::env::current_exe().context("find the own program")?;
    for other in paths::instances().context("list instances")? {
        if other != paths::instance() {
            let mut down = std::process::Command::new(&program);
            down.args(["--instance", &other, "down", "--instance-only"]);
            output(&mut down)?;
        }
    }
    teardown::everything()
}

fn list() -> Result<()> {
    let mut text = String::new();
    for node in Node::all()? {
        let state = if node.running()? { "running" } else { "off" };
        text += &format!(
            "{:<12} {:<4} {:<16} {state}\n",
            node.name(),
            node.kind(),
            node.address()
        );
    }
    if registry::running()? {
        text += &format!("{:<12} {:<4} {:<16} running\n", "(registry)", "", lab::LAB);
    }
    print(&text)
}

fn cloud(what: ControlPlane) -> Result<()> {
    match what {
        ControlPlane::Up => control_plane::up(&Progress::start()).map(drop),
        ControlPlane::Down => control_plane::down(),
        ControlPlane::Status => {
            let mut text = String::new();
            for service in node_tests::cloud::Cloud::find()?.services()? {
                text += &format!(
                    "{:<16} {:<10} {:<9} {}\n",
                    service.binary, service.host, service.status, service.state
                );
            }
            print(&text)
        }
        ControlPlane::Access => {
            let access = node_tests::cloud::Cloud::find()?.access()?;
            print(&format!("{}\n", serde_json::to_string_pretty(&access)?))
        }
        ControlPlane::Openstack { argv } => {
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            print(&node_tests::cloud::Cloud::find()?.openstack(&words)?)
        }
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).context("write to standard output")
}
