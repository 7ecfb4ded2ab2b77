#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y bench.sh
#
# What access to BARs costs with the series and without it: boot the stock and
# the patched kernel of one base, of the same configuration, with instructions
# counted instead of time, run vfio_pci_bar_perf_test on both, compare. And once
# more on two CPUs, timed, for what threads cost each other; those figures are as
# noisy as the machine.
#
# Written to $BUILD/$BASE/bench: bench.txt, the table that is printed as well;
# bench.csv, all figures; bench.svg, how cost grows.
#
# Environment: BASE, LINUX, BUILD, CACHE, JOBS, V.
# Exit status: 0 if everything was measured, whatever the figures are; 1 if not, or
#   if a line of the table that has a goal, or compares with stock, has no figure.

. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/snapshots.sh"
getopt_help "$@"
load_base
[ -z "$TESTS_OF" ] ||
	die "$BASE has next to nothing of what bench measures; take BASE=$TESTS_OF"
began=$EPOCHSECONDS
OUT=$WORK/bench

# measure KERNEL LOG ARGUMENT...: where KERNEL is a snapshot
measure()
{
	local kernel=$1 log=$2
	shift 2

	harness plain KERNEL_IMAGE="$WORK/plain/$kernel/bzImage" \
		MODULES_PATH="$WORK/plain/$kernel" \
		SELFTESTS_PATH="$WORK/plain/current/tests" DEVICES=ram \
		RESULT_PATH="$OUT/$kernel-$log" "$@"
}

# Each has a processor to itself, and the clock does not depend on that.
count_instructions()
{
	local status=0 other

	measure stock count PLAN=bench ICOUNT=yes BUILD_PATH="$WORK/plain/bench-stock" &
	other=$!
	measure current count PLAN=bench ICOUNT=yes || status=1
	wait "$other" || status=1
	return "$status"
}

time_threads()
{
	measure stock threads PLAN=bench-threads TCG_THREAD=multi &&
		measure current threads PLAN=bench-threads TCG_THREAD=multi
}

# kernel,run,name,parameter,value,unit
write_csv()
{
	local kernel run

	echo kernel,run,name,parameter,value,unit
	for run in count threads; do
		for kernel in stock current; do
			sed -n 's/^[ #]*# perf: \([^ /]*\)\/*\([^ ]*\) \([0-9]*\) \([a-z]*\)$/'"$kernel,$run"',\1,\2,\3,\4/p' \
				"$OUT/$kernel-$run/results.ktap" | sed s/^current,/patched,/
		done
	done
}

# Fails if there is no figure where there must be one.
write_table()
{
	awk -F '\t' -v csv="$OUT/bench.csv" '
	function get(key) { return key in value ? value[key] : "" }
	BEGIN {
		while ((getline line < csv) > 0) {
			split(line, f, ",")
			if (f[2] == "count")
				value[f[1] " " f[3] (f[4] == "" ? "" : "/" f[4])] = f[5]
		}
		printf "%-60s %12s %12s %8s %6s\n", "", "stock", "patched", "ratio", "goal"
	}
	/^#/ || NF < 4 { next }
	{
		patched = get("patched " $1)
		stock = get("stock " $1)
		if ($2 == "-") {
			ratio = patched
			shown = patched
		} else {
			with = get($2)
			ratio = with > 0 && patched != "" ? patched / with : ""
			shown = ratio == "" ? "" : sprintf("%.3f", ratio)
			if ($2 !~ /^patched /)
				stock = with
		}
		if (ratio == "" && ($3 != "-" || $2 ~ /^stock /))
			lost = 1
		miss = ratio == "" ? "not measured" : \
		       $3 != "-" && ratio + 0 > $3 + 0.0005 ? "missed" : ""
		printf "%-60s %12s %12s %8s %6s %s\n", $4, stock == "" ? "-" : stock, \
			patched == "" ? "-" : patched, shown, $3, miss
	}
	END { exit lost }' "$TOP/scripts/bench.goals"
}

