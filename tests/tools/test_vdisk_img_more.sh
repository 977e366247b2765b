#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# More of vdisk-img against qemu-img: measure, convert of snapshots and of several sources, commit, rebase, dd, amend.
# Usage: test_vdisk_img_more.sh VDISK_IMG [SEED]
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu
echo "seed $seed"

echo "== measure"
truncate -s 7M disk.raw
random_io disk.raw raw 7168 8
qemu-img create -q -f qcow2 -o cluster_size=4k base.qcow2 6M
random_io base.qcow2 qcow2 6144 12
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2 8M
random_io over.qcow2 qcow2 8192 6
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 3M
for size in 0 1 512 65537 100M 3T; do
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
refuses 1 "either --size or one file name" measure
refuses 1 "either --size or one file name" measure --size 1M disk.raw
refuses 1 "too big" measure -O qcow2 --size 1E
refuses 1 "unknown image format" measure -O vmdk9 --size 1M
refuses 1 "backing file.*yourself: -f qcow2$" measure over.qcow2
refuses 2 "backing file.*yourself: -F qcow2$" compare -f qcow2 base.qcow2 over.qcow2

echo "== convert of a snapshot, of several sources, and of what cannot be read"
qemu-img create -q -f qcow2 -o cluster_size=4k -b disk.raw -F raw snap.qcow2 6M
for name in one 2 three; do
        random_io snap.qcow2 qcow2 6144 8
        qemu-img snapshot -c $name snap.qcow2
done
random_io snap.qcow2 qcow2 6144 8
for l in one 2 three 1 snapshot.id=2 snapshot.name=2 snapshot.id=1,snapshot.name=one; do
        qemu-img convert -f qcow2 -O raw -l $l snap.qcow2 q.raw
        works convert -f qcow2 -O raw -l $l snap.qcow2 v.raw
        equal raw q.raw raw v.raw
        works convert -f qcow2 -O qcow2 -l $l snap.qcow2 v.qcow2
        equal raw q.raw qcow2 v.qcow2
        clean v.qcow2
        works measure -f qcow2 -O qcow2 -l $l snap.qcow2
done
works convert -f qcow2 -l 2 snap.qcow2 two.raw # the id wins
works convert -f qcow2 -l three snap.qcow2 before.raw
works resize -q -f qcow2 snap.qcow2 9M
works convert -f qcow2 -l three snap.qcow2 after.raw
cmp -s before.raw after.raw && ok || bad "a snapshot has the size it had"
refuses 1 "no snapshot 'four'" convert -f qcow2 -l four snap.qcow2 new.raw
refuses 1 "no snapshot 'one'" convert -f qcow2 -l snapshot.id=2,snapshot.name=one snap.qcow2 new.raw
refuses 1 "snapshot.id and snapshot.name" convert -f qcow2 -l snapshot.age=2 snap.qcow2 new.raw
refuses 1 "no internal snapshots" convert -f raw -l one disk.raw new.raw
clean snap.qcow2
head -c 1000000 /dev/urandom >odd.raw # no multiple of a cluster, nor of a sector
for sources in "odd.raw disk.raw" "disk.raw odd.raw odd.raw"; do
        qemu-img convert -f raw -O raw $sources q.raw
        works convert -f raw -O raw $sources v.raw
        equal raw q.raw raw v.raw
        works convert -f raw -O qcow2 -o cluster_size=2M $sources v.qcow2
        equal raw q.raw qcow2 v.qcow2
        clean v.qcow2
done
works convert -f raw -n -O raw disk.raw odd.raw v.raw
refuses 1 "one source" convert -f raw -O qcow2 -B disk.raw -F raw odd.raw disk.raw new.qcow2
refuses 1 "'missing'" convert -f raw odd.raw missing new.raw
refuses 1 "part of the source" convert -f raw odd.raw disk.raw disk.raw
before=$(date +%s%N)
works convert -f raw -O raw -r 4M odd.raw v.raw
[ $(($(date +%s%N) - before)) -lt 60000000000 ] && cmp -n 1000000 -s odd.raw v.raw && ok || bad "convert -r"
truncate -s 3M odd.raw
qemu-io -f raw -c "write -P 7 0 3M" odd.raw >/dev/null
qemu-img convert -c -f raw -O qcow2 odd.raw packed.qcow2
dd if=/dev/zero of=packed.qcow2 bs=1 seek=$((0x50000)) count=100 conv=notrunc status=none
qemu-img convert --salvage -q -f qcow2 -O raw packed.qcow2 q.raw 2>/dev/null
"$img" convert --salvage -f qcow2 -O raw packed.qcow2 v.raw 2>v.err && ok || { bad "convert --salvage"; cat v.err; }
[ "$(grep -c "warning: the sector at offset .* cannot be read" v.err)" -ge 128 ] && ok || bad "convert --salvage is silent"
equal raw q.raw raw v.raw
rm v.raw
refuses 1 "cannot read" convert -f qcow2 -O raw packed.qcow2 new.raw

