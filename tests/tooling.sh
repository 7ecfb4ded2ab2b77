#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: tests/tooling.sh
#
# Test the scripts that fetch a base, lay out the series on it and write it
# back: on a kernel of a few files in a package archive of its own, where
# everything that can go wrong is made to, and on each real base whose source
# the cache has. No network is used, and the checkout and the cache are only
# read. Building and booting is not tested here.
#
# Environment: CACHE, where the real sources are; ONLY=regex runs the cases
#   whose names match.
# Output: TAP. Exit status: 0 if all cases pass, 1 otherwise.

. "$(dirname -- "$0")/tap.sh"

case "${1:-}" in
-h | --help) usage; exit 0 ;;
?*) usage >&2; exit 1 ;;
esac

TOP=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
REAL_CACHE=$(realpath -m -- \
	"${CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfio-bar-access}")
T=$(mktemp -d "${TMPDIR:-/tmp}/tooling.XXXXXX")
trap 'rm -rf -- "$T"' EXIT
trap 'exit 130' INT TERM

# Nothing of the caller's decides about the result.
unset BASE BASES LINUX BUILD JOBS V FORCE DEBUG PLAN OUT REROLL SIGNOFF OFFLINE
unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES "${!GIT_@}"
export LC_ALL=C.UTF-8 HOME=$T/home GIT_CONFIG_NOSYSTEM=1
export CACHE=$T/cache KERNEL_ORG=http://kernel.invalid
mkdir -p -- "$HOME"
git config --global user.name Tester
git config --global user.email tester@example.invalid
git config --global init.defaultBranch main
git config --global advice.detachedHead false

PACKAGE=linux-source-7.2
C_FILE=drivers/vfio/pci/core.c
NEW_FILE=tools/testing/selftests/vfio/new_test.c

# --- a kernel of a few files, its package, and the archive it comes from ---

fake_kernel()
{
	mkdir -p -- "$1/drivers/vfio/pci" "$1/tools/testing/selftests/vfio" \
		"$1/scripts"
	printf 'VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = %s\n' "$2" > "$1/Makefile"
	echo 'List of maintainers' > "$1/MAINTAINERS"
	echo 'Linux kernel' > "$1/README"
	printf '*.o\n# Debian packaging: ignore everything\n/*\n' > "$1/.gitignore"
	printf '#!/bin/sh\n' > "$1/scripts/tool.sh"
	chmod 755 -- "$1/scripts/tool.sh"
	seq -f 'line %g' 40 > "$1/$C_FILE"
	seq -f 'line %g' 20 > "$1/tools/testing/selftests/vfio/Makefile"
}

# fake_package VERSION [FILTER]: put a package in the archive; FILTER changes
# the tarball in it
fake_package()
{
	local dir=$T/package filter=${2:-cat}

	rm -rf -- "$dir"
	mkdir -p -- "$dir/DEBIAN" "$dir/usr/src" "$T/src/$PACKAGE"
	fake_kernel "$T/src/$PACKAGE" "${1%%-*}"
	tar -C "$T/src" --sort=name -cJ "$PACKAGE" | $filter > "$dir/usr/src/$PACKAGE.tar.xz"
	printf '%s\n' "Package: $PACKAGE" "Version: $1" Architecture:\ all \
		'Maintainer: Tester <tester@example.invalid>' \
		'Description: source' > "$dir/DEBIAN/control"
	mkdir -p -- "$ARCHIVE"
	dpkg-deb -Znone --root-owner-group --build "$dir" \
		"$ARCHIVE/${PACKAGE}_$1_all.deb" > /dev/null
	rm -rf -- "$dir" "$T/src"
}

sum_of()
{
	sha256sum "$ARCHIVE/${PACKAGE}_$1_all.deb" | cut -d' ' -f1
}

