#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check.sh
#
# Everything that is tested, for each of BASES:
#
#   the scripts and the harness themselves (tests/, once)
#   every commit builds: drivers/vfio, drivers/dma-buf, drivers/iommu/iommufd
#     and the vfio selftests
#   drivers/vfio builds for other architectures and configurations
#   the selftests pass in the VM, on the plain and on the debug kernel
#   control runs: what patches/<base>/controls lists fails without the series,
#     or without one of its patches, or passes with the first ones alone
#   the selftests pass on a kernel that cannot export BARs, and races of threads on
#     one that looks for data races
#   programs that use VFIO (QEMU with a guest, DPDK) work in the VM, as well as
#     they do without the series
#   lint
#
# All of that takes hours. So, by default, the bases share it:
#
#   the first one has the plain kernel, control runs, and the programs, for a
#     short while; the other architectures and configurations
#   those of DEBUG_BASES have the debug kernel instead of the plain one
#   another one has the plain kernel, and control runs
#   what a base has in common with one in front of it is checked there only:
#     patches, control runs
#
# One base alone has the plain and the debug kernel, and one each without export, for
# data races and for leaks.
#
# What the answer is already known for (by the ids of the commits and the
# contents of the files that went into it) is not built a second time; tests
# run each time. The VM runs while the next thing is built.
#
# A base that has no tests of its own (TESTS_OF in bases/) runs those of another.
#
# Environment: BASES (default "7.2 7.3 6.12"); DEBUG_BASES (default "7.3");
#   THOROUGH=yes: everything on all bases, and the programs for longer, on the
#   stock and on the debug kernel too; LINUX, BUILD, CACHE, JOBS, V.
# Exit status: 0 if nothing failed, 1 otherwise. The last line is
#   "N passed, N failed, N skipped".

. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/snapshots.sh"
getopt_help "$@"

[ -z "$LINUX" ] || [ ! -f "$LINUX/Makefile" ] ||
	BASES=$(kernel_version "$LINUX")
BASES=${BASES:-7.2 7.3 6.12}
DEBUG_BASES=${DEBUG_BASES-7.3}
case "${THOROUGH:-no}" in
no)	thorough= ;;
yes)	thorough=yes ;;
*)	die "THOROUGH=$THOROUGH: yes or no" ;;
esac
unset PLAN DEBUG VARIANT
PARTS='drivers/vfio/ drivers/dma-buf/ drivers/iommu/iommufd/'
passed=0 failed=0 skipped=0
HOST_ROOT='' GUEST_PATH=''
jobs=() job_counts=()
STARTED='' CHECKED='' FETCHING=''
began=$EPOCHSECONDS

count_pass()
{
	passed=$((passed + 1))
}

count_fail()
{
	failed=$((failed + 1))
}

# counted LOG: add the last "N passed, N failed, N skipped" of a log. Return 1
# if there is none or it tells of no failure.
counted()
{
	local p f s

	read -r p f s <<< "$(sed -n \
		's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' \
		"$LOGS/$1" | tail -n 1)"
	[ -n "$s" ] || return 1
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	say "        $p passed, $f failed, $s skipped"
	sed -n 's/^\(control: .*\|skipped everywhere: .*\|left out: .*\)/        \1/p' \
		"$LOGS/$1" >&2
	[ "$f" -gt 0 ]
}

# vm TEXT LOG ARGUMENT...: a run in the VM and its counts. A run can be bad
# although every test passed: a report of the kernel, a result missing.
vm()
{
	local text=$1 log=$2
	shift 2

	if STAGE_TAIL=200 stage "$text" "$log" harness "$@"; then
		counted "$log" || :
	else
		counted "$log" || count_fail
	fi
}

# tap TEXT LOG COMMAND...: a script that prints TAP
tap()
{
	local text=$1 log=$2 status=0 ok not_ok skip
	shift 2

	STAGE_TAIL=200 stage "$text" "$log" "$@" || status=1
	ok=$(grep -c '^ok ' "$LOGS/$log" || :)
	not_ok=$(grep -c '^not ok ' "$LOGS/$log" || :)
	skip=$(grep -c '^ok .*# SKIP' "$LOGS/$log" || :)
	passed=$((passed + ok - skip)) skipped=$((skipped + skip))
	failed=$((failed + not_ok))
	say "        $((ok - skip)) passed, $not_ok failed, $skip skipped"
	[ "$status" -eq 0 ] || [ "$not_ok" -gt 0 ] || count_fail
}

