#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y tree.sh
#
# Lay out a base as a git tree in build/x.y/tree with the series as commits on
# top. The commits are made without the work tree and have fixed committers and
# dates: the same series on the same base gives the same ids, and only files that
# differ are written, so that a build in the tree is incremental.
#
# Changes of the user's own are never lost: a tree with uncommitted changes is
# refused, commits that are in no patch yet are refused ("make refresh" writes
# them back; FORCE=1 puts them on a branch saved-<time> first).
#
# Environment: BASE, LINUX, BUILD, CACHE, FORCE.
# Exit status: 0, or 1 with the patch and the file that did not fit.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base

# Asking git for the status of a tree would write to its index.
git_linux()
{
	GIT_OPTIONAL_LOCKS=0 git -C "$LINUX" "$@" 2>/dev/null
}

# Is LINUX the top of a git tree with commits, or just a directory?
linux_is_git()
{
	git_linux rev-parse -q --verify 'HEAD^{commit}' > /dev/null &&
		[ -z "$(git_linux rev-parse --show-prefix)" ]
}

# What changes when there is something new in LINUX
linux_state()
{
	if linux_is_git; then
		printf '%s %s\n' "$LINUX" "$(git_linux rev-parse HEAD)"
	else
		printf '%s %s\n' "$LINUX" "$(find "$LINUX" -type f \
			-printf '%P %m %s %T@\n' 2>/dev/null | sort | sha256sum)"
	fi
}

# A tree of the user's own: a clone of its commit, or a copy of its files.
lay_out_linux()
{
	local version

	{ [ -f "$LINUX/Makefile" ] && [ -f "$LINUX/MAINTAINERS" ]; } ||
		die "LINUX=$LINUX is no kernel tree"
	version=$(kernel_version "$LINUX")
	[ "$version" = "$BASE" ] ||
		say "note: $LINUX is a $version, the series of $BASE is applied to it"
	if linux_is_git; then
		[ -z "$(git_linux status --porcelain -uno)" ] ||
			say "note: uncommitted changes in $LINUX are left out"
		git clone -q --shared --no-checkout -- "$LINUX" "$TREE.tmp"
		git -C "$TREE.tmp" tag -f base "$(git_linux rev-parse HEAD)" \
			> /dev/null
	else
		need_space "$WORK" 4000 "copying $LINUX"
		# Newer than what was built of another one
		cp -a --no-preserve=timestamps -- "$LINUX" "$TREE.tmp" ||
			die "copying $LINUX failed (disk full?)"
		git -C "$TREE.tmp" init -q
		git -C "$TREE.tmp" add -A -f .
		git -C "$TREE.tmp" -c user.name=base -c user.email=root@localhost \
			commit -q -m "Copy of $LINUX"
		git -C "$TREE.tmp" tag base
	fi
}

lay_out_base()
{
	local commit

	commit=$("$TOP/scripts/fetch.sh") || exit 1
	[ "$(git -C "$TREE" rev-parse -q --verify base 2>/dev/null)" != "$commit" ] ||
		return 0
	[ ! -d "$TREE/.git" ] || keep_changes
	need_space "$WORK" 3000 "laying out $BASE"
	rm -f -- "$WORK/linux"
	git clone -q --shared --no-checkout -- "$CACHE/linux.git" "$TREE.tmp" 2>/dev/null ||
		die "cannot clone $CACHE/linux.git"
	git -C "$TREE.tmp" tag base "$commit"
}

# Has the tree files, branches or a stash that would go with it?
has_more()
{
	[ -n "$(git -C "$TREE" status --porcelain)" ] ||
	[ -n "$(git -C "$TREE" stash list)" ] ||
	git -C "$TREE" for-each-ref --format='%(refname:short)' refs/heads |
		grep -qvxE 'mail|series-so-far'
}

publish_tree()
{
	local name keep

	git -C "$TREE.tmp" remote remove origin 2>/dev/null || :
	git -C "$TREE.tmp" config advice.detachedHead false
	git -C "$TREE.tmp" config core.autocrlf false
	git -C "$TREE.tmp" checkout -q --detach base ||
		die "cannot check out $BASE (disk full?)"
	# Branches of the tree are the user's: one that came along is none.
	for name in $(git -C "$TREE.tmp" for-each-ref --format='%(refname)' refs/heads); do
		git -C "$TREE.tmp" update-ref -d "$name"
	done
	git -C "$TREE.tmp" update-ref refs/series/applied base
	if [ -d "$TREE/.git" ] && has_more; then
		keep=$TREE-$(date +%Y%m%d-%H%M%S)
		say "note: the tree with your branches and files is $keep now"
		mv -- "$TREE" "$keep"
	elif [ -d "$TREE" ]; then
		mv -- "$TREE" "$TREE.old"
	fi
	mv -- "$TREE.tmp" "$TREE"
	rm -rf -- "$TREE.old"
}

