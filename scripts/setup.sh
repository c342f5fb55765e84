#!/bin/bash
# Installs what `make ci` needs on a Debian 12 machine with Rust: a C toolchain, the lab's packages and cargo-deny. It can be
# run again at any time.
set -euo pipefail

packages=(gcc g++ libc6-dev make binutils python3 libxen-dev qemu-system-x86 busybox-static cpio gdb zstd xz-utils kmod e2fsprogs jq)
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	as_root=()
	[ "$(id -u)" = 0 ] || as_root=(sudo)
	"${as_root[@]}" apt-get update -qq
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny@0.20.2
