#!/bin/sh
# mmdebstrap customize hook of an image with a base. $1: the root; the working directory has the
# inputs. Installs exactly the chosen versions from the files that are already there. The root becomes
# a tar file or nothing, so dpkg need not make each file durable.
set -eu
root=$1
if [ -s requests ]; then
    # shellcheck disable=SC2046 # one argument for each line; package names have no white space
    chroot "$root" apt-get --yes --quiet=1 --no-download --no-install-recommends \
        --option=Dpkg::Use-Pty=false --option=Dpkg::Options::=--force-unsafe-io install $(cat requests)
fi