# Programs that stand in front of the real ones. FAKE_* in the environment says
# how they are to behave, by default as the real ones do.
fake_programs()
{
	local name

	mkdir -p -- "$T/bin"
	cat > "$T/bin/apt-get" <<-'END'
	#!/bin/bash
	# FAKE_APT: off (no network), unknown (no archive configured), security
	# (that of the security suites is configured too), half
	# (download breaks off), halfok (and says nothing), hang (stays in it)
	echo "apt-get $*" >> "$ARCHIVE/calls"
	for arg; do [[ $arg != *=* || $arg == linux-* ]] || continue
		case $arg in
		-o | -q) ;;
		indextargets)
			[ "$FAKE_APT" = unknown ] ||
			echo 'http://archive.invalid/debian Debian Debian'
			[ "$FAKE_APT" != security ] ||
			echo 'http://security.invalid/debian Debian Debian-Security'
			exit 0 ;;
		update)
			[ "$FAKE_APT" != off ] || { echo 'E: no network' >&2; exit 100; }
			exit 0 ;;
		download) ;;
		linux-*)
			deb=$ARCHIVE/${arg%%=*}_${arg#*=}_all.deb
			case $FAKE_APT in
			half* | hang) head -c 3000 "$deb" > "./${deb##*/}" ;;
			off) exit 100 ;;
			*) cp "$deb" . || exit 100 ;;
			esac
			[ "$FAKE_APT" != hang ] || { touch "$ARCHIVE/hangs"; sleep 60; }
			[ "$FAKE_APT" != half ] || { echo 'E: Failed to fetch' >&2; exit 100; }
			exit 0 ;;
		esac
	done
	END
	cat > "$T/bin/apt-cache" <<-'END'
	#!/bin/bash
	[ "$FAKE_APT" != off ] || exit 100
	for deb in "$ARCHIVE"/*.deb; do
		[ -e "$deb" ] || continue
		version=${deb#*_}
		echo "Package: linux-source-7.2"
		echo "Version: ${version%_all.deb}"
		echo "SHA256: $(sha256sum < "$deb" | cut -d' ' -f1)"
		echo
	done
	END
	cat > "$T/bin/curl" <<-'END'
	#!/bin/bash
	# FAKE_CURL: a directory to serve; half: breaks off
	[ -n "$FAKE_CURL" ] || { echo 'curl: (6) Could not resolve host' >&2; exit 6; }
	while [ $# -gt 1 ]; do
		[ "$1" != -o ] || out=$2
		shift
	done
	file=$FAKE_CURL/${1##*/}
	if [ -e "$FAKE_CURL/half" ] && [[ $1 == *.tar.xz ]]; then
		head -c 100 "$file" > "$out"
		echo 'curl: (18) transfer closed' >&2
		exit 18
	fi
	cp "$file" "$out"
	END
	cat > "$T/bin/df" <<-'END'
	#!/bin/bash
	# FAKE_DF: the MiB that are free; big: plenty, unless there is nothing
	[ "$FAKE_DF" != big ] ||
		[ "$("$REAL_df" -Pk "${!#}" | awk 'NR == 2 { print $4 }')" -lt 8 ] ||
		FAKE_DF=1000000
	[ "${FAKE_DF:-big}" != big ] || exec "$REAL_df" "$@"
	echo 'Filesystem 1048576-blocks Used Available Capacity Mounted on'
	echo "/dev/root 1000000 0 $FAKE_DF 0% /"
	END
	cat > "$T/bin/tar" <<-'END'
	#!/bin/bash
	# FAKE_TAR=kill: everything dies while the source is unpacked
	[[ "$FAKE_TAR" = kill && " $* " == *" -xO "* ]] || exec "$REAL_tar" "$@"
	"$REAL_tar" "$@" | head -c 1000
	kill -KILL 0
	END
	cat > "$T/bin/git" <<-'END'
	#!/bin/bash
	# FAKE_GIT=kill: everything dies while the source is imported
	[[ "$FAKE_GIT" = kill && " $* " == *" fast-import "* ]] || exec "$REAL_git" "$@"
	head -c 300 | "$REAL_git" "$@"
	: > "$CACHE/linux.git/objects/pack/tmp_pack_fake"
	kill -KILL 0
	END
	chmod +x -- "$T"/bin/*
	for name in df tar git; do
		export "REAL_$name=$(type -P "$name")"
	done
	export FAKE_APT='' FAKE_CURL='' FAKE_DF='' FAKE_TAR='' FAKE_GIT='' ARCHIVE=$T/archive
	PATH=$T/bin:$PATH
}

# --- repositories ---

# fake_repo DIR: this repository's scripts with a base and no patches yet
fake_repo()
{
	mkdir -p -- "$1/bases" "$1/patches/7.2"
	cp -a -- "$TOP/scripts" "$TOP/Makefile" "$1/"
	printf '%s\n' "PACKAGE=$PACKAGE" VERSION=7.2.1-1 \
		"SHA256=$(sum_of 7.2.1-1)" SUITES=sid > "$1/bases/7.2"
	sed 's/7\.2/7.3/g' "$1/bases/7.2" > "$1/bases/7.3"
	printf '# The order of the patches.\n' > "$1/patches/7.2/series"
	printf 'Cover subject\n\nCover text.\n' > "$1/patches/cover-letter"
	git init -q "$1"
	git -C "$1" remote add origin http://origin.invalid
	echo /build > "$1/.gitignore"
}

# Two patches, one of which brings a new file and a new script, and a third
# which brings a file and changes nothing.
fake_series()
{
	local tree=$1/build/7.2/tree

	sed -i 's/line 10$/line ten/' "$tree/$C_FILE"
	git -C "$tree" commit -q -a -m 'vfio/pci: Change line 10' -m 'For a reason.'
	sed -i 's/line 5$/line five/' "$tree/tools/testing/selftests/vfio/Makefile"
	echo 'int main(void) { return 0; }' > "$tree/$NEW_FILE"
	printf '#!/bin/sh\n' > "$tree/tools/testing/selftests/vfio/new.sh"
	chmod 755 -- "$tree/tools/testing/selftests/vfio/new.sh"
	git -C "$tree" add -A
	git -C "$tree" commit -q -m 'vfio: selftests: Add a test'
	mkdir -p -- "$tree/Documentation"
	echo 'A page.' > "$tree/Documentation/page.rst"
	git -C "$tree" add -A
	git -C "$tree" commit -q -m 'docs: vfio: Add a page'
}

# A copy of the repository with the tiny series, laid out: sets R and TREE
use_repo()
{
	R=$(mktemp -d "$T/repo.XXXXXX")
	cp -a -- "$T/repo/." "$R/"
	TREE=$R/build/7.2/tree
}

# A cache of its own, empty
use_cache()
{
	CACHE=$(mktemp -d "$T/cache.XXXXXX")
}

fetch()
{
	"$R/scripts/fetch.sh"
}

# All that a directory holds, with contents, modes and times; but git renews
# the time of an object that another repository begins to rely on.
state_of()
{
	(cd -- "$1" && find . -path ./.git/objects -prune -o \
		-printf '%p %y %m %s %T@ %l\n' | sort &&
	 find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

# What refresh writes: contents and modes
stored()
{
	(cd -- "$1" && find . \( -path ./build -o -path ./.git \) -prune -o \
		-type f -printf '%m %p\n' | sort &&
	 find . \( -path ./build -o -path ./.git \) -prune -o -type f -print0 |
		sort -z | xargs -0 sha256sum)
}

tree_id()
{
	git -C "$1" rev-parse "${2:-HEAD}^{tree}"
}

# killed COMMAND...: run it in a process group of its own, which is killed
killed()
{
	local status=0

	setsid --wait "$@" > "$T/out" 2>&1 || status=$?
	[ "$status" -eq 137 ] || { cat -- "$T/out"; miss "must be killed: $*"; }
}

# The commit that a fetch from the archive must give, whatever went before
whole()
{
	same 'the base' "$(fetch 2> "$T/err" || cat -- "$T/err")" "$REFERENCE"
	git --git-dir="$CACHE/linux.git" fsck --no-dangling ||
		miss 'the store is damaged'
}

refs_of_store()
{
	[ ! -d "$CACHE/linux.git" ] ||
		git --git-dir="$CACHE/linux.git" for-each-ref
}

nothing_stored()
{
	same 'the store' "$(refs_of_store)" ''
	same 'the packages' "$(find "$CACHE" -maxdepth 1 -name '*.deb' -o \
		-maxdepth 1 -name '*.tar.xz')" ''
}

# --- cases: what is asked for ---

unknown_base()
{
	local target base

	use_repo
	for base in 9.9 ../bases/7.2 .; do
		for target in tree refresh series run soak; do
			fails make -C "$R" "$target" BASE="$base" BUILD="$T/none"
			says "error: unknown BASE '$base'; there is: 7\.2 7\.3"
		done
	done
	[ ! -e "$T/none" ] || miss 'nothing must be made'
}

# A base that runs the tests of another one
tests_of()
{
	use_repo
	echo TESTS_OF=9.9 >> "$R/bases/7.2"
	fails make -C "$R" tree
	says '^error: bases/7\.2: TESTS_OF=9\.9 is no base; there is: 7\.2 7\.3'
	use_repo
	echo TESTS_OF=7.3 >> "$R/bases/7.2"
	fails "$R/scripts/tests.sh"
	says '^error: 7\.2 has no selftests, it runs those of 7\.3'
	fails make -C "$R" bench
	says '^error: 7\.2 has next to nothing of what bench measures; take BASE=7\.3'
}

unknown_target()
{
	use_repo
	fails make -C "$R" nonsense
	says 'unknown target "nonsense"' 'make run ' 'make check ' \
		'make refresh ' 'there is: 7\.2 7\.3'
}

help_of_scripts()
{
	local script

	use_repo
	for script in fetch tree refresh series run check lint matrix bench tests soak \
		      deps guest-root; do
		works "$R/scripts/$script.sh" -h
		says "^usage: .*$script\.sh" 'Exit status'
		says_not '^#!'
		fails "$R/scripts/$script.sh" --nonsense
		says "^usage: .*$script\.sh"
	done
}

# Programs for the VM that the archive does not have
no_programs()
{
	use_repo
	use_cache
	FAKE_APT=off fails "$R/scripts/guest-root.sh"
	says '^error: the archive has no trixie, or not all of qemu-system-x86 .*dpdk-dev$'
}

# --- cases: fetch ---

fetch_twice()
{
	use_repo
	use_cache
	whole
	nothing_left
	: > "$ARCHIVE/calls"
	export FAKE_APT=off
	whole
	same 'what apt was asked for' "$(cat -- "$ARCHIVE/calls")" ''
	same 'what Debian ignores' "$(git --git-dir="$CACHE/linux.git" show \
		"$REFERENCE:.gitignore")" '*.o'
	same 'the mode of a script' "$(git --git-dir="$CACHE/linux.git" ls-tree \
		"$REFERENCE" scripts/tool.sh | cut -c1-6)" 100755
}

# Of many calls on an empty cache one fetches and the others wait for it.
fetch_at_once()
{
	local i

	use_repo
	use_cache
	: > "$ARCHIVE/calls"
	for i in 1 2 3; do
		fetch > "$CACHE.$i" 2>&1 &
	done
	wait
	for i in 1 2 3; do
		same "call $i" "$(tail -n 1 "$CACHE.$i")" "$REFERENCE"
	done
	same 'downloads' "$(grep -c download "$ARCHIVE/calls")" 1
}

checksum_wrong()
{
	use_repo
	use_cache
	sed -i "s/^SHA256=.*/SHA256=$(printf '%064d' 7)/" "$R/bases/7.2"
	for _ in 1 2; do
		fails fetch
		says "^error: checksum wrong: $PACKAGE 7\.2\.1-1 is not the file that was expected"
		nothing_stored
	done
	cp -- "$T/repo/bases/7.2" "$R/bases/"
	whole
}

# A package that was whole when it was stored and is not any more
stored_package_damaged()
{
	use_repo
	use_cache
	head -c 3000 "$ARCHIVE/${PACKAGE}_7.2.1-1_all.deb" \
		> "$CACHE/${PACKAGE}_7.2.1-1.deb"
	works fetch
	says 'note: .* is damaged, downloading it again'
	whole
}

download_breaks_off()
{
	use_repo
	use_cache
	for _ in 1 2; do
		FAKE_APT=half fails fetch
		says "^error: no source of 7\.2 to be had: no network, or $PACKAGE is gone; LINUX=path"
		nothing_stored
	done
	# One that claims to be whole
	FAKE_APT=halfok fails fetch
	says '^error: checksum wrong'
	nothing_stored
	whole
}

download_killed()
{
	local i

	use_repo
	use_cache
	rm -f -- "$ARCHIVE/hangs"
	FAKE_APT=hang setsid "$R/scripts/fetch.sh" > "$T/out" 2>&1 &
	for ((i = 0; i < 100; i++)); do
		[ ! -e "$ARCHIVE/hangs" ] || break
		sleep 0.1
	done
	[ -e "$ARCHIVE/hangs" ] || miss 'the download must be under way'
	kill -KILL -- "-$!"
	wait "$!" || :
	nothing_stored
	whole
}

# nothing_left: what git writes before it has all is gone.
nothing_left()
{
	same 'what is left' "$(cd -- "$CACHE/linux.git" &&
		find . -name 'tmp_*' -o -name 'fast_import_crash_*' -o -name '*.lock')" ''
}

