# Ends libvirtd with a signal; returns when systemd has started another one by itself, and says how the old one ended.
set -eu
unit=libvirtd.service
began() { systemctl show --value --property=NRestarts $unit; }
journal() { journalctl --output=cat --unit=$unit --after-cursor="$cursor" "$@"; }
old=$(systemctl show --value --property=MainPID $unit)
before=$(began)
# Of the unit: journalctl passes over one of its messages after the cursor of another.
cursor=$(journalctl --unit=$unit --lines=1 --show-cursor --output=cat | sed -n 's/^-- cursor: //p')
kill -s "$1" "$old"
fifo=$(mktemp -u)
mkfifo "$fifo"
journal --follow --lines=all > "$fifo" &
follower=$!
timeout 120 grep --quiet --max-count=1 "^Started $unit" "$fifo"
# It ends by itself as soon as it has something to say to nobody.
kill $follower 2>/dev/null || :
after=$(began)
if ! [ "$after" -gt "$before" ] || ! journal | grep 'Main process exited'; then
  echo "restarts: $before, then $after"
  journal
  exit 1
fi
