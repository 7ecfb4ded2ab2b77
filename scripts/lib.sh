# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by the other scripts: paths, messages, stages.
#
# Environment:
#   BASE    the kernel to work on, a file name under bases/ (default 7.2)
#   LINUX   a kernel tree of the user's own instead of the packaged source;
#           it is read and never written
#   BUILD   where trees, objects and logs go (default: build/ of the checkout)
#   CACHE   where downloads and imported sources are kept, shared by all
#           checkouts (default: $XDG_CACHE_HOME/vfio-bar-access)
#   JOBS    parallel jobs (default: one more than there are processors)
#   V       1 shows the output of every stage

set -euo pipefail

TOP=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
BASE=${BASE:-7.2}
LINUX=${LINUX:-}
BUILD=${BUILD:-$TOP/build}
CACHE=${CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfio-bar-access}
JOBS=${JOBS:-$(($(nproc) + 1))}
V=${V:-}

# Scripts change the directory.
[ -z "${BUILD##/*}" ] || BUILD=$PWD/$BUILD
[ -z "${CACHE##/*}" ] || CACHE=$PWD/$CACHE
[ -z "${LINUX##/*}" ] || LINUX=$PWD/$LINUX

# Ours, wherever the caller happens to be.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY
export LC_ALL=C.UTF-8

# Else ccache has the preprocessor run besides the compiler for each object that it
# does not have yet, which takes half as long again.
export CCACHE_DEPEND=${CCACHE_DEPEND:-1}
# It hashes each header once then, and not for each object.
export CCACHE_INODECACHE=${CCACHE_INODECACHE:-1}

# The user's taste in diffs, hooks and signatures must not decide about what
# is stored, or about the ids of commits.
git_config()
{
	local setting n=${GIT_CONFIG_COUNT:-0}

	for setting; do
		export "GIT_CONFIG_KEY_$n=${setting%%=*}"
		export "GIT_CONFIG_VALUE_$n=${setting#*=}"
		n=$((n + 1))
	done
	export GIT_CONFIG_COUNT=$n
}
git_config diff.noprefix=false diff.mnemonicPrefix=false diff.context=3 \
	diff.interHunkContext=0 diff.orderFile=/dev/null \
	diff.indentHeuristic=true diff.suppressBlankEmpty=false \
	mailinfo.scissors=false apply.ignoreWhitespace=no core.autocrlf=false \
	commit.gpgSign=false tag.gpgSign=false core.hooksPath=/dev/null

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	say "error: $*"
	exit 1
}

# Print the header comment of a script, for -h.
usage()
{
	sed -n '2,${/^#/!q;s/^# \{0,1\}//;/^SPDX/d;p}' "$0"
}

# -h in front of everything else; no other option is known to any script.
getopt_help()
{
	case "${1:-}" in
	-h | --help) usage; exit 0 ;;
	-*) usage >&2; exit 1 ;;
	esac
}

list_bases()
{
	(cd -- "$TOP/bases" && printf '%s\n' * | sort -V | tr '\n' ' ')
}

