#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# dd, bench, cache modes and preallocation of vdisk-img, against qemu-img where it has the same.
# Usage: test_vdisk_img_dd.sh VDISK_IMG [SEED]
# shellcheck source=tests/tools/vdisk_img_lib.sh
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu

truncate -s 5M disk.raw
random_io disk.raw raw 5120 20
qemu-img create -q -f qcow2 -b disk.raw -F raw over.qcow2 6M
random_io over.qcow2 qcow2 6144 10

echo "== dd"
for operands in "" "bs=1M skip=1" "bs=64k skip=3 count=20" "bs=4k count=100" "skip=7" "bs=1M count=100" "skip=3k"; do
        for format in raw qcow2; do
                # shellcheck disable=SC2086
                works dd -f raw -O $format if=disk.raw of=out $operands
                # shellcheck disable=SC2086
                dd if=disk.raw of=wanted $operands status=none
                equal raw wanted $format out
                [ $format = raw ] || clean out
        done
done
works dd -f qcow2 -O qcow2 if=over.qcow2 of=out bs=1M skip=2
qemu-img convert -f qcow2 -O raw over.qcow2 all.raw
dd if=all.raw of=wanted bs=1M skip=2 status=none
equal raw wanted qcow2 out
works dd --image-opts -O raw if=driver=qcow2,file.filename=over.qcow2 of=out bs=1M
equal raw all.raw raw out
"$img" dd if=disk.raw of=empty bs=1M skip=9 2>v.err && grep -q "cannot skip" v.err && [ -f empty ] && [ ! -s empty ] &&
        ok || bad "dd: skip beyond the end"
rm -f out new
refuses 1 "none of if=FILE" dd if=disk.raw of=new fish=1
refuses 1 "none of if=FILE" dd disk.raw of=new
refuses 1 "both if=FILE and of=FILE" dd if=disk.raw
refuses 1 "bs=0" dd if=disk.raw of=new bs=0
refuses 1 "'count=-1'" dd if=disk.raw of=new count=-1
refuses 1 "part of the source" dd -f qcow2 if=over.qcow2 of=disk.raw
VDISKD_FAULT=engine.write=1:ENOSPC refuses 1 "No space" dd -f raw if=disk.raw of=new

for operands in "bs=1 skip=3 count=5" "bs=1999 skip=7" "bs=1000 count=3" "bs=3000001 count=1 skip=1"; do # no whole sectors
        # shellcheck disable=SC2086
        works dd -f qcow2 -O raw if=over.qcow2 of=out $operands
        # shellcheck disable=SC2086
        dd if=all.raw of=wanted $operands status=none
        truncate -s %512 wanted
        cmp -s wanted out && ok || bad "dd $operands"
        # shellcheck disable=SC2086
        works dd -f qcow2 -O qcow2 if=over.qcow2 of=out $operands
        equal raw wanted qcow2 out
        clean out
done
rm -f out

echo "== bench"
works create -q -f qcow2 b.qcow2 8M
for o in "-c 300 -d 8" "-c 300 -w --pattern=7" "-c 300 -w --flush-interval=64" "-c 300 -w --flush-interval=64 --no-drain" \
         "-c 100 -s 64k -S 1M -o 512 -t none" "-c 50 -w -t directsync -i threads" "-c 50 -n -t unsafe -w" "-c 10 -i io_uring"; do
        # shellcheck disable=SC2086
        works bench -f qcow2 $o b.qcow2
        says '^Sending [0-9]+ (read|write) requests, [0-9]+ bytes each, [0-9]+ in parallel \(starting at offset [0-9]+, step size [0-9]+\)$'
        says '^Run completed in [0-9.]+ seconds\.$'
        clean b.qcow2
done
works bench -q -c 10 b.qcow2
[ -s v.out ] && bad "bench -q speaks" || ok
works bench -f qcow2 -c 16 -d 1 -w -s 4k --pattern=201 -o 1M b.qcow2
qemu-io -f qcow2 -c "read -P 201 1M 64k" b.qcow2 | grep -q "Pattern verification failed" && bad "bench --pattern" || ok
refuses 1 "only goes with -w" bench -f qcow2 --flush-interval=64 b.qcow2
refuses 1 "less than the depth" bench -f qcow2 -w --flush-interval=3 b.qcow2
refuses 1 "-c '0'" bench -f qcow2 -c 0 b.qcow2
refuses 1 "-i 'aio'" bench -f qcow2 -i aio b.qcow2
refuses 1 "multiple of 512" bench -f qcow2 -s 1000 b.qcow2
refuses 1 "too few" bench -f qcow2 -s 9M b.qcow2
refuses 1 "--pattern" bench -f qcow2 -w --pattern=256 b.qcow2
refuses 1 "-U only goes with reading" bench -f qcow2 -w -U b.qcow2
VDISKD_FAULT=engine.read=3:EIO refuses 1 "a read at offset" bench -f raw -c 100 disk.raw

