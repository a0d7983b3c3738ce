#!/bin/bash
# The long form of the tests in tests/tests/node_torture.rs. COUNT and SEED choose how long and which instants.
set -euo pipefail
cd "$(dirname "$0")/../.."
torture=${TORTURE:-target/release/torture}
count=${COUNT:-1000}
seed=${SEED:-1}
story=()
for step in upgrade:2 upgrade:3 rollback gc damage repair; do
  story+=(--step "$step")
done
for fs in ext4 xfs; do
  echo "== cuts, $fs"
  "$torture" cuts --fs "$fs" --count "$count" --seed "$seed"
  for reached in forced names all; do
    echo "== boundaries, $fs, reached: $reached"
    "$torture" boundaries --fs "$fs" --reached "$reached" "${story[@]}"
  done
done
echo "== kills"
"$torture" kills "${story[@]}"
for fault in no-space quota broken read-only full shutdown; do
  for fs in ext4 xfs; do
    echo "== faults, $fs, $fault"
    "$torture" faults --fs "$fs" --fault "$fault" "${story[@]}"
  done
done
for fs in ext4 xfs; do
  echo "== sizes, $fs"
  "$torture" sizes --fs "$fs"
done
echo "== damage"
"$torture" damage
# These have to be violated: what podman and skopeo lose, and what nodectl would lose without its barriers.
must_fail() {
  echo "== $*: violations expected"
  local log failed=0
  log=$(mktemp)
  "$torture" "$@" 2>&1 | tee "$log" || failed=1
  if [ $failed = 0 ]; then
    echo "torture $* saw nothing" >&2
    exit 1
  fi
  if ! grep --quiet VIOLATION "$log"; then
    echo "torture $* did not get to see anything" >&2
    exit 1
  fi
  rm "$log"
}
must_fail peer skopeo
must_fail peer podman
must_fail cuts --count 30 --lie syncfs
for without in barrier file-sync; do
  must_fail boundaries --reached forced --without "$without"
done
