# What is not as it has to be on a node at rest, line by line. Arguments: its services.
state=/var/lib/nodectl
running=$(systemctl is-system-running --wait)
[ "$running" = running ] || echo "the node is $running: $(systemctl --failed --no-legend --plain | tr '\n' ' ')"
[ ! -e $state/transaction.json ] || echo "a transaction is open"
for service; do
  unit=$service.service
  cmp -s $state/current/units/$unit /run/systemd/generator/$unit || echo "$unit is not that of the deployment"
  [ "$(systemctl show -P NeedDaemonReload $unit)" = no ] || echo "systemd has another $unit"
  systemctl is-active -q $unit || echo "$unit is $(systemctl is-active $unit)"
done
said=$(nodectl exec libvirtd -- virsh list 2>&1) || echo "libvirtd does not answer: $said"
said=$(nodectl exec ovs-vswitchd -- ovs-appctl version 2>&1) || echo "ovs-vswitchd does not answer: $said"
said=$(nodectl exec ovs-vswitchd -- ovs-vsctl show 2>&1) || echo "ovsdb-server does not answer: $said"
said=$(nodectl fsck 2>&1) || echo "fsck: $said" | tr '\n' ' '
