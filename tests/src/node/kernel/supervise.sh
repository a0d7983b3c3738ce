# Runs one machine on a kernel of its own until it is switched off. Started in the lab's network namespace.
# Environment: CGROUP CONSOLE NOTIFY_SOCKET CONTROL; arguments: the kernel's command, then --, then that of ssh.
echo $$ >"$CGROUP/cgroup.procs" || exit
kernel=()
while [ "$1" != -- ]; do
  kernel+=("$1")
  shift
done
shift
tell() { systemd-notify --no-block "$1"; }
boot() {
  # user-mode-linux reboots by running its own name again, in a process that still holds its network interface.
  # That name leads to a program that says "again" and ends; QEMU needs nobody to do it.
  while true; do
    (exec -a "$AGAIN" "${kernel[@]}") >>"$CONSOLE" 2>&1
    status=$?
    [ "$status" -eq 133 ] || break
  done
  echo "testnode: ended with status $status"
}
master=
# The machine's second serial line ends up on descriptor 3.
while read -r line; do
  case $line in
  *"testnode: up"*)
    # One connection per boot, which all commands share.
    [ -z "$master" ] || kill "$master"
    rm -f "$CONTROL"
    "$@" -M -N </dev/null >/dev/null 2>>"$CONSOLE" &
    master=$!
    tell READY=1
    ;;
  *"testnode: ended"*) why=${line##*testnode: } ;;
  esac
done < <(boot 3>&1)
[ -z "$master" ] || kill "$master"
tell "X_ENDED=the kernel ${why:-is gone}"
