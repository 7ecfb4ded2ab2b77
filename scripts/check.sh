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
#   the selftests pass in the VM, on the plain and on the debug kernel
#   control runs: what patches/<base>/controls lists fails without the series,
#     or without one of its patches
#   lint
#
# What the answer is already known for (by the ids of the commits and the
# contents of the files that went into it) is not built a second time; tests
# run each time.
#
# Environment: BASES (default "7.2 7.3"), DEBUG_BASES (those whose debug kernel
#   is built and run too, default "7.2", for the sake of time), LINUX, BUILD, CACHE, JOBS, V.
# Exit status: 0 if nothing failed, 1 otherwise. The last line is
#   "N passed, N failed, N skipped".

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"

[ -z "$LINUX" ] || [ ! -f "$LINUX/Makefile" ] ||
	BASES=$(kernel_version "$LINUX")
BASES=${BASES:-7.2 7.3}
DEBUG_BASES=${DEBUG_BASES-7.2}
unset PLAN DEBUG
PARTS='drivers/vfio/ drivers/dma-buf/ drivers/iommu/iommufd/'
passed=0 failed=0 skipped=0
harness_tested=
began=$(date +%s)

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

# What a build of the stock kernel or of a commit depends on besides the tree.
build_inputs()
{
	(cd -- "$HARNESS" && cat -- Makefile ./*.config arch/*.config \
		"$TOP/scripts/all.config"
	 cd -- "$TEST_MODULES" && cat -- *) | sha256sum | cut -c1-16
}

# controls KIND: lines "SUBJECT<tab>ARGUMENTS" of patches/$BASE/controls
controls()
{
	[ ! -f "$PATCHES/controls" ] ||
		sed -n "s/^$1: *\\(.*[^ 	]\\)[ 	]*|[ 	]*/\\1	/p" "$PATCHES/controls"
}

# The kernel without the series, and the test modules for it.
build_stock()
{
	harness plain QUIET= kernel modules || return 1
	rm -rf -- "$STOCK.tmp"
	mkdir -p -- "$STOCK.tmp"
	cp -- "$WORK/plain/kernel/arch/x86/boot/bzImage" \
		"$WORK"/plain/test_modules/*.ko "$STOCK.tmp/" || return 1
	rm -rf -- "$STOCK"
	mv -- "$STOCK.tmp" "$STOCK"
	printf '%s\n' "$stock_stamp" > "$STOCK/stamp"
}

stock()
{
	local stock_stamp

	STOCK=$WORK/plain/stock
	stock_stamp="$(git -C "$TREE" rev-parse base) $(build_inputs)"
	[ "$(cat -- "$STOCK/stamp" 2>/dev/null)" != "$stock_stamp" ] || return 0
	lay_out base &&
	stage "$BASE: build the stock kernel for control runs" build-stock.log \
		build_stock
}

# build_commit COMMIT NEXT: the parts, and the selftests unless NEXT, the
# subject of the commit that follows, is listed to repair their build.
build_commit()
{
	local commit=$1 next=$2 why

	git -C "$TREE" checkout -q --detach "$commit"
	echo "  COMMIT  $(git -C "$TREE" log -1 --format='%h %s' "$commit")"
	# shellcheck disable=SC2086 # a list
	all_objects $PARTS || return 1

	# What is there may depend on files that this commit does not have.
	rm -rf -- "$WORK/plain/selftests"
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

	[ -n "$(controls tests | sed -n "s/^$(quote "$next")	//p")" ] || return 0
	rm -rf -- "$WORK/plain/before-$commit"
	mkdir -p -- "$WORK/plain/before-$commit"
	find "$WORK/plain/selftests" -maxdepth 1 -type f -perm -100 \
		-exec cp -p -- {} "$WORK/plain/before-$commit/" \;
}

# As a basic regular expression that matches this text only.
quote()
{
	printf '%s\n' "$1" | sed 's/[]\/$*.^[]/\\&/g'
}

# Every commit, oldest first; the bare base too, for what fails there.
build_commits()
{
	local commit next inputs stamp list

	inputs=$(build_inputs)
	mkdir -p -- "$WORK/plain/commits"
	list=$(git -C "$TREE" rev-list --reverse base..refs/series/applied)
	for commit in $(git -C "$TREE" rev-parse base) $list; do
		next=$(git -C "$TREE" log --reverse --format='%H %P %s' \
			base..refs/series/applied |
			sed -n "s/^[0-9a-f]* $commit //p")
		stamp=$WORK/plain/commits/$commit-$inputs
		[ ! -e "$stamp" ] || continue
		build_commit "$commit" "$next" || {
			echo "commit $commit does not build"
			git -C "$TREE" checkout -q --detach refs/series/applied
			return 1
		}
		: > "$stamp"
	done
	git -C "$TREE" checkout -q --detach refs/series/applied
}

# A plan that runs the tests that TOKENS name, on the devices they name.
control_plan()
{
	local token

	echo 'insmod vfio_pci_test'
	for token in "$@"; do
		token=${token%%:*}
		echo "run ${token%%@*} ${token#*@}"
	done | sort -u
}

check_controls()
{
	local subject tokens commit plan=$WORK/plain/control.plan

	while IFS=$'\t' read -r subject tokens; do
		# shellcheck disable=SC2086 # a list
		control_plan $tokens > "$plan"
		vm "$BASE: control: the tests on the stock kernel" control-stock.log \
			plain PLAN="$plan" KERNEL_IMAGE="$STOCK/bzImage" \
			MODULES_PATH="$STOCK" RESULT_PATH="$WORK/plain/results-stock" \
			EXPECT_FAIL="$tokens"
	done <<< "$(controls kernel | sort | awk -F'\t' '
		{ all = all " " $2 } END { if (all != "") print "all\t" all }')"

	while IFS=$'\t' read -r subject tokens; do
		[ -n "$subject" ] || continue
		commit=$(git -C "$TREE" log --format='%P	%s' base..refs/series/applied |
			sed -n "s/	$(quote "$subject")\$//p")
		[ -n "$commit" ] || {
			say "FAILED: patches/$BASE/controls: no patch is called \"$subject\""
			count_fail
			continue
		}
		# shellcheck disable=SC2086 # a list
		control_plan $tokens | grep -v insmod > "$plan"
		vm "$BASE: control: the tests without \"$subject\"" control-tests.log \
			plain PLAN="$plan" SELFTESTS_PATH="$WORK/plain/before-$commit" \
			MODULES_PATH="$STOCK" RESULT_PATH="$WORK/plain/results-before" \
			EXPECT_FAIL="$tokens"
	done <<< "$(controls tests)"
}

check_base()
{
	local variant variants=plain

	BASE=$1
	load_base
	lock_builds
	lay_out series || { count_fail; return; }
	stock || { count_fail; return; }
	lay_out series || { count_fail; return; }
	if stage "$BASE: build every commit: $PARTS" commits.log build_commits; then
		count_pass
		sed -n 's/^control: /        &/p' "$LOGS/commits.log" >&2
	else
		count_fail
		return
	fi

	[[ " $DEBUG_BASES " != *" $BASE "* ]] || variants+=' debug'
	for variant in $variants; do
		build_kernel "$variant" || { count_fail; continue; }
		vm "$BASE: run the tests on the $variant kernel" "run-$variant.log" \
			"$variant"
		[ "$variant" = debug ] || check_controls
		[ "$variant$harness_tested" != plain ] || {
			tap "the harness itself" harness.log "$TOP/tests/harness.sh" \
				"$WORK/plain/kernel/arch/x86/boot/bzImage"
			harness_tested=yes
		}
	done

	if stage "$BASE: lint" lint.log "$TOP/scripts/lint.sh"; then
		count_pass
	else
		count_fail
	fi
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
	for BASE in $BASES; do
		export BASE
		check_base "$BASE"
	done
	# Last, when the sources of all bases are in the cache.
	tap "the scripts themselves" tooling.log "$TOP/tests/tooling.sh"
	say "$(elapsed "$began") in all"
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ]
}

main
exit
