# Runs one box until it is switched off. Started in a mount namespace of its own, so that the overlay is gone
# with the last process. Environment: CGROUP OVERLAY ROOT NOTIFY_SOCKET; arguments: the nspawn command.
echo $$ >"$CGROUP/cgroup.procs" || exit
ended() {
  systemd-notify --no-block "X_ENDED=$1"
  exit 1
}
mount -t overlay box -o "$OVERLAY" "$ROOT" || ended "its root could not be mounted"
while true; do
  "$@"
  status=$?
  # 133: the machine asks for a reboot; nspawn leaves that to its supervisor.
  [ "$status" -eq 133 ] || ended "systemd-nspawn exited with status $status"
done