unpacking_killed()
{
	use_repo
	use_cache
	FAKE_TAR="kill" killed "$R/scripts/fetch.sh"
	[ -d "$CACHE/linux.git" ] || miss 'the import must have begun'
	same 'the store' "$(refs_of_store)" ''
	whole
}

import_killed()
{
	use_repo
	use_cache
	FAKE_GIT="kill" killed "$R/scripts/fetch.sh"
	same 'the store' "$(refs_of_store)" ''
	ls "$CACHE/linux.git"/fast_import_crash_* "$CACHE/linux.git/objects/pack"/tmp_* ||
		miss 'something must be left'
	whole
	nothing_left
}

# Killed at any time: the next call gives the whole base.
fetch_killed_anywhere()
{
	local ms pid

	use_repo
	use_cache
	for ms in 02 05 08 11 14 17 20 24 28 32 38 45; do
		setsid "$R/scripts/fetch.sh" > /dev/null 2>&1 &
		pid=$!
		sleep "0.$ms"
		kill -KILL -- "-$pid" 2> /dev/null || :
		wait "$pid" 2> /dev/null || :
		[ "$((10#$ms % 3))" -ne 0 ] || { whole; rm -rf -- "$CACHE"; }
	done
	whole
}

half_a_source()
{
	head -c 500
}

# Whole but for an error at the very end
bad_end()
{
	cat
	echo nonsense
}

# The header of the last file is damaged.
bad_header()
{
	local at

	xz -dc > "$T/archive.tar"
	at=$(grep -abo ustar "$T/archive.tar" | tail -n 1 | cut -d: -f1)
	printf '?' | dd of="$T/archive.tar" bs=1 seek="$((at - 257))" conv=notrunc status=none
	xz -c "$T/archive.tar"
}

no_source()
{
	cat > /dev/null
	echo nonsense | xz
}

package_broken()
{
	local filter

	use_repo
	use_cache
	ARCHIVE=$T/broken
	for filter in half_a_source bad_end bad_header no_source; do
		fake_package 7.2.1-1 "$filter"
		sed -i "s/^SHA256=.*/SHA256=$(sum_of 7.2.1-1)/" "$R/bases/7.2"
		for _ in 1 2; do
			fails fetch
			says "^error: importing $PACKAGE 7\.2\.1-1 failed"
			same 'the store' "$(refs_of_store)" ''
			nothing_left
		done
	done
}

no_network()
{
	use_repo
	use_cache
	for _ in 1 2; do
		FAKE_APT=off fails fetch
		says "^error: no source of 7\.2 to be had: no network, or $PACKAGE is gone; LINUX=path" \
			'note: cannot reach http://kernel\.invalid'
		nothing_stored
	done
	FAKE_APT=off fails make -C "$R" tree BUILD="$CACHE/build"
	says '^error: no source of 7\.2 to be had: no network'
	[ ! -e "$CACHE/build/7.2/tree" ] || miss 'there must be no tree'
	whole
}

offline()
{
	use_repo
	use_cache
	OFFLINE=1 fails fetch
	says "^error: no source of 7\.2 in $CACHE, and OFFLINE is set"
	whole
	sed -i 's/^VERSION=.*/VERSION=7.2.9-1/' "$R/bases/7.2"
	: > "$ARCHIVE/calls"
	same 'the base' "$(OFFLINE=1 fetch)" "$REFERENCE"
	same 'what apt was asked for' "$(cat -- "$ARCHIVE/calls")" ''
}

version_gone()
{
	use_repo
	use_cache
	ARCHIVE=$T/moved-on
	fake_package 7.2.9-1
	fake_package 7.2.10-1
	works fetch
	says "note: $PACKAGE 7\.2\.1-1 has left the archive, taking 7\.2\.10-1"
	same 'the version' "$(git --git-dir="$CACHE/linux.git" for-each-ref \
		--format='%(refname)')" "refs/bases/$PACKAGE/7.2.10-1"
	works fetch
	says 'taking 7\.2\.10-1'
	FAKE_APT=off works fetch
	says "note: taking $PACKAGE 7\.2\.10-1 from the cache"
	ARCHIVE=$T/archive
	whole
}

