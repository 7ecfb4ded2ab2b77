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

unpack_deb()
{
	dpkg-deb --fsys-tarfile "$DEB" |
		tar -xO "./usr/src/$PACKAGE.tar.xz" |
		tar -xJ --no-same-owner --strip-components=1 -C "$1"
}

unpack_tarball()
{
	tar -xJ --no-same-owner --strip-components=1 -C "$1" -f "$TARBALL"
}

# import VERSION UNPACK: one commit, the same one on every machine
import()
{
	local src=$CACHE/tmp/src index=$CACHE/tmp/index tree commit
	local when='@1700000000 +0000' who='Linux source package'

	need_space "$CACHE" 4000 "importing $PACKAGE $1"
	# With what git leaves behind when it is killed.
	rm -rf -- "$src" "$index" "$index.lock" "$STORE"/objects/pack/tmp_*
	mkdir -p -- "$src"
	say "unpacking $PACKAGE $1"
	"$2" "$src" || die "unpacking $PACKAGE $1 failed (disk full?)"
	[ -f "$src/MAINTAINERS" ] || die "$PACKAGE $1 holds no kernel"
	# Debian ignores everything at the top for its own packaging, which
	# would hide new files from git.
	sed -i '/^# Debian packaging: ignore everything/,$d' "$src/.gitignore" ||
		die "unpacking $PACKAGE $1 failed (disk full?)"
	say "importing $PACKAGE $1"
	[ -d "$STORE" ] || {
		rm -rf -- "$STORE.tmp"
		git init -q --bare "$STORE.tmp" && mv -- "$STORE.tmp" "$STORE"
	} || die "importing $PACKAGE $1 failed (disk full?)"
	# Straight into one pack instead of 95,000 loose objects.
	GIT_INDEX_FILE=$index git --git-dir="$STORE" --work-tree="$src" \
		-c core.bigFileThreshold=1 -c core.compression=1 \
		-c core.autocrlf=false add -A -f . ||
		die "importing $PACKAGE $1 failed (disk full?)"
	tree=$(GIT_INDEX_FILE=$index git --git-dir="$STORE" write-tree) ||
		die "importing $PACKAGE $1 failed (disk full?)"
	commit=$(GIT_AUTHOR_NAME=$who GIT_AUTHOR_EMAIL=root@localhost \
		 GIT_AUTHOR_DATE=$when GIT_COMMITTER_NAME=$who \
		 GIT_COMMITTER_EMAIL=root@localhost GIT_COMMITTER_DATE=$when \
		 git --git-dir="$STORE" commit-tree -m "$PACKAGE $1" "$tree") ||
		die "importing $PACKAGE $1 failed (disk full?)"
	git --git-dir="$STORE" update-ref "$(ref_of "$1")" "$commit"
	rm -rf -- "$src" "$index"
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
		import "$version" unpack_deb
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
		import "$version" unpack_tarball
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
