#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vdisk-img on images with sub-clusters (extended_l2=on), against qemu-img: every command that touches their tables.
# Usage: test_vdisk_img_sub.sh VDISK_IMG [SEED]
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu
echo "seed $seed"
sub=extended_l2=on,cluster_size=128k

echo "== create, measure"
works create -f qcow2 -o $sub a.qcow2 20M
works create -f qcow2 -o $sub,preallocation=metadata pre.qcow2 5M
truncate -s 8M base.raw
random_io base.raw raw 8192 30
works create -f qcow2 -o $sub -b base.raw -F raw over.qcow2
works create -f qcow2 -o extended_l2=on,cluster_size=16k,preallocation=metadata -b base.raw -F raw over-pre.qcow2
clean a.qcow2 pre.qcow2 over.qcow2 over-pre.qcow2
equal raw base.raw qcow2 over.qcow2
equal raw base.raw qcow2 over-pre.qcow2
refuses 1 "16k or more" create -f qcow2 -o extended_l2=on,cluster_size=8k no.qcow2 1M
refuses 1 "needs compat=v3" create -f qcow2 -o extended_l2=on,compat=0.10 no.qcow2 1M
refuses 1 "exclude each other" create -f qcow2 -o preallocation=metadata -b base.raw -F raw no.qcow2
for size in 0 1 65537 3G; do
        same measure -O qcow2 -o $sub --size $size
        same measure -O qcow2 -o extended_l2=on,cluster_size=16k,preallocation=full --output=json --size $size
done
same measure -f raw -O qcow2 -o $sub base.raw

echo "== info, map, check"
random_io a.qcow2 qcow2 20480 60
random_io over.qcow2 qcow2 8192 30
random_io over-pre.qcow2 qcow2 8192 30
random_io pre.qcow2 qcow2 5120 20
for i in a.qcow2 over.qcow2 over-pre.qcow2 pre.qcow2; do
        same info $i
        same_json info --output=json $i
        same map -f qcow2 $i
        same map -f qcow2 --output=json $i
        same_json check -f qcow2 --output=json $i
        clean $i
done

echo "== convert"
for o in $sub extended_l2=on,cluster_size=16k cluster_size=64k; do
        for f in a.qcow2 over.qcow2; do
                for how in "" "-c" "-S 64k" "-W -m 8"; do
                        # shellcheck disable=SC2086 # words
                        works convert $how -f qcow2 -O qcow2 -o $o $f t.qcow2
                        clean t.qcow2
                        equal qcow2 $f qcow2 t.qcow2
                done
                works convert -f qcow2 -O raw $f t.raw
                equal qcow2 $f raw t.raw
        done
done
works convert -f qcow2 -O qcow2 -o $sub -B base.raw -F raw over.qcow2 thin.qcow2
clean thin.qcow2
equal qcow2 over.qcow2 qcow2 thin.qcow2
works compare -f qcow2 -F qcow2 over.qcow2 thin.qcow2

echo "== snapshot"
qemu-img convert -O raw over.qcow2 before.raw
works snapshot -c one over.qcow2
clean over.qcow2
random_io over.qcow2 qcow2 8192 20
qemu-img convert -O raw over.qcow2 after.raw
works snapshot -c two over.qcow2
works snapshot -a one over.qcow2
clean over.qcow2
equal qcow2 over.qcow2 raw before.raw
works snapshot -a two over.qcow2
equal qcow2 over.qcow2 raw after.raw
works snapshot -d one over.qcow2
works snapshot -d two over.qcow2
clean over.qcow2
equal qcow2 over.qcow2 raw after.raw

echo "== rebase, commit"
truncate -s 7M other.raw
random_io other.raw raw 7168 30
works rebase -f qcow2 -b other.raw -F raw over.qcow2
clean over.qcow2
equal qcow2 over.qcow2 raw after.raw
works rebase -f qcow2 -b '' over.qcow2
clean over.qcow2
equal qcow2 over.qcow2 raw after.raw
works create -f qcow2 -o $sub -b a.qcow2 -F qcow2 top.qcow2
random_io top.qcow2 qcow2 20480 40
qemu-img convert -O raw top.qcow2 top.raw
works commit -f qcow2 top.qcow2
clean a.qcow2 top.qcow2
equal qcow2 a.qcow2 raw top.raw
equal qcow2 top.qcow2 raw top.raw

echo "== resize"
for size in 1234567 5M 20971520 20M 9000k 30M; do # bytes behind an end never come back
        now=$(stat -c %s top.raw)
        works resize -f qcow2 --shrink a.qcow2 $size
        new=$("$img" info --output=json a.qcow2 | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')
        truncate -s "$new" top.raw
        clean a.qcow2
        equal qcow2 a.qcow2 raw top.raw || echo "from $now to $new"
        random_io a.qcow2 qcow2 $((new / 1024)) 8
        qemu-img convert -O raw a.qcow2 top.raw
done
works create -f qcow2 -o $sub -b base.raw -F raw short.qcow2 1100k
works resize -f qcow2 short.qcow2 4M # what the base has there stays hidden
qemu-img convert -f raw -O raw base.raw t.raw
truncate -s 1100k t.raw
truncate -s 4M t.raw
clean short.qcow2
equal qcow2 short.qcow2 raw t.raw

echo "== amend"
works amend -f qcow2 -o lazy_refcounts=on a.qcow2
refuses 1 "version 2" amend -f qcow2 -o compat=0.10 a.qcow2
clean a.qcow2
finish
