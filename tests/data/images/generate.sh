#!/bin/sh
# Makes the images and public keys in this folder with imgtool (written with imgtool 2.5.0 from PyPI).
# The private keys are thrown away, so every run makes new ones; the tests ask for no particular bytes.
set -eu
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT

# 100 bytes of firmware that are neither zeros nor erased flash.
python3 -c 'import sys; sys.stdout.buffer.write(bytes(i * 7 % 251 for i in range(100)))' >"$keys/firmware.bin"

sign() { # NAME KEY-OR-NONE OPTION...
    name=$1 key=$2
    shift 2
    [ "$key" = none ] || set -- --key "$keys/$key.pem" "$@"
    imgtool sign --version 1.2.3+4 --header-size 0x20 --pad-header --slot-size 0x600 --max-sectors 8 \
        "$@" "$keys/firmware.bin" "$name" >/dev/null
}

for type in ecdsa-p256 ecdsa-p384 ed25519 rsa-2048 rsa-3072; do
    imgtool keygen --key "$keys/$type.pem" --type "$type"
    imgtool getpub --key "$keys/$type.pem" --encoding pem --output "$type.pub.pem"
    sign "$type.bin" "$type"
done
imgtool keygen --key "$keys/other.pem" --type ecdsa-p256
imgtool getpub --key "$keys/other.pem" --encoding pem --output other.pub.pem
imgtool keygen --key "$keys/encryption.pem" --type ecdsa-p256

sign ed25519-sha512.bin ed25519 --sha 512
sign ed25519-pure.bin ed25519 --pure
sign ecdsa-p256-padded-signature.bin ecdsa-p256 --pad-sig
sign ecdsa-p256-full-key.bin ecdsa-p256 --public-key-format full
sign ecdsa-p256-encrypted.bin ecdsa-p256 --encrypt "$keys/encryption.pem"
sign ecdsa-p256-clear.bin ecdsa-p256 --encrypt "$keys/encryption.pem" --clear
sign protected.bin none --security-counter 513 --dependencies '(1, 2.3.4+5)' --boot-record app \
    --vid example.org --cid sensor --custom-tlv 0x01a0 0xabcd --rom-fixed 0xc200
sign padded.bin none --confirm
sign padded.hex none --confirm --hex-addr 0xc000
sign sha384.bin none --sha 384
