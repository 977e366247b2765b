#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# More of vdisk-img against qemu-img: measure, convert of snapshots and of several sources, commit, rebase, dd, amend.
# Usage: test_vdisk_img_more.sh VDISK_IMG [SEED]
img=$(realpath "$1")
seed=${2:-$$}
RANDOM=$((seed % 32768))
command -v qemu-img >/dev/null && command -v qemu-io >/dev/null || { echo "qemu-img or qemu-io is not installed"; exit 77; }
dir=$(mktemp -d /var/tmp/test_vdisk_img_more.XXXXXX) && cd "$dir" || exit 1
trap 'cd /; rm -rf "$dir"' EXIT
export TZ=UTC
failed=0 passed=0
echo "seed $seed"

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL line ${BASH_LINENO[1]}: $*"; }

# same ARGS...: qemu-img and vdisk-img print the same text and return the same
same() {
        qemu-img "$@" >q.out 2>q.err; local q=$?
        "$img" "$@" >v.out 2>v.err; local v=$?
        if [ $q = $v ] && cmp -s q.out v.out; then ok; else bad "$* (exit $q, $v)"; diff q.out v.out | head -8; cat v.err; fi
}

# works ARGS...: exit 0 and nothing on stderr
works() {
        "$img" "$@" >v.out 2>v.err; local v=$?
        if [ $v = 0 ] && [ ! -s v.err ]; then ok; else bad "$* (exit $v)"; cat v.err; fi
}

# refuses PATTERN ARGS...: exit 1, one sentence that matches, and the directory is as it was
refuses() {
        local pattern=$1 before after; shift
        rm -f v.out v.err; before=$(find . -type f -exec md5sum {} + | sort)
        "$img" "$@" >/dev/null 2>"$dir.err"; local v=$?
        after=$(find . -type f -exec md5sum {} + | sort)
        mv "$dir.err" v.err
        [ "$before" = "$after" ] || { bad "$* left something behind"; diff <(echo "$before") <(echo "$after"); }
        if [ $v = 1 ] && [ "$(wc -l <v.err)" = 1 ] && grep -q -- "^vdisk-img: .*$pattern" v.err; then ok; else
                bad "$* (exit $v, wanted 1 and '$pattern')"; cat v.err; return 1; fi
}

clean() { # IMAGE...: QEMU's check and ours find nothing
        local f
        for f in "$@"; do
                if qemu-img check -q -f qcow2 "$f" >q.out 2>&1; then ok; else bad "qemu-img check $f"; cat q.out; fi
                if "$img" check -q -f qcow2 "$f" >v.out 2>&1; then ok; else bad "vdisk-img check $f"; cat v.out; fi
        done
}

# equal FORMAT1 FILE1 FORMAT2 FILE2: QEMU finds the same disk in both
equal() {
        if qemu-img compare -f "$1" -F "$3" "$2" "$4" >q.out 2>&1; then ok; else bad "$2 and $4 differ"; cat q.out; fi
}

# random_io FILE FORMAT SIZE_K COUNT: writes, zeroes and discards by qemu-io
random_io() {
        local i cmds=() off len
        for ((i = 0; i < $4; i++)); do
                off=$((RANDOM * RANDOM % $3 / 4 * 4)) len=$(((RANDOM % 64 + 1) * 4))
                [ $((off + len)) -le "$3" ] || off=0
                case $((RANDOM % 6)) in
                0) cmds+=(-c "write -z ${off}k ${len}k") ;;
                1) cmds+=(-c "discard ${off}k ${len}k") ;;
                *) cmds+=(-c "write -P $((RANDOM % 255 + 1)) ${off}k ${len}k") ;;
                esac
        done
        qemu-io -f "$2" "${cmds[@]}" "$1" >/dev/null
}

echo "== measure"
truncate -s 7M disk.raw
random_io disk.raw raw 7168 8
qemu-img create -q -f qcow2 -o cluster_size=4k base.qcow2 6M
random_io base.qcow2 qcow2 6144 12
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2 8M
random_io over.qcow2 qcow2 8192 6
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 3M
for size in 0 1 511 512 1000 64k 65537 1M 100M 10G 3T; do
        same measure --size $size
        for cs in 512 4k 64k 2M; do
                [ $cs = 512 ] && [ $size = 3T ] && continue
                same measure -O qcow2 -o cluster_size=$cs --size $size
                same measure -O qcow2 -o cluster_size=$cs,refcount_bits=1 --output=json --size $size
                same measure -O qcow2 -o cluster_size=$cs,refcount_bits=64,preallocation=full --size $size
        done
done
for f in base.qcow2 over.qcow2; do # QEMU looks for holes inside of clusters only in files that it finds sparse enough
        cp --sparse=never $f dense && cat dense >$f
done
for f in "raw disk.raw" "qcow2 base.qcow2" "qcow2 over.qcow2" "qcow2 old.qcow2"; do
        for o in "cluster_size=64k" "cluster_size=512" "cluster_size=2M" "compat=0.10" "preallocation=falloc" \
                 "backing_file=x,backing_fmt=raw"; do
                same measure -f $f -O qcow2 -o $o
                same measure -f $f -O qcow2 -o $o --output=json
        done
        same measure -f $f
done
refuses "either --size or one file name" measure
refuses "either --size or one file name" measure --size 1M disk.raw
refuses "too big" measure -O qcow2 --size 1E
refuses "unknown image format" measure -O vmdk9 --size 1M
refuses "backing file" measure over.qcow2

echo "vdisk-img, more: $passed passed, $failed failed (seed $seed)"
[ $failed = 0 ]
