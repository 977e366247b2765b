#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What vdisk-img shows beyond qemu-img: map --image, what check explains, info --usage.
# Usage: test_vdisk_img_look.sh VDISK_IMG [SEED]
# shellcheck source=tests/tools/vdisk_img_lib.sh
. "$(dirname "$0")/vdisk_img_lib.sh" "$@"
needs_qemu

echo "== map --image"
truncate -s 64M base.raw
qemu-io -f raw -c "write -P 1 0 16M" -c "write -P 1 48M 1M" base.raw >/dev/null
qemu-img create -q -f qcow2 -b base.raw -F raw mid.qcow2 64M
qemu-io -f qcow2 -c "write -P 2 8M 16M" -c "write -z 56M 8M" mid.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 64M
qemu-io -f qcow2 -c "write -P 3 32M 8M" top.qcow2 >/dev/null
export LC_ALL=C.UTF-8 COLUMNS=64 # a column is 1 MiB
works map -f qcow2 --image top.qcow2
says '^2{8}1{16} {8}0{8} {8}2 {7}1{8}$'    # which image the guest sees
says '^ {32}█{8} {24}$'                     # top
says '^ {8}█{16} {32}░{8}$'                 # mid: data and zeros
says '^█{8}×{8} {32}█ {15}$'                # base: the half under mid is hidden
says '16 MiB of data in 1 piece, 8 MiB of zeros$'
says '17 MiB of data in 2 pieces; 8 MiB hidden by images above$'
grep -q "$(printf '\033')" v.out && bad "colours in a file" || ok
LC_ALL=C works map -f qcow2 --image top.qcow2
says '^#{8}x{8} {32}# {15}$'
LC_ALL=C grep -q '[^ -~]' v.out && bad "other than ASCII in an ASCII locale" || ok
for columns in 16 40 200; do
        COLUMNS=$columns works map -f qcow2 --image top.qcow2
        [ "$(sed -n 2p v.out | wc -m)" = $((columns + 1)) ] && ok || bad "$columns columns"
done
if command -v script >/dev/null; then # on a terminal: in colours, unless NO_COLOR says otherwise
        TERM=xterm script -qec "'$img' map -f qcow2 --image top.qcow2" /dev/null >v.out
        grep -q "$(printf '\033')\[38;5;" v.out && ok || bad "no colours on a terminal"
        NO_COLOR=1 TERM=xterm script -qec "'$img' map -f qcow2 --image top.qcow2" /dev/null >v.out
        grep -q "$(printf '\033')" v.out && bad "colours with NO_COLOR" || ok
fi
works map -f qcow2 --image=map.svg top.qcow2
is_svg() { python3 -c 'import sys, xml.dom.minidom as m; sys.exit(m.parse(sys.argv[1]).documentElement.tagName != "svg")' "$1"; }
is_svg map.svg && ok || bad "map.svg"
grep -q "mid.qcow2" map.svg && ! grep -q "nan\|inf" map.svg && ok || bad "map.svg: contents"
mkdir 'a<b>&"c' && cp base.raw "$(printf 'a<b>&"c/x\001\377\303\244\303.raw')"
works map -f raw --image=names.svg a*/x*
is_svg names.svg && ok || bad "a file name breaks the SVG"
qemu-img create -q -f qcow2 empty.qcow2 0
refuses 1 "nothing to draw" map -f qcow2 --image empty.qcow2
refuses 1 "must end in .svg" map -f qcow2 --image=top.qcow2 top.qcow2
refuses 1 "all of the disk" map -f qcow2 --image --output=json top.qcow2
refuses 1 "no/dir.svg" map -f qcow2 --image=no/dir.svg top.qcow2
qemu-img create -q -f qcow2 tiny.qcow2 512
works map -f qcow2 --image tiny.qcow2
works map -f qcow2 --image=tiny.svg tiny.qcow2
is_svg tiny.svg && ok || bad "tiny.svg"
qemu-img convert -c -f raw -O qcow2 base.raw packed.qcow2
works map -f qcow2 --image packed.qcow2
says '^▒{16} {32}▒ {15}$'
says '17 MiB of data in [1-4] pieces?, 17 MiB of it compressed'

