# SPDX-License-Identifier: GPL-2.0
#
# Judge the KTAP that init wrote: nested one level, "  " before every line of
# a test.
#
# usage: EXPECT_FAIL="TEST[@DEVICE][:CASE] ..." \
#	awk -v partial=0|1 -v cut=0|1 -f verdict.awk known-skips results.ktap
#
#   partial  the VM does not have all devices: a case may be skipped on each
#   cut      the results may end anywhere
# exit codes: 0 good, 1 not

FILENAME == ARGV[1] {
	if ($0 !~ /^(#|$)/ && !is_excepted($2))
		known[$1] = substr($0, length($1) + 1)
	next
}

FNR == 1 {
	if ($0 != "KTAP version 1")
		problem("results.ktap is not KTAP")
}

{
	last = $0
}

/^1\.\.[0-9]+$/ {
	plan = substr($0, 4)
	next
}

/^Bail out!/ {
	problem($0)
	next
}

/^# left out:/ {
	print substr($0, 3)
	next
}

/^  1\.\.[0-9]+/ {
	case_plan = substr($1, 4)
}

/^  (not )?ok [0-9]+/ {
	nr_cases++
	case_ok[nr_cases] = $1 == "ok"
	case_name[nr_cases] = name_of(substr($0, 3))
	case_skip[nr_cases] = reason_of($0)
	case_output[nr_cases] = output $0 "\n"
	output = ""
	next
}

/^  / {
	output = output $0 "\n"
	next
}

/^(not )?ok [0-9]+ / {
	nr_tests++
	if (($1 == "ok" ? $2 : $3) != nr_tests)
		problem("result " nr_tests " is missing")
	judge_test($1 == "ok", name_of($0), reason_of($0), $0)
	nr_cases = 0
	case_plan = ""
	output = ""
}

function name_of(line)
{
	sub(/^(not )?ok [0-9]+ ?(- )?/, "", line)
	sub(/ ?# .*/, "", line)
	return line
}

# TEST of TEST[/AS][@DEVICE]; those in the directory "users" are called by it.
function test_of(name,	dir)
{
	sub(/@.*/, "", name)
	dir = sub(/^users\//, "", name) ? "users/" : ""
	sub(/\/.*/, "", name)
	return dir name
}

# Of "unless=FRAGMENT[,FRAGMENT]...": is the kernel built with one of them?
function is_excepted(word,	fragments, i, n)
{
	if (!sub(/^unless=/, "", word))
		return 0
	n = split(word, fragments, ",")
	for (i = 1; i <= n; i++) {
		if (index(" " ENVIRON["FRAGMENTS"] " ", " " fragments[i] " "))
			return 1
	}
	return 0
}

# Why it was skipped, "" if it was not.
function reason_of(line)
{
	if (line !~ /^ *ok .*# SKIP/)
		return ""
	sub(/.*# SKIP ?/, "", line)
	return line == "" ? "no reason given" : line
}

function problem(what)
{
	print "FAILED: " what
	bad = 1
}

function judge_test(ok, name, skip, line,	i, failed)
{
	current = name
	for (i = 1; i <= nr_cases; i++) {
		failed += !case_ok[i]
		judge(name, case_name[i], case_ok[i], case_skip[i],
		      case_output[i])
	}

	if (ok && skip == "" && (nr_cases || case_plan != "") && case_plan != nr_cases)
		problem(name ": " nr_cases + 0 " of " case_plan " cases reported")
	if (ok && skip == "" && case_plan == "0")
		problem(name ": no case is called like that")
	if (failed && ok)
		problem(name ": ok, but a case is not")
	# A test whose cases fail exits with 1, which is not news.
	if (!nr_cases || !(ok || failed && line ~ /# exit code 1$/) ||
	    expected(name, ""))
		judge(name, "", ok, skip, output line "\n")
}

function judge(name, case, ok, skip, text,	id, key, token)
{
	id = name (case == "" ? "" : ":" case)
	key = test_of(name)
	if (case != "") {
		ran[key] = 1
		key = key ":" case
	}

	token = expected(name, case)
	if (token != "") {
		hit[token] = 1
		if (ok) {
			failed_count++
			problem(id (skip == "" ? " passes" : " is skipped") \
				", but must fail on this kernel")
		} else {
			passed++
			print "control: " id " fails on this kernel, as it must"
		}
	} else if (!ok) {
		# The cases of a test that must fail as a whole are its own affair.
		if (case != "" && expected(name, "") != "")
			return
		failed_count++
		problem(id)
		printf "%s", text
	} else if (skip != "") {
		skipped++
		if (!(key in skips))
			skip_order[++nr_skips] = key
		skips[key] = skip
	} else {
		passed++
		ran[key] = 1
	}
}

# Does @text match @glob, in which only "*" is special?
function matches(text, glob)
{
	gsub(/[][\\.^$+?(){}|]/, "\\\\&", glob)
	gsub(/\*/, ".*", glob)
	return text ~ "^" glob "$"
}

# The token of EXPECT_FAIL that covers this result, "" if none does.
function expected(name, case,	i, test, colon, bare)
{
	bare = name
	sub(/@.*/, "", bare)
	for (i = 1; i <= nr_tokens; i++) {
		colon = index(tokens[i] ":", ":")
		test = substr(tokens[i], 1, colon - 1)
		if (matches(test ~ /@/ ? name : bare, test) &&
		    matches(case, substr(tokens[i], colon + 1)))
			return tokens[i]
	}
	return ""
}

function is_known_skip(key,	pattern)
{
	for (pattern in known) {
		if (matches(key, pattern)) {
			print "skipped everywhere: " key " (known:" \
			      known[pattern] ")"
			return 1
		}
	}
	return 0
}

BEGIN {
	nr_tokens = split(ENVIRON["EXPECT_FAIL"], tokens)
}

END {
	for (i = 1; i <= nr_skips; i++) {
		key = skip_order[i]
		if (key in ran || is_known_skip(key))
			continue
		if (partial)
			print "skipped: " key " (" skips[key] ")"
		else
			problem(key " was skipped everywhere (" skips[key] \
				"), known-skips does not list it")
	}

	for (i = 1; i <= nr_tokens; i++) {
		if (!(tokens[i] in hit) && !cut)
			problem(tokens[i] " must fail on this kernel, but did not run")
	}

	if (!cut) {
		if (plan == "")
			problem("there is no plan")
		else if (nr_tests != plan)
			problem(nr_tests + 0 " of " plan " results" \
				(current == "" ? "" : ", the last is for " current))
		else if (plan == 0)
			problem("the plan is empty")
		if (last != "# done")
			problem("the VM did not get to the end of the plan")
	}

	printf "%d passed, %d failed, %d skipped\n", passed, failed_count, skipped
	exit bad
}
