//! Reads what the tools of Open vSwitch print (ovs-vsctl(8), ovs-ofctl(8)).

use serde_json::Value;

use super::saved::Bridge;

/// Begins the line in front of each part of a [`super::script::observe`]'s output; no tool prints it.
pub(super) const MARK: char = '\u{1e}';

/// What OVS speaks where a bridge does not say otherwise, as ovs-save(8) has it.
const USUAL_VERSION: &str = "OpenFlow14";

/// Names and newest OpenFlow versions of all bridges, sorted by name, from `ovs-vsctl --format=json
/// --columns=name,protocols list Bridge`.
///
/// # Errors
/// The text is something else.
pub fn bridges(text: &str) -> Result<Vec<Bridge>, String> {
    let table: Value = serde_json::from_str(text).map_err(|e| format!("the list of bridges: {e}"))?;
    let rows = table["data"]
        .as_array()
        .ok_or("the list of bridges has no data")?;
    let mut bridges = rows
        .iter()
        .map(|row| {
            let name = row[0].as_str().ok_or("a bridge has no name")?;
            Ok(Bridge {
                name: name.to_owned(),
                version: newest(&row[1]).to_owned(),
                ..Bridge::default()
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    bridges.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bridges)
}

/// One version stands alone, any other number of them in `["set", […]]`.
fn newest(protocols: &Value) -> &str {
    let last = protocols[1].as_array().and_then(|set| set.last());
    protocols
        .as_str()
        .or_else(|| last.and_then(Value::as_str))
        .unwrap_or(USUAL_VERSION)
}

/// Fills the bridges from the output of the script that observes them.
///
/// # Errors
/// A part is of no bridge, or of no kind that is known.
pub fn fill(bridges: &mut [Bridge], output: &str) -> Result<(), String> {
    for part in output.split(MARK).skip(1) {
        let (mark, text) = part.split_once('\n').unwrap_or((part, ""));
        let (index, kind) = mark.split_once(' ').unwrap_or((mark, ""));
        let bridge = index.parse().ok().and_then(|index: usize| bridges.get_mut(index));
        let bridge = bridge.ok_or_else(|| format!("there is no bridge {index}"))?;
        match kind {
            "tunnel-fields" => bridge.tunnel_fields = text.lines().filter_map(tunnel_field).collect(),
            "meters" => bridge.meters = meters(text),
            "groups" => bridge.groups = entries(text).map(str::to_owned).collect(),
            "flows" => bridge.flows = entries(text).map(flow).collect(),
            "ports" => bridge.ports = text.lines().filter_map(port).collect(),
            other => return Err(format!("nobody asked for {other:?}")),
        }
    }
    Ok(())
}

/// Entries are indented, headers are not.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|l| l.starts_with(' '))
        .map(str::trim)
        .filter(|l| !l.is_empty())
}

/// Words that ovs-ofctl prints and does not read, as ovs-save(8) replaces them.
fn flow(line: &str) -> String {
    line.replace("igmp_type", "tp_src")
        .replace("igmp_code", "tp_dst")
        .replace("igmp", "ip,nw_proto=2")
}

/// `  0x102   0x80   4      tun_metadata0`
fn tunnel_field(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [class, kind, length, field] if class.starts_with("0x") => {
            Some(format!("{{class={class},type={kind},len={length}}}->{field}"))
        }
        _ => None,
    }
}

/// `meter=1 kbps burst bands=` and, on lines of their own, `type=drop rate=1000 burst_size=10`.
fn meters(text: &str) -> Vec<String> {
    let mut meters: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let words = line.split_whitespace().collect::<Vec<_>>().join(",");
        match meters.last_mut() {
            _ if line.starts_with("meter=") => meters.push(words),
            Some(meter) if line.starts_with("type=") => {
                if !meter.ends_with('=') {
                    meter.push(',');
                }
                meter.push_str(&words);
            }
            Some(_) | None => {}
        }
    }
    meters
}

/// ` 1(veth0): addr:…`
fn port(line: &str) -> Option<(String, String)> {
    let (port, _) = line.split_once("): addr:")?;
    let (number, name) = port.trim_start().split_once('(')?;
    Some((name.to_owned(), number.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_with_none_one_and_many_versions() {
        let text = r#"{"headings":["name","protocols"],"data":[
            ["br-tun",["set",["OpenFlow10","OpenFlow13"]]],["br-ex",["set",[]]],["br-int","OpenFlow15"]]}"#;
        let found: Vec<_> = bridges(text)
            .unwrap()
            .into_iter()
            .map(|b| (b.name, b.version))
            .collect();
        let expected = [
            ("br-ex", "OpenFlow14"),
            ("br-int", "OpenFlow15"),
            ("br-tun", "OpenFlow13"),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        for bad in ["", "{}", r#"{"data":[[1]]}"#] {
            assert!(bridges(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn all_that_ofctl_prints_becomes_what_it_reads() {
        let output = "\u{1e}0 tunnel-fields
NXT_TLV_TABLE_REPLY (xid=0x4):
 max option space=256 max fields=64
 allocated option space=4

 mapping table:
  class  type  length  match field
 ------  ----  ------  --------------
  0x102  0x80       4  tun_metadata0
\u{1e}0 meters
OFPST_METER_CONFIG reply (OF1.4) (xid=0x2):
meter=1 kbps burst stats bands=
type=drop rate=1000 burst_size=100
type=drop rate=2000 burst_size=100

meter=2 pktps bands=
type=drop rate=7
\u{1e}0 groups
OFPST_GROUP_DESC reply (OF1.4) (xid=0x2):
 group_id=1,type=select,bucket=bucket_id:0,actions=output:1
\u{1e}0 flows
 cookie=0xabc, table=60, priority=3,igmp,in_port=1 actions=resubmit(,0)
 cookie=0x0, priority=0 actions=NORMAL
\u{1e}0 ports
OFPST_PORT_DESC reply (OF1.4) (xid=0x2):
 3(tap(1)): addr:fe:00:00:00:00:01
     config:     0
 LOCAL(br0): addr:22:00:00:00:00:01
";
        let mut bridges = vec![Bridge::default()];
        fill(&mut bridges, output).unwrap();
        let bridge = &bridges[0];
        assert_eq!(
            bridge.tunnel_fields,
            ["{class=0x102,type=0x80,len=4}->tun_metadata0"]
        );
        assert_eq!(
            bridge.meters,
            [
                "meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100,type=drop,rate=2000,burst_size=100",
                "meter=2,pktps,bands=type=drop,rate=7",
            ]
        );
        assert_eq!(
            bridge.groups,
            ["group_id=1,type=select,bucket=bucket_id:0,actions=output:1"]
        );
        assert_eq!(
            bridge.flows,
            [
                "cookie=0xabc, table=60, priority=3,ip,nw_proto=2,in_port=1 actions=resubmit(,0)",
                "cookie=0x0, priority=0 actions=NORMAL",
            ]
        );
        let ports = [("br0", "LOCAL"), ("tap(1)", "3")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(bridge.ports, ports.into());
        assert!(fill(&mut bridges, "\u{1e}1 flows\n").is_err());
        assert!(fill(&mut bridges, "\u{1e}0 colours\n").is_err());
    }
}
