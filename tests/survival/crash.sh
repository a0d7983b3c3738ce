# Ends libvirtd with a signal; returns when systemd has started another one by itself, and says how the old one ended.
set -eu
unit=libvirtd.service
show() { systemctl show --value --property="$1" $unit; }
ends() { journalctl --output=cat --boot --unit=$unit | grep 'Main process exited' || :; }
old=$(show MainPID)
before=$(show NRestarts)
ended=$(ends | wc -l)
kill -s "$1" "$old"
# systemctl waits for jobs of its own only.
left=1200
until [ "$(show ActiveState)" = active ] && [ "$(show MainPID)" != "$old" ]; do
  if [ $left = 0 ]; then
    systemctl status --full $unit || :
    journalctl --output=short-monotonic --boot --unit=$unit --lines=40
    exit 1
  fi
  left=$((left - 1))
  sleep 0.1
done
[ "$(show NRestarts)" -gt "$before" ] || { echo "systemd has not started it by itself"; exit 1; }
# The journal takes its time.
until [ "$(ends | wc -l)" -gt "$ended" ]; do
  if [ $left = 0 ]; then
    echo "nothing has ended"
    exit 1
  fi
  left=$((left - 1))
  sleep 0.1
done
ends | tail -n 1
