# SPDX-License-Identifier: GPL-2.0
#
# Did everything that the fragments ask for survive kconfig?  kconfig drops a
# symbol whose dependencies are not met without a word, and a debug kernel
# without KASAN passes every test.
#
# usage: awk -f check-config.awk FRAGMENT... .config
#
# The last fragment that names a symbol decides.  "# CONFIG_X is absent", with
# anything after it, says that this kernel has no such symbol, which is wrong
# where kconfig knows it.  "# CONFIG_X may be absent" says that not all kernels
# have it, and that nothing is lost where they do not.  Exit code 0 if .config
# has it all; 1 otherwise, with one line for each symbol that is missing.

FNR == 1 {
	config = FILENAME == ARGV[ARGC - 1]
	# A file that cannot be opened is fatal to awk, an empty one is not.
	files++
}

/^CONFIG_[A-Za-z0-9_]+=/ {
	symbol = substr($0, 1, index($0, "=") - 1)
	value = substr($0, index($0, "=") + 1)
	set(symbol, value)
}

/^# CONFIG_[A-Za-z0-9_]+ is not set$/ {
	set($2, "n")
}

!config && /^# CONFIG_[A-Za-z0-9_]+ is absent/ {
	set($2, "absent")
}

!config && /^# CONFIG_[A-Za-z0-9_]+ may be absent/ {
	optional[$2] = 1
}

function set(symbol, value)
{
	if (config) {
		got[symbol] = value
	} else {
		if (!(symbol in want))
			order[++n] = symbol
		want[symbol] = value
		from[symbol] = FILENAME
	}
}

END {
	if (files != ARGC - 1) {
		print "check-config: an input is empty"
		exit 1
	}
	for (i = 1; i <= n; i++) {
		s = order[i]
		if (want[s] == "absent")
			value = s in got ? got[s] : "absent"
		else
			value = s in got ? got[s] : want[s] == "\"\"" ? want[s] : "n"
		if (value == want[s] || s in optional && !(s in got))
			continue
		printf "%s: %s wants %s, .config has %s\n",
		       s, from[s], want[s], value
		bad = 1
	}
	exit bad
}
