#!/bin/bash
# Installs the Debian packages that building and testing need, if any is missing.
set -euo pipefail
packages=(
  build-essential pkg-config libssl-dev libseccomp-dev
  mmdebstrap systemd-container dbus iproute2 util-linux zstd jq
  docker-registry skopeo crun podman openssl curl busybox-static
  e2fsprogs nbdkit openssh-client qemu-system-x86
  xfsprogs
)
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "installing: ${missing[*]}"
sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
