#!/bin/bash
# Fuzzes what reads hostile or damaged input: run.sh [SECONDS_FOR_EACH_TARGET] [TARGET...]
#
# What a target has learnt is kept and gone on from. With NODECTL_FUZZ_SEED, a number, it begins with nothing but its
# seeds and makes its choices from that number (and from times and the like, where the code that it feeds has them).
#
# Plain cargo with the flags that cargo-fuzz would pass. cargo-fuzz itself is not used: it wants one program for each
# target, and linking noded's code a dozen times takes longer than the fuzzing. AddressSanitizer is off unless
# NODECTL_FUZZ_SANITIZER=address says otherwise: all code of the project but src/sys.rs is safe Rust, where damage is a
# panic, an overflow or a broken promise, and all of these are checked without it. It needs RUSTC_BOOTSTRAP=1 on a stable
# toolchain and halves the speed; the long runs by hand may want it for the libraries below.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-20}
shift || true

cache=${NODECTL_CACHE:-/var/cache/nodectl}
[ -w "$cache" ] || [ -w "$(dirname "$cache")" ] || [ "$(id -u)" = 0 ] || cache=$HOME/.cache/nodectl
base=$cache/fuzz
mkdir -p "$base"

triple=$(rustc -vV | sed -n 's/^host: //p')
flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
flags+=' -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0'
flags+=' --cfg fuzzing'
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$base/target}
if [ "${NODECTL_FUZZ_SANITIZER:-}" = address ]; then
  flags+=' -Zsanitizer=address'
  CARGO_TARGET_DIR+=-address
  export RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=detect_leaks=0
fi
# cargo knows sources by their times alone, and would take those of another checkout for what it has built.
checkout=$CARGO_TARGET_DIR/checkout
if [ -e "$CARGO_TARGET_DIR" ] && [ "$(cat "$checkout" 2>/dev/null)" != "$here" ]; then
  cargo clean --quiet --release --locked --target "$triple" --manifest-path "$here/Cargo.toml" \
    -p=node-{agent,images,runtime,systemd,fuzz}
fi
mkdir -p "$CARGO_TARGET_DIR"
echo "$here" >"$checkout"
# With --target the flags are for the program alone, and not for build scripts and macros.
RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$triple" --manifest-path "$here/Cargo.toml" ||
  { echo "run.sh: the targets do not build" >&2; exit 1; }
program=$CARGO_TARGET_DIR/$triple/release/fuzz

# In memory: some targets write and sync files.
scratch=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
"$here/seeds.py" "$scratch/seeds"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(ls "$scratch/seeds"))

failed=0
for target in "${targets[@]}"; do
  corpus=${NODECTL_FUZZ_SEED:+$scratch}
  corpus=${corpus:-$base}/corpus/$target
  findings=$base/findings/$target
  log=$scratch/$target.log
  mkdir -p "$corpus" "$findings"
  options=(-max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -max_len=8192
    -print_final_stats=1 -artifact_prefix="$findings/")
  [ -z "${NODECTL_FUZZ_SEED:-}" ] || options+=(-seed="$NODECTL_FUZZ_SEED")
  [ ! -f "$here/dictionaries/$target" ] || options+=(-dict="$here/dictionaries/$target")
  status=0
  NODECTL_FUZZ_TARGET=$target NODECTL_FUZZ_SEEDS=$scratch/seeds/$target "$program" "${options[@]}" "$corpus" "$scratch/seeds/$target" >"$log" 2>&1 || status=$?
  last=$(grep -aE '^#[0-9]+' "$log" | tail -n 1 || true)
  field() { sed -n "s/.* $1: \([^ ]*\).*/\1/p" <<<"$last"; }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-18s %10s executions  %6s edges  corpus %s\n' "$target" "${runs:-?}" "$(field cov)" "$(field corp)"
  if [ "$status" -ne 0 ]; then
    failed=1
    grep -a -A 12 -m 1 -E "panicked at|^==[0-9]+== *ERROR|ParseDictionary" "$log" | head -c 4000 >&2 || true
    reproducer=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    echo "run.sh: $target failed; NODECTL_FUZZ_TARGET=$target $program ${reproducer:-} shows it again" >&2
  fi
done
exit "$failed"
