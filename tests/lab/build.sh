#!/usr/bin/env bash
# Builds what the lab's guest boots from, out of Debian's own packages: `build.sh FOLDER`, as root.
#
# FOLDER gets vmlinux (the stock kernel), initrd.gz (mounts the root), root.img (userland with udev and BlueZ).
# Nothing of the project goes in: the guest reads tests/lab/guest/ from the host at every boot.
set -euo pipefail
folder=$1
release=bookworm
packages=udev,kmod,mount,procps,iproute2,python3,usbip,dbus,bluez
# Loaded before the root is there, and from it.
early="virtio_pci virtio_blk virtio_console ext4 overlay 9p 9pnet_virtio"
late="virtio_net virtio_rng vhci-hcd cdc-acm cp210x ftdi_sio ch341 pl2303
    bluetooth hci_vhci uhid uinput algif_hash algif_skcipher algif_aead
    ecb cmac aes_generic ccm ctr sha256_generic hmac sha512_generic drbg ecdh_generic"

if ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'; then
    echo "the busybox here needs libraries, which the initramfs has not: apt-get install -y busybox-static" >&2
    exit 1
fi
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir root kernel

# The kernel comes as files from its package: installing it would build an initramfs that nobody boots.
# mmdebstrap runs this with its own package lists, so that they need not be on the host.
cat >fetch-kernel <<'FETCH'
#!/bin/sh
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$(dirname "$0")"
image=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
apt-get -o APT::Sandbox::User=root -q download "$image"
FETCH
chmod +x fetch-kernel
excluded=()
for path in doc man locale info lintian; do
    excluded+=("--dpkgopt=path-exclude=/usr/share/$path/*")
done
mmdebstrap --quiet --mode=root --format=directory --variant=essential --include="$packages" "${excluded[@]}" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
    --customize-hook="$PWD/fetch-kernel" "$release" root
dpkg-deb -x linux-image-*.deb kernel
version=$(ls kernel/lib/modules)

# Of the kernel's modules, the wanted ones and what they depend on.
modules() {
    local name
    for name in "$@"; do
        chroot root modprobe -S "$version" --show-depends "$name" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++'
}
mkdir -p root/lib/modules
cp -a "kernel/lib/modules/$version" root/lib/modules/
chroot root depmod "$version"
# shellcheck disable=SC2086 # lists of names
modules $early $late >wanted
find root/lib/modules -name '*.ko' | sed 's/^root//' | grep -vxFf wanted | sed 's/^/root/' | xargs rm
chroot root depmod "$version"

# QEMU starts an uncompressed kernel in half the time: no emulated processor unpacks it.
python3 - kernel/boot/vmlinuz-* vmlinux <<'PYTHON'
import lzma, sys

image = open(sys.argv[1], "rb").read()
at = -1
while (at := image.find(b"\xfd7zXZ\x00", at + 1)) >= 0:
    try:
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[at:])
    except lzma.LZMAError:
        continue
    if kernel[:4] == b"\x7fELF":
        open(sys.argv[2], "wb").write(kernel)
        sys.exit()
sys.exit("no XZ-compressed kernel in " + sys.argv[1])
PYTHON

# Mount points of what the host shares, and an identity for D-Bus.
mkdir -p root/lab root/program root/station
echo lab >root/etc/hostname
printf '127.0.0.1 localhost lab\n10.0.2.2 host\n' >root/etc/hosts
: >root/etc/fstab
echo 0123456789abcdef0123456789abcdef >root/etc/machine-id
megabytes=$(($(du -sm root | cut -f1) * 115 / 100 + 16))
mke2fs -q -t ext4 -O ^has_journal -m 0 -d root root.img "${megabytes}M"

# The root stays as it was built: what the guest writes is kept in memory.
mkdir -p early/bin early/modules early/dev early/proc early/root early/lower early/upper
cp "$(command -v busybox)" early/bin/busybox
number=10
# shellcheck disable=SC2086
for module in $(modules $early); do
    cp "root$module" "early/modules/$number-$(basename "$module")"
    number=$((number + 1))
done
cat >early/init <<'INIT'
#!/bin/busybox sh
set -e
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t devtmpfs dev /dev
for module in /modules/*; do $bb insmod "$module"; done
$bb mount -t ext4 -o ro,noatime /dev/vda /lower
$bb mount -t tmpfs -o mode=755 upper /upper
$bb mkdir /upper/files /upper/work
$bb mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /root
$bb mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose lab /root/lab
$bb mount --move /dev /root/dev
$bb mount --move /proc /root/proc
exec $bb switch_root /root /lab/init
INIT
chmod +x early/init
(cd early && find . | cpio --quiet -o -H newc | gzip -1) >initrd.gz

mkdir -p "$folder"
mv vmlinux initrd.gz root.img "$folder"
