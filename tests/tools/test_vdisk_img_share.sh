#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# convert without a copy through us: -C (copy_file_range), and shared blocks (reflink) on an XFS of its own, for which it
# takes root and mkfs.xfs. Usage: test_vdisk_img_share.sh VDISK_IMG [SEED]
# shellcheck source=tests/tools/vdisk_img_lib.sh
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu

make_sources() { # here: raw that ends anywhere, a chain, compressed clusters, a snapshot
        truncate -s 8M disk.raw && random_io disk.raw raw 8192 30 && truncate -s $((8 * 1024 * 1024 + 700)) disk.raw
        qemu-img create -q -f qcow2 -b disk.raw -F raw -o cluster_size="$1" over.qcow2 10M
        random_io over.qcow2 qcow2 10240 15
        qemu-img snapshot -c s over.qcow2
        random_io over.qcow2 qcow2 10240 15
        qemu-img convert -c -f raw -O qcow2 disk.raw packed.qcow2
        random_io packed.qcow2 qcow2 8192 10
}
same_disk() { # OPTION...: all sources to all targets
        local cs f t
        for cs in 512 4k 64k 1M; do
                make_sources $cs
                for t in raw "qcow2 -o cluster_size=$cs" qcow2; do
                        for f in "raw disk.raw" "qcow2 over.qcow2" "qcow2 packed.qcow2"; do
                                # shellcheck disable=SC2086
                                works convert "$@" -f ${f% *} -O $t ${f#* } out
                                equal "${f% *}" "${f#* }" "${t%% *}" out
                                [ "$t" = raw ] || clean out
                        done
                done
                qemu-img convert -f qcow2 -l s -O raw over.qcow2 wanted
                works convert "$@" -f qcow2 -l s -O qcow2 over.qcow2 out
                equal raw wanted qcow2 out
                works convert "$@" -f qcow2 -B disk.raw -F raw -O qcow2 over.qcow2 out
                equal qcow2 over.qcow2 qcow2 out
                works convert "$@" -O raw disk.raw packed.qcow2 out # one behind the other
                qemu-img convert -O raw disk.raw packed.qcow2 wanted
                equal raw wanted raw out
                works create -q -f qcow2 there.qcow2 10M
                qemu-io -f qcow2 -c "write -P 7 0 10M" there.qcow2 >/dev/null
                works convert "$@" -n -f qcow2 -O qcow2 over.qcow2 there.qcow2
                equal qcow2 over.qcow2 qcow2 there.qcow2
                clean there.qcow2
        done
}

echo "== -C"
same_disk -C
truncate -s 8M disk.raw
VDISKD_FAULT=file.share=1:EIO refuses 1 "Input/output error" convert -C -f raw -O qcow2 disk.raw new
VDISKD_FAULT=file.share=1:EINVAL works convert -C -f raw -O qcow2 packed.qcow2 out # not these bytes: then they are copied
equal raw packed.qcow2 qcow2 out

echo "== reflink"
shares() { # SOURCE_FORMAT SOURCE TARGET_FORMAT: makes "shared" and takes next to no room
        local before after
        sync -f . && before=$(df --output=used -k . | tail -1)
        works convert -f "$1" -O "$3" "$2" shared
        sync -f . && after=$(df --output=used -k . | tail -1)
        equal "$1" "$2" "$3" shared
        [ $((after - before)) -lt 1024 ] && ok || bad "$2 to $3 takes $((after - before)) KiB"
        rm -f shared
}
on_xfs() {
        mkdir mnt && mount -o loop xfs.img mnt && cd mnt || { echo "skipped: cannot mount a file"; return 0; }
        head -c 20000000 /dev/urandom >plain.raw
        qemu-img convert -f raw -O qcow2 plain.raw plain.qcow2
        qemu-img create -q -f qcow2 -b plain.qcow2 -F qcow2 chain.qcow2
        for t in raw qcow2; do
                shares raw plain.raw $t
                shares qcow2 plain.qcow2 $t
                shares qcow2 chain.qcow2 $t
        done
        works convert -S 0 -f raw -O raw plain.raw copied
        [ "$(filefrag -v copied | grep -c shared)" = 0 ] && ok || bad "-S 0 shares blocks"
        same_disk
        cd "$dir" && umount mnt
}
truncate -s 400M xfs.img
if [ "$(id -u)" != 0 ] || ! command -v mkfs.xfs >/dev/null || ! mkfs.xfs -q -m reflink=1 xfs.img 2>/dev/null; then
        echo "skipped: no root or no mkfs.xfs"
else
        trap 'cd /; umount "$dir/mnt" 2>/dev/null; rm -rf "$dir"' EXIT
        on_xfs
fi

finish
