#!/bin/bash
# The long form of the tests in tests/tests/node_torture.rs. COUNT and SEED choose how long and which instants.
set -euo pipefail
cd "$(dirname "$0")/../.."
torture=${TORTURE:-target/release/torture}
count=${COUNT:-1000}
seed=${SEED:-1}
for fs in ext4 xfs; do
  echo "== cuts, $fs"
  "$torture" cuts --fs "$fs" --count "$count" --seed "$seed"
done
