#!/bin/sh
# mmdebstrap customize hook. $1: the root; the working directory takes the results.
# Asks programs of the image what only they can tell.
set -eu
root=$1
for path in "$root"/usr/bin/qemu-system-*; do
    if [ -x "$path" ] && [ ! -L "$path" ]; then
        name=${path##*/}
        chroot "$root" "/usr/bin/$name" -machine help >"facts/$name"
    fi
done
