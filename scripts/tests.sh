#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y tests.sh
#
# Build the selftests of a base, and no kernel, in build/x.y/plain/selftests: for
# a base that has none and runs these. A tree with commits of the user's own on
# top of the series is used as it is.
#
# Environment: BASE, LINUX, BUILD, CACHE, JOBS, V.
# Exit status: 0, or 1 if they do not build.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base
[ -z "$TESTS_OF" ] || die "$BASE has no selftests, it runs those of $TESTS_OF"

lock_builds
lay_out_unless_changed
stage "$BASE: build the selftests" build-tests.log harness plain QUIET= selftests