echo "== cache modes"
for mode in none writeback writethrough directsync unsafe; do
        works convert -f raw -O qcow2 -t $mode -T $mode disk.raw out
        works compare -f raw -F qcow2 -T $mode disk.raw out
        works check -f qcow2 -T $mode out
        works amend -f qcow2 -t $mode -p --force -o lazy_refcounts=on out
done
refuses 1 "-t 'fast' is not one of none" convert -f raw -O qcow2 -t fast disk.raw new
refuses 2 "-T 'fast'" compare -T fast disk.raw disk.raw
refuses 1 "-T 'fast'" check -T fast out
works rebase -U -f qcow2 -b disk.raw -F raw over.qcow2

echo "== preallocation"
kept() { stat -c '%b' "$1"; } # blocks of 512 bytes
for format in raw qcow2; do
        for mode in off metadata falloc full; do
                [ $format$mode != rawmetadata ] || continue
                rm -f p
                works create -q -f $format -o extent_size_hint=0,nocow=off p 3000k
                qemu-io -f $format -c "write -P 5 1M 1M" p >/dev/null
                qemu-img convert -f $format -O raw p before.raw
                truncate -s 5000k before.raw
                works resize -q -f $format --preallocation=$mode p 5000k
                equal raw before.raw $format p
                [ $format = raw ] || clean p
                case $mode in
                falloc | full) [ "$(kept p)" -ge 4000 ] && ok || bad "resize --preallocation=$mode $format: $(kept p) blocks" ;;
                metadata) "$img" map -f qcow2 --output=json p | tail -1 | grep -q '"offset"' && ok || bad "metadata" ;;
                esac
        done
done
# Behind a longer backing file: what comes to the disk reads as zeros, also in the cluster where it ended.
truncate -s 1M long.raw
qemu-io -f raw -c "write -P 9 0 1M" long.raw >/dev/null
for mode in off metadata falloc full; do
        works create -q -f qcow2 -b long.raw -F raw short.qcow2 300k
        works resize -q -f qcow2 --preallocation=$mode short.qcow2 900k
        head -c 300k long.raw >wanted && truncate -s 900k wanted
        equal raw wanted qcow2 short.qcow2
        clean short.qcow2
done
works create -q -f qcow2 grow.qcow2 1M
VDISKD_FAULT=file.punch=1:ENOSPC "$img" resize -q -f qcow2 --preallocation=falloc grow.qcow2 9M 2>v.err && bad "no room" || ok
"$img" info -f qcow2 grow.qcow2 | grep -q "1 MiB" && ok || bad "a resize that failed left the disk larger"
clean grow.qcow2
# Zeros of an encrypted disk are not zeros in its file.
printf pw >key
secret="--object secret,id=s,file=key"
# shellcheck disable=SC2086
if "$img" create -q $secret -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1 enc.qcow2 1M 2>v.err; then
        for mode in metadata falloc full; do
                # shellcheck disable=SC2086
                works resize -q $secret --image-opts --preallocation=$mode driver=qcow2,file.filename=enc.qcow2,encrypt.key-secret=s +1M
                # shellcheck disable=SC2086
                qemu-io $secret -c "read -P 0 0 $("$img" info --output=json enc.qcow2 | sed -n 's/ *"virtual-size": \([0-9]*\),/\1/p')" \
                        --image-opts driver=qcow2,file.filename=enc.qcow2,encrypt.key-secret=s >q.out 2>&1
                grep -q "^read " q.out && ! grep -q "verification failed" q.out && ok || { bad "encrypted, $mode"; cat q.out; }
        done
        works check -q -f qcow2 enc.qcow2
else
        echo "skipped: $(cat v.err)"
fi
refuses 1 "extent_size_hint '9G'" create -q -o extent_size_hint=9G new 1M
refuses 1 "nocow 'maybe'" create -q -o nocow=maybe new 1M

finish
