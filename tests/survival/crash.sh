# Ends libvirtd with a signal; returns when systemd has started another one by itself, and says how the old one ended.
set -eu
unit=libvirtd.service
show() { systemctl show --value --property="$1" $unit; }
ends() { journalctl --output=cat --boot --unit=$unit | grep 'Main process exited' || :; }
old=$(show MainPID)
before=$(show NRestarts)
ended=$(ends | wc -l)
another_runs() { [ "$(show ActiveState)" = active ] && [ "$(show MainPID)" != "$old" ]; }
end_is_told() { [ "$(ends | wc -l)" -gt "$ended" ]; }
left=1200
# systemctl waits for jobs of its own only, and the journal takes its time.
await() {
  until "$1"; do
    if [ $left = 0 ]; then
      echo "not within two minutes: $1"
      systemctl status --full $unit || :
      journalctl --output=short-monotonic --boot --unit=$unit --lines=40
      exit 1
    fi
    left=$((left - 1))
    sleep 0.1
  done
}
kill -s "$1" "$old"
await another_runs
[ "$(show NRestarts)" -gt "$before" ] || { echo "systemd has not started it by itself"; exit 1; }
await end_is_told
ends | tail -n 1
