#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y fetch.sh
#
# Bring the source of a base into the cache as one git commit and print its
# id. Where it comes from, in this order:
#
#   1. the package and version that bases/x.y names, its checksum compared;
#   2. the newest version of that package that the archive has (said so);
#   3. the newest kernel.org tarball of x.y that can be had (said so),
#      compared with the checksums published next to it.
#
# The archive is the one that this machine's apt uses. A private set of lists
# is made for it, the system's own sources and lists are not touched.
#
# Every step works on a temporary name and is renamed when it is whole, so an
# interrupted call leaves nothing that a later one would take for good.
#
# Environment: BASE, CACHE; KERNEL_ORG, the URL of kernel.org's directory of
# tarballs; OFFLINE=1 takes the newest source of x.y that the cache holds.
# Exit status: 0 and the commit id on stdout, or 1 and one sentence on stderr.

. "$(dirname -- "$0")/lib.sh"
. "$TOP/scripts/apt.sh"
getopt_help "$@"
load_base

KERNEL_ORG=${KERNEL_ORG:-https://cdn.kernel.org/pub/linux/kernel/v${BASE%%.*}.x}
STORE=$CACHE/linux.git
IMPORTING=refs/importing

# What a source is called in the store: ~, which Debian uses, is not allowed.
ref_of()
{
	printf 'refs/bases/%s/%s' "$PACKAGE" "${1//\~/-}"
}

in_store()
{
	git --git-dir="$STORE" rev-parse -q --verify "$(ref_of "$1")^{commit}" \
		2>/dev/null
}

# Versions of the package, newest first, each with its checksum.
apt_versions()
{
	apt-cache "${APT[@]}" show "$PACKAGE" 2>/dev/null |
		awk '$1 == "Version:" { v = $2 } $1 == "SHA256:" { print v, $2 }' |
		sort -rV -u
}

# download VERSION SHA256: leaves $DEB
download()
{
	local tmp=$CACHE/tmp/deb

	DEB=$CACHE/${PACKAGE}_$1.deb
	if [ -f "$DEB" ]; then
		printf '%s  %s\n' "$2" "$DEB" | sha256sum -c --status && return 0
		say "note: $DEB is damaged, downloading it again"
		rm -f -- "$DEB"
	fi
	need_space "$CACHE" 500 "downloading $PACKAGE"
	rm -rf -- "$tmp"
	mkdir -p -- "$tmp"
	(cd -- "$tmp" && apt-get "${APT[@]}" -q download "$PACKAGE=$1") >&2 || {
		need_space "$CACHE" 1 "downloading $PACKAGE"
		return 1
	}
	printf '%s  %s\n' "$2" "$(echo "$tmp"/*.deb)" | sha256sum -c --status ||
		die "checksum wrong: $PACKAGE $1 is not the file that was expected ($2)"
	mv -- "$tmp"/*.deb "$DEB"
}

# The source as a tar archive on stdout
tar_of_deb()
{
	dpkg-deb --fsys-tarfile "$DEB" |
		tar -xO "./usr/src/$PACKAGE.tar.xz" | xz -dc
}

tar_of_tarball()
{
	xz -dc -- "$TARBALL"
}

# What git leaves behind in the store when it fails or is killed. Nobody else writes
# there now.
clean_store()
{
	# Of the way that the source took to git before
	rm -rf -- "$CACHE/tmp/src" "$CACHE/tmp/index" "$CACHE/tmp/index.lock"
	[ -d "$STORE" ] || return 0
	rm -f -- "$STORE"/objects/pack/tmp_* "$STORE"/fast_import_crash_* \
		"$STORE"/*.lock
	find "$STORE/refs" -name '*.lock' -delete
	git --git-dir="$STORE" update-ref -d "$IMPORTING"
}

# import VERSION COMMAND: one commit of the archive that COMMAND writes, the same one
# on every machine. Straight into one pack instead of 95,000 loose objects. It gets its
# name when all of them have succeeded.
import()
{
	{ command -v python3 && command -v xz; } > /dev/null ||
		die "python3 and xz are needed to import $PACKAGE $1"
	need_space "$CACHE" 1000 "importing $PACKAGE $1"
	clean_store
	say "importing $PACKAGE $1"
	[ -d "$STORE" ] || {
		rm -rf -- "$STORE.tmp"
		git init -q --bare "$STORE.tmp" && mv -- "$STORE.tmp" "$STORE"
	} || die "importing $PACKAGE $1 failed (disk full?)"
	{
		"$2" | "$TOP/scripts/tar-to-git.py" "$IMPORTING" "$PACKAGE $1" |
			git --git-dir="$STORE" -c core.bigFileThreshold=1 \
				-c core.compression=1 fast-import --quiet --force --done &&
			git --git-dir="$STORE" update-ref "$(ref_of "$1")" "$IMPORTING"
	} || {
		clean_store
		die "importing $PACKAGE $1 failed (disk full, or what was downloaded is no kernel source)"
	}
	clean_store
}

from_archive()
{
	local versions version sum

	# shellcheck disable=SC2086 # a list
	apt_setup apt $SUITES || return 1
	versions=$(apt_versions)
	[ -n "$versions" ] || {
		say "note: the archive has no $PACKAGE (no network, or it is gone)"
		return 1
	}
	if printf '%s\n' "$versions" | grep -q "^$VERSION "; then
		version=$VERSION sum=$SHA256
	else
		read -r version sum <<< "$versions"
		say "note: $PACKAGE $VERSION has left the archive, taking $version"
	fi
	if ! in_store "$version" > /dev/null; then
		download "$version" "$sum" || return 1
		import "$version" tar_of_deb
	fi
	FOUND=$version
}

from_kernel_org()
{
	local file sums version

	sums=$CACHE/tmp/sha256sums
	mkdir -p -- "$CACHE/tmp"
	curl -fsSL --retry 2 -o "$sums" "$KERNEL_ORG/sha256sums.asc" || {
		say "note: cannot reach $KERNEL_ORG"
		return 1
	}
	file=$(awk '{ print $2 }' "$sums" |
	       grep -E "^linux-${BASE//./\\.}(\.[0-9]+)?\.tar\.xz$" |
	       sort -V | tail -n 1)
	[ -n "$file" ] || { say "note: kernel.org has no $BASE"; return 1; }
	version=${file#linux-}
	version=${version%.tar.xz}
	say "note: taking $file from kernel.org; no package of $BASE can be had"
	if ! in_store "$version" > /dev/null; then
		TARBALL=$CACHE/$file
		need_space "$CACHE" 500 "downloading $file"
		curl -fsSL --retry 2 -o "$TARBALL.part" "$KERNEL_ORG/$file" ||
			return 1
		[ "$(sha256sum < "$TARBALL.part" | cut -d' ' -f1)" = \
		  "$(awk -v f="$file" '$2 == f { print $1 }' "$sums")" ] ||
			die "checksum wrong: $file is not the file that was expected"
		mv -- "$TARBALL.part" "$TARBALL"
		import "$version" tar_of_tarball
	fi
	FOUND=$version
}

# Another version than the pinned one, from an earlier call
from_cache()
{
	FOUND=$(git --git-dir="$STORE" for-each-ref --sort=-version:refname \
		--format='%(refname:lstrip=3)' "refs/bases/$PACKAGE" \
		2>/dev/null | head -n 1) || :
	[ -n "$FOUND" ] || return 1
	say "note: taking $PACKAGE $FOUND from the cache"
}

mkdir -p -- "$CACHE" || die "cannot create $CACHE"
# The pinned version needs no network once it is there, and waits for nobody.
! in_store "$VERSION" || exit 0
exec 9> "$CACHE/lock"
flock -n 9 || {
	say "waiting for another call that works in $CACHE"
	flock 9
}

if ! in_store "$VERSION"; then
	FOUND=
	if [ -n "${OFFLINE:-}" ]; then
		from_cache || die "no source of $BASE in $CACHE, and OFFLINE is set"
	else
		from_archive || from_kernel_org || from_cache ||
			die "no source of $BASE to be had: no network, or $PACKAGE is gone; LINUX=path takes a tree of your own"
	fi
	in_store "$FOUND" || die "$PACKAGE $FOUND did not arrive in $STORE"
fi
