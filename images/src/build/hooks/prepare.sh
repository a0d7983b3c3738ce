#!/bin/sh
# mmdebstrap hook between the essential packages and all others. $1: the root; the working directory
# has the inputs. Accounts get their fixed ids before a maintainer script can choose others.
set -eu
root=$1
for file in passwd group shadow gshadow; do
    cat "accounts/$file" >>"$root/etc/$file"
done
for deb in stand-ins/*.deb; do
    if [ -f "$deb" ]; then
        cp "$deb" "$root/tmp/stand-in.deb"
        chroot "$root" dpkg --install /tmp/stand-in.deb
        rm "$root/tmp/stand-in.deb"
    fi
done