# touches COMMIT PATH...: the bare base and the last commit touch all
touches()
{
	local commit=$1
	shift

	[ "$commit" = "$(git -C "$TREE" rev-parse base)" ] ||
	[ "$commit" = "$(git -C "$TREE" rev-parse refs/series/applied)" ] ||
		! git -C "$TREE" diff --quiet "$commit^" "$commit" -- "$@"
}

# build_commit COMMIT NEXT: the parts, and the selftests unless NEXT, the
# subject of the commit that follows, is listed to repair their build.
build_commit()
{
	local commit=$1 next=$2 why

	check_out "$commit" || return 1
	echo "  COMMIT  $(git -C "$TREE" log -1 --format='%h %s' "$commit")"
	if touches "$commit" . ':!tools' ':!Documentation' ':!MAINTAINERS'; then
		# shellcheck disable=SC2086 # a list
		all_objects $PARTS || return 1
	fi
	[ -z "$TESTS_OF" ] || return 0
	touches "$commit" tools include/uapi || wanted_before "$next" ||
		build_fails_before "$next" || return 0

	# What is there may depend on files that this commit does not have.
	[ "$(git -C "$TREE" diff --name-only --diff-filter=DR \
		"$(cat -- "$WORK/plain/selftests-of" 2>/dev/null)" "$commit" -- \
		tools include 2>/dev/null || echo unknown)" = "" ] ||
		rm -rf -- "$WORK/plain/selftests"
	echo "$commit" > "$WORK/plain/selftests-of"
	why=$(controls build | sed -n "s/^$(quote "$next")	//p")
	if [ -n "$why" ]; then
		harness plain QUIET= selftests > "$LOGS/control-build.log" 2>&1 && {
			echo "the selftests build without \"$next\""
			return 1
		}
		cat -- "$LOGS/control-build.log"
		grep -qF -- "$why" "$LOGS/control-build.log" || {
			echo "the build fails, but not because of $why"
			return 1
		}
		echo "control: the selftests do not build without \"$next\" ($why)"
		return 0
	fi
	harness plain QUIET= selftests || return 1

	wanted_before "$next" || return 0
	rm -rf -- "$WORK/plain/before-$commit"
	mkdir -p -- "$WORK/plain/before-$commit"
	copy_all_tests plain "$WORK/plain/before-$commit"
}

# As a basic regular expression that matches this text only.
quote()
{
	printf '%s\n' "$1" | sed 's/[]\/$*.^[]/\\&/g'
}

# What of the lists at the top this base has
is_first()
{
	[ "$BASE" = "${BASES%% *}" ]
}

is_full()
{
	[ -n "$thorough" ] || [ "$BASES" = "$BASE" ]
}

on_debug()
{
	is_full || [[ " $DEBUG_BASES " == *" $BASE "* ]]
}

on_plain()
{
	is_full || ! on_debug || has_own_controls
}

# The tests of another base say nothing about programs.
with_programs()
{
	[ -z "$TESTS_OF" ] && { is_first || [ -n "$thorough" ]; }
}

# Has this base controls that no base has which was checked before?
has_own_controls()
{
	local other

	[ -z "$thorough" ] || return 0
	[ -f "$PATCHES/controls" ] || return 1
	for other in $CHECKED; do
		cat -- "$TOP/patches/$other/controls"
	done | grep -qvxF -f - <(sed -n '/^[a-z]*:/p' "$PATCHES/controls") || return 1
}

