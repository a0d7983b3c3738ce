# Restarts both daemons of Open vSwitch, as units without a handover would be, and libvirtd.
set -eu
drop=/run/systemd/system/ovs-vswitchd.service.d
mkdir -p $drop
printf '[Service]\nExecStop=\nExecStartPost=\n' > $drop/plain.conf
systemctl daemon-reload
systemctl restart ovsdb-server.service ovs-vswitchd.service libvirtd.service
rm -r $drop
systemctl daemon-reload