echo "== info --usage"
qemu-img create -q -f qcow2 s.qcow2 64M
qemu-io -f qcow2 -c "write -P 1 0 8M" s.qcow2 >/dev/null
qemu-img snapshot -c one s.qcow2
qemu-io -f qcow2 -c "write -P 2 0 2M" s.qcow2 >/dev/null
qemu-img snapshot -c two s.qcow2
qemu-io -f qcow2 -c "write -P 3 1M 4M" s.qcow2 >/dev/null
works info --usage s.qcow2
says "^    data: 8 MiB in [0-9]+ pieces?, [0-9.]+% fragmented"
dd if=/dev/urandom of=holes.raw bs=60k count=20 status=none && truncate -s 2M holes.raw # holes inside of clusters
for k in 8 300 701; do dd if=/dev/zero of=holes.raw bs=4k seek=$k count=1 conv=notrunc status=none; done
"$img" convert -f raw -O qcow2 holes.raw holes.qcow2
works info --usage holes.qcow2
says "^    data: 1.1[0-9] MiB in 1 piece, 0.0% fragmented$"
for s in one two; do # what it says is what happens
        said=$("$img" info --usage --output=json s.qcow2 | python3 -c 'import json, sys
print([s["alone-bytes"] for s in json.load(sys.stdin)["usage"]["snapshots"] if s["name"] == sys.argv[1]][0])' $s)
        cp s.qcow2 gone.qcow2
        used() { python3 - "$1" <<'P'
import struct, sys
f = open(sys.argv[1], "rb").read()
at, n = struct.unpack(">QI", f[48:60])
blocks = [b for b in struct.unpack(">%dQ" % (n * 8192), f[at:at + n * 65536]) if b]
print(sum(1 for b in blocks for i in range(32768) if f[b + 2 * i:b + 2 * i + 2] != b"\0\0") * 65536)
P
        }
        before=$(used gone.qcow2)
        qemu-img snapshot -d $s gone.qcow2
        [ $((before - $(used gone.qcow2))) = "$said" ] && ok || bad "deleting $s frees $((before - $(used gone.qcow2))), not $said"
done
works info --usage --backing-chain -f qcow2 top.qcow2
says "^    zeros: 8 MiB"
works info --usage base.raw
works info --output=json s.qcow2
grep -q usage v.out && bad "usage unasked" || ok

echo "== check explains"
damage() { # FILE: an L2 entry beyond the file, a refcount that is too low, a leak
        python3 - "$1" <<'P'
import struct, sys
f = open(sys.argv[1], "r+b")
def at(off): f.seek(off); return struct.unpack(">Q", f.read(8))[0] & ((1 << 56) - 512)
block, l2 = at(at(48)), at(at(40))
first = at(l2)
f.seek(block + 2 * (first // 65536)); f.write(b"\0\2")
f.seek(block + 2 * (first // 65536 + 1)); f.write(b"\0\0")
f.seek(l2 + 8 * 15); f.write(struct.pack(">Q", 1 << 63 | 0x7000000000))
P
}
qemu-img create -q -f qcow2 c.qcow2 64M
qemu-io -f qcow2 -c "write -P 1 0 1M" c.qcow2 >/dev/null
works check -f qcow2 c.qcow2
says "No errors"
grep -q "means" v.out && bad "explains nothing" || ok
damage c.qcow2
"$img" check -f qcow2 c.qcow2 >v.out 2>v.err
[ $? = 2 ] && ok || bad "exit code of a corrupt image"
for kind in "2 x  space is counted that nothing uses" "1 x  space in use is counted too seldom" "a mark says wrongly" \
            "1 x  a table entry leads nowhere" "-r leaks gives it back, when" "-r all clears it"; do
        says "$kind"
done
"$img" check -f qcow2 --output=json c.qcow2 2>/dev/null | python3 -c 'import json, sys
f = json.load(sys.stdin)["findings"]
sys.exit(sorted(x["kind"] for x in f) != ["bad-entry", "copied-bit", "leak", "refcount-too-low"])' && ok || bad "findings as JSON"
ln -s "$img" qemu-img
./qemu-img check -f qcow2 c.qcow2 2>/dev/null | grep -q "found means" && bad "called qemu-img it says more than qemu-img" || ok
"$img" check -q -f qcow2 -r all c.qcow2 2>/dev/null
clean c.qcow2

finish