kernel_org()
{
	local tarball=linux-7.2.4.tar.xz

	use_repo
	use_cache
	ARCHIVE=$T/no-package
	mkdir -p -- "$ARCHIVE" "$T/kernel.org"
	fake_kernel "$T/src/linux-7.2.4" 4
	tar -C "$T/src" -cJf "$T/kernel.org/$tarball" linux-7.2.4
	cp -- "$T/kernel.org/$tarball" "$T/kernel.org/linux-7.2.tar.xz"
	rm -rf -- "$T/src"
	export FAKE_APT=off FAKE_CURL=$T/kernel.org

	printf '%064d  %s\n' 7 "$tarball" 7 linux-7.20.1.tar.xz \
		> "$FAKE_CURL/sha256sums.asc"
	fails fetch
	says "^error: checksum wrong: $tarball is not the file"
	nothing_stored

	(cd -- "$FAKE_CURL" && sha256sum -- linux-*.tar.xz) > "$T/sums"
	mv -- "$T/sums" "$FAKE_CURL/sha256sums.asc"
	touch "$FAKE_CURL/half"
	fails fetch
	says '^error: no source of 7\.2 to be had'
	nothing_stored
	rm -- "$FAKE_CURL/half"

	works fetch
	says "note: taking $tarball from kernel\.org; no package of 7\.2 can be had"
	git --git-dir="$CACHE/linux.git" cat-file -e "$(tail -n 1 "$T/out"):MAINTAINERS"

	# The same without an archive at all
	use_cache
	FAKE_APT=unknown works fetch
	says 'note: apt knows no Debian archive here' "note: taking $tarball"
}

# Suites come from two archives, of which one may be unknown here.
security_suites()
{
	local list

	use_repo
	sed -i "s/^SUITES=.*/SUITES='sid stable-security'/" "$R/bases/7.2"
	use_cache
	list=$CACHE/apt/sources.list
	FAKE_APT=security works fetch
	says_not 'note: '
	same 'the sources' "$(sed 's/\[.*\] //' "$list")" \
		"deb http://archive.invalid/debian sid main
deb http://security.invalid/debian stable-security main"
	use_cache
	list=$CACHE/apt/sources.list
	works fetch
	says 'note: apt knows no archive here that has stable-security$'
	same 'the sources' "$(sed 's/\[.*\] //' "$list")" \
		'deb http://archive.invalid/debian sid main'
	whole
}

disk_full()
{
	use_repo
	use_cache
	for _ in 1 2; do
		FAKE_DF=10 fails fetch
		says "^error: disk full: downloading $PACKAGE needs 500 MiB in $CACHE, there are 10 MiB"
		nothing_stored
	done
	FAKE_DF=900 fails fetch
	says "^error: disk full: importing $PACKAGE 7\.2\.1-1 needs [0-9]+ MiB in $CACHE"
	whole
	FAKE_DF=10 fails make -C "$R" tree BUILD="$CACHE/build"
	says '^error: disk full: laying out 7\.2 needs [0-9]+ MiB in .*/build/7\.2'
	works make -C "$R" tree BUILD="$CACHE/build"
}

# A disk that gets full on the way, whatever df said before
disk_gets_full()
{
	use_repo
	use_cache
	export FAKE_DF=big
	unshare -m mount -t tmpfs none "$CACHE" 2> /dev/null ||
		skip 'tmpfs cannot be mounted here'
	cat > "$T/tmpfs.sh" <<-'END'
	set -u
	mount -t tmpfs -o size=4m none "$CACHE" || exit 1
	# Room for nothing; half of the package; half of its git objects
	for room in 0 20000 50000; do
		rm -rf -- "$CACHE"/*
		have=$("$REAL_df" -B1 --output=avail "$CACHE" | tail -n 1)
		head -c $((have - room)) /dev/zero > "$CACHE/ballast"
		echo "== room for $room bytes"
		"$1/scripts/fetch.sh" && exit 1
		rm -- "$CACHE/ballast"
		echo "== enough room"
		"$1/scripts/fetch.sh" || exit 1
	done
	END
	works unshare -m bash "$T/tmpfs.sh" "$R"
	same 'the base after a full disk' "$(grep -cx "$REFERENCE" "$T/out")" 3
	says "^error: disk full: downloading $PACKAGE needs 1 MiB in $CACHE, there are 0 MiB" \
		"^error: importing $PACKAGE 7\.2\.1-1 failed \(disk full"
	same 'sentences' "$(grep -c '^error: [di]' "$T/out")" 3
}

# --- cases: tree and refresh ---

commits_become_patches()
{
	use_repo
	same 'the series' "$(cat -- "$R/patches/7.2/series")" "$(printf '%b' \
		'# The order of the patches.\n' \
		'0001-vfio-pci-Change-line-10.patch\n' \
		'0002-vfio-selftests-Add-a-test.patch\n' \
		'\ttools/testing/selftests/vfio/new.sh\n' \
		"\\t$NEW_FILE\n" \
		'0003-docs-vfio-Add-a-page.patch\n' \
		'\tDocumentation/page.rst\n')"
	same 'the new file' "$(cat -- "$R/$NEW_FILE")" \
		'int main(void) { return 0; }'
	[ -x "$R/tools/testing/selftests/vfio/new.sh" ] || miss 'a script is lost'
	! grep -r new_test "$R/patches/7.2/"*.patch || miss 'it is no patch'
}

refresh_is_a_noop()
{
	local before head

	use_repo
	before=$(stored "$R")
	head=$(git -C "$TREE" rev-parse HEAD)
	works make -C "$R" tree refresh
	same 'what is stored' "$(stored "$R")" "$before"
	same 'the commits' "$(git -C "$TREE" rev-parse HEAD)" "$head"
	# In another place, at another time, with another taste
	printf '%s\n' '[include] path = ~/.gitconfig' '[core]' 'autocrlf = true' \
		'abbrev = 40' "hooksPath = $T/hooks" '[diff]' 'noprefix = true' \
		'context = 9' 'interHunkContext = 9' 'renames = copies' \
		'suppressBlankEmpty = true' '[format]' 'signature = Cheers' \
		'headers = "X-Header: none"' '[mailinfo]' 'scissors = true' \
		'[apply]' 'whitespace = fix' '[commit]' 'gpgSign = true' \
		'[tag]' 'gpgSign = true' > "$T/gitconfig"
	export GIT_CONFIG_GLOBAL=$T/gitconfig
	export BUILD=$T/elsewhere
	works make -C "$R" tree refresh
	unset GIT_CONFIG_GLOBAL
	same 'what is stored' "$(stored "$R")" "$before"
	same 'the commits' "$(git -C "$BUILD/7.2/tree" rev-parse HEAD)" "$head"
}

# Without this, the case above proves nothing.
refresh_writes_changes()
{
	local before

	use_repo
	before=$(stored "$R")
	sed -i 's/line 30$/line thirty/' "$TREE/$C_FILE"
	git -C "$TREE" commit -q -a --amend --no-edit
	echo '/* more */' >> "$TREE/$NEW_FILE"
	git -C "$TREE" commit -q -a --fixup=HEAD~1
	GIT_SEQUENCE_EDITOR=: git -C "$TREE" rebase -q -i --autosquash base
	works make -C "$R" refresh
	[ "$(stored "$R")" != "$before" ] || miss 'something must have changed'
	grep -q '^+line thirty' "$R"/patches/7.2/0003-*.patch
	grep -q 'more' "$R/$NEW_FILE"
	before=$(stored "$R")
	works make -C "$R" tree refresh
	same 'what is stored' "$(stored "$R")" "$before"
}

