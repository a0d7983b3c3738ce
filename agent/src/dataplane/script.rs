//! Writes what is done in the service's container, as scripts for sh(1): one process to enter the container for many
//! that work there, since what `finish` takes is time in which no new flow gets through.

use std::fmt::Write as _;

use super::saved::{Bridge, Saved};
use super::text::MARK;

/// Lists all bridges.
pub(super) const BRIDGES: &str =
    "exec ovs-vsctl --timeout=5 --format=json --columns=name,protocols list Bridge\n";

/// Makes the next ovs-vswitchd wait. The present one has read that it need not, and never looks again.
pub(super) const HOLD: &str =
    "exec ovs-vsctl --timeout=5 --no-wait set Open_vSwitch . other_config:flow-restore-wait=true\n";

/// Whether the present ovs-vswitchd was told to wait: prints `true` then.
pub(super) const HELD: &str =
    "exec ovs-vsctl --timeout=5 --if-exists get Open_vSwitch . other_config:flow-restore-wait\n";

/// For a process to which nothing is given: lets it handle packets, and returns when it does. The database of a new
/// node has no row yet.
pub(super) const BEGIN: &str = "set -eu
ovs-vsctl --timeout=20 --no-wait init
ovs-vsctl --timeout=30 remove Open_vSwitch . other_config flow-restore-wait
";

