#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# VDI, VHD, VHDX and VMDK images that qemu-img made, read by vdisk-img: the same disk, the same info.
# Usage: test_foreign.sh VDISK_IMG
. "$(dirname "$0")/vdisk_img_lib.sh"
needs_qemu

same_bytes() { if cmp "$1" "$2"; then ok; else bad "$1 and $2 differ"; fi; }

# same_info FORMAT FILE: text and JSON (in any order) as qemu-img has them. How much of the disk the file takes is settled first:
# a file system that has not written it yet may change its mind.
same_info() {
        sync "$2"
        qemu-img info -f "$1" "$2" >q.out; "$img" info -f "$1" "$2" >v.out 2>v.err
        if cmp -s q.out v.out; then ok; else bad "info $2"; diff q.out v.out; cat v.err; fi
        qemu-img info -f "$1" --output=json "$2" | python3 -mjson.tool --sort-keys >q.out
        "$img" info -f "$1" --output=json "$2" | python3 -mjson.tool --sort-keys >v.out
        if cmp -s q.out v.out; then ok; else bad "info --output=json $2"; diff q.out v.out; fi
}

# same_map FORMAT FILE: where data is in the file. (QEMU's driver for vhdx does not tell; in VHD we also see holes of the file.)
same_map() {
        qemu-img map -f "$1" --output=json "$2" >q.out; "$img" map -f "$1" --output=json "$2" >v.out
        if cmp -s q.out v.out; then ok; else bad "map $2"; diff q.out v.out | head -8; fi
}

# A disk with data at both ends and in the middle, zeros that are written, and a size that fits no block.
make_source() { # FILE SIZE
        truncate -s "$2" "$1"
        qemu-io -f raw -c 'write -q -P 0x11 0 70k' -c 'write -q -P 0x22 1100k 700k' -c 'write -q -P 0 2M 64k' \
                -c 'write -q -P 0x33 5M 1M' -c "write -q -P 0x44 $(($2 - 3584)) 3584" "$1" || bad "source $1"
}