# points KERNEL RUN NAME: "PARAMETER VALUE" lines, for gnuplot
points()
{
	awk -F, -v kernel="$1" -v run="$2" -v name="$3" '
		$1 == kernel && $2 == run && $3 == name { print $4, $5 }' "$OUT/bench.csv"
}

# curve RUN NAME TITLE: add a curve of each kernel that has one
curve()
{
	local kernel file dash='dashtype 2'

	for kernel in stock patched; do
		file=$OUT/points/$kernel-$1-$2
		points "$kernel" "$1" "$2" > "$file"
		[ ! -s "$file" ] ||
			plot+="${plot:+, }'$file' with linespoints $dash title '$3, $kernel'"
		dash=
	done
}

# ranges.N and the like have their parameter in the name
parameter_in_name()
{
	sed 's/^\([a-z]*,[a-z]*\),ranges\.\([0-9]*\),,/\1,ranges,\2,/'
}

draw()
{
	local plot

	rm -rf -- "$OUT/points"
	mkdir -p -- "$OUT/points"
	{
		echo "set terminal svg size 1200,900 background 'white' font ',11'"
		echo "set output '$OUT/bench.svg.tmp'"
		echo 'set multiplot layout 2,2'
		echo 'set logscale xy; set key below maxcols 2; set grid; set format y "10^{%L}"'
		echo 'set format x "10^{%L}"'
		echo "set ylabel 'instructions'"
		plot=''
		echo "set title 'Memory decoding off'; set xlabel 'bytes mapped'"
		curve count zap.pte.device_fd '4 KiB pages'
		curve count zap.pmd.device_fd '2 MiB pages'
		curve count zap.pte.exported '4 KiB, exported'
		curve count revoke.pte '4 KiB, revoke for good'
		echo "plot $plot"
		plot=''
		echo "set title 'Memory decoding off'; set xlabel 'number'"
		curve count many.mappings.off 'mappings of the device fd'
		curve count many.buffers.off 'idle buffers'
		curve count many.mapped_buffers.off 'mapped buffers'
		echo "plot $plot"
		plot=''
		echo 'unset logscale y; set yrange [0:*]; set format y "%.0f"'
		echo "set title 'One fault, one revocation'; set xlabel 'ranges, or other buffers'"
		curve count ranges 'fault, by ranges'
		curve count many.mapped_buffers.fault 'fault, by buffers'
		curve count many.mapped_buffers.revoke 'revoke for good, by buffers'
		echo "plot $plot"
		plot=''
		echo "set title 'One fault on two CPUs (timed)'; set xlabel 'threads'; set ylabel 'ns'"
		echo 'unset logscale x; set xrange [0.5:4.5]; set xtics 1; set format x "%.0f"'
		curve threads threads.device_fd.same_mapping 'same mapping'
		curve threads threads.device_fd.other_mappings 'other mappings'
		curve threads threads.exported.other_buffers 'other buffers'
		curve threads threads.exported.processes 'other processes'
		echo "plot $plot"
	} > "$OUT/bench.gnuplot"
	gnuplot "$OUT/bench.gnuplot" &&
		sed 's/[ \t]*$//' "$OUT/bench.svg.tmp" > "$OUT/bench.svg" &&
		rm -- "$OUT/bench.svg.tmp"
}

"$TOP/scripts/deps.sh" bench || exit 1
lock_builds
stock plain || exit 1
lay_out || exit 1
build_kernel plain || exit 1
snapshot plain current
rm -rf -- "$OUT"
mkdir -p -- "$OUT"
STAGE_TAIL=100 stage "$BASE: count instructions, stock and patched" bench-count.log \
	count_instructions || exit 1
STAGE_TAIL=100 stage "$BASE: time threads, stock and patched" bench-threads.log \
	time_threads || exit 1
write_csv | parameter_in_name > "$OUT/bench.csv"
lost=
write_table | tee -- "$OUT/bench.txt" || lost=yes
stage "$BASE: draw" bench-draw.log draw || exit 1
[ -z "$lost" ] || die "not everything was measured; logs: $OUT/*/results.ktap"
say "$(elapsed "$began") in all; $OUT: bench.txt, bench.csv, bench.svg"