# chain DIR: base <- mid <- top of random formats and sizes, the same in DIR/q and DIR/v
chain() {
        local sizes=(4096 6144 8192) clusters=(512 4k 64k 2M) format=raw s
        rm -rf "$1"; mkdir -p "$1/q"; pushd "$1/q" >/dev/null || exit 1
        s=${sizes[RANDOM % 3]}
        [ $((RANDOM % 2)) = 0 ] || format=qcow2
        qemu-img create -q -f $format base "${s}k"; random_io base $format "$s" 8
        s=${sizes[RANDOM % 3]}
        qemu-img create -q -f qcow2 -o cluster_size=${clusters[RANDOM % 4]} -b base -F $format mid "${s}k"
        random_io mid qcow2 "$s" 5
        s=${sizes[RANDOM % 3]}
        qemu-img create -q -f qcow2 -o cluster_size=${clusters[RANDOM % 4]},compat=v$((RANDOM % 2 + 2)) -b mid -F qcow2 top "${s}k"
        random_io top qcow2 "$s" 5
        popd >/dev/null || exit 1
        cp -r "$1/q" "$1/v"
        base_format=$format
}

echo "== commit"
for ((i = 0; i < 8; i++)); do
        chain c
        qemu-img convert -f qcow2 -O raw c/q/top before.raw
        case $((i % 4)) in
        0) opts=() base=mid format=qcow2 ;;
        1) opts=(-d) base=mid format=qcow2 ;;
        2) opts=(-b base) base=base format=$base_format ;;
        3) opts=(-b mid) base=mid format=qcow2 ;;
        esac
        (cd c/q && qemu-img commit -q -f qcow2 "${opts[@]}" top) || bad "qemu-img commit ${opts[*]}"
        cd c/v || exit 1
        "$img" commit -f qcow2 "${opts[@]}" top >../v.out 2>../v.err || { bad "commit ${opts[*]}"; cat ../v.err; }
        cd "$dir" || exit 1
        [ "$(cat c/v.out)" = "Image committed." ] && ok || bad "commit says '$(cat c/v.out)'"
        equal $format c/q/$base $format c/v/$base
        [ $base = base ] || equal raw before.raw qcow2 c/v/top
        clean c/v/top c/v/mid
        [ $format = raw ] || clean c/v/$base
        if [ ${#opts[@]} = 0 ]; then
                [ "$("$img" map -f qcow2 --output=json c/v/top | grep -c '"depth": 0.*"data": true')" = 0 ] && ok ||
                        bad "commit does not empty the overlay"
        fi
done
for spec in file.write=1 file.write=3:ENOSPC file.sync=1 file.sync=2 file.truncate=1:ENOSPC; do
        chain c
        qemu-img convert -f qcow2 -O raw c/v/top before.raw
        VDISKD_FAULT=$spec "$img" commit -q -f qcow2 c/v/top 2>v.err && continue # it does not come to that
        [ "$(wc -l <v.err)" = 1 ] && ok || { bad "commit with $spec"; cat v.err; }
        equal raw before.raw qcow2 c/v/top
done
cp base.qcow2 alone.qcow2
refuses 1 "no backing file" commit -f qcow2 alone.qcow2
refuses 1 "not in the backing chain" commit -f qcow2 -b alone.qcow2 over.qcow2
refuses 1 "backing file" commit over.qcow2

echo "== rebase"
for ((i = 0; i < 12; i++)); do
        chain c
        qemu-img convert -f qcow2 -O raw c/q/top before.raw
        case $((i % 4)) in
        0) new=base format=$base_format ;;
        1) new='' format=qcow2 ;;
        2) new=other format=qcow2; qemu-img create -q -f qcow2 c/v/other 7M; random_io c/v/other qcow2 7168 20 ;;
        3) new=short format=raw; head -c 1000 /dev/urandom >c/v/short ;;
        esac
        works rebase -f qcow2 -b "$new" -F $format c/v/top
        equal raw before.raw qcow2 c/v/top
        clean c/v/top c/v/mid
        [ "$(qemu-img info --output=json c/v/top | sed -n 's/.*"backing-filename": "\(.*\)".*/\1/p')" = "$new" ] && ok || bad "rebase -b '$new'"
        [ -z "$new" ] || { mv c/v/$new c/v/moved; works rebase -u -f qcow2 -b moved -F $format c/v/top; equal raw before.raw qcow2 c/v/top; }
