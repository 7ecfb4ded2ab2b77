#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: deps.sh [run|check|bench]
#
# Make sure that what "make run" (or also what "make check" or "make bench")
# calls is installed: install what is missing with apt as root or by sudo,
# else list it and stop. ccache is used where it is present and not asked for.
#
# Exit status: 0 when everything is there, 1 otherwise.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"

LOGS=$BUILD/logs
mkdir -p -- "$LOGS"

# package, and a file that shows that it is there
need='gcc command:gcc
libc6-dev /usr/include/stdio.h
make command:make
git command:git
flex command:flex
bison command:bison
bc command:bc
perl command:perl
python3 command:python3
rsync command:rsync
kmod command:depmod
cpio command:cpio
xz-utils command:xz
ca-certificates /etc/ssl/certs/ca-certificates.crt
curl command:curl
libelf-dev /usr/include/libelf.h
libssl-dev /usr/include/openssl/ssl.h
uuid-dev /usr/include/uuid/uuid.h
busybox-static /bin/busybox
qemu-system-x86 command:qemu-system-x86_64
seabios /usr/share/seabios/bios-256k.bin'
[ "${1:-run}" != bench ] || need+='
gnuplot-nox command:gnuplot'
[ "${1:-run}" != check ] || need+='
sparse command:sparse
shellcheck command:shellcheck
python3-sphinx command:sphinx-build
gcc-aarch64-linux-gnu command:aarch64-linux-gnu-gcc'

missing=
while read -r package file; do
	case "$file" in
	command:*) command -v "${file#command:}" > /dev/null && continue ;;
	*) [ ! -e "$file" ] || continue ;;
	esac
	missing+=" $package"
done <<< "$need"
[ -n "$missing" ] || exit 0

apt=()
if ! command -v apt-get > /dev/null; then
	die "please install what these Debian packages bring:$missing"
elif [ "$(id -u)" -eq 0 ]; then
	apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
elif command -v sudo > /dev/null &&
     { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
	apt=(sudo env DEBIAN_FRONTEND=noninteractive apt-get)
else
	die "not root and no sudo; please install:$missing"
fi

install()
{
	# Known versions may be gone from the archive; ask it again then.
	# shellcheck disable=SC2086 # a list
	"${apt[@]}" -y --no-install-recommends install $missing || {
		"${apt[@]}" update
		"${apt[@]}" -y --no-install-recommends install $missing
	}
}

stage "install$missing" deps.log install ||
	die "could not install:$missing"
