#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y run.sh [shell]
#
# From nothing to a booted kernel with the series, and its BARs reached
# through /dev/vfio: fetch the base, apply the series, build, boot, run the
# plan. With "shell", boot the same VM to a prompt with the devices bound.
# A tree with commits of the user's own on top of the series is run as it is.
#
# A base without tests (TESTS_OF in bases/) runs those of another one.
#
# Environment: BASE, LINUX, BUILD, CACHE, JOBS, V; PLAN (default: tour),
#   DEBUG=yes for the kernel with lockdep and KASAN, or VARIANT for another one:
#   the names of fragments of the harness, such as kcsan, joined by "+".
# Exit status: 0 if everything ran and passed, 1 otherwise.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base
began=$EPOCHSECONDS

choose_variant
choose_plan tour

"$TOP/scripts/deps.sh" run || exit 1
lock_builds
borrow_tests || exit 1
lay_out_unless_changed || exit 1
build_kernel "$variant" || exit 1
build_users || exit 1
if [ "${1:-}" = shell ]; then
	harness "$variant" shell
	exit
fi

say "        $BASE: boot the $variant kernel, plan ${PLAN##*/}"
booted=$EPOCHSECONDS
status=0
harness "$variant" || status=1
printf '%6s  %s\n' "$(elapsed "$booted")" "$BASE: boot and plan ${PLAN##*/}" >&2
say "$(elapsed "$began") in all; logs: $LOGS, $WORK/$variant/results"
exit "$status"
