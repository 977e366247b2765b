#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Dirty bitmaps: vdisk-img and qemu-img on the same images, and every command that meets them.
# Usage: test_vdisk_img_bitmap.sh VDISK_IMG [SEED]
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu

# bits FILE BITMAP: what is dirty, as QEMU's NBD server tells it
bits() {
        rm -f nbd.sock
        qemu-nbd -r -f qcow2 -B "$2" -k "$dir/nbd.sock" -t --fork --pid-file="$dir/nbd.pid" "$1" 2>/dev/null || { echo "not served"; return; }
        qemu-img map --output=json --image-opts \
                "driver=nbd,server.type=unix,server.path=$dir/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:$2" |
                python3 -c 'import json, sys
print(*("%d+%d" % (e["start"] // 1024, e["length"] // 1024) for e in json.load(sys.stdin) if not e["data"]))'
        kill "$(cat nbd.pid)"; while [ -e nbd.sock ] && kill -0 "$(cat nbd.pid)" 2>/dev/null; do sleep 0.01; done
}
dirty() { local got; got=$(bits "$1" "$2"); if [ "$got" = "$3" ]; then ok; else bad "$1 $2: '$got', wanted '$3'"; fi; }

echo "== add, record, merge, clear, enable, disable, remove"
works create -q -f qcow2 a.qcow2 64M
works bitmap --add -f qcow2 a.qcow2 one
works bitmap --add --disable -g 4k -f qcow2 a.qcow2 off
same info a.qcow2
for f in qemu-img "$img"; do "$f" info --output=json a.qcow2; done | python3 -c 'import json, sys
text = sys.stdin.read(); a, end = json.JSONDecoder().raw_decode(text); sys.exit(a != json.loads(text[end:]))' && ok || bad "other JSON"
qemu-io -f qcow2 -c 'write 1M 100k' -c 'write 40M 64k' a.qcow2 >/dev/null
dirty a.qcow2 one "1024+128 40960+64"
works bitmap --merge one -f qcow2 a.qcow2 off
works bitmap --add --clear --merge off -g 512 -f qcow2 a.qcow2 three
works bitmap --enable -f qcow2 a.qcow2 off
works bitmap --disable -f qcow2 a.qcow2 one
works bench -w -c 1 -s 4096 -o 20M -f qcow2 -t writeback a.qcow2
clean a.qcow2
same info a.qcow2
qemu-img bitmap --enable a.qcow2 one
dirty a.qcow2 one "1024+128 40960+64"
dirty a.qcow2 off "1024+128 20480+4 40960+64"
dirty a.qcow2 three "1024+128 20480+4 40960+64"
works bitmap --remove -f qcow2 a.qcow2 one
works bitmap --clear -f qcow2 a.qcow2 off
dirty a.qcow2 off ""
clean a.qcow2
same info a.qcow2

echo "== from another image, several clusters of bits"
works create -q -f qcow2 -o cluster_size=4k b.qcow2 64M
works bitmap --add -g 512 --merge three -b a.qcow2 -F qcow2 -f qcow2 b.qcow2 far
dirty b.qcow2 far "1024+128 20480+4 40960+64"
works create -q -f qcow2 small.qcow2 32M
cp small.qcow2 before.qcow2
"$img" bitmap --add --merge three -b a.qcow2 -f qcow2 small.qcow2 x 2>v.err && bad "merged what does not fit"
grep -q "different sizes" v.err && ok || bad "$(cat v.err)"
dirty small.qcow2 x "" # what came before stays done
clean small.qcow2 b.qcow2

echo "== refused"
cp a.qcow2 keep.qcow2
for what in "--add off" "--remove no" "--clear no" "--merge no off"; do
        # shellcheck disable=SC2086 # words
        set -- $what
        "$img" bitmap "$1" ${3:+"$2"} -f qcow2 a.qcow2 "${3:-$2}" 2>v.err && bad "bitmap $what was done"
        if [ "$(wc -l <v.err)" = 1 ] && grep -q "^vdisk-img: Operation .* failed: " v.err; then ok; else bad "$what: $(cat v.err)"; fi
done
dirty a.qcow2 three "1024+128 20480+4 40960+64"
clean a.qcow2
refuses 1 "at least one of" bitmap -f qcow2 a.qcow2 x
refuses 1 "only goes with --add" bitmap --clear -g 4k -f qcow2 a.qcow2 x
refuses 1 "only goes with --merge" bitmap --clear -b b.qcow2 -f qcow2 a.qcow2 x
refuses 1 "which is not there" bitmap --merge y -F qcow2 -f qcow2 a.qcow2 x
refuses 1 "a file name and the name of a bitmap" bitmap --clear -f qcow2 a.qcow2
truncate -s 1M r.raw
refuses 1 "raw images cannot have bitmaps" bitmap --add -f raw r.raw x
"$img" bitmap --add -g 1000 -f qcow2 a.qcow2 x 2>v.err; grep -q "power of 2" v.err && ok || bad "$(cat v.err)"
works create -q -f qcow2 -o compat=v2 old.qcow2 1M
"$img" bitmap --add -f qcow2 old.qcow2 x 2>v.err; grep -q "version 2" v.err && ok || bad "$(cat v.err)"

echo "== measure, convert"
same measure -O qcow2 a.qcow2
same measure -O qcow2 --output=json -o cluster_size=4k b.qcow2
same measure -O raw a.qcow2
works convert --bitmaps -f qcow2 -O qcow2 -o cluster_size=16k a.qcow2 c.qcow2
dirty c.qcow2 three "1024+128 20480+4 40960+64"
equal qcow2 a.qcow2 qcow2 c.qcow2
qemu-img convert --bitmaps -O qcow2 c.qcow2 d.qcow2 && ok || bad "qemu-img does not copy our bitmaps"
dirty d.qcow2 three "1024+128 20480+4 40960+64"
works convert -f qcow2 -O qcow2 a.qcow2 e.qcow2
if "$img" info e.qcow2 | grep -q bitmaps; then bad "bitmaps came unasked"; else ok; fi
refuses 1 "does not support bitmaps" convert --bitmaps -f qcow2 -O raw a.qcow2 no.raw
refuses 1 "only goes with --bitmaps" convert --skip-broken-bitmaps -f qcow2 -O qcow2 a.qcow2 no.qcow2
works bitmap --add -f qcow2 e.qcow2 all
works convert -n -f raw -O qcow2 r.raw e.qcow2 # writes zeros into the first MiB
clean c.qcow2 d.qcow2 e.qcow2

echo "== inconsistent ones"
cp a.qcow2 i.qcow2
(qemu-io -f qcow2 -c "write 5M 64k" -c "sigraise 9" i.qcow2 >/dev/null 2>&1) 2>/dev/null
clean i.qcow2
same info i.qcow2
"$img" info i.qcow2 | grep -q 'in-use' && ok || bad "not in use"
"$img" bitmap --clear -f qcow2 i.qcow2 off 2>v.err; grep -q inconsistent v.err && ok || bad "$(cat v.err)"
refuses 1 "inconsistent bitmap" convert --bitmaps -f qcow2 -O qcow2 i.qcow2 no.qcow2
"$img" convert --bitmaps --skip-broken-bitmaps -f qcow2 -O qcow2 i.qcow2 s.qcow2 2>v.err && ok || bad "$(cat v.err)"
grep -q "Skipping inconsistent bitmap 'off'" v.err && ok || bad "$(cat v.err)"
works bitmap --remove -f qcow2 i.qcow2 off
works bitmap --remove -f qcow2 i.qcow2 three
clean i.qcow2 s.qcow2

echo "== resize, snapshot, amend, rebase, commit, check"
works resize -q -f qcow2 a.qcow2 80M
dirty a.qcow2 three "1024+128 20480+4 40960+64"
works resize -q --shrink -f qcow2 a.qcow2 30M
dirty a.qcow2 three "1024+128 20480+4"
works snapshot -c s1 -f qcow2 a.qcow2
refuses 1 "bitmaps" snapshot -a s1 -f qcow2 a.qcow2
works snapshot -d s1 -f qcow2 a.qcow2
works amend -f qcow2 -o lazy_refcounts=on a.qcow2
dirty a.qcow2 three "1024+128 20480+4"
refuses 1 "version 2" amend -f qcow2 -o compat=v2 a.qcow2
clean a.qcow2
works create -q -f qcow2 -b b.qcow2 -F qcow2 over.qcow2
qemu-io -f qcow2 -c 'write 9M 8k' over.qcow2 >/dev/null
works bitmap --add -g 4k -f qcow2 over.qcow2 o
works commit -q -f qcow2 over.qcow2 # into b.qcow2, which records
dirty b.qcow2 far "1024+128 9216+64 20480+4 40960+64"
works rebase -q -f qcow2 -b '' over.qcow2
"$img" info over.qcow2 | grep -q "name: o" && ok || bad "rebase lost a bitmap"
clean b.qcow2 over.qcow2

echo "== damaged ones are given up by check -r all"
cp b.qcow2 d.qcow2
python3 - <<'END'
import struct
f = open('d.qcow2', 'r+b'); head = f.read(4096); at = 112
while struct.unpack('>I', head[at:at + 4])[0] != 0x23852875:
        at += 8 + (struct.unpack('>I', head[at + 4:at + 8])[0] + 7) // 8 * 8
off = struct.unpack('>Q', head[at + 24:at + 32])[0]
f.seek(off); f.write(struct.pack('>Q', 1 << 50))
END
"$img" check -q -f qcow2 d.qcow2 >/dev/null 2>&1 && bad "nothing found" || ok
"$img" bitmap --clear -f qcow2 d.qcow2 far 2>v.err; grep -q "check -r all" v.err && ok || grep -q "must begin at a cluster" v.err && ok || bad "$(cat v.err)"
"$img" check -r all -f qcow2 d.qcow2 >/dev/null 2>&1
clean d.qcow2
finish