# Refuse to walk over anything that is in the tree and nowhere else.
keep_changes()
{
	local saved

	[ -z "$(git -C "$TREE" status --porcelain -uno)" ] ||
		die "$TREE has uncommitted changes; commit them and 'make refresh', or drop them with 'git checkout .' there"
	git -C "$TREE" merge-base --is-ancestor HEAD refs/series/applied && return 0
	# A call that was killed after its checkout: made of patches as well.
	git -C "$TREE" merge-base --is-ancestor HEAD refs/series/new 2>/dev/null && return 0
	[ -n "${FORCE:-}" ] ||
		die "$TREE has commits that are in no patch; 'make refresh' writes them back, FORCE=1 puts them on a branch and goes on"
	saved=saved-$(date +%Y%m%d-%H%M%S)
	git -C "$TREE" branch "$saved"
	say "note: your commits in $TREE are on branch $saved"
}

does_not_apply()
{
	local patch=$1

	make_commits
	git update-ref refs/heads/series-so-far refs/series/new
	git update-ref -d refs/series/new
	# For refresh: what a series that goes on from there must have.
	series_entries "$SERIES" | sed -n 's/^P //p' |
	awk -v patch="$patch" '$0 == patch { on = 1 } on' | while read -r path; do
		git mailinfo /dev/null /dev/null < "$path" | sed -n 's/^Subject: //p'
	done > "$WORK/unapplied"
	say "error: ${patch#"$TOP/"} does not apply to $BASE:"
	sed 's/^error: /    /' "$TMP/err" | head -n 10 >&2
	say "To look at it:"
	say "    cd $TREE && git checkout series-so-far && git am -3 $patch"
	say "Solve the conflict, git am the patches that follow, and 'make refresh'."
	exit 1
}

# Take the mails apart, and list the files that they touch.
read_patches()
{
	local kind path key n=0

	: > "$TMP/paths"
	while read -r kind path; do
		if [ "$kind" = N ]; then
			printf '%s\0' "$path" >> "$TMP/paths"
			continue
		fi
		[ -f "$path" ] || die "$SERIES: there is no ${path#"$TOP/"}"
		n=$((n + 1))
		git mailinfo "$TMP/$n.msg" "$TMP/$n.diff" < "$path" > "$TMP/$n.info"
		for key in Author Email Date Subject; do
			grep -q "^$key: ." "$TMP/$n.info" ||
				die "${path#"$TOP/"} is no mail with a patch: it has no $key"
		done
		grep -q '^diff --git' "$TMP/$n.diff" || continue
		git apply --numstat -z "$TMP/$n.diff" 2> "$TMP/err" | cut -z -f 3- >> "$TMP/paths" ||
			die "${path#"$TOP/"}: $(head -n 1 "$TMP/err")"
		sed -n -E 's/^(rename|copy) from (.*)/\2/p' "$TMP/$n.diff" | tr '\n' '\0' >> "$TMP/paths"
	done < <(series_entries "$SERIES")
}

# The directories that the paths on stdin lie in
parents()
{
	awk -F / '{
		dir = ""
		for (i = 1; i < NF; i++) {
			dir = dir (i > 1 ? "/" : "") $i
			print dir
		}
	}' | sort -u
}

# An index of the files that the series touches, instead of all 95,000; and of files
# that are in the way of its directories.
start_index()
{
	git read-tree --empty
	if [ -s "$TMP/paths" ]; then
		sort -z -u "$TMP/paths" | xargs -0 git ls-tree -r base -- |
			git update-index --index-info
		tr '\0' '\n' < "$TMP/paths" | parents |
			xargs -r -d '\n' git ls-tree base -- | sed '/^[0-9]* blob /!d' |
			git update-index --index-info
	fi
	git ls-files -s > "$TMP/files"
}

# All that one patch brings in
add_new_files()
{
	local there

	[ -s "$TMP/new" ] || return 0
	there=$(cut -f 2 "$TMP/new" | xargs -d '\n' git ls-files --)
	[ -z "$there" ] ||
		die "$SERIES: $BASE has ${there%%$'\n'*} already; change it by a patch"
	cut -f 2 "$TMP/new" | parents > "$TMP/parents"
	there=$(git ls-files | grep -m 1 -xF -f "$TMP/parents") || :
	[ -z "$there" ] ||
		die "$SERIES: $there is a file in $BASE, and nothing can lie in it"
	git update-index --add --index-info < "$TMP/new"
	: > "$TMP/new"
}

# What changed in the index since the last call, for git fast-import
changes()
{
	mv -- "$TMP/files" "$TMP/files.old"
	git ls-files -s > "$TMP/files"
	awk -F '\t' '
		FILENAME == ARGV[1] { was[$2] = $1; next }
		was[$2] != $1 { split($1, file, " "); new[++n] = file[1] " " file[2] " " $2 }
		{ delete was[$2] }
		END {
			for (path in was)
				print "D " path
			for (i = 1; i <= n; i++)
				print "M " new[i]
		}' "$TMP/files.old" "$TMP/files"
}

