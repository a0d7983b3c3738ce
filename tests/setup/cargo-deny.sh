#!/bin/bash
# Checks licences, bans and sources; builds cargo-deny into the cache on first use.
set -euo pipefail
version=0.20.2
root=${NODECTL_CACHE:-/var/cache/nodectl}/tools
[ -w "$(dirname "$root")" ] || [ "$(id -u)" = 0 ] || root=$HOME/.cache/nodectl/tools
[ -x "$root/bin/cargo-deny" ] && "$root/bin/cargo-deny" --version | grep -qF "$version" ||
  cargo install --quiet --locked --version "$version" --root "$root" cargo-deny
exec "$root/bin/cargo-deny" --log-level warn --config .cargo/deny.toml check licenses bans sources