# wanted_before SUBJECT: do the controls want the tests from before this patch?
wanted_before()
{
	has_own_controls && [ -n "$(controls tests | sed -n "s/^$(quote "$1")	//p")" ]
}

# build_fails_before SUBJECT: do the controls say that the tests do not build?
build_fails_before()
{
	[ -n "$(controls build | sed -n "s/^$(quote "$1")	//p")" ]
}

# Every commit, oldest first; the bare base too, for what fails there.
build_commits()
{
	local commit next inputs stamp list shared

	inputs=$(build_inputs)
	shared=$(shared_commits | grep -vxF "$(git -C "$TREE" rev-parse refs/series/applied)") || :
	mkdir -p -- "$WORK/plain/commits"
	# build_kernel has left those of the last one.
	git -C "$TREE" rev-parse refs/series/applied > "$WORK/plain/selftests-of"
	list=$(git -C "$TREE" rev-list --reverse base..refs/series/applied)
	for commit in $(git -C "$TREE" rev-parse base) $list; do
		next=$(git -C "$TREE" log --reverse --format='%H %P %s' \
			base..refs/series/applied |
			sed -n "s/^[0-9a-f]* $commit //p")
		stamp=$WORK/plain/commits/$commit-$inputs
		[ ! -e "$stamp" ] || continue
		# The bare base is of interest for what fails there.
		[ "$commit" != "$(git -C "$TREE" rev-parse base)" ] ||
			wanted_before "$next" || build_fails_before "$next" || continue
		! grep -qF "$commit" <<< "$shared" || wanted_before "$next" || continue
		build_commit "$commit" "$next" || {
			echo "commit $commit does not build"
			check_out refs/series/applied
			return 1
		}
		: > "$stamp"
	done
	check_out refs/series/applied
}

# control_plan VARIANT TOKEN...: a plan that runs the tests that TOKENS name, on
# the devices they name, with all test modules loaded; of a test on a device, only
# the cases called by name, if any is.
control_plan()
{
	local module

	for module in "$WORK/$1/current"/*.ko; do
		module=${module##*/}
		echo "insmod ${module%.ko}"
	done
	shift
	printf '%s\n' "$@" | awk -F: '
		!($1 in cases) { order[++n] = $1; cases[$1] = "" }
		{ name = $2; sub(/.*\./, "", name) }
		name ~ /^[a-z0-9_]+$/ && !(($1, name) in seen) {
			seen[$1, name] = 1
			cases[$1] = cases[$1] " -t " name
		}
		END {
			for (i = 1; i <= n; i++) {
				at = index(order[i], "@")
				print "run " substr(order[i], 1, at - 1) " " \
					substr(order[i], at + 1) " timeout=120" \
					(cases[order[i]] == "" ? "" : " --" cases[order[i]])
			}
		}'
}

# vm_snapshot VARIANT NAME TEXT LOG ARGUMENT...: as vm, from a snapshot, and with
# more time for each test, because it is not alone. Its results are its own: other
# runs of the base may be under way.
vm_snapshot()
{
	local variant=$1 dir=$WORK/$1/$2 text=$3 log=$4
	shift 4

	case $variant in
	debug|kcsan|kmemleak)
		set -- SLOW=8 TIMEOUT=5400 "$@" ;;
	*)	set -- SLOW=3 TIMEOUT=2700 "$@" ;;
	esac

	vm "$text" "$log" "$variant" KERNEL_IMAGE="$dir/bzImage" MODULES_PATH="$dir" \
		SELFTESTS_PATH="$WORK/$variant/current/tests" \
		RESULT_PATH="$WORK/$variant/results-${log%.log}" "$@"
}

# tokens_plan PLAN VARIANT TOKENS: what control_plan makes of a list in one string
tokens_plan()
{
	# shellcheck disable=SC2086 # a list
	control_plan "$2" $3 > "$1"
}

check_controls()
{
	local tokens plan=$WORK/plain/control.plan

	tokens=$(controls kernel | cut -f 2 | tr '\n' ' ')
	[ -n "$tokens" ] || return 0
	tokens_plan "$plan" plain "$tokens"
	vm_snapshot plain stock "$BASE: control: the tests on the stock kernel" \
		control-stock.log PLAN="$plan" EXPECT_FAIL="$tokens"
}

# devices_of TOKENS: those that they name
devices_of()
{
	trim "$(grep -oE '@[^: ]+' <<< "$1" | tr -s '@+\n' ' ')"
}

# On another machine than the usual one: what fails there on the stock kernel, and
# passes on that with the series
check_machines()
{
	local subject tokens machine n=0 plan

	while IFS=$'\t' read -r subject tokens; do
		[ -n "$subject" ] || continue
		n=$((n + 1)) plan=$WORK/plain/machine-$n.plan
		machine=$(trim "${tokens#*|}") tokens=$(trim "${tokens%%|*}")
		tokens_plan "$plan" plain "$tokens"
		vm_snapshot plain stock "$BASE: control: with $machine, without \"$subject\"" \
			"control-machine-$n.log" PLAN="$plan" \
			DEVICES="$(devices_of "$tokens")" EXPECT_FAIL="$tokens" "$machine"
		vm_snapshot plain current "$BASE: the tests with $machine" \
			"run-machine-$n.log" PLAN="$plan" \
			DEVICES="$(devices_of "$tokens")" "$machine"
	done <<< "$(controls machine)"
}