# commit_index NUMBER: add the commit of what is in the index to the stream of commits.
commit_index()
{
	local author email when

	author=$(sed -n 's/^Author: //p' "$TMP/$1.info")
	email=$(sed -n 's/^Email: //p' "$TMP/$1.info")
	when=$(sed -n 's/^Date: //p' "$TMP/$1.info")
	{
		sed -n 's/^Subject: //p' "$TMP/$1.info"
		echo
		cat -- "$TMP/$1.msg"
	} > "$TMP/commit"
	{
		echo "commit refs/series/new"
		echo "author $author <$email> $when"
		echo "committer $author <$email> $when"
		echo "data $(stat -c %s "$TMP/commit")"
		cat -- "$TMP/commit"
		echo
		[ -s "$TMP/stream" ] || echo "from $(git rev-parse base)"
		changes
	} > "$TMP/one"
	cat -- "$TMP/one" >> "$TMP/stream"
}

# Have refs/series/new point to the last of the commits that were added.
make_commits()
{
	git update-ref refs/series/new base
	{ cat -- "$TMP/stream"; echo "done"; } |
		git -c fastimport.unpackLimit=100000 fast-import --quiet --force --done \
			--date-format=rfc2822 || {
		rm -f -- "$GIT_DIR"/fast_import_crash_*
		die "making the commits of $BASE failed (disk full?)"
	}
}

# What the commits of the series depend on
series_state()
{
	git -C "$TREE" rev-parse base
	cat -- "$SERIES" "$TOP/scripts/tree.sh"
	series_entries "$SERIES" | while read -r kind path; do
		[ "$kind" = P ] || path=$TOP/$path
		[ ! -x "$path" ] || echo "executable"
		sha256sum -- "$path" 2>/dev/null || echo "no $path"
	done
}

# Have refs/series/new point to what the series makes of the base.
apply_series()
{
	local kind path mode was last patch='' n=0 state applied=$WORK/applied

	state=$(series_state | sha256sum | cut -d' ' -f1)
	if [ -f "$applied" ] && read -r was last < "$applied" &&
	   [ "$was" = "$state" ] &&
	   git -C "$TREE" update-ref refs/series/new "$last" 2>/dev/null; then
		return 0
	fi

	export GIT_DIR=$TREE/.git GIT_INDEX_FILE=$TMP/index
	: > "$TMP/stream"
	: > "$TMP/new"
	read_patches
	start_index
	# A last line "end" commits the last patch.
	{ series_entries "$SERIES"; echo E; } > "$TMP/entries"
	while read -r kind path; do
		case "$kind" in
		N)
			[ -n "$patch" ] ||
				die "$SERIES: $path stands in front of all patches"
			[ -f "$TOP/$path" ] ||
				die "$SERIES: there is no $path"
			mode=100644
			[ ! -x "$TOP/$path" ] || mode=100755
			printf '%s %s\t%s\n' "$mode" \
				"$(git hash-object -w -- "$TOP/$path")" "$path" \
				>> "$TMP/new"
			continue
			;;
		esac
		if [ -n "$patch" ]; then
			add_new_files
			commit_index "$n"
			patch=
		fi
		[ "$kind" = P ] || break
		patch=$path n=$((n + 1))
		! grep -q '^diff --git' "$TMP/$n.diff" ||
		git apply --cached --whitespace=nowarn "$TMP/$n.diff" 2> "$TMP/err" ||
			does_not_apply "$path"
	done < "$TMP/entries"
	make_commits
	echo "$state $(git rev-parse refs/series/new)" > "$applied"
	rm -f -- "$WORK/unapplied"
	unset GIT_DIR GIT_INDEX_FILE
}

mkdir -p -- "$WORK"
exec 8> "$WORK/lock"
flock 8
rm -rf -- "$WORK"/tmp.??????
TMP=$(mktemp -d "$WORK/tmp.XXXXXX")
# It stays when this or a git of it is killed: so do locks of git's, which are nobody's
# then.
if [ -e "$WORK/busy" ] && [ -d "$TREE/.git" ]; then
	rm -f -- "$TREE/.git"/*.lock
	find "$TREE/.git/refs" -name '*.lock' -delete
fi
: > "$WORK/busy"
trap '[ "$?" -ge 128 ] || rm -f -- "$WORK/busy"; rm -rf -- "$TMP"' EXIT

# What an interrupted call left
[ -d "$TREE" ] || [ ! -d "$TREE.old" ] || mv -- "$TREE.old" "$TREE"
rm -rf -- "$TREE.tmp" "$TREE.old"

if [ -z "$LINUX" ]; then
	lay_out_base
	[ ! -d "$TREE.tmp" ] || publish_tree
else
	state=$(linux_state)
	if [ ! -d "$TREE/.git" ] ||
	   [ "$(cat -- "$WORK/linux" 2>/dev/null)" != "$state" ]; then
		[ ! -d "$TREE/.git" ] || keep_changes
		lay_out_linux
		rm -f -- "$WORK/linux"
		publish_tree
		printf '%s\n' "$state" > "$WORK/linux"
	fi
fi
keep_changes
apply_series

if [ "$(git -C "$TREE" rev-parse HEAD)" != "$(git -C "$TREE" rev-parse refs/series/new)" ]; then
	git -C "$TREE" checkout -q --detach refs/series/new
fi
git -C "$TREE" update-ref refs/series/applied refs/series/new
git -C "$TREE" update-ref -d refs/series/new