# Load bases/$BASE and derive the paths of this base. What a base may say
# besides where it comes from:
#
#   TESTS_OF   the base whose selftests run on this one, which has none
#   MODULES    the test modules that build for it (default: all)
load_base()
{
	case "$BASE" in
	'' | */* | .*) die "unknown BASE '$BASE'; there is: $(list_bases)" ;;
	esac
	[ -f "$TOP/bases/$BASE" ] ||
		die "unknown BASE '$BASE'; there is: $(list_bases)"
	TESTS_OF='' MODULES=''
	# shellcheck source=/dev/null
	. "$TOP/bases/$BASE"
	[ -z "$TESTS_OF" ] || [ -f "$TOP/bases/$TESTS_OF" ] ||
		die "bases/$BASE: TESTS_OF=$TESTS_OF is no base; there is: $(list_bases)"
	: "${PACKAGE:?}" "${VERSION:?}" "${SHA256:?}" "${SUITES:?}"
	PATCHES=$TOP/patches/$BASE
	WORK=$BUILD/$BASE
	TREE=$WORK/tree
	LOGS=$WORK/logs
	SERIES=$PATCHES/series
	# A tree that is not whole must not be taken for the repository that
	# it lies in.
	export GIT_CEILING_DIRECTORIES=$WORK
	[ -f "$SERIES" ] || die "patches/$BASE/series is missing"
	mkdir -p -- "$LOGS" || die "cannot create $LOGS"
}

# need_space DIR MIB WHAT: refuse to start what cannot be finished.
need_space()
{
	local have

	mkdir -p -- "$1" || die "cannot create $1"
	have=$(df -Pm -- "$1" | awk 'NR == 2 { print $4 }')
	[ "$have" -ge "$2" ] ||
		die "disk full: $3 needs $2 MiB in $1, there are $have MiB"
}

# Seconds since START as "75 s".
elapsed()
{
	printf '%d s' "$((EPOCHSECONDS - $1))"
}

# pause SECONDS: sleep, without a process for each time; a pipe that its reader has
# open for writing never ends.
exec {PAUSE}<> <(:)
pause()
{
	read -rt "$1" -u "$PAUSE" || :
}

STAGE_PID=
stage_interrupt()
{
	# A second signal would end this before it has ended what runs.
	trap '' INT TERM HUP
	[ -z "$STAGE_PID" ] || kill -- "-$STAGE_PID" 2>/dev/null || :
	exit 130
}

# stage TEXT LOG COMMAND...
#
# Run COMMAND in a process group of its own with its output in $LOGS/LOG.
# While it runs, say what is being done, how far it is (in lines of output,
# against the number it had the last time), and for how long. On failure
# show the end of the log and return the status of COMMAND. STAGE_LINES is the
# number to go by the first time.
stage()
{
	local text=$1 log=$LOGS/$2 start last=0 now lines total='' status=0
	shift 2

	start=$EPOCHSECONDS
	if [ "$V" = 1 ]; then
		say "--- $text"
		set +e
		(set -e; "$@") 2>&1 | tee -- "$log" >&2
		status=${PIPESTATUS[0]}
		set -e
		say "--- $text: $(elapsed "$start"), status $status"
		return "$status"
	fi

	[ -z "${STAGE_LINES:-}" ] || total=" of about $STAGE_LINES"
	[ ! -s "$log.lines" ] || total=" of about $(cat -- "$log.lines")"
	trap stage_interrupt INT TERM HUP
	set -m
	(set -e; "$@") > "$log" 2>&1 < /dev/null &
	STAGE_PID=$!
	set +m
	while kill -0 "$STAGE_PID" 2>/dev/null; do
		pause 0.2
		now=$((EPOCHSECONDS - start))
		if [ -t 2 ]; then
			[ "$now" -gt "$last" ] || continue
		else
			[ "$now" -ge "$((last + 30))" ] || continue
		fi
		last=$now
		lines=$(wc -l < "$log")
		if [ -t 2 ]; then
			printf '\r\033[K    %s: %s%s lines, %s s' \
				"$text" "$lines" "$total" "$now" >&2
		else
			say "    $text: $lines$total lines, $now s so far"
		fi
	done
	wait "$STAGE_PID" || status=$?
	STAGE_PID=
	trap - INT TERM HUP
	[ ! -t 2 ] || printf '\r\033[K' >&2
	if [ "$status" -eq 0 ]; then
		# An incremental run says nothing about a whole one.
		lines=$(wc -l < "$log")
		[ "$lines" -lt "$(cat -- "$log.lines" 2>/dev/null || echo 0)" ] ||
			echo "$lines" > "$log.lines"
		printf '%6s  %s\n' "$(elapsed "$start")" "$text" >&2
		return 0
	fi
	say "FAILED after $(elapsed "$start"): $text"
	# What it is about may be far above the end.
	grep -E '^(FAILED|FINDING|not ok|error)\>|^# [a-z0-9_]+\.c:[0-9]+:' "$log" | head -n 25 |
		sed 's/^/    > /' >&2 || :
	sed 's/^/    | /' "$log" | tail -n "${STAGE_TAIL:-40}" >&2
	say "    the whole log: $log"
	return "$status"
}

# Entries of a series file, one a line: "P path-of-patch" or "N new-file".
series_entries()
{
	awk -v dir="$(dirname -- "$1")" '
		/^[ \t]*(#|$)/ { next }
		/^[ \t]/ { sub(/^[ \t]+/, ""); print "N " $0; next }
		{
			path = dir "/" $0
			sub(/\/[^\/]+\/\.\.\//, "/", path)
			print "P " path
		}' "$1"
}

# The commits whose patch is that of a base in CHECKED, where it has been looked
# at, unless everything is looked at again.
shared_commits()
{
	local commits path

	[ "${THOROUGH:-no}" = no ] || return 0
	mapfile -t commits <<< "$(git -C "$TREE" rev-list --reverse \
		base..refs/series/applied)"
	series_entries "$SERIES" | sed -n 's/^P //p' | while read -r path; do
		if [[ $path != "$PATCHES"/* && " ${CHECKED:-} " == *" $(basename -- \
		      "$(dirname -- "$path")") "* ]]; then
			echo "${commits[0]}"
		fi
		commits=("${commits[@]:1}")
	done
}

# x.y of the kernel tree in DIRECTORY
kernel_version()
{
	awk '/^VERSION = /{v=$3} /^PATCHLEVEL = /{p=$3}
		END { print v "." p }' "$1/Makefile"
}

HARNESS=$TOP/tools/testing/selftests/vfio/qemu
TEST_MODULES=$TOP/tools/testing/selftests/vfio/test_modules

# test_modules DIRECTORY: the sources of the test modules for this base
test_modules()
{
	local module

	rm -rf -- "$1"
	if [ -z "$MODULES" ]; then
		cp -rp -- "$TEST_MODULES" "$1"
		return
	fi
	mkdir -p -- "$1"
	cp -p -- "$TEST_MODULES/Makefile" "$1/"
	for module in $MODULES; do
		cp -p -- "$TEST_MODULES/$module.c" "$1/" || return 1
	done
}

# The plan of this name, as a file where this base has one of its own
plan_of()
{
	if [ -f "$PATCHES/plans/$1" ]; then
		printf '%s\n' "$PATCHES/plans/$1"
	else
		printf '%s\n' "$1"
	fi
}

# fragments VARIANT: what is merged into the harness's kernel.config: nothing for
# "plain", debug.config and kmemleak.config for "debug+kmemleak"
fragments()
{
	[ "$1" = plain ] || echo "${1//+/.config }.config"
}

# harness VARIANT ARGUMENT...: the harness on this base
harness()
{
	local variant=$1 modules=$TEST_MODULES plan=debug
	shift

	if [ "$variant" = plain ]; then
		plan=default
	elif [ -f "$HARNESS/plans/$variant" ]; then
		plan=$variant
	fi
	if [ -n "$MODULES" ] && [[ " $*" != *" MODULES_PATH="* ]]; then
		modules=$WORK/$variant/module-sources
		test_modules "$modules" || return 1
	fi
	# What follows overrides; PLAN of the environment as well.
	plan=${PLAN:-$(plan_of "$plan")}
	set -- PLAN="$plan" ${TESTS_OF:+SELFTESTS_PATH="$WORK/tests"} "$@"
	[ ! -f "$PATCHES/kernel.config" ] ||
		set -- LAST_CONFIG="$PATCHES/kernel.config" "$@"
	make --no-print-directory -C "$HARNESS" KERNEL_PATH="$TREE" \
		BUILD_PATH="$WORK/$variant" FRAGMENTS="$(fragments "$variant")" \
		TEST_MODULES="$modules" JOBS="$JOBS" V="${V:-0}" "$@"
}

# copy_tests DIRECTORY TO: the programs in it
copy_tests()
{
	[ ! -d "$1" ] || find "$1" -maxdepth 1 -type f -perm -100 \
		-exec cp -pt "$2/" -- {} +
}

# Put the selftests of the base TESTS_OF into $WORK/tests. They are static, and
# know no kernel but by its uAPI.
borrow_tests()
{
	[ -n "$TESTS_OF" ] || return 0
	BASE=$TESTS_OF LINUX='' "$TOP/scripts/tests.sh" || return 1
	rm -rf -- "$WORK/tests"
	mkdir -p -- "$WORK/tests"
	copy_tests "$BUILD/$TESTS_OF/plain/selftests" "$WORK/tests"
}

# One call at a time builds in $WORK. What an interrupted one left running
# holds the lock too, so nothing is built twice at once.
lock_builds()
{
	exec 7> "$WORK/build.lock"
	flock -n 7 || {
		say "waiting for another call that builds in $WORK"
		flock 7
	}
}

# check_out COMMIT: killed, git leaves locks, which tree.sh removes if "busy" is there.
check_out()
{
	: > "$WORK/busy"
	git -C "$TREE" checkout -q --detach "$1" && rm -f -- "$WORK/busy"
}

# The stages that both "make run" and "make check" go through.
lay_out()
{
	stage "$BASE: lay out the series" tree.log "$TOP/scripts/tree.sh" || return 1
	! grep '^note: ' "$LOGS/tree.log" >&2 || :
}

# The lines of the log are the measure of progress.
build_kernel()
{
	local variant=$1
	shift

	STAGE_LINES=$([ "$variant" = plain ] && echo 2500 || echo 3000) stage "$BASE: build the $variant kernel and the selftests" \
		"build-$variant.log" harness "$variant" QUIET= initramfs "$@"
}

# choose_variant: set $variant by VARIANT, or by DEBUG
choose_variant()
{
	local fragment

	case "${DEBUG:-no}" in
	no) variant=${VARIANT:-plain} ;;
	yes) variant=${VARIANT:-debug} ;;
	*) die "DEBUG=$DEBUG: yes or no" ;;
	esac
	for fragment in $(fragments "$variant"); do
		if [ "$fragment" = kernel.config ] || [ ! -f "$HARNESS/$fragment" ]; then
			die "VARIANT=$variant: plain, or what there is of debug," \
				"kcsan, ...: names of *.config in $HARNESS, joined by +"
		fi
	done
}

# choose_plan DEFAULT: PLAN is a file, or a name of the harness
choose_plan()
{
	export PLAN=${PLAN:-$1}
	if [ -f "$PLAN" ]; then
		PLAN=$(realpath -- "$PLAN")
	elif [ ! -f "$HARNESS/plans/$PLAN" ]; then
		die "no plan $PLAN; there is: $(cd -- "$HARNESS/plans" && echo *), or a file"
	else
		PLAN=$(plan_of "$PLAN")
	fi
}

# A tree with commits of the user's own on top of the series is left as it is.
lay_out_unless_changed()
{
	if [ -d "$TREE" ] && { [ -n "$(git -C "$TREE" status --porcelain -uno)" ] ||
	   ! git -C "$TREE" merge-base --is-ancestor HEAD refs/series/applied; }; then
		say "note: $TREE has changes of yours; they are used as they are"
	else
		lay_out
	fi
}

# The programs that use VFIO, and the guest that one of them runs
print_guest_root()
{
	"$TOP/scripts/guest-root.sh" > "$WORK/guest-root"
}

# get_guest_root: set HOST_ROOT and GUEST_PATH for the harness. The guest is the
# same for all kernels that have it as a guest.
get_guest_root()
{
	stage "QEMU and DPDK of Debian, for the VM" guest-root.log print_guest_root &&
	stage "$BASE: build the guest for the VM" build-guest.log \
		harness plain QUIET= guest || return 1
	HOST_ROOT=$(cat -- "$WORK/guest-root")
	GUEST_PATH=$WORK/plain/guest
}

# build_users: get what $PLAN runs, if it runs any of it
build_users()
{
	local plan=$PLAN

	[ -f "$plan" ] || plan=$HARNESS/plans/$PLAN
	grep -q '^run users/' "$plan" || return 0
	get_guest_root && export HOST_ROOT GUEST_PATH
}

# all_objects ARGUMENT...: make with all drivers configured, in $WORK/all; for
# single objects and directories, no kernel is ever linked there.
all_objects()
{
	local out=$WORK/all cc=gcc

	! command -v ccache > /dev/null || cc='ccache gcc'
	mkdir -p -- "$out"
	if ! cmp -s -- "$TOP/scripts/all.config" "$out/all.config"; then
		make -s -C "$TREE" O="$out" CC="$cc" \
			KCONFIG_ALLCONFIG="$TOP/scripts/all.config" allmodconfig || return 1
		awk -f "$HARNESS/check-config.awk" "$TOP/scripts/all.config" \
			"$out/.config" || return 1
		cp -- "$TOP/scripts/all.config" "$out/all.config"
	fi
	make --no-print-directory -C "$TREE" O="$out" CC="$cc" -j "$JOBS" "$@"
}
