#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_units.sh DIR SOCKET VDISKD - what is installed for others to read: systemd's own check of the units in DIR (with SOCKET, the
# socket unit), QEMU's description of the back end, and what the program says of itself. TAP output.
set -uo pipefail

dir=${1:?usage: test_units.sh DIR SOCKET VDISKD} socket=$2 vdiskd=$3
n=0
point()
{
        n=$((n + 1))
        if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

echo "1..4"
if ! command -v systemd-analyze > /dev/null || [ ! -e "$dir/vdiskd@.service" ]; then
        n=1
        echo "ok 1 - the units # SKIP no systemd-analyze, or built without systemd"
else
        for unit in vdiskd@ vdiskd; do
                sed "s#^\(Exec[A-Za-z]*\)=[^ ]*/vdiskd #\1=$vdiskd #; s#^\(ExecReload\)=[^ ]*/vdiskctl#\1=/bin/true#" "$dir/$unit.service" \
                        > "$tmp/${unit/@/@web}.service"
                cp "$(dirname "$socket")/$unit.socket" "$tmp/${unit/@/@web}.socket"
        done
        # what it says goes to stderr, also where it forgives
        said=$(cd "$tmp" && systemd-analyze verify --man=no ./vdiskd@web.service ./vdiskd@web.socket ./vdiskd.service ./vdiskd.socket 2>&1)
        status=$?
        [ -n "$said" ] && sed 's/^/# /' <<< "$said"
        [ $status -eq 0 ] && ! grep -q 'vdiskd' <<< "$said"
        point $? "systemd-analyze verify finds nothing in the units"
fi
# systemd's own 5 starts in 10 s are over before the kernel has let go of the images of a daemon that was killed on a busy machine
[ "$(grep -l '^StartLimitBurst=50$' "$dir/vdiskd@.service" "$dir/vdiskd.service" 2> /dev/null | wc -l)" -eq 2 ] || [ ! -e "$dir/vdiskd@.service" ]
point $? "a daemon that was killed is started often enough to find its images free"
type_of() { python3 -c 'import json, sys; print(json.load(sys.stdin)["type"])'; }
[ "$(type_of < "$dir/50-vdiskd.json")" = block ] && grep -q '"binary": "/.*/vdiskd"' "$dir/50-vdiskd.json"
point $? "the description for QEMU and libvirt is JSON and names a block back end by its path"
[ "$("$vdiskd" --print-capabilities | type_of)" = block ]
point $? "--print-capabilities says the same"