# A patch in front of the others renumbers them; another base goes on
# referring to those it shares.
renumbered()
{
	use_repo
	mkdir -p -- "$R/patches/7.3"
	echo ../7.2/0001-vfio-pci-Change-line-10.patch > "$R/patches/7.3/series"
	git -C "$TREE" checkout -q base
	sed -i 's/line 35$/line x/' "$TREE/$C_FILE"
	git -C "$TREE" commit -q -a -m 'vfio/pci: First'
	git -C "$TREE" cherry-pick base..refs/series/applied > /dev/null
	works make -C "$R" refresh
	same 'the patches' "$(cd -- "$R/patches/7.2" && echo *.patch)" \
		'0001-vfio-pci-First.patch 0002-vfio-pci-Change-line-10.patch 0003-vfio-selftests-Add-a-test.patch 0004-docs-vfio-Add-a-page.patch'
	same 'the other series' "$(cat -- "$R/patches/7.3/series")" \
		../7.2/0002-vfio-pci-Change-line-10.patch
}

does_not_apply()
{
	local patch=patches/7.2/0002-vfio-selftests-Add-a-test.patch head

	use_repo
	head=$(git -C "$TREE" rev-parse HEAD)
	sed -i 's/^-line 5$/-line 500/' "$R/$patch"
	for _ in 1 2; do
		fails make -C "$R" tree
		says "^error: $patch does not apply to 7\.2:" \
			'tools/testing/selftests/vfio/Makefile' \
			"cd $TREE && git checkout series-so-far && git am -3 $R/$patch"
		same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
		same 'changes in the tree' "$(git -C "$TREE" status --porcelain)" ''
	done
	# What it advises shows the conflict.
	git -C "$TREE" checkout -q series-so-far
	same 'the last good commit' "$(git -C "$TREE" show -s --format=%s)" \
		'vfio/pci: Change line 10'
	fails git -C "$TREE" am -3 "$R/$patch"
	git -C "$TREE" am --abort
	# To go on from there without it would drop it.
	git -C "$TREE" commit -q --allow-empty -m 'vfio/pci: Something else'
	fails make -C "$R" refresh
	says '^error: .* does not have "vfio: selftests: Add a test" yet \(2 patches to go\)'
	git -C "$TREE" checkout -q "$head"
	fails make -C "$R" series
	says "^error: $patch does not apply"
	cp -- "$T/repo/$patch" "$R/$patch"
	works make -C "$R" tree
	same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
}

# In a tree that has never seen the series, the half that fits must not become
# the series.
does_not_apply_at_first()
{
	local patch=patches/7.2/0002-vfio-selftests-Add-a-test.patch before

	use_repo
	sed -i 's/^-line 5$/-line 500/' "$R/$patch"
	before=$(stored "$R")
	rm -rf -- "$R/build"
	fails make -C "$R" tree
	says "^error: $patch does not apply"
	fails make -C "$R" refresh
	says '^error: .* is at the bare base'
	same 'what is stored' "$(stored "$R")" "$before"
	cp -- "$T/repo/$patch" "$R/$patch"
	works make -C "$R" tree
	same 'the tree' "$(tree_id "$TREE")" "$(tree_id "$T/repo/build/7.2/tree")"
}

series_wrong()
{
	local key

	use_repo
	rm -- "$R"/patches/7.2/0001-*
	fails make -C "$R" tree
	says '^error: .*series: there is no patches/7\.2/0001-vfio-pci-Change-line-10\.patch'
	use_repo
	rm -- "$R/$NEW_FILE"
	fails make -C "$R" tree
	says "^error: .*series: there is no $NEW_FILE"
	use_repo
	printf '\tREADME\n' >> "$R/patches/7.2/series"
	touch "$R/README"
	fails make -C "$R" tree
	says '^error: .*series: 7\.2 has README already; change it by a patch'
	use_repo
	printf '\tREADME/page\n' >> "$R/patches/7.2/series"
	mkdir -- "$R/README"
	touch "$R/README/page"
	fails make -C "$R" tree
	says '^error: .*series: README is a file in 7\.2, and nothing can lie in it'
	for key in From Date Subject; do
		use_repo
		sed -i "/^$key: /d" "$R"/patches/7.2/0001-*
		fails make -C "$R" tree
		says '^error: patches/7\.2/0001-.* is no mail with a patch: it has no '
	done
}

# What git am takes, too: each gives the tree that the series gives
other_mails()
{
	local tree patch

	use_repo
	tree=$(tree_id "$TREE")
	patch=$(echo "$R"/patches/7.2/0001-*)
	cp -- "$patch" "$T/patch"
	{
		sed '/^$/,$d' "$T/patch"
		printf '%s\n' 'Content-Type: text/plain; charset=UTF-8' \
			'Content-Transfer-Encoding: base64' ''
		sed '1,/^$/d' "$T/patch" | base64
	} > "$patch"
	works make -C "$R" tree
	same 'the tree of an encoded mail' "$(tree_id "$TREE")" "$tree"
	sed 's,^--- a/,--- i/,; s,^+++ b/,+++ w/,; s,^\(diff --git\) a/\(.*\) b/,\1 i/\2 w/,' \
		"$T/patch" > "$patch"
	grep -q '^+++ w/' "$patch"
	works make -C "$R" tree
	same 'the tree of other prefixes' "$(tree_id "$TREE")" "$tree"
}

# A series that touches nothing that the base has
new_files_only()
{
	local page='Documentation/page.rst'

	use_repo
	printf '%s\n' 0003-docs-vfio-Add-a-page.patch "	$page" > "$R/patches/7.2/series"
	works make -C "$R" tree
	same 'what the series brings' "$(git -C "$TREE" diff --name-status base HEAD)" \
		"A	$page"
	same 'the page' "$(cat -- "$TREE/$page")" 'A page.'
}

# A git that is killed leaves its locks; git of the user's has its own.
locks_left()
{
	use_repo
	touch "$TREE/.git/index.lock"
	printf '\n' >> "$R/$NEW_FILE"
	fails make -C "$R" tree
	[ -e "$TREE/.git/index.lock" ] || miss 'it was not ours'
	touch "$R/build/7.2/busy" "$TREE/.git/refs/series/new.lock"
	works make -C "$R" tree
	[ ! -e "$R/build/7.2/busy" ] || miss 'it is not busy any more'
}

file_edited_here()
{
	use_repo
	echo '/* here */' >> "$R/$NEW_FILE"
	works make -C "$R" refresh
	grep -q here "$R/$NEW_FILE" && grep -q here "$TREE/$NEW_FILE"
	echo '/* again */' >> "$R/$NEW_FILE"
	works make -C "$R" tree
	grep -q again "$TREE/$NEW_FILE"
}

edit_in_tree()
{
	echo "/* $1 */" >> "$TREE/$NEW_FILE"
	git -C "$TREE" commit -q -a --fixup="HEAD~${2:-1}"
	GIT_SEQUENCE_EDITOR=: git -C "$TREE" rebase -q -i --autosquash base
}

file_edited_on_both_sides()
{
	local before head

	use_repo
	edit_in_tree there
	echo '/* here */' >> "$R/$NEW_FILE"
	before=$(stored "$R")
	head=$(git -C "$TREE" rev-parse HEAD)
	fails make -C "$R" refresh
	says "^error: $NEW_FILE was edited here and in $TREE, differently"
	same 'what is stored' "$(stored "$R")" "$before"
	same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
	# The same edit on both sides is none.
	cp -- "$TREE/$NEW_FILE" "$R/$NEW_FILE"
	works make -C "$R" refresh
	grep -q there "$R/$NEW_FILE"
}