# What the debug kernel must report without a patch. Without the series it would,
# too, but two kernels that have much in common are built faster.
check_splats()
{
	local subject tokens splat n=0 plan

	while IFS=$'\t' read -r subject tokens; do
		[ -n "$subject" ] || continue
		n=$((n + 1)) plan=$WORK/debug/control-$n.plan
		splat=$(trim "${tokens#*|}") tokens=$(trim "${tokens%%|*}")
		tokens_plan "$plan" debug "$tokens"
		vm_snapshot debug "debug-$n" "$BASE: control: $splat without \"$subject\"" \
			"control-debug-$n.log" PLAN="$plan" \
			DEVICES="$(devices_of "$tokens")" EXPECT_SPLAT="$splat"
	done <<< "$(controls debug)"
}

trim()
{
	sed 's/^[[:space:]]*//; s/[[:space:]]*$//' <<< "$1"
}

# The commit of the series with this subject
commit_of()
{
	git -C "$TREE" log --format='%H	%s' base..refs/series/applied |
		sed -n "s/	$(quote "$1")\$//p"
}

# is_of DIRECTORY COMMIT: was that snapshot made of this commit, and of all else as
# it is?
is_of()
{
	[ "$(cat -- "$1/stamp" 2>/dev/null)" = "$2 $(build_inputs)" ]
}

# build_at KIND VARIANT SUFFIX: kernels as they are at the patches that the controls
# of this kind name, without those that follow, and with SUFFIX "^" without them.
build_at()
{
	local subject tokens commit dir n=0

	while IFS=$'\t' read -r subject tokens; do
		[ -n "$subject" ] || continue
		n=$((n + 1)) dir=$WORK/$2/$1-$n
		commit=$(commit_of "$subject") && [ -n "$commit" ] &&
		commit=$(git -C "$TREE" rev-parse "$commit$3") || return 1
		! is_of "$dir" "$commit" || continue
		check_out "$commit" &&
		harness "$2" QUIET= kernel modules && snapshot "$2" "$1-$n" &&
		echo "$commit $(build_inputs)" > "$dir/stamp" || return 1
	done <<< "$(controls "$1")"
}

check_at()
{
	local subject tokens n=0 plan

	while IFS=$'\t' read -r subject tokens; do
		[ -n "$subject" ] || continue
		n=$((n + 1)) plan=$WORK/plain/at-$n.plan
		tokens_plan "$plan" plain "$tokens"
		vm_snapshot plain "at-$n" "$BASE: the tests at \"$subject\"" \
			"run-at-$n.log" PLAN="$plan"
	done <<< "$(controls at)"
}

# Have build_commits left tests from before a patch?
has_tests_before()
{
	has_own_controls && [ -n "$(controls tests)" ]
}

# The tests as they were built before a patch
check_before()
{
	local subject tokens commit plan=$WORK/plain/before.plan

	while IFS=$'\t' read -r subject tokens; do
		commit=$(git -C "$TREE" log -1 --format=%P "$(commit_of "$subject")")
		tokens_plan "$plan" plain "$tokens"
		sed -i /^insmod/d "$plan"
		vm_snapshot plain current "$BASE: control: the tests without \"$subject\"" \
			control-tests.log PLAN="$plan" \
			SELFTESTS_PATH="$WORK/plain/before-$commit" EXPECT_FAIL="$tokens"
	done <<< "$(controls tests)"
}

# Each patch that a control names is there.
check_subjects()
{
	local subject subjects bad=0

	subjects=$(git -C "$TREE" log --format=%s base..refs/series/applied)
	while read -r subject; do
		grep -qxF -- "$subject" <<< "$subjects" && continue
		echo "patches/$BASE/controls: no patch is called \"$subject\""
		bad=1
	done <<< "$(sed -n 's/^[a-z]*: *\([^|]*[^ 	|]\)[ 	]*|.*/\1/p' "$PATCHES/controls")"
	return "$bad"
}

# users VARIANT NAME TEXT LOG PLAN: the programs that use VFIO, on a snapshot
users()
{
	vm_snapshot "$1" "$2" "$3" "$4" PLAN="$5" TIMEOUT=3600 \
		HOST_ROOT="$HOST_ROOT" GUEST_PATH="$GUEST_PATH"
}

check_plain()
{
	vm_snapshot plain current "$BASE: run the tests on the plain kernel" run-plain.log
	has_own_controls || return 0
	check_controls
	check_machines
	check_at
}

check_harness()
{
	tap "the harness itself" harness.log env KERNEL_PATH="$TREE" \
		"$TOP/tests/harness.sh" "$WORK/plain/current/bzImage"
}

