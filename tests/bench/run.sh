#!/bin/bash
# Launch and pull of nodectl next to crun, podman and skopeo, in release mode; one table.
# Needs root, and the programs of tests/setup/packages.sh. `RUNS` launches of each kind (default 100).
set -euo pipefail
cd "$(dirname "$0")/../.."
export NODECTL_CACHE="${NODECTL_CACHE:-/var/cache/nodectl}" RUNS="${RUNS:-100}"

[ "$(id -u)" = 0 ] || { echo "run.sh: root is needed for containers and unpacking" >&2; exit 1; }
for program in crun podman skopeo docker-registry; do
  command -v "$program" >/dev/null || { echo "run.sh: $program is missing, see tests/setup/packages.sh" >&2; exit 1; }
done

# The Debian root that both launch and pull.
if ! compgen -G "$NODECTL_CACHE/runtime-tests/*/usr/bin/true" >/dev/null; then
  echo "building the Debian root in $NODECTL_CACHE" >&2
  cargo test --locked --release -p node-runtime --test privileged_launch the_root_is_read_only >/dev/null
fi

echo "building" >&2
cargo bench --locked -q -p node-runtime --bench launch --no-run
cargo bench --locked -q -p node-images --bench pull --no-run

echo "measuring; the figures are medians, CPU is user and system time of all processes" >&2
printf '%s, %s CPUs, %s\n' "$(uname -r)" "$(nproc)" "$(crun --version | head -1)"
# The launcher as it is installed, not as cargo builds benchmarks.
NODE_RUN=$PWD/target/stage/usr/libexec/nodectl/node-run cargo bench --locked -q -p node-runtime --bench launch
cargo bench --locked -q -p node-images --bench pull