uncommitted()
{
	local before

	use_repo
	before=$(stored "$R")
	echo more >> "$TREE/$C_FILE"
	fails make -C "$R" tree
	says "^error: $TREE has uncommitted changes; commit them and 'make refresh', or drop them with 'git checkout \.' there"
	FORCE=1 fails make -C "$R" tree
	says 'has uncommitted changes'
	fails make -C "$R" refresh
	says "^error: $TREE has uncommitted changes; commit them first"
	grep -q more "$TREE/$C_FILE"
	same 'what is stored' "$(stored "$R")" "$before"
}

unrefreshed()
{
	local head branch

	use_repo
	edit_in_tree there
	head=$(git -C "$TREE" rev-parse HEAD)
	fails "$R/scripts/tree.sh"
	says "^error: $TREE has commits that are in no patch; 'make refresh' writes them back, FORCE=1 puts them on a branch"
	same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
	FORCE=1 works make -C "$R" tree
	says "note: your commits in $TREE are on branch saved-[0-9-]+"
	branch=$(git -C "$TREE" for-each-ref --format='%(refname)' 'refs/heads/saved-*')
	same 'the branch' "$(git -C "$TREE" rev-parse "$branch")" "$head"
	same 'the tree' "$(tree_id "$TREE")" "$(tree_id "$T/repo/build/7.2/tree")"
}

# The whole tree is replaced when the base moves on.
base_moves_on()
{
	local head branch kept

	use_repo
	ARCHIVE=$T/next
	fake_package 7.2.2-1
	sed -i -e 's/^VERSION=.*/VERSION=7.2.2-1/' \
	    -e "s/^SHA256=.*/SHA256=$(sum_of 7.2.2-1)/" "$R/bases/7.2"

	echo new > "$TREE/drivers/vfio/pci/untracked.c"
	edit_in_tree there
	head=$(git -C "$TREE" rev-parse HEAD)
	fails make -C "$R" tree
	says 'has commits that are in no patch'
	FORCE=1 works make -C "$R" tree
	says "note: the tree with your branches and files is $TREE-[0-9-]+ now"
	kept=$(echo "$TREE"-*)
	branch=$(git -C "$kept" for-each-ref --format='%(refname)' 'refs/heads/saved-*')
	[ -n "$branch" ] || miss 'the saved branch is lost'
	same 'the branch' "$(git -C "$kept" rev-parse "$branch")" "$head"
	[ -e "$kept/drivers/vfio/pci/untracked.c" ] || miss 'a file is lost'
	grep -q '^SUBLEVEL = 7.2.2' "$TREE/Makefile"
	grep -q 'line ten' "$TREE/$C_FILE"
}

# refuses WHAT: refresh must, and change nothing
refuses()
{
	local before

	before=$(stored "$R")
	fails make -C "$R" refresh
	says "$1"
	same 'what is stored' "$(stored "$R")" "$before"
}

commits_that_are_no_patches()
{
	use_repo
	echo more >> "$TREE/$C_FILE"
	git -C "$TREE" commit -q -a -s -m 'Signed'
	refuses '^error: .*\("Signed"\) is signed off; stored patches are not'
	use_repo
	echo more >> "$TREE/$NEW_FILE"
	git -C "$TREE" commit -q -a -m 'Later'
	refuses "^error: .*\(\"Later\"\) changes $NEW_FILE, which an earlier commit of the series brings in"
	use_repo
	git -C "$TREE" checkout -q -b side base
	git -C "$TREE" commit -q --allow-empty -m side
	git -C "$TREE" checkout -q --detach refs/series/applied
	git -C "$TREE" merge -q --no-edit side
	refuses '^error: .* has merges; a series is linear'
	use_repo
	works git -C "$TREE" checkout -q --detach base
	refuses '^error: .* is at the bare base'
	# As an interrupted build of every commit leaves it
	git -C "$TREE" checkout -q refs/series/applied~1
	refuses "^error: .* is 1 commits short of the series; 'make tree' puts them back"
	FORCE=1 works make -C "$R" refresh
	same 'the patches' "$(find "$R/patches/7.2" -name '*.patch' | wc -l)" 2
	use_repo
	git -C "$TREE" checkout -q --orphan other
	git -C "$TREE" commit -q -m other
	refuses '^error: HEAD of .* does not stand on the base'
	use_repo
	rm -rf -- "$R/build"
	refuses "^error: there is no .*/tree; 'make tree' lays it out"
}

control_base()
{
	use_repo
	works git -C "$TREE" checkout -q --detach base
	same 'the base' "$(tree_id "$TREE")" "$(tree_id "$TREE" base)"
	[ ! -e "$TREE/$NEW_FILE" ] || miss 'the base has no new files'
	works make -C "$R" tree
	same 'the tree' "$(tree_id "$TREE")" "$(tree_id "$T/repo/build/7.2/tree")"
}

# What an interrupted call left must neither be taken for the tree nor make
# git walk up to the repository that the build directory lies in.
half_laid_out()
{
	local head config

	use_repo
	head=$(git -C "$TREE" rev-parse HEAD)
	config=$(git -C "$R" config --local --list)
	mkdir -p -- "$TREE.tmp/drivers"
	touch "$TREE.tmp/Makefile"
	works make -C "$R" tree
	same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
	same 'the configuration of the checkout' \
		"$(git -C "$R" config --local --list)" "$config"
	# The same without a tree
	mv -- "$TREE" "$TREE.tmp"
	rm -rf -- "$TREE.tmp/.git" "$TREE.tmp/drivers"
	works make -C "$R" tree
	same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
	same 'changes in the tree' "$(git -C "$TREE" status --porcelain)" ''
	same 'the configuration of the checkout' \
		"$(git -C "$R" config --local --list)" "$config"
}

tree_killed_anywhere()
{
	local ms pid head

	use_repo
	head=$(git -C "$TREE" rev-parse HEAD)
	for ms in 03 06 09 12 16 20 25 30; do
		rm -rf -- "$R/build"
		setsid "$R/scripts/tree.sh" > /dev/null 2>&1 &
		pid=$!
		sleep "0.$ms"
		kill -KILL -- "-$pid" 2> /dev/null || :
		wait "$pid" 2> /dev/null || :
		works make -C "$R" tree
		same 'the tree' "$(git -C "$TREE" rev-parse HEAD)" "$head"
		same 'changes in the tree' "$(git -C "$TREE" status --porcelain)" ''
	done
}

relative_paths()
{
	use_repo
	works make -C "$R" tree refresh series BUILD=here OUT=mails
	[ -e "$R/here/7.2/tree/$NEW_FILE" ] || miss 'the tree is elsewhere'
	[ -e "$R/mails/0000-cover-letter.patch" ] || miss 'the mails are elsewhere'
}

# --- cases: the series as mails ---

git_am()
{
	local patch

	use_repo
	works make -C "$R" series OUT="$T/mails"
	says 'signed off by Tester <tester@example\.invalid>'
	same 'the number of mails' "$(find "$T/mails" -type f | wc -l)" 4
	grep -q '^Subject: \[PATCH 0/3\] Cover subject' "$T"/mails/0000-*
	for patch in "$T"/mails/000[1-3]-*; do
		grep -q '^Signed-off-by: Tester <tester@example.invalid>' "$patch"
	done
	! grep -r '^Signed-off-by' "$R/patches" || miss 'the stored ones are not signed'
	git clone -q --no-checkout "$TREE" "$T/plain"
	git -C "$T/plain" checkout -q base
	works git -C "$T/plain" am "$T"/mails/000[1-3]-*
	same 'the tree' "$(tree_id "$T/plain")" "$(tree_id "$TREE")"
}

