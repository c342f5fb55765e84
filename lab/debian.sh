# shellcheck shell=bash
# What the lab takes from Debian: tools, which it installs if they are missing, and packages, which it only unpacks into
# $cache. `run` and the tests source this file.
: "${cache:?is where packages are kept}"

die() {
	echo "lab: $1" >&2
	exit "${2:-1}"
}

# Runs a command as root; fails if sudo would ask for a password.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs missing commands; each argument is command:package.
need_tools() {
	local pair missing=()
	for pair; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "lab: installing ${missing[*]}" >&2
	as_root apt-get -qq update >&2 || true
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		-o DPkg::Lock::Timeout=120 install "${missing[@]}" >&2 ||
		die "packages are missing; run as root: apt-get install ${missing[*]}" 3
}

# Prints the newest package whose whole name matches an extended regular expression.
newest() {
	apt-cache search --names-only "^$1\$" | cut -d' ' -f1 | sort -V | tail -n 1
}

# Downloads the newest match of $1 into the directory $2. If that fails, it tries once more with fresh lists.
download() {
	local attempt package
	for attempt in now refreshed; do
		[ "$attempt" = now ] || as_root apt-get -qq update >&2 || true
		package=$(newest "$1")
		[ -n "$package" ] || continue
		echo "lab: downloading $package" >&2
		if (cd "$2" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2); then return 0; fi
	done
	die "cannot download a package $1; check the network and run as root: apt-get update" 3
}

# Keeps a part of a package in $cache/$1. Downloads and unpacks the newest match of $2, and calls the function $3 in an
# empty directory with the path of the unpacked package. The directory is renamed into place when it is complete, so that
# an interrupted one is never used.
cached() {
	local home=$cache/$1 new
	[ -d "$home" ] && return 0
	new=$(mktemp -d "$cache/new.XXXXXX")
	mkdir -p "$new/deb" "$new/root" "$new/keep" "$(dirname "$home")"
	# One chain of &&, because `set -e` has no effect on the left of `||`.
	(
		download "$2" "$new/deb" &&
			dpkg -x "$new"/deb/*.deb "$new/root" &&
			basename "$new"/deb/*.deb >"$new/keep/package" &&
			cd "$new/keep" && "$3" "$new/root"
	) || { rm -rf "$new"; die "cannot make $cache/$1 from a package" 3; }
	mv "$new/keep" "$home"
	rm -rf "$new"
}

# Keeps of a kernel package: vmlinuz, the modules of kvm_amd, taps, bridges and disks for a host, and those of disks and networks for a guest.
keep_kernel() {
	local version
	version=$(basename "$1"/lib/modules/*)
	cp "$1"/boot/vmlinuz-* vmlinuz && depmod -b "$1" "$version" || return
	keep_modules "$1" "$version" modules kvm_amd tun bridge virtio_blk && [ -n "$(ls modules)" ] || return
	keep_modules "$1" "$version" guest-modules xen-blkfront ext4 xen-netfront &&
		echo "$kernel_format" >format
}

# What keep_kernel keeps; it rises when that changes.
kernel_format=3

# Keeps gdb of its package.
keep_gdb() { cp "$1/usr/bin/gdb" gdb; }

# Keeps modules and those that they need in the order they load, as DIR/NN-name.ko: unpacked package, version, DIR, modules.
# What is built into the kernel needs no file.
keep_modules() {
	local root=$1 version=$2 dir=$3 number=10 file name order='' module
	shift 3
	mkdir "$dir" || return
	for module; do
		order+=$(modprobe -d "$root" -S "$version" --show-depends "$module")$'\n' || return
	done
	while read -r file; do
		name=$dir/$number-$(basename "$file")
		cp "$file" "$name" || return
		case $name in *.xz) xz -d "$name" || return ;; esac
		number=$((number + 1))
	done < <(awk '$1 == "insmod" && !seen[$2]++ { print $2 }' <<<"$order")
}

# Keeps the file $keep_file of a package, as what is booted.
keep_image() { cp "$1/${keep_file:?}" vmlinuz; }

# Keeps GRUB's modules for PVH, as modules/.
keep_grub_modules() { cp -r "$1/usr/lib/grub/i386-xen_pvh" modules && : >vmlinuz; }

# Keeps the program that makes an image of them.
keep_mkimage() { cp "$1/usr/bin/grub-mkimage" grub-mkimage; }

keep_busybox() { cp "$1"/bin/busybox busybox; }
