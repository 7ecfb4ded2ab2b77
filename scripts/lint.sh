#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y lint.sh [PART]...
#
# No findings from any of these, or from the PARTs that are asked for:
#
#   patches: checkpatch --strict on every commit of the series, without
#       NO_AUTHOR_SIGN_OFF etc.: the stored patches are not signed off
#       FILE_PATH_CHANGES: MAINTAINERS covers the directories already
#       UNKNOWN_COMMIT_ID: a base is a source package, without history
#       the checks of the tree: SPDX tags need a Python module of their own
#       And what two bases have in versions of their own is the same, but for what
#       it goes into.
#   objects, modules: sparse, W=1 on the C files of drivers and lib that the
#       series touches, and the test modules; what runs in user space is built
#       with -Wall -Werror by its own Makefiles
#   kernel-doc: on the files that it touches: nothing that the base does not
#       have
#   docs: sphinx on the documents that it brings in
#   scripts: ShellCheck on all shell scripts
#   files: every file here that lies at a path of the kernel is brought in by
#       some patch, and no stored patch is signed off.
#
# Environment: BASE; CHECKED, bases whose patches need not be looked at again;
#   LINUX, BUILD, CACHE, JOBS.
# Exit status: 0 if there are none, 1 otherwise.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base
bad=0

finding()
{
	echo "FINDING: $*"
	bad=1
}

# touched PATTERN...: the files of the tip that the series touches
touched()
{
	git -C "$TREE" diff --name-only --diff-filter=d --no-renames \
		base refs/series/applied -- "$@"
}

# What checkpatch makes of the macros of trace events, of accesses to device
# memory that are to happen once each, and of the formats of <inttypes.h>.
KNOWN_STYLE='/trace\.h:[0-9]+: CHECK:(PARENTHESIS_ALIGNMENT|OPEN_ENDED_LINE):|'\
'/mem_access\.[ch]:[0-9]+: WARNING:VOLATILE:|: CHECK:CAMELCASE: .*<SCN[ux]64>'

# The message and the added lines of a patch
said_and_added()
{
	sed '/^---$/,/^diff /d' "$1" | sed '/^From \|^Date: \|^index /d; /^+++ /d' |
		grep -v '^[-@ ]\|^diff ' || :
}

lint_versions()
{
	local patch other name

	for patch in "$PATCHES"/[0-9]*.patch; do
		name=${patch##*/}
		for other in "$TOP"/patches/*/[0-9]*-"${name#*-}"; do
			cmp -s <(said_and_added "$patch") <(said_and_added "$other") ||
				finding "${patch#"$TOP"/} differs from ${other#"$TOP"/}"
		done
	done
}

lint_patches()
{
	local commit out dir

	lint_versions
	dir=$(mktemp -d "$WORK/tmp.XXXXXX")
	git -C "$TREE" rev-list --reverse base..refs/series/applied > "$dir/list"
	shared_commits > "$dir/shared"
	grep -vxFf "$dir/shared" "$dir/list" > "$dir/own" || :
	# Perl has one thread.
	# shellcheck disable=SC2016 # for the inner shell
	(cd -- "$TREE" && < "$dir/own" \
	 xargs -P "$JOBS" -I {} sh -c 'scripts/checkpatch.pl --strict \
			--no-signoff --no-tree --quiet --show-types --terse --showfile \
			--ignore FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID \
			--git "$2" > "$1/$2" 2>&1; [ $? -lt 2 ]' sh "$dir" {}) ||
		finding "checkpatch does not run"
	while read -r commit; do
		out=$(grep -vE "$KNOWN_STYLE|^total: " "$dir/$commit") || :
		[ -n "$out" ] || continue
		finding "checkpatch: $(git -C "$TREE" log -1 --format='%h %s' "$commit")"
		printf '%s\n' "$out"
	done < "$dir/own"
	rm -rf -- "$dir"
}

# look LOG DIRECTORY ARGUMENT...: compile sources in DIRECTORY with W=1 under
# sparse, whose 0.6.4 does not know __typeof_unqual__; kbuild leaves it out
# then, with a remark only.
look()
{
	local log=$LOGS/$1 dir=$2
	shift 2

	all_objects W=1 C=2 KCFLAGS=-Wno-error \
		CHECK='sparse -D__typeof_unqual__=__typeof__' "$@" > "$log" 2>&1 || {
		finding "W=1 C=2 fails"
		tail -n 20 -- "$log"
	}
	! grep -F 'C=2 specified, but' "$log" || finding "sparse did not run"
	! not_known "$dir" "$log" | grep . || finding "sparse or W=1, see $log"
}

# known_to_base FILE LINE: does the base have this line in the file, maybe with a
# brace at its end?
known_to_base()
{
	[[ $1 == "$TREE"/* ]] &&
	git -C "$TREE" show "base:${1#"$TREE"/}" 2>/dev/null |
		sed 's/ {$//' | grep -xF -- "$(sed -n "${2}{s/ {\$//;p}" "$1")" > /dev/null
}

# not_known DIRECTORY LOG: its warnings and errors, but for what sparse makes of
# any MODULE_LICENSE() and module_param().
not_known()
{
	local file line rest

	grep -E '(warning|error):' "$2" | while IFS=: read -r file line rest; do
		[[ $file == /* ]] || file=$1/$file
		! known_to_base "$file" "$line" || continue
		[[ $rest == *'error: bad constant expression'* ]] &&
			sed -n "${line}p" "$file" | grep -qiE '^module_' ||
			printf '%s:%s:%s\n' "$file" "$line" "$rest"
	done
}

# Objects are made anew, so that the compiler has a reason to look, and not
# left behind: they were made with other flags than the next build uses.
lint_objects()
{
	local file objects=()

	while read -r file; do
		objects+=("${file%.c}.o")
		rm -f -- "$WORK/all/${file%.c}.o"
	done <<< "$(touched 'drivers/*.c' 'lib/*.c')"
	[ -n "${objects[0]#.o}" ] || return 0
	look lint-objects.log "$TREE" "${objects[@]}"
	for file in "${objects[@]}"; do
		rm -f -- "$WORK/all/$file"
	done
}

lint_modules()
{
	local dir=$WORK/all/test_modules file objects=()

	test_modules "$dir"
	for file in "$dir"/*.c; do
		file=${file##*/}
		objects+=("${file%.c}.o")
	done
	look lint-modules.log "$dir" M="$dir" "${objects[@]}"
}