check_debug()
{
	vm_snapshot debug current "$BASE: run the tests on the debug kernel" run-debug.log
	check_splats
}

check_no_export()
{
	vm_snapshot no-export current "$BASE: run the tests on the kernel without export" \
		run-no-export.log
}

check_kcsan()
{
	local text="$BASE: run the tests on the kernel that looks for data races"

	vm_snapshot kcsan current "$text" run-kcsan.log
	vm_snapshot kcsan current "$BASE: control: a data race" control-kcsan.log \
		PLAN=kcsan-control EXPECT_SPLAT='KCSAN: data-race in race_thread'
}

check_kmemleak()
{
	local text="$BASE: run the tests on the kernel that looks for leaks"

	vm_snapshot kmemleak current "$text" run-kmemleak.log
	vm_snapshot kmemleak current "$BASE: control: a leak" control-kmemleak.log \
		PLAN=kmemleak-control EXPECT_FAIL=kmemleak \
		EXPECT_SPLAT='kmemleak: .* suspected memory leaks'
}

check_programs()
{
	if [ -z "$thorough" ]; then
		users plain current "$BASE: QEMU and DPDK on the plain kernel" \
			run-users.log users-short
		return
	fi
	users plain current "$BASE: QEMU and DPDK on the plain kernel" run-users.log users
	users plain stock "$BASE: QEMU and DPDK on the stock kernel" \
		run-users-stock.log users
	users debug current "$BASE: QEMU and DPDK on the debug kernel" \
		run-users-debug.log users
}

# job FILE COMMAND...: run COMMAND, which may have jobs of its own, and leave the counts
job()
{
	local counts=$1
	shift

	passed=0 failed=0 skipped=0 jobs=() job_counts=() FETCHING=''
	trap stop_jobs EXIT
	"$@"
	collect
	echo "$passed $failed $skipped" > "$counts"
}