done
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 none.qcow2
qemu-img convert -f qcow2 -O raw none.qcow2 before.raw
works rebase -f qcow2 -b '' none.qcow2
works rebase -f qcow2 -b over.qcow2 -F qcow2 none.qcow2 # from nothing to something
equal raw before.raw qcow2 none.qcow2
clean none.qcow2
for spec in file.write=1 file.write=2 file.write=3 file.write=4 file.write=5 file.sync=1 file.sync=2 file.sync=3 file.sync=4 file.sync=5; do
        for args in "-b over.qcow2 -F qcow2" "-u -b disk.raw -F raw" "-b ''"; do
                cp none.qcow2 hit.qcow2
                eval VDISKD_FAULT=$spec '"$img"' rebase -f qcow2 "$args" hit.qcow2 2>v.err && continue
                [ "$(wc -l <v.err)" = 1 ] && ok || { bad "rebase $args with $spec"; cat v.err; }
                qemu-img check -q -f qcow2 hit.qcow2 >q.out 2>&1
                [ $? = 0 ] || [ $? = 3 ] && ok || bad "after rebase $args with $spec"
                [ "${args:0:2}" = -u ] || equal raw before.raw qcow2 hit.qcow2
        done
done
refuses 1 "needs its format" rebase -f qcow2 -b base.qcow2 none.qcow2
refuses 1 "own backing file" rebase -f qcow2 -b none.qcow2 -F qcow2 none.qcow2
refuses 1 "missing" rebase -f qcow2 -b missing -F qcow2 none.qcow2
refuses 1 "cannot have a backing file" rebase -f raw -b base.qcow2 -F qcow2 disk.raw
refuses 1 "backing file" rebase -b base.qcow2 -F qcow2 none.qcow2
refuses 1 "-b says" rebase -f qcow2 none.qcow2
refuses 1 "do not fit\|limit" rebase -u -f qcow2 -F raw -b "$(printf '%01100d' 1)" none.qcow2

echo "== amend"
for cs in 512 1k 64k; do # with a header of one sector, of two, and with room
        for b in "" "-b base.qcow2 -F qcow2"; do
                qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=$cs $b a.qcow2 6M
                qemu-io -f qcow2 -c "write -P 9 1M 1M" a.qcow2 >/dev/null
                qemu-img snapshot -c s a.qcow2
                qemu-img convert -f qcow2 -O raw a.qcow2 before.raw
                for o in compat=1.1 lazy_refcounts=on lazy_refcounts=off lazy_refcounts=on,compat=v3 compat=0.10 \
                         compat=v3,lazy_refcounts=on; do
                        cp a.qcow2 theirs.qcow2
                        qemu-img amend -f qcow2 -o $o theirs.qcow2
                        works amend -f qcow2 -o $o a.qcow2
                        clean a.qcow2
                        equal raw before.raw qcow2 a.qcow2
                        for f in theirs a; do
                                qemu-img info -f qcow2 $f.qcow2 | grep -v "image:\|disk size" >$f.info
                        done
                        cmp -s theirs.info a.info && ok || { bad "amend -o $o"; diff theirs.info a.info; }
                done
                works amend -f qcow2 -o size=7M a.qcow2
                qemu-img info a.qcow2 | grep -q 7340032 && ok || bad "amend -o size"
        done
done
refuses 1 "would shrink" amend -f qcow2 -o size=1M a.qcow2
refuses 1 "cluster_size" amend -f qcow2 -o cluster_size=4k a.qcow2
refuses 1 "rebase does" amend -f qcow2 -o backing_file=x a.qcow2
refuses 1 "on or off" amend -f qcow2 -o lazy_refcounts=7 a.qcow2
refuses 1 "compat=v3" amend -f qcow2 -o lazy_refcounts=on,compat=v2 a.qcow2
refuses 1 "no options" amend -f raw -o size=1M disk.raw
qemu-io -f qcow2 -c "write -z 0 1M" a.qcow2 >/dev/null
refuses 1 "version 2" amend -f qcow2 -o compat=0.10 a.qcow2
works amend -f qcow2 -o help

finish