series_elsewhere()
{
	use_repo
	mkdir -p -- "$T/letters"
	echo dear > "$T/letters/friend"
	fails make -C "$R" series OUT="$T/letters"
	says "^error: $T/letters holds .*friend"
	same 'the other files' "$(ls "$T/letters")" friend
	works make -C "$R" series
	works make -C "$R" series
	says "4 mails in $R/build/7\.2/series"
	rm -- "$R/patches/cover-letter"
	fails make -C "$R" series
	says '^error: patches/cover-letter is missing'
}

nobody()
{
	use_repo
	git config --global --unset user.email
	STATUS=0
	try make -C "$R" series
	git config --global user.email tester@example.invalid
	[ "$STATUS" -ne 0 ] || miss 'this must fail'
	says '^error: git does not know who you are: git config --global user\.name'
	# An identity that only this checkout has is one.
	git -C "$R" config user.name Other
	git -C "$R" config user.email other@example.invalid
	cd -- "$R"
	works make -C "$R" series
	grep -q '^Signed-off-by: Other <other@example.invalid>' \
		"$R"/build/7.2/series/0001-*
}

# --- cases: a tree of the user's own ---

linux_git()
{
	local before user=$T/user-git

	use_repo
	rm -rf -- "$R/build"
	fake_kernel "$user" 3
	sed -i '/Debian/,$d' "$user/.gitignore"
	git init -q "$user"
	git -C "$user" add -A
	git -C "$user" commit -q -m 'A kernel'
	git -C "$user" branch mine
	git -C "$user" remote add upstream http://upstream.invalid
	echo 'not committed' >> "$user/README"
	echo 'not tracked' > "$user/drivers/mine.c"
	# git would note in the index that this is unchanged.
	touch "$user/Makefile"
	before=$(state_of "$user")

	works make -C "$R" tree LINUX="$user"
	says "note: uncommitted changes in $user are left out"
	same 'the tree of the user' "$(state_of "$user")" "$before"
	same 'the base' "$(git -C "$TREE" rev-parse base)" \
		"$(GIT_OPTIONAL_LOCKS=0 git -C "$user" rev-parse HEAD)"
	same 'the number of commits' \
		"$(git -C "$TREE" rev-list --count base..HEAD)" 3
	[ ! -e "$TREE/drivers/mine.c" ] || miss 'what is not committed is left out'
	works make -C "$R" tree refresh series LINUX="$user"
	same 'the tree of the user' "$(state_of "$user")" "$before"
	same 'the patches' "$(cat -- "$R"/patches/7.2/*)" \
		"$(cat -- "$T"/repo/patches/7.2/*)"

	# Its new commits are seen, and going back to the package and on again.
	git -C "$user" commit -q -m 'Another' --allow-empty
	works make -C "$R" tree LINUX="$user"
	same 'the base' "$(git -C "$TREE" rev-parse base)" \
		"$(git -C "$user" rev-parse HEAD)"
	works make -C "$R" tree
	same 'the base' "$(git -C "$TREE" rev-parse base)" "$REFERENCE"
	works make -C "$R" tree LINUX="$user"
	same 'the base' "$(git -C "$TREE" rev-parse base)" \
		"$(git -C "$user" rev-parse HEAD)"
}

linux_directory()
{
	local before user=$T/user-plain

	use_repo
	rm -rf -- "$R/build"
	fake_kernel "$user" 3
	# Within the work tree of something else
	git init -q "$T"
	before=$(state_of "$user")
	works make -C "$R" tree LINUX="$user"
	same 'the tree of the user' "$(state_of "$user")" "$before"
	same 'the number of commits' \
		"$(git -C "$TREE" rev-list --count base..HEAD)" 3
	grep -q 'SUBLEVEL = 3' "$TREE/Makefile"
	works make -C "$R" tree refresh series LINUX="$user"
	same 'the tree of the user' "$(state_of "$user")" "$before"
	# A change there is seen.
	echo more >> "$user/README"
	works make -C "$R" tree LINUX="$user"
	grep -q more "$TREE/README" || miss 'the change must be seen'
	rm -rf -- "$T/.git"
}

linux_wrong()
{
	use_repo
	fails make -C "$R" tree LINUX="$T/bin"
	says "^error: LINUX=$T/bin is no kernel tree"
	fails make -C "$R" tree LINUX="$T/not-there"
	says "^error: LINUX=$T/not-there is no kernel tree"
	fake_kernel "$T/user-old" 3
	sed -i 's/^VERSION.*/VERSION = 6/' "$T/user-old/Makefile"
	works make -C "$R" tree LINUX="$T/user-old"
	says "note: $T/user-old is a 6\.2, the series of 7\.2 is applied to it"
	FAKE_DF=10 fails make -C "$R" tree LINUX="$T/user-old" BUILD="$T/full"
	says "^error: disk full: copying $T/user-old needs [0-9]+ MiB"
}

# --- cases: the real series on the real bases ---

# A copy of the repository: sets R, TREE, CACHE and BASE; skips without source.
# A kernel has 95,000 files, which take a minute to write: the trees are whole
# for git, but only the directories that the series touches are checked out.
use_real()
{
	export BASE=$1
	R=$T/real
	TREE=$R/build/$BASE/tree
	export GIT_TEMPLATE_DIR=$T/template GIT_CONFIG_COUNT=1
	export GIT_CONFIG_KEY_0=core.sparseCheckout GIT_CONFIG_VALUE_0=true
	mkdir -p -- "$GIT_TEMPLATE_DIR/info"
	{
		echo '/*'
		echo '!/*/'
		echo '/drivers/vfio/pci/*'
		cat -- "$TOP"/patches/*/*.patch "$TOP"/patches/*/series |
			sed -n 's,^\(--- a/\|+++ b/\|\t\)\(.*\)/[^/]*$,/\2/*,p'
	} > "$GIT_TEMPLATE_DIR/info/sparse-checkout"
	# The source is read where it is.
	export CACHE=$T/real-cache FAKE_DF=''
	mkdir -p -- "$CACHE"
	[ -d "$CACHE/linux.git" ] || {
		git --git-dir="$REAL_CACHE/linux.git" rev-parse --git-dir \
			> /dev/null 2>&1 || skip "no source of $BASE in $REAL_CACHE"
		git init -q --bare "$CACHE/linux.git"
		echo "$REAL_CACHE/linux.git/objects" \
			> "$CACHE/linux.git/objects/info/alternates"
		git --git-dir="$REAL_CACHE/linux.git" for-each-ref \
			--format='create %(refname) %(objectname)' refs/bases |
			git --git-dir="$CACHE/linux.git" update-ref --stdin
	}
	[ -d "$R" ] || {
		mkdir -p -- "$R"
		(cd -- "$TOP" && git ls-files -z --cached --others \
			--exclude-standard | xargs -0 cp -a --parents -t "$R" --)
	}
	OFFLINE=1 "$R/scripts/fetch.sh" > /dev/null 2>&1 ||
		skip "no source of $BASE in $REAL_CACHE"
	export OFFLINE=1
}

