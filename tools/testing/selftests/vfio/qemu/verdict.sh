#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Judge a run of vm.sh by what it left in RESULT_PATH.  The run is good if the
# VM ended by itself, the results are complete and without a failure, and the
# kernel had nothing to complain about.
#
# usage: verdict.sh STATUS, the exit code of vm.sh
#
# inputs (environment):
#   RESULT_PATH   results.ktap, console.log and qemu.log
#   TIMEOUT       the limit that STATUS 124 stands for, in seconds
#   FRAGMENTS     of the kernel's configuration, which decide about known-skips
#   DEVICES       "all", or fewer: then a case may be skipped on each
#   EXPECT_FAIL   TEST[@DEVICE][:CASE] ..., "*" matches anything: a control
#                 run, good only if exactly these fail
#   EXPECT_SPLAT  an extended regular expression, or several with " ... " between
#                 them: a control run, good only if the kernel reports the first,
#                 the others within that report, and nothing else; it may end the VM
# output: the failures, and "N passed, N failed, N skipped" as the last line
# exit codes: 0 good, 1 not

set -u

here=$(dirname "$0")
status=$1
console=$RESULT_PATH/console.log
results=$RESULT_PATH/results.ktap
bad=0
cut=0

fail() {
	echo "FAILED: $*"
	bad=1
}

for file in "$console" "$results"; do
	[ -e "$file" ] || : > "$file"
done

case $status in
0)	;;
124|137)
	fail "the limit of $TIMEOUT s was reached; the console ends with"
	tail -n 40 "$console" | sed 's/^/  /'
	;;
*)	fail "QEMU exited with $status"
	sed 's/^/  /' "$RESULT_PATH/qemu.log" 2>/dev/null
	;;
esac

awk -f "$here/splats.awk" "$here/known-splats" "$console"
case $? in
0)	[ -z "${EXPECT_SPLAT:-}" ] || fail "the kernel must report $EXPECT_SPLAT"
	;;
2)	# It ended the VM if panic_on_warn applies to it.
	! grep -q 'Kernel panic' "$console" || cut=1
	;;
*)	fail "kernel report, see $console"
	;;
esac

# A console that lacks the names of the tests lacks what they led to as well.
! grep -qE '^(not )?ok ' "$results" || grep -q 'vfio selftests: ' "$console" ||
	fail "the console tells of no test, see $console"

partial=1
[ "${DEVICES:-all}" != all ] || partial=0

# Last, so that the counts are the last line.
awk -v partial="$partial" -v cut="$cut" -f "$here/verdict.awk" \
	"$here/known-skips" "$results" || bad=1

exit "$bad"
