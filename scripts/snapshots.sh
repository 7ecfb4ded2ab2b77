# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced after lib.sh: kernels and tests that are kept, to be run while, or
# after, the tree is used for something else; the kernel without the series.

# What a build of the stock kernel or of a commit depends on besides the tree.
build_inputs()
{
	(cd -- "$HARNESS" && cat -- Makefile ./*.config arch/*.config guest/*.config \
		"$TOP/scripts/all.config"
	 [ ! -f "$PATCHES/kernel.config" ] || cat -- "$PATCHES/kernel.config"
	 echo "$MODULES"
	 cd -- "$TEST_MODULES" && cat -- *) | sha256sum | cut -c1-16
}

# snapshot VARIANT NAME: the kernel, the test modules and the tests as they are,
# for a run in the VM while the tree is used for something else
snapshot()
{
	local dir=$WORK/$1/$2

	rm -rf -- "$dir" "$dir.tmp"
	mkdir -p -- "$dir.tmp/tests"
	cp -- "$WORK/$1/kernel/arch/x86/boot/bzImage" \
		"$WORK/$1"/test_modules/*.ko "$dir.tmp/" || return 1
	copy_all_tests "$1" "$dir.tmp/tests" && mv -- "$dir.tmp" "$dir"
}

# copy_all_tests VARIANT DIRECTORY
copy_all_tests()
{
	if [ -n "$TESTS_OF" ]; then
		copy_tests "$WORK/tests" "$2"
	else
		copy_tests "$WORK/$1/selftests" "$2" &&
			copy_tests "$WORK/$1/samples" "$2"
	fi
}

# controls KIND: lines "SUBJECT<tab>ARGUMENTS" of patches/$BASE/controls
controls()
{
	[ ! -f "$PATCHES/controls" ] ||
		sed -n "s/^$1: *\\([^|]*[^ 	|]\\)[ 	]*|[ 	]*/\\1	/p" "$PATCHES/controls"
}

# The kernel without the series, and the test modules for it.
build_stock()
{
	check_out "$2" &&
		harness "$1" QUIET= kernel modules && snapshot "$1" stock
}

# The commit of the kernel without the series: the base, or the first patch if the
# controls say that it makes no difference.
stock_commit()
{
	local subject first

	subject=$(controls stock | cut -f 1)
	if [ -z "$subject" ] || [ "${THOROUGH:-no}" = yes ]; then
		git -C "$TREE" rev-parse base
		return
	fi
	first=$(git -C "$TREE" rev-list base..refs/series/applied | tail -n 1)
	if [ "$(git -C "$TREE" log -1 --format=%s "$first")" != "$subject" ]; then
		say "error: patches/$BASE/controls: \"$subject\" is not the first patch"
		return 1
	fi
	printf '%s\n' "$first"
}

# stock VARIANT
stock()
{
	local dir=$WORK/$1/stock commit stamp

	lay_out && commit=$(stock_commit) || return 1
	stamp="$commit $(build_inputs)"
	[ "$(cat -- "$dir/stamp" 2>/dev/null)" != "$stamp" ] || return 0
	STAGE_LINES=1800 stage "$BASE: build the stock $1 kernel for control runs" \
		"build-stock-$1.log" build_stock "$1" "$commit" || return 1
	printf '%s\n' "$stamp" > "$dir/stamp"
}