real_noop()
{
	local before head

	use_real "$1"
	before=$(stored "$R")
	works make -C "$R" tree
	head=$(git -C "$TREE" rev-parse HEAD)
	works make -C "$R" refresh
	same 'what is stored' "$(stored "$R")" "$before"
	same 'the commits' "$(git -C "$TREE" rev-parse HEAD)" "$head"
}

# plain_am BASE KIND: git am on a plain clone of the base
plain_am()
{
	local plain=$T/plain-$1 patches files

	use_real "$1"
	[ -d "$TREE" ] || miss 'there is no tree'
	rm -rf -- "$plain"
	git clone -q --shared --no-checkout -- "$TREE" "$plain"
	git -C "$plain" checkout -q base
	if [ "$2" = mails ]; then
		works make -C "$R" series OUT="$T/mails-$1"
		rm -- "$T/mails-$1"/0000-*
		works git -C "$plain" am "$T/mails-$1"/*.patch
	else
		mapfile -t patches < <(sed "/^[[:space:]#]/d;/^\$/d;s,^,$R/patches/$1/," \
			"$R/patches/$1/series")
		mapfile -t files < <(sed -n 's/^\t//p' "$R/patches/$1/series")
		works git -C "$plain" am "${patches[@]}"
		cd -- "$R"
		[ "${#files[@]}" -eq 0 ] || {
			cp -a --parents -t "$plain" -- "${files[@]}"
			git -C "$plain" add --sparse -f -- "${files[@]}"
			git -C "$plain" commit -q -m 'The new files'
		}
	fi
	same 'the tree' "$(tree_id "$plain")" "$(tree_id "$TREE")"
	rm -rf -- "$plain"
}

# The control for the first of these cases
real_change()
{
	local before changed

	use_real "$1"
	before=$(stored "$R")
	[ -d "$TREE" ] || miss 'there is no tree'
	echo '/* changed */' >> "$TREE/drivers/vfio/pci/vfio_pci_core.c"
	git -C "$TREE" commit -q -a -m 'vfio/pci: Change something'
	works make -C "$R" refresh
	changed=$(comm -13 <(echo "$before" | sort) <(stored "$R" | sort) | wc -l)
	# The patch's mode, and the sums of the patch and the series
	same 'changed lines of what is stored' "$changed" 3
	grep -q '^+/\* changed' "$R/patches/$1"/*-vfio-pci-Change-something.patch
	rm -rf -- "$R"
}

file_astray()
{
	use_repo astray
	works "$R/scripts/lint.sh" files
	echo 'int main(void) { return 0; }' > "$R/tools/testing/selftests/vfio/astray.c"
	fails "$R/scripts/lint.sh" files
	says '^FINDING: no patch brings these in' '^tools/testing/selftests/vfio/astray.c$'
}

cover_letter()
{
	local file

	for file in "$TOP"/patches/cover-letter "$TOP"/patches/*/cover-letter; do
		[ -s "$file" ] || miss "there is no ${file#"$TOP/"}"
		head -n 1 "$file" | grep -qE '^.{10,75}$'
		[ -z "$(sed -n 2p "$file")" ] || miss 'a blank line follows the subject'
		[ "$(wc -l < "$file")" -gt 3 ] || miss 'it has no text'
	done
}

# A base that gets a part of the series only says what that is.
cover_letter_of_base()
{
	use_repo
	works make -C "$R" series SIGNOFF=no OUT="$R/build/mails"
	grep -q 'Cover text' "$R"/build/mails/0000-*
	printf 'Part subject\n\nPart text.\n' > "$R/patches/7.2/cover-letter"
	works make -C "$R" series SIGNOFF=no OUT="$R/build/mails"
	grep -q 'Part text' "$R"/build/mails/0000-*
	! grep -q 'Cover text' "$R"/build/mails/0000-* || miss 'that of all of it'
}

# --- all of it ---

fake_programs
fake_package 7.2.1-1
fake_repo "$T/repo"
R=$T/repo
REFERENCE=$(fetch 2> /dev/null)
"$T/repo/scripts/tree.sh" 2> /dev/null
fake_series "$T/repo"
"$T/repo/scripts/refresh.sh" 2> /dev/null

t 'an unknown BASE gets the list of bases' unknown_base
t 'a base that runs the tests of another one' tests_of
t 'an unknown target gets the list of targets' unknown_target
t 'every script explains itself with -h and refuses other options' help_of_scripts

t 'guest-root: packages that the archive does not have' no_programs

t 'fetch: the same commit again, with no network' fetch_twice
t 'fetch: three calls at once download once' fetch_at_once
t 'fetch: checksum wrong' checksum_wrong
t 'fetch: a stored package that is damaged' stored_package_damaged
t 'fetch: a download that breaks off' download_breaks_off
t 'fetch: killed in the download' download_killed
t 'fetch: killed while unpacking' unpacking_killed
t 'fetch: killed while importing' import_killed
t 'fetch: killed anywhere' fetch_killed_anywhere
t 'fetch: a package that cannot be unpacked' package_broken
t 'fetch: no network' no_network
t 'fetch: OFFLINE' offline
t 'fetch: the version has left the archive' version_gone
t 'fetch: no package, the tarball of kernel.org' kernel_org
t 'fetch: suites of the security archive' security_suites
t 'disk full: refused before it starts' disk_full
t 'disk full: on the way' disk_gets_full

t 'refresh: commits become patches and files' commits_become_patches
t 'refresh: nothing changed is nothing written, whatever git is configured to' refresh_is_a_noop
t 'refresh: changes are written' refresh_writes_changes
t 'refresh: another base follows a patch that is renumbered' renumbered
t 'refresh: a new file edited in the repository' file_edited_here
t 'refresh: a new file edited on both sides' file_edited_on_both_sides
t 'refresh: commits that cannot be patches' commits_that_are_no_patches
t 'tree: a patch that does not apply' does_not_apply
t 'tree: a patch that does not apply to a fresh tree' does_not_apply_at_first
t 'tree: a series file that is wrong' series_wrong
t 'tree: mails of other kinds' other_mails
t 'tree: a series of new files only' new_files_only
t 'tree: locks that git left' locks_left
t 'tree, refresh: uncommitted changes' uncommitted
t 'tree: commits that are in no patch' unrefreshed
t 'tree: the base moves on' base_moves_on
t 'tree: the bare base and back' control_base
t 'tree: what an interrupted call left' half_laid_out
t 'tree: killed anywhere' tree_killed_anywhere
t 'relative BUILD and OUT' relative_paths

t 'series: git am of the mails gives the same tree' git_am
t 'series: a directory with other files is left alone' series_elsewhere
t 'series: signed off by whom' nobody

t 'LINUX: a git tree' linux_git
t 'LINUX: a plain directory' linux_directory
t 'LINUX: what is none, another version, no room' linux_wrong

t 'lint: a file that no patch brings in' file_astray
t 'the cover letters are there' cover_letter
t 'series: a base with a cover letter of its own' cover_letter_of_base
for BASE in $(cd -- "$TOP/bases" && printf '%s\n' * | sort -V); do
	t "$BASE: tree and refresh change nothing" real_noop "$BASE"
	t "$BASE: git am of the mails gives the same tree" plain_am "$BASE" mails
	# Where the patches are stored; others refer to them.
	! grep -q '^\.\./' "$TOP/patches/$BASE/series" || continue
	t "$BASE: git am of the stored patches, and the new files, too" plain_am "$BASE" stored
	t "$BASE: refresh writes a change" real_change "$BASE"
done
plan
