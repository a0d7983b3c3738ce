# Bridges, ports, name spaces and flows on a node with ovs-vswitchd.
set -eu
inside() { nodectl exec ovs-vswitchd -- "$@"; }

pair() { # name space, port, address
  ip netns add "$1"
  ip link add "$2" type veth peer name eth0 netns "$1"
  ip link set "$2" up
  ip -n "$1" link set lo up
  ip -n "$1" address add "$3/24" dev eth0
  ip -n "$1" link set eth0 up
}
pair a pa 10.9.0.1
pair b pb 10.9.0.2
pair c pc 10.8.0.1
pair d pd 10.8.0.2

inside /bin/sh -s <<'END'
set -eu
ovs-vsctl add-br br-int -- set-fail-mode br-int secure \
  -- add-port br-int pa -- set Interface pa ofport_request=11 \
  -- add-port br-int pb -- set Interface pb ofport_request=12 \
  -- add-br br-ex -- set-fail-mode br-ex standalone -- add-port br-ex pc -- add-port br-ex pd
O="ovs-ofctl -O OpenFlow14"
$O add-meter br-int 'meter=5,pktps,bands=type=drop,rate=100000'
$O add-group br-int 'group_id=7,type=select,bucket=actions=resubmit(,60),bucket=actions=resubmit(,60)'
# What a packet of a new TCP connection matches depends on all its addresses and ports: the kernel has no flow for it.
$O --bundle add-flows br-int - <<'FLOWS'
cookie=0xbeef01,table=0,priority=100,tcp,actions=multipath(symmetric_l4,1024,hrw,2,0,reg0[0..0]),group:7
cookie=0xbeef02,table=0,priority=90,icmp,actions=meter:5,resubmit(,60)
cookie=0xbeef02,table=0,priority=10,actions=resubmit(,60)
cookie=0xbeef03,table=60,priority=10,in_port=11,actions=output:12
cookie=0xbeef03,table=60,priority=10,in_port=12,actions=output:11
cookie=0xbeef04,table=23,priority=0,actions=drop
FLOWS
# As many flows as a node with guests has.
i=0
while [ $i -lt 2000 ]; do
  printf 'cookie=0x%x,table=70,priority=20,ip,nw_dst=10.%d.%d.0/24,actions=drop\n' $i $((i / 250)) $((i % 250))
  i=$((i + 1))
done | $O --bundle add-flows br-int -
END
