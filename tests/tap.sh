# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by the tests: TAP on stdout, and what a case may call.
#
# A case is a function that runs in a subshell with -e, so it ends at the first
# thing that is not as it must be. What it printed is shown then, as
# diagnostics.

set -euo pipefail

NR=0
NR_FAILED=0
ONLY=${ONLY:-}

# Print the header comment of the script, for -h.
usage()
{
	sed -n '2,${/^#/!q;s/^# \{0,1\}//;/^SPDX/d;p}' "$0"
}

# t WHAT FUNCTION [ARGUMENT...]: one case. A function that returns 77 through
# skip() was not able to run here.
t()
{
	local what=$1 status=0 began=${EPOCHREALTIME/./}
	shift

	[[ -z $ONLY || $what =~ $ONLY ]] || return 0
	NR=$((NR + 1))
	set +e
	(
		set -eE
		trap 'echo "line $LINENO, status $?: $BASH_COMMAND"' ERR
		"$@"
	) > "$T/log" 2>&1 < /dev/null
	status=$?
	set -e
	if [ "$status" -eq 0 ]; then
		echo "ok $NR - $what"
	elif [ "$status" -eq 77 ]; then
		echo "ok $NR - $what # SKIP $(tail -n 1 "$T/log")"
	else
		NR_FAILED=$((NR_FAILED + 1))
		echo "not ok $NR - $what"
		tail -n 60 "$T/log" | sed 's/^/# /'
	fi
	echo "# $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
}

skip()
{
	echo "$*"
	exit 77
}

miss()
{
	trap - ERR
	echo "MISSED: $*"
	exit 1
}

# The plan comes last: a script that dies on the way prints none.
plan()
{
	echo "1..$NR"
	[ "$NR_FAILED" -eq 0 ]
}

# Run a command and keep what it writes in $T/out, for says().
try()
{
	STATUS=0
	"$@" > "$T/out" 2>&1 || STATUS=$?
	echo "\$ $* -> $STATUS"
	cat -- "$T/out"
}

works()
{
	try "$@"
	[ "$STATUS" -eq 0 ] || miss "this must work: $*"
}

# Fails with an exit code of its own (git has 128), not by a signal or for want
# of a program.
fails()
{
	try "$@"
	[ "$STATUS" -ne 0 ] || miss "this must fail: $*"
	[ "$STATUS" -lt 126 ] || [ "$STATUS" -eq 128 ] || miss "this must fail in order: $*"
}

# says REGEX...: a line of the last output matches each
says()
{
	local regex

	for regex; do
		grep -qE -e "$regex" "$T/out" || miss "the output must say: $regex"
	done
}

says_not()
{
	! grep -qE -e "$1" "$T/out" || miss "the output must not say: $1"
}

# same WHAT A B: two strings
same()
{
	[ "$2" = "$3" ] || {
		diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") || :
		miss "$1 must be the same"
	}
}
