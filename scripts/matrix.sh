#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y matrix.sh
#
# Build drivers/vfio and drivers/dma-buf, with everything in them that can be a
# module and warnings as errors, for what the other builds do not cover:
#
#   no-export   x86-64 without CONFIG_VFIO_PCI_DMABUF
#   no-p2pdma   x86-64 without CONFIG_PCI_P2PDMA, and so without the export
#   i386        32-bit, where there is no export either
#   arm64       with the drivers that only arm64 has
#   arm64-64k   the same, with pages of 64 KiB
#   samples     samples/vfio, as the kernel's samples build it
#
# What was built from the same commit is not built a second time.
#
# Environment: BASE, LINUX, BUILD, CACHE, JOBS.
# Exit status: 0 if all builds are without a warning, 1 otherwise.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base

cc_prefix=
! command -v ccache > /dev/null || cc_prefix='ccache '

# variant NAME ARCH CROSS [SYMBOL=VALUE]... Those of one ARCH are built in one
# directory: what they have in common, once.
variant()
{
	local name=$1 arch=$2 cross=$3 out=$WORK/matrix/$2 config symbol
	shift 3

	mkdir -p -- "$out"
	config=$out/$name.config
	{
		cat -- "$TOP/scripts/all.config"
		for symbol in "$@"; do
			echo "CONFIG_$symbol"
		done
	} > "$config"
	[ "$(cat -- "$out/$name.stamp" 2>/dev/null)" != "$(inputs "$config")" ] || return 0

	echo "  MATRIX  $name"
	if mk "$out" "$arch" "$cross" -s KCONFIG_ALLCONFIG="$config" allmodconfig &&
	   awk -f "$HARNESS/check-config.awk" "$config" "$out/.config" &&
	   mk "$out" "$arch" "$cross" drivers/vfio/ drivers/dma-buf/; then
		inputs "$config" > "$out/$name.stamp"
	else
		echo "$name does not build"
		return 1
	fi
}

mk()
{
	local out=$1 arch=$2 cross=$3
	shift 3

	make --no-print-directory -C "$TREE" O="$out" ARCH="$arch" \
		CROSS_COMPILE="$cross" CC="$cc_prefix${cross}gcc" -j "$JOBS" "$@"
}

inputs()
{
	echo "$(git -C "$TREE" rev-parse refs/series/applied) $(sha256sum < "$1")"
}

samples()
{
	local out=$WORK/matrix/x86_64 stamp=$WORK/matrix/samples.stamp

	[ "$(cat -- "$stamp" 2>/dev/null)" != "$(inputs "$TOP/scripts/all.config")" ] || return 0
	echo "  MATRIX  samples"
	mk "$out" x86_64 '' headers_install samples/vfio/ || return 1
	[ -x "$out/samples/vfio/bar-lend" ] || {
		echo "samples/vfio/bar-lend was not built"
		return 1
	}
	inputs "$TOP/scripts/all.config" > "$stamp"
}

"$TOP/scripts/deps.sh" check
"$TOP/scripts/tree.sh"
bad=0
variant no-export x86_64 '' EXPERT=y VFIO_PCI_DMABUF=n || bad=1
variant no-p2pdma x86_64 '' PCI_P2PDMA=n || bad=1
variant i386 i386 '' || bad=1
variant arm64 arm64 aarch64-linux-gnu- || bad=1
variant arm64-64k arm64 aarch64-linux-gnu- ARM64_64K_PAGES=y || bad=1
[ ! -d "$TREE/samples/vfio" ] || samples || bad=1
exit "$bad"
