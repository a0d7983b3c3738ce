#!/bin/sh
# mmdebstrap setup hook. $1: the root; the working directory has the inputs.
# Brings the base's tree, package lists and package files, so that nothing is fetched here.
set -eu
root=$1
if [ -e base.tar ]; then
    tar --directory "$root" --extract --numeric-owner --same-permissions \
        --xattrs --xattrs-include='*' --file base.tar
fi
mkdir -p "$root/var/lib/apt/lists" "$root/var/cache/apt/archives"
for list in lists/*; do
    if [ -f "$list" ]; then cp --link "$list" "$root/var/lib/apt/lists/"; fi
done
for deb in debs/*.deb; do
    if [ -f "$deb" ]; then cp --link "$deb" "$root/var/cache/apt/archives/"; fi
done