# in_background COMMAND...: to it stderr is no terminal: it would write into the line
# of others.
in_background()
{
	local counts=$BUILD/job-$BASHPID-${#jobs[@]}

	rm -f -- "$counts"
	job "$counts" "$@" > >(exec cat >&2 7>&- 9>&-) 2>&1 < /dev/null 7>&- 9>&- &
	jobs+=("$!") job_counts+=("$counts")
}

# in_vm COMMAND...: what boots the VM, one of two at a time
in_vm()
{
	local slot

	# One at a time looks for a slot, the others wait behind it.
	exec 5> "$BUILD/vm-next.lock"
	flock 5
	while :; do
		for slot in 1 2; do
			exec 6> "$BUILD/vm-$slot.lock"
			! flock -n 6 || break 2
		done
		pause 1
	done
	exec 5>&-
	renice -n 0 -p "$BASHPID" > /dev/null 2>&1 || :
	"$@"
	exec 6>&-
}

# yielding COMMAND...: when nothing else needs the CPU
yielding()
{
	renice -n 15 -p "$BASHPID" > /dev/null 2>&1 || :
	"$@"
}

collect()
{
	local p f s i

	for i in "${!jobs[@]}"; do
		# The shell forgets one that has ended when another gets its number.
		wait "${jobs[i]}" 2>/dev/null || :
		if read -r p f s 2>/dev/null < "${job_counts[i]}"; then
			passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
		else
			count_fail
		fi
		rm -f -- "${job_counts[i]}"
	done
	jobs=() job_counts=()
}

stop_jobs()
{
	[ "${#jobs[@]}" -eq 0 ] || kill "${jobs[@]}" 2>/dev/null || :
	[ -z "$FETCHING" ] || kill -- "-$FETCHING" 2>/dev/null || :
}

# The sources that are not there yet, while the first kernel is built. Who needs one in
# the end says what is wrong if there is none.
fetch_ahead()
{
	[ -z "$LINUX" ] || return 0
	mkdir -p -- "$BUILD/logs" || return 0
	# A process group of its own, to end all of it
	set -m
	(
		trap - EXIT
		for BASE in $(debug_first); do
			"$TOP/scripts/fetch.sh" || :
		done
		for BASE in $BASES; do
			load_base
			! with_programs || "$TOP/scripts/guest-root.sh" || :
		done
	) > "$BUILD/logs/fetch-ahead.log" 2>&1 < /dev/null 7>&- 9>&- &
	FETCHING=$!
	set +m
}

# The bases, those with a debug kernel in front: nothing takes longer.
debug_first()
{
	local BASE

	for BASE in $BASES; do
		! on_debug || echo "$BASE"
	done
	for BASE in $BASES; do
		on_debug || echo "$BASE"
	done
}

# Those of the bases that were laid out
started()
{
	local base

	for base in $BASES; do
		[[ " $STARTED " != *" $base "* ]] || echo "$base"
	done
}

# one TEXT LOG COMMAND...: a stage that counts as one
one()
{
	if stage "$@"; then
		count_pass
	else
		count_fail
		return 1
	fi
}

# The debug kernel before all else
start_debug()
{
	load_base
	lock_builds
	borrow_tests || { count_fail; return; }
	lay_out || { count_fail; return; }
	one "$BASE: the controls name patches of the series" controls.log check_subjects || return 0
	if on_debug; then
		if kernels_of debug debug '^' &&
		   lay_out && build_kernel debug && snapshot debug current; then
			in_background in_vm check_debug
		else
			count_fail
		fi
	fi
	STARTED+=" $BASE"
}

# start_variant VARIANT COMMAND: build the kernel, and run COMMAND in the background.
start_variant()
{
	if lay_out && build_kernel "$1" && snapshot "$1" current; then
		in_background in_vm "$2"
	else
		count_fail
	fi
}

# What else runs in the VM: it takes longer than what is built meanwhile.
start_plain()
{
	load_base
	lock_builds
	if on_plain; then
		if { ! has_own_controls || { stock plain && kernels_of at plain ''; }; } &&
		   lay_out && build_kernel plain && snapshot plain current; then
			in_background in_vm check_plain
			! is_first || in_background in_vm check_harness
			! with_programs || start_programs
		else
			count_fail
		fi
	fi
	if is_full && [ -z "$TESTS_OF" ]; then
		start_variant no-export check_no_export
		start_variant kcsan check_kcsan
		start_variant kmemleak check_kmemleak
	fi
	CHECKED+=" $BASE"
}

start_programs()
{
	if get_guest_root; then
		in_background in_vm check_programs
	else
		count_fail
	fi
}

# kernels_of KIND VARIANT SUFFIX: what build_at builds, if there is any
kernels_of()
{
	[ -z "$(controls "$1")" ] ||
		stage "$BASE: build the $2 kernel at some patches, for control runs" \
			"build-at-$1.log" build_at "$@"
}

finish_base()
{
	local parts=()

	load_base
	lock_builds
	lay_out || { count_fail; return; }
	one "$BASE: build commit by commit: $PARTS" commits.log build_commits || return 0
	sed -n 's/^control: /        &/p' "$LOGS/commits.log" >&2
	! has_tests_before || in_background in_vm check_before
	if is_full || is_first; then
		one "$BASE: build for other architectures and configurations" \
			matrix.log "$TOP/scripts/matrix.sh" || :
	else
		# Documents and scripts are those of all bases
		parts=(patches objects modules kernel-doc)
	fi
	one "$BASE: lint" lint.log "$TOP/scripts/lint.sh" "${parts[@]}" || :
}

unable()
{
	echo '0 passed, 1 failed, 0 skipped'
	exit 1
}

# A function, so that the script is read to its end before it runs: it may be
# edited meanwhile.
main()
{
	"$TOP/scripts/deps.sh" check || unable
	for BASE in $BASES; do
		(load_base) || unable
	done
	mkdir -p -- "$BUILD" || unable
	exec 9> "$BUILD/check.lock"
	flock -n 9 || {
		say "waiting for another check in $BUILD"
		flock 9
	}
	rm -f -- "$BUILD"/job-*
	trap stop_jobs EXIT
	export BASE CHECKED
	fetch_ahead
	for BASE in $(debug_first); do
		start_debug
	done
	for BASE in $(started); do
		start_plain
	done
	# What was checked of another base is that of the bases in front. The VMs, which
	# have limits of time, go first.
	CHECKED=
	renice -n 5 -p "$BASHPID" > /dev/null || :
	# When the sources of all bases are in the cache
	in_background tap "the scripts themselves" tooling.log "$TOP/tests/tooling.sh"
	# At once, because much of a build of a few files runs on one CPU. Each locks the
	# builds of its base.
	exec 7>&-
	for BASE in $(started); do
		# What the first one has to do takes longest, and much of it one CPU
		if is_first; then
			in_background finish_base
		else
			in_background yielding finish_base
		fi
		CHECKED+=" $BASE"
	done
	collect
	say "$(elapsed "$began") in all"
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ]
}

main
exit