/// Ends with the first failure. Waits for what comes up, but for a process that has ended nobody waits: its successor
/// can't be started before this script is over.
const PRELUDE: &str = "set -eu
uptime() {
  read -r now _ </proc/uptime
  now=${now%%.*}
}
patiently() {
  uptime
  deadline=$((now + 20))
  until \"$@\" >/dev/null 2>&1; do
    kill -0 \"$main\"
    uptime
    if [ $now -ge $deadline ]; then
      \"$@\"
    fi
    sleep 0.05
  done
}
# A port that nobody wants any more is none that is missing.
wanted() {
  [ -n \"$(ovs-vsctl --timeout=5 --if-exists get Interface \"$1\" name)\" ]
}
ports_are_there() {
  there=$(ovs-ofctl --timeout=5 -O \"$2\" dump-ports-desc \"$1\" | sed -n 's/^ *\\([^ (]*\\)(\\(.*\\)): addr:.*/\\1 \\2/p')
  lacking=$(grep -Fxv -e \"$there\" || :)
  [ -z \"$lacking\" ] || while read -r number port; do
    if wanted \"$port\"; then
      echo \"bridge $1 has no port $port with number $number\" >&2
      exit 1
    fi
  done <<LACKING
$lacking
LACKING
}
flows_are_there() {
  there=$(ovs-ofctl --timeout=5 -O \"$2\" dump-aggregate \"$1\")
  there=${there##*flow_count=}
  if [ \"$there\" -lt \"$3\" ]; then
    echo \"bridge $1 has $there of $3 flows\" >&2
    exit 1
  fi
}
";

/// Prints everything of these bridges that is handed over; flows last, since they change most.
pub fn observe(bridges: &[Bridge]) -> String {
    let mut script = format!(
        "set -eu\ndump() {{\n  printf '{MARK}%s %s\\n' \"$1\" \"$2\"\n  shift 2\n  ovs-ofctl --timeout=5 \"$@\"\n}}\n"
    );
    for (kind, command) in [
        ("ports", "dump-ports-desc"),
        ("tunnel-fields", "dump-tlv-map"),
        ("meters", "dump-meters"),
        ("groups", "dump-groups"),
        ("flows", "--no-names --no-stats dump-flows"),
    ] {
        for (index, bridge) in bridges.iter().enumerate() {
            if kind == "meters" && number(bridge) < 13 {
                continue;
            }
            let (version, name) = (quoted(&bridge.version), quoted(&bridge.name));
            line(
                &mut script,
                format_args!("dump {index} {kind} -O {version} {command} {name}"),
            );
        }
    }
    script
}

/// Puts back all of it and looks whether it is there, then lets ovs-vswitchd, this process, handle packets. It may have
/// been tried before.
pub fn take_over(saved: &Saved, main: u32) -> String {
    let mut script = format!("main={main}\n{PRELUDE}");
    for bridge in &saved.bridges {
        restore(&mut script, bridge);
    }
    for bridge in &saved.bridges {
        compare(&mut script, bridge);
    }
    script.push_str("ovs-vsctl --timeout=20 remove Open_vSwitch . other_config flow-restore-wait\n");
    script
}

fn restore(script: &mut String, bridge: &Bridge) {
    let (version, name) = (quoted(&bridge.version), quoted(&bridge.name));
    let ofctl = format!("ovs-ofctl --timeout=20 -O {version}");
    // Bridges answer when all their ports are there.
    line(
        script,
        format_args!("patiently ovs-ofctl --timeout=2 -O {version} probe {name}"),
    );
    if !bridge.tunnel_fields.is_empty() {
        let fields = quoted(&bridge.tunnel_fields.join(","));
        line(
            script,
            format_args!("{ofctl} del-tlv-map {name}\n{ofctl} add-tlv-map {name} {fields}"),
        );
    }
    for meter in bridge.meters.iter().map(|m| quoted(m)) {
        line(
            script,
            format_args!("{ofctl} add-meter {name} {meter} || {ofctl} mod-meter {name} {meter}"),
        );
    }
    // All or nothing, from the version of OpenFlow on that has it.
    let bundle = if number(bridge) >= 14 { " --bundle" } else { "" };
    if !bridge.groups.is_empty() {
        let groups: Vec<String> = bridge.groups.iter().map(|g| format!("add_or_mod {g}")).collect();
        fed(script, &format!("{ofctl}{bundle} add-groups {name} -"), &groups);
    }
    fed(
        script,
        &format!("{ofctl}{bundle} replace-flows {name} -"),
        &bridge.flows,
    );
}

/// Ends the script if a port of the bridge is not where it was, or a flow is missing. Nobody adds or removes flows
/// as long as ovs-vswitchd waits: it has no controllers then.
fn compare(script: &mut String, bridge: &Bridge) {
    let (version, name) = (quoted(&bridge.version), quoted(&bridge.name));
    let ports: Vec<String> = bridge
        .ports
        .iter()
        .map(|(port, number)| format!("{number} {port}"))
        .collect();
    fed(script, &format!("ports_are_there {name} {version}"), &ports);
    line(
        script,
        format_args!("flows_are_there {name} {version} {}", bridge.flows.len()),
    );
}

/// A command that reads these lines. They end with a line that is none of them.
fn fed(script: &mut String, command: &str, lines: &[String]) {
    let mut end = "END-OF-LINES".to_owned();
    while lines.iter().flat_map(|text| text.lines()).any(|text| text == end) {
        end.push('-');
    }
    line(script, format_args!("{command} <<'{end}'"));
    for text in lines {
        line(script, format_args!("{text}"));
    }
    line(script, format_args!("{end}"));
}

fn line(script: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(script, "{text}");
}

/// The number of an OpenFlow version: 14 of `OpenFlow14`.
fn number(bridge: &Bridge) -> u32 {
    let digits = bridge.version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(0)
}

/// A word of sh that means exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn bridge(version: &str) -> Bridge {
        Bridge {
            name: "br'0".into(),
            version: version.into(),
            flows: vec!["cookie=0x1, actions=drop".into()],
            ..Bridge::default()
        }
    }

    fn saved(bridge: Bridge) -> Saved {
        Saved {
            bridges: vec![bridge],
            at_ms: 0,
            attempts: 1,
        }
    }

    #[test]
    fn flows_come_back_before_the_dataplane_is_let_go() {
        let script = take_over(&saved(bridge("OpenFlow14")), 7);
        let flows = script.find("--bundle replace-flows 'br'\\''0' -").unwrap();
        let content = script.find("\ncookie=0x1, actions=drop\nEND-OF-LINES\n").unwrap();
        let go = script
            .find("remove Open_vSwitch . other_config flow-restore-wait")
            .unwrap();
        assert!(flows < content && content < go, "{script}");
        for absent in ["tlv", "meter", "group"] {
            assert!(
                !script.contains(absent),
                "nothing of {absent} was there: {script}"
            );
        }
    }

    #[test]
    fn what_flows_refer_to_comes_before_them() {
        let script = take_over(
            &saved(Bridge {
                tunnel_fields: vec!["{a}".into(), "{b}".into()],
                meters: vec!["meter=1".into()],
                groups: vec!["group_id=1".into()],
                ..bridge("OpenFlow13")
            }),
            7,
        );
        let at = |text: &str| {
            script
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {script}"))
        };
        let order = [
            at("add-tlv-map 'br'\\''0' '{a},{b}'"),
            at("add-meter 'br'\\''0' 'meter=1'"),
            at("add_or_mod group_id=1"),
            at("replace-flows"),
        ];
        assert!(order.is_sorted(), "{script}");
        assert!(!script.contains("--bundle"), "OpenFlow 1.3 has no bundles");
    }

    #[test]
    fn the_dataplane_is_let_go_only_when_ports_and_flows_are_there() {
        let script = take_over(
            &saved(Bridge {
                ports: [("tap1".to_owned(), "3".to_owned())].into(),
                ..bridge("OpenFlow14")
            }),
            7,
        );
        let at = |text: &str| {
            script
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {script}"))
        };
        let order = [
            at("replace-flows 'br'\\''0' -"),
            at("ports_are_there 'br'\\''0' 'OpenFlow14' <<'END-OF-LINES'\n3 tap1\nEND-OF-LINES\n"),
            at("flows_are_there 'br'\\''0' 'OpenFlow14' 1\n"),
            at("remove Open_vSwitch . other_config flow-restore-wait"),
        ];
        assert!(order.is_sorted(), "{script}");
    }

    /// What the comparison says where ovs-ofctl and ovs-vsctl print this; nothing if it holds.
    fn compared(ofctl: &str, vsctl: &str) -> String {
        let tools = tempfile::tempdir().unwrap();
        for (name, output) in [("ovs-ofctl", ofctl), ("ovs-vsctl", vsctl)] {
            let tool = tools.path().join(name);
            std::fs::write(&tool, format!("#!/bin/sh\ncat <<'END'\n{output}\nEND\n")).unwrap();
            std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut script = format!("main=1\n{PRELUDE}PATH={}:$PATH\n", tools.path().display());
        let bridge = Bridge {
            name: "br0".into(),
            version: "OpenFlow14".into(),
            flows: vec!["a".into(), "b".into()],
            ports: [("tap(1)".to_owned(), "3".to_owned())].into(),
            ..Bridge::default()
        };
        compare(&mut script, &bridge);
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    }

    #[test]
    fn ports_have_their_numbers_and_no_flow_is_missing() {
        let all = " 3(tap(1)): addr:fe:00:00:00:00:01\n LOCAL(br0): addr:0\nflow_count=2";
        assert_eq!(compared(all, "tap(1)"), "");
        assert_eq!(compared(&all.replace("=2", "=12"), "tap(1)"), "");
        let flows = compared(&all.replace("=2", "=1"), "tap(1)");
        assert_eq!(flows, "bridge br0 has 1 of 2 flows\n");
        let moved = all.replace("3(tap", "4(tap");
        let ports = compared(&moved, "tap(1)");
        assert_eq!(ports, "bridge br0 has no port tap(1) with number 3\n");
        assert_eq!(compared(&moved, ""), "", "nobody wants it any more");
    }

    #[test]
    fn no_flow_ends_the_flows() {
        let hostile = ["END-OF-LINES", "a\nEND-OF-LINES-\ntouch /tmp/x"].map(str::to_owned);
        let script = take_over(
            &saved(Bridge {
                flows: hostile.to_vec(),
                ..bridge("OpenFlow14")
            }),
            7,
        );
        let end = "replace-flows 'br'\\''0' - <<'END-OF-LINES--'\n";
        let (_, rest) = script.split_once(end).unwrap();
        let fed = format!("{}\n{}\nEND-OF-LINES--\n", hostile[0], hostile[1]);
        assert!(rest.starts_with(&fed), "{script}");
    }

    /// The wait as the shell sees it, for a process that is there or not.
    fn wait(main: u32, command: &str) -> (bool, String) {
        let script = format!("main={main}\n{PRELUDE}patiently {command}\n");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    #[test]
    fn nobody_waits_for_a_process_that_has_ended() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let (found, said) = wait(ended.id(), "false");
        assert!(!found && said.contains("No such process"), "{said}");
        assert!(wait(std::process::id(), "true").0);
    }

    #[test]
    fn an_old_bridge_is_not_asked_for_meters() {
        let script = observe(&[bridge("OpenFlow10"), bridge("OpenFlow13")]);
        assert!(
            !script.contains("dump 0 meters") && script.contains("dump 1 meters"),
            "{script}"
        );
        assert!(script.find("dump 1 groups") < script.find("dump 0 flows"));
    }
}
