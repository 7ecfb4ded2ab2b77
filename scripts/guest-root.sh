#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: guest-root.sh
#
# Unpack the programs that real users of VFIO run, for the VM to use over a
# read-only share: a QEMU that knows iommufd (from 9.0 on; the one that makes
# the VM may be older) and DPDK, with the libraries that they need. Print the
# directory. Nothing is installed, and nothing of the packages is run here.
#
# They are of one Debian release, whichever this machine has, so that what is
# tested is the same everywhere. What was unpacked once is kept in the cache
# and needs no network.
#
# Environment: CACHE; GUEST_SUITE, the release (default trixie); OFFLINE=1 takes
#   what the cache holds only.
# Exit status: 0 and the directory on stdout, or 1 and one sentence on stderr.

. "$(dirname -- "$0")/lib.sh"
. "$TOP/scripts/apt.sh"
getopt_help "$@"

GUEST_SUITE=${GUEST_SUITE:-trixie}
# Patterns, because the names of DPDK's drivers, which are plug-ins that nothing
# depends on, end in a version.
PACKAGES='qemu-system-x86 ^librte-net-(e1000|virtio)-?[0-9]+$
	^librte-mempool-ring-?[0-9]+$'
# It has testpmd, and depends on headers and their compilers too.
TESTPMD=dpdk-dev
TMP=$CACHE/tmp/guest-root
ROOT=$CACHE/guest-root-$GUEST_SUITE-$(printf '%s' "$PACKAGES $TESTPMD" | sha256sum | cut -c1-12)

# What only takes time to unpack
UNWANTED=(./usr/share/doc ./usr/share/man ./usr/share/locale ./usr/share/info ./var)

unpack()
{
	local deb dir

	# A release with a merged /usr: the packages rely on these links.
	for dir in bin lib lib64 sbin; do
		mkdir -p -- "$1/usr/$dir"
		ln -s -- "usr/$dir" "$1/$dir"
	done
	for deb in "$2"/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x --keep-directory-symlink --no-same-owner -C "$1" \
				"${UNWANTED[@]/#/--exclude=}" || return 1
	done
	[ -x "$1/usr/bin/qemu-system-x86_64" ] &&
	[ -x "$1/usr/bin/dpdk-testpmd" ]
}

main()
{
	local closure libraries

	[ -z "${OFFLINE:-}" ] || die "no $ROOT, and OFFLINE is set"
	{ command -v apt-get && command -v dpkg-deb && command -v apt-cache; } > /dev/null ||
		die "apt and dpkg are needed to get packages of $GUEST_SUITE"
	apt_setup "apt-$GUEST_SUITE" "$GUEST_SUITE" ||
		die "no archive to get packages of $GUEST_SUITE from"
	libraries=$(apt-cache "${APT[@]}" depends --important "$TESTPMD" 2>/dev/null |
		awk '$1 == "Depends:" && $2 ~ /^(lib|zlib)/ && $2 !~ /-dev$/ { print $2 }') || :
	# shellcheck disable=SC2086 # lists
	closure=$(apt-get "${APT[@]}" -s -y --no-install-recommends install \
		$PACKAGES $libraries 2>/dev/null |
		awk '$1 == "Inst" { print $2 }' | sort -u) || :
	{ [ -n "$libraries" ] && [ -n "$closure" ]; } ||
		die "the archive has no $GUEST_SUITE, or not all of ${PACKAGES//[$'\n\t']/ } $TESTPMD"
	need_space "$CACHE" 1000 "unpacking QEMU and DPDK"
	rm -rf -- "$TMP"
	mkdir -p -- "$TMP/debs"
	# shellcheck disable=SC2086 # a list
	(cd -- "$TMP/debs" && apt-get "${APT[@]}" -q download $closure "$TESTPMD") >&2 ||
		die "downloading packages of $GUEST_SUITE failed"
	unpack "$TMP/root" "$TMP/debs" >&2 ||
		die "unpacking packages of $GUEST_SUITE failed (disk full?)"
	mv -- "$TMP/root" "$ROOT"
	rm -rf -- "$TMP"
}

get()
{
	mkdir -p -- "$CACHE" || die "cannot create $CACHE"
	exec 9> "$CACHE/lock"
	flock -n 9 || {
		say "waiting for another call that works in $CACHE"
		flock 9
	}
	[ -d "$ROOT" ] || main
}

[ -d "$ROOT" ] || get
printf '%s\n' "$ROOT"