# image FORMAT FILE OPTIONS SOURCE: made by qemu-img, read back by us in all ways
image() {
        local format=$1 file=$2 options=$3 source=$4
        rm -f ./*.out ./back.* ./over.qcow2
        qemu-img convert -q -f raw -O "$format" ${options:+-o "$options"} "$source" "$file" || { bad "qemu-img -O $format -o $options"; return; }
        qemu-img convert -f "$format" -O raw "$file" back.q
        same_info "$format" "$file"
        works convert -f "$format" -O raw "$file" back.v; same_bytes back.q back.v
        works convert -f "$format" -O qcow2 "$file" back.qcow2
        works compare -f "$format" -F qcow2 "$file" back.qcow2
        works compare -f "$format" -F raw "$file" back.q
        works dd -f "$format" -O raw "if=$file" of=back.dd bs=64k skip=17
        qemu-img dd -f "$format" -O raw "if=$file" of=back.ddq bs=64k skip=17; same_bytes back.ddq back.dd
        works measure -f "$format" -O qcow2 "$file"
        # as a backing file
        works create -q -f qcow2 -b "$file" -F "$format" over.qcow2
        qemu-io -f qcow2 -c 'write -q -P 0x55 1M 4k' over.qcow2
        works convert -f qcow2 -O raw over.qcow2 back.over
        qemu-img convert -f qcow2 -O raw over.qcow2 back.overq; same_bytes back.overq back.over
}

make_source source.raw $((9 * 1024 * 1024 + 512))
make_source large.raw $((70 * 1024 * 1024))

image vdi a.vdi "" source.raw; same_map vdi a.vdi
image vdi b.vdi static=on source.raw
image vpc a.vhd subformat=dynamic source.raw
image vpc b.vhd subformat=dynamic,force_size=on large.raw
image vpc c.vhd subformat=fixed source.raw
image vpc d.vhd subformat=fixed,force_size=on source.raw
image vhdx a.vhdx "" source.raw
image vhdx b.vhdx block_size=1M large.raw
image vhdx c.vhdx subformat=fixed,block_size=2M source.raw
image vhdx d.vhdx block_size=1M,block_state_zero=off large.raw
image vmdk a.vmdk subformat=monolithicSparse source.raw; same_map vmdk a.vmdk
image vmdk b.vmdk subformat=streamOptimized source.raw; same_map vmdk b.vmdk
image vmdk c.vmdk subformat=monolithicFlat source.raw; same_map vmdk c.vmdk
image vmdk d.vmdk subformat=twoGbMaxExtentSparse source.raw; same_map vmdk d.vmdk
image vmdk e.vmdk subformat=twoGbMaxExtentFlat source.raw; same_map vmdk e.vmdk
image vmdk f.vmdk subformat=monolithicSparse,zeroed_grain=on large.raw
image vmdk g.vmdk subformat=streamOptimized,compat6=on large.raw

# probed, where the file is all of the image
for f in a.vdi a.vhd a.vhdx a.vmdk b.vmdk; do
        "$img" info "$f" >v.out; qemu-img info "$f" >q.out; same_bytes q.out v.out
        qemu-img convert -O raw "$f" back.q; works convert -O raw "$f" back.v; same_bytes back.q back.v
done
refuses 1 "say the format yourself: -f vmdk" convert -O raw c.vmdk back.v
"$img" info c.vmdk >v.out; grep -q 'filename: c-flat.vmdk' v.out && ok || bad "info c.vmdk"

# several extents, from a disk of more than 2 GiB
truncate -s 5G huge.raw
qemu-io -f raw -c 'write -q -P 1 0 64k' -c 'write -q -P 2 2147450880 64k' -c 'write -q -P 3 5368643584 64k' huge.raw
for sub in twoGbMaxExtentSparse twoGbMaxExtentFlat; do
        qemu-img convert -O vmdk -o subformat=$sub huge.raw huge.vmdk
        works compare -f vmdk -F raw huge.vmdk huge.raw; same_info vmdk huge.vmdk; same_map vmdk huge.vmdk
done
# what lies beside the descriptor is opened, nothing else
sed 's/huge-f001/..\/huge-f001/' huge.vmdk >bad.vmdk; refuses 1 "only files in the directory" convert -f vmdk -O raw bad.vmdk back.v
sed "s,huge-f001,$dir/huge-f001," huge.vmdk >bad.vmdk; refuses 1 "only files in the directory" convert -f vmdk -O raw bad.vmdk back.v
ln -s huge-f001.vmdk link-f001.vmdk
sed 's/huge-f001/link-f001/' huge.vmdk >bad.vmdk; refuses 1 "link-f001.vmdk" convert -f vmdk -O raw bad.vmdk back.v
sed 's/huge-f002/none-f002/' huge.vmdk >bad.vmdk; refuses 1 "none-f002.vmdk" convert -f vmdk -O raw bad.vmdk back.v
truncate -s 1M huge-f003.vmdk; refuses 1 "does not lie in the file" convert -f vmdk -O raw huge.vmdk back.v
refuses 1 "is part of the" convert -f vmdk -O raw e.vmdk e-f001.vmdk
rm -f huge*

# an overlay of VMware, and one whose parent was replaced
cp a.vmdk base.vmdk
qemu-img create -q -f vmdk -b base.vmdk -F vmdk child.vmdk; qemu-io -f vmdk -c 'write -q -P 0x66 3M 64k' child.vmdk
qemu-img convert -f vmdk -O raw child.vmdk back.q; works convert -f vmdk -O raw child.vmdk back.v; same_bytes back.q back.v
same_info vmdk child.vmdk
qemu-img convert -f raw -O vmdk source.raw base.vmdk
refuses 1 "not the parent that was meant" convert -f vmdk -O raw child.vmdk back.v

# a VHDX that was not closed: what QEMU's repair makes of it is what we read without one
qemu-img create -q -f vhdx -o block_size=1M unclean.vhdx 20M
qemu-io -f vhdx -c 'write -q -P 1 1M 3M' -c 'write -q -P 2 8M 64k' -c 'sigraise 9' unclean.vhdx >/dev/null 2>&1
works convert -f vhdx -O raw unclean.vhdx back.v
qemu-img check -q -r all -f vhdx unclean.vhdx >/dev/null 2>&1; qemu-img convert -f vhdx -O raw unclean.vhdx back.q; same_bytes back.q back.v

# they are only read
for f in vdi:a.vdi vpc:a.vhd vhdx:a.vhdx vmdk:a.vmdk; do
        refuses 1 "can only be read" resize -f "${f%:*}" "${f#*:}" 1G
        refuses 1 "cannot be created" create -f "${f%:*}" new.img 1M
        refuses 1 "\(cannot be created\|can only be read\)" convert -f raw -O "${f%:*}" source.raw new.img
done
[ -e new.img ] && bad "new.img was left behind"

finish
