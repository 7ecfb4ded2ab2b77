#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y soak.sh
#
# Build as "make run" does, and run a plan again and again, in a VM that is
# booted anew each time. It ends with the first run that is not good, whose
# results are left where it says, or when the time is over: no run is begun
# after it, and the last one has as long as its plan takes. A base without tests
# (TESTS_OF in bases/) runs those of another one, by a plan of its own.
#
# Environment: BASE, LINUX, BUILD, CACHE, JOBS, V; MINUTES (default 60);
#   PLAN (default soak); DEBUG=yes for the kernel with lockdep and KASAN, or
#   VARIANT as for run.sh.
# Exit status: 0 if all runs were good, 1 otherwise.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base
began=$EPOCHSECONDS
MINUTES=${MINUTES:-60}
rounds=0

[[ $MINUTES =~ ^[1-9][0-9]{0,4}$ ]] || die "MINUTES=$MINUTES: a number from 1 on"
choose_variant
choose_plan soak

"$TOP/scripts/deps.sh" run || exit 1
lock_builds
borrow_tests || exit 1
lay_out_unless_changed || exit 1
build_kernel "$variant" || exit 1
build_users || exit 1

while [ $((EPOCHSECONDS - began)) -lt $((MINUTES * 60)) ]; do
	rounds=$((rounds + 1))
	STAGE_TAIL=200 stage "$BASE: $variant kernel, plan ${PLAN##*/}, run $rounds" soak.log \
		harness "$variant" TIMEOUT=14400 || {
		say "        results: $WORK/$variant/results"
		say "run $rounds was not good, after $(elapsed "$began")"
		exit 1
	}
	tail -n 1 -- "$LOGS/soak.log" | sed 's/^/        /' >&2
done
say "$rounds runs, all good, $(elapsed "$began") in all"