# kernel_doc COMMIT: what it finds in the files that the series touches, as
# they are in COMMIT, without line numbers
kernel_doc()
{
	local tool=$TREE/scripts/kernel-doc tmp

	[ ! -e "$TREE/tools/docs/kernel-doc" ] || tool=$TREE/tools/docs/kernel-doc
	tmp=$(mktemp -d "$WORK/tmp.XXXXXX")
	touched '*.c' '*.h' | while read -r file; do
		git -C "$TREE" cat-file -e "$1:$file" 2>/dev/null || continue
		mkdir -p -- "$tmp/$(dirname -- "$file")"
		git -C "$TREE" show "$1:$file" > "$tmp/$file"
	done
	(cd -- "$tmp" && find . -type f -print0 | xargs -0 -r "$tool" -none -Wall 2>&1) |
		sed -n 's/:[0-9][0-9]*:\{0,1\} /: /; /[Ww]arning\|[Ee]rror/p' | sort
	rm -rf -- "$tmp"
}

lint_kernel_doc()
{
	kernel_doc refs/series/applied > "$LOGS/kernel-doc"
	kernel_doc base > "$LOGS/kernel-doc-base"
	! comm -23 "$LOGS/kernel-doc" "$LOGS/kernel-doc-base" | grep . ||
		finding "kernel-doc"
}

# The documents alone, with the kernel's extensions: "make htmldocs" takes half
# an hour. References to other documents are plain text to it then.
lint_docs()
{
	local dir file log=$LOGS/lint-docs.log

	[ -n "$(touched 'Documentation/*.rst')" ] || return 0
	# A tree with everything in it but the other documents.
	dir=$(mktemp -d "$WORK/tmp.XXXXXX")
	mkdir -p -- "$dir/Documentation"
	ln -s -- "$TREE"/* "$dir/" 2>/dev/null || :
	for file in conf.py sphinx sphinx-static images; do
		ln -s -- "$TREE/Documentation/$file" "$dir/Documentation/"
	done
	{
		printf 'Index\n=====\n\n.. toctree::\n\n'
		touched 'Documentation/*.rst' 'Documentation/*.svg' | while read -r file; do
			[ "${file##*/}" != index.rst ] || continue
			mkdir -p -- "$dir/$(dirname -- "$file")"
			cp -- "$TREE/$file" "$dir/$file"
			[[ $file == *.rst ]] || continue
			file=${file#Documentation/}
			echo "   ${file%.rst}"
		done
	} > "$dir/Documentation/index.rst"
	(cd -- "$dir/Documentation" &&
	 srctree=$dir KERNELVERSION=0 KERNELRELEASE=0 \
		sphinx-build -q -b html . "$dir/out") > "$log" 2>&1 || finding "sphinx fails"
	! grep -vE '^(Using alabaster theme|WARNING: dot\(1\) not found.*)?$' "$log" || finding "sphinx"
	rm -rf -- "$dir"
}

lint_scripts()
{
	(cd -- "$TOP" && find . \( -path ./build -o -path ./.git \) -prune -o \
		-type f \( -name '*.sh' -o -path './.ci/run' \) -print0 |
		xargs -0 shellcheck -x) || finding "shellcheck"
}

lint_files()
{
	local path astray

	# What no git knows of is not the repository's, unless it could be meant to be.
	astray=$(git -C "$TOP" ls-files --cached --others --exclude-standard -- \
			tools Documentation samples drivers include |
		while read -r path; do
			grep -qxF -- "	$path" "$TOP"/patches/*/series || echo "$path"
		done)
	[ -z "$astray" ] || {
		finding "no patch brings these in"
		printf '%s\n' "$astray"
	}
	! grep -ls '^Signed-off-by:' "$TOP"/patches/*/*.patch || finding "signed off"
}

PARTS='patches objects modules kernel-doc docs scripts files'
for part; do
	[[ " $PARTS " == *" $part "* ]] || die "no part $part; there is: $PARTS"
done
"$TOP/scripts/deps.sh" check
"$TOP/scripts/tree.sh"
# shellcheck disable=SC2086 # a list
[ $# -gt 0 ] || set -- $PARTS
for part; do
	"lint_${part//-/_}"
done
exit "$bad"
