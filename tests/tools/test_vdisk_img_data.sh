#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vdisk-img on images that keep their data in another file, against qemu-img. Usage: test_vdisk_img_data.sh VDISK_IMG
img=$(realpath "$1")
command -v qemu-img >/dev/null && command -v qemu-io >/dev/null || { echo "qemu-img or qemu-io is not installed"; exit 77; }
dir=$(mktemp -d /var/tmp/test_vdisk_img_data.XXXXXX) && cd "$dir" || exit 1
trap 'cd /; rm -rf "$dir"' EXIT
failed=0 passed=0

# yes/no COMMAND...: it succeeds; it fails with one sentence
yes() { if "$@" >out 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL line ${BASH_LINENO[0]}: $*"; cat out; fi; }
no() {
        local pattern=$1; shift
        if ! "$@" >out 2>&1 && [ "$(wc -l <out)" = 1 ] && grep -q -- "$pattern" out; then passed=$((passed + 1)); else
                failed=$((failed + 1)); echo "FAIL line ${BASH_LINENO[0]}: $* (wanted '$pattern')"; cat out; fi
}
clean() { yes qemu-img check -q -f qcow2 "$1"; yes "$img" check -q -f qcow2 "$1"; }
same_disk() { yes qemu-img compare -f "$1" -F "$3" "$2" "$4"; yes "$img" compare -f "$1" -F "$3" "$2" "$4"; }
# like_qemu WORD...: both say the same
like_qemu() { qemu-img "$@" >theirs 2>&1; "$img" "$@" >ours 2>&1; yes diff theirs ours; }

qemu-img create -q -f raw src.raw 5M
qemu-io -f raw -c 'write -P 1 0 700k' -c 'write -P 2 2M 1k' -c 'write -P 3 5119k 1k' src.raw >/dev/null

for raw in off on; do
        yes "$img" create -q -f qcow2 -o data_file=e.data,data_file_raw=$raw e.qcow2 3M
        qemu-img create -q -f qcow2 -o data_file=q.data,data_file_raw=$raw q.qcow2 3M
        clean e.qcow2
        yes diff <(qemu-img info e.qcow2 | grep -v 'image:\|disk size\|data file:') \
                 <(qemu-img info q.qcow2 | grep -v 'image:\|disk size\|data file:')
        yes cmp e.data q.data
        yes diff <("$img" info --output=json e.qcow2 | grep data-file) <(qemu-img info --output=json e.qcow2 | grep data-file)
        yes "$img" convert -f raw -O qcow2 -o data_file=a.data,data_file_raw=$raw src.raw a.qcow2
        clean a.qcow2
        same_disk raw src.raw qcow2 a.qcow2
        [ $raw = off ] || yes cmp a.data src.raw
        like_qemu map -f qcow2 a.qcow2
        like_qemu measure -f qcow2 -O qcow2 a.qcow2
        yes "$img" convert -f qcow2 -O raw a.qcow2 back.raw
        yes cmp back.raw src.raw
        yes "$img" convert -f qcow2 -O qcow2 -c a.qcow2 packed.qcow2 # from, not to
        same_disk raw src.raw qcow2 packed.qcow2
        for size in 9M 4M 10M; do
                yes "$img" resize -q --shrink -f qcow2 a.qcow2 $size
                qemu-img resize -q --shrink -f raw back.raw $size
                clean a.qcow2
                same_disk raw back.raw qcow2 a.qcow2
                yes test "$(stat -c %s a.data)" = "$(stat -c %s back.raw)"
                qemu-io -f qcow2 -c 'write -P 9 3M 64k' a.qcow2 >/dev/null
                qemu-io -f raw -c 'write -P 9 3M 64k' back.raw >/dev/null
        done
done
yes "$img" amend -f qcow2 -o data_file_raw=off a.qcow2
yes grep -q '"data-file-raw": false' <(qemu-img info --output=json a.qcow2)
no "data_file_raw cannot be set" "$img" amend -f qcow2 -o data_file_raw=on a.qcow2
mv a.data b.data
no "No such file" "$img" map -f qcow2 a.qcow2
yes "$img" info -f qcow2 a.qcow2
yes "$img" map --image-opts driver=qcow2,file.filename=a.qcow2,data-file.filename=b.data
yes "$img" amend --image-opts -o data_file=b.data driver=qcow2,file.filename=a.qcow2,data-file.filename=b.data
same_disk raw back.raw qcow2 a.qcow2

# an overlay with a data file: commit and rebase
yes "$img" create -q -f qcow2 -b src.raw -F raw -o data_file=o.data o.qcow2
qemu-io -f qcow2 -c 'write -P 5 1M 200k' -c 'write -z 100k 100k' o.qcow2 >/dev/null
qemu-img convert -f qcow2 -O raw o.qcow2 want.raw
cp src.raw other.raw && qemu-io -f raw -c 'write -P 8 0 5M' other.raw >/dev/null
yes "$img" rebase -f qcow2 -b other.raw -F raw o.qcow2
clean o.qcow2
same_disk raw want.raw qcow2 o.qcow2
yes "$img" commit -q -f qcow2 o.qcow2
clean o.qcow2
same_disk raw want.raw qcow2 o.qcow2
same_disk raw want.raw raw other.raw

no "exclude each other" "$img" convert -c -f raw -O qcow2 -o data_file=c.data src.raw c.qcow2
no "needs compat=v3" "$img" create -q -f qcow2 -o data_file=c.data,compat=v2 c.qcow2 1M
no "needs a data_file" "$img" create -q -f qcow2 -o data_file_raw=on c.qcow2 1M
no "exclude each other" "$img" create -q -f qcow2 -b src.raw -F raw -o data_file=c.data,data_file_raw=on c.qcow2
no "would be overwritten" "$img" create -q -f qcow2 -b src.raw -F raw -o data_file=src.raw c.qcow2
no "would be overwritten" "$img" convert -f qcow2 -O qcow2 -o data_file=b.data a.qcow2 c.qcow2
no "c.qcow2" "$img" create -q -f qcow2 -o data_file=c.qcow2 c.qcow2 1M
no "not a plain path" "$img" create -q -f qcow2 -o data_file=nbd:x c.qcow2 1M
no "cannot have internal snapshots" "$img" snapshot -c s a.qcow2
yes test ! -e c.qcow2 -a ! -e c.data

echo "vdisk-img, data files: $passed passed, $failed failed"
[ $failed = 0 ]
