# SPDX-License-Identifier: GPL-2.0
#
# Print what the kernel complained about, from the first line of a report to
# the start of the next test.
#
# usage: EXPECT_SPLAT="regex [... regex]..." awk -f splats.awk known-splats console.log
# exit codes: 0 nothing, or only known reports; 1 other reports; 2 a report
#   whose first line matches EXPECT_SPLAT, up to the first dots, and some line of
#   it, that one included, each of the rest; and no other report

BEGIN {
	nr_parts = split(ENVIRON["EXPECT_SPLAT"], parts, " [.][.][.] ")
	expect = parts[1]
	# Nearly everything starts with one of the first two.
	splat = "WARNING:|BUG:|UBSAN:|KCSAN:|Oops|Kernel panic|" \
		"general protection fault|Unable to handle kernel|" \
		"Internal error|scheduling while atomic|" \
		"sleeping function called|refcount_t:|list_(add|del) corruption|" \
		"Bad page|INFO: task .* blocked for more than|" \
		"INFO: rcu.* stall|self-detected stall|detected stalls|" \
		"INFO: trying to register non-static key|" \
		"suspected memory leaks|unreferenced object|nobody cared|" \
		"DMA-API:"
	during = "boot"
}

{
	sub(/\r$/, "")
}

FILENAME == ARGV[1] {
	if ($0 !~ /^(#|$)/)
		known[++nr_known] = substr($0, 1, index($0 "\t", "\t") - 1)
	next
}

/vfio selftests: / {
	sub(/.*vfio selftests: /, "")
	during = $0
	inside = 0
	in_known = 0
	in_expected = 0
	next
}

# DMA that went astray, which some tests are about
/DMAR: \[DMA (Read|Write)/ && during !~ /vfio_pci_(p2p|driver)_test|users\// {
	print "DMA during " during ":"
	print "  " $0
	bad = 1
	next
}

# The frame of a report.  What it frames decides.
!inside && (/cut here/ || /\] =+$/) {
	frame = $0
	next
}

# A trace outside of any report is one of a kind that is not listed.
$0 ~ splat || (!inside && !in_known && /Call Trace:/) {
	for (i = 1; i <= nr_known; i++) {
		if ($0 ~ known[i]) {
			frame = ""
			in_known = 1
			in_expected = 0
			next
		}
	}
	if (expect != "" && $0 ~ expect) {
		verb = "reports, as it must,"
		expected = 1
		in_expected = 1
	} else if (!(expected && /Kernel panic/)) {
		# The panic that it ends in is part of an expected report.
		verb = "reports,"
		bad = 1
		in_expected = 0
	}
	if (!inside)
		print "the kernel " verb " during " during ":"
	if (frame != "")
		print "  " frame
	frame = ""
	inside = 1
	in_known = 0
}

inside {
	print "  " $0
	for (i = 2; in_expected && i <= nr_parts; i++)
		if ($0 ~ parts[i])
			found[i] = 1
}

END {
	for (i = 2; expected && i <= nr_parts; i++) {
		if (!found[i]) {
			print "no line of the report matches " parts[i]
			bad = 1
		}
	}
	exit bad ? 1 : expected ? 2 : 0
}
