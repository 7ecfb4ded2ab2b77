#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y refresh.sh
#
# Write the commits of build/x.y/tree back: one patch a commit, new files to
# their place in this repository, and the series file. A patch that another
# base has already, with the same message and the same changes, is not stored
# a second time: the series refers to it (../7.2/NNNN-*.patch).
#
# A new file belongs to the one commit that brings it in; a later commit that
# changes it is refused (git rebase -i base, fixup).
#
# A new file may have been edited here or in the tree. Where both were, and
# differ, nothing is written.
#
# A tree that stands at an earlier commit of the series, as an interrupted
# build of every commit leaves it, is refused; FORCE=1 drops the later ones.
#
# Environment: BASE, BUILD, FORCE. Exit status: 0, or 1 and nothing is changed.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base

HOME_BASE=7.2

exec 8> "$WORK/lock"
flock 8
[ -d "$TREE/.git" ] || die "there is no $TREE; 'make tree' lays it out"
cd -- "$TREE"
[ -z "$(git status --porcelain -uno)" ] ||
	die "$TREE has uncommitted changes; commit them first"
git merge-base --is-ancestor base HEAD ||
	die "HEAD of $TREE does not stand on the base"
[ -z "$(git rev-list --merges base..HEAD)" ] ||
	die "$TREE has merges; a series is linear"
if [ -z "${FORCE:-}" ]; then
	[ "$(git rev-parse HEAD)" != "$(git rev-parse base)" ] ||
	[ -z "$(series_entries "$SERIES")" ] ||
		die "$TREE is at the bare base; 'make tree' puts the series back, FORCE=1 drops all patches"
	short=$(git rev-list --count HEAD..refs/series/applied)
	[ "$short" -eq 0 ] || ! git merge-base --is-ancestor HEAD refs/series/applied ||
		die "$TREE is $short commits short of the series; 'make tree' puts them back, FORCE=1 drops their patches"
	# After a patch did not apply: those behind it are easily forgotten.
	[ ! -f "$WORK/unapplied" ] ||
		missing=$(git log --format=%s base..HEAD | grep -vxF -f - -- "$WORK/unapplied" || :)
	[ -z "${missing:-}" ] ||
		die "$TREE does not have \"${missing%%$'\n'*}\" yet ($(printf '%s\n' "$missing" | wc -l) patches to go); 'git am' them, FORCE=1 drops them"
fi

TMP=$(mktemp -d "$WORK/tmp.XXXXXX")
trap 'rm -rf -- "$TMP"' EXIT
mkdir -p -- "$TMP/patches" "$TMP/files"
export GIT_INDEX_FILE=$TMP/index

# What makes two patches the same wherever they apply: message and changes,
# not the line numbers and blob ids.
fingerprint()
{
	sed -e '1d' -e '/^index [0-9a-f.]*\( [0-7]*\)\?$/d' \
	    -e 's/^@@ [-+0-9, ]* @@.*/@@/' "$1" | sha256sum
}

# The commit without the new files that it brings, as a patch.
store_patch()
{
	local commit=$1 number=$2 tree bare=$1 name

	# An index of 95,000 files takes time.
	if [ -s "$TMP/new" ]; then
		git read-tree "$commit"
		git update-index --force-remove --stdin < "$TMP/new"
		tree=$(git write-tree)
		bare=$(git show -s --format=%B "$commit" |
			GIT_AUTHOR_NAME=$(git show -s --format=%an "$commit") \
			GIT_AUTHOR_EMAIL=$(git show -s --format=%ae "$commit") \
			GIT_AUTHOR_DATE=$(git show -s --format=%ad --date=raw "$commit") \
			GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x \
			GIT_COMMITTER_DATE='@0 +0000' \
			git commit-tree -p "$commit^" "$tree")
	fi
	name=$(printf '%04d-' "$number")$(git show -s --format=%f "$commit" | cut -c1-52)
	name=${name%-}.patch
	git format-patch --stdout --always -1 --zero-commit --no-signature -N \
		--stat=72 --abbrev=12 --diff-algorithm=histogram --no-renames \
		--no-ext-diff --no-attach --no-thread --no-signoff \
		--subject-prefix=PATCH --no-to --no-cc --no-add-header \
		--no-base --no-notes --no-encode-email-headers \
		"$bare" > "$TMP/patches/$name"
	printf '%s\n' "$name"
}

: > "$TMP/series"
sed -n '/^#/p;/^$/p;/^[^#]/q' "$SERIES" > "$TMP/series"
: > "$TMP/brought"
number=0
for commit in $(git rev-list --reverse base..HEAD); do
	number=$((number + 1))
	subject=$(git show -s --format='%h ("%s")' "$commit")
	! git show -s --format=%B "$commit" | grep -q '^Signed-off-by:' ||
		die "$subject is signed off; stored patches are not, 'make series' adds it"
	git diff-tree -r --no-renames --diff-filter=A --name-only "$commit^" \
		"$commit" > "$TMP/new"
	git diff-tree -r --no-renames --name-only "$commit^" "$commit" |
	while read -r path; do
		! grep -qxF -- "$path" "$TMP/brought" ||
			die "$subject changes $path, which an earlier commit of the series brings in: make it a fixup of that one"
	done
	cat -- "$TMP/new" >> "$TMP/brought"

	name=$(store_patch "$commit" "$number")
	for other in "$TOP"/patches/"$HOME_BASE"/*-"${name#*-}"; do
		{ [ "$BASE" != "$HOME_BASE" ] && [ -f "$other" ]; } || continue
		[ "$(fingerprint "$other")" = "$(fingerprint "$TMP/patches/$name")" ] ||
			continue
		rm -- "$TMP/patches/$name"
		name=../$HOME_BASE/${other##*/}
		break
	done
	printf '%s\n' "$name" >> "$TMP/series"
	while read -r path; do
		printf '\t%s\n' "$path" >> "$TMP/series"
		mkdir -p -- "$(dirname -- "$TMP/files/$path")"
		git cat-file blob "$commit:$path" > "$TMP/files/$path"
		[ "$(git ls-tree "$commit" "$path" | cut -c1-6)" != 100755 ] ||
			chmod +x -- "$TMP/files/$path"
	done < "$TMP/new"
done

# Edited there, here, or on both sides since they were last the same?
while read -r path; do
	here=$TOP/$path there=$TMP/files/$path
	if [ -f "$here" ] && ! cmp -s -- "$here" "$there"; then
		git cat-file blob "refs/series/applied:$path" > "$TMP/was" 2>/dev/null || : > "$TMP/was"
		cmp -s -- "$there" "$TMP/was" && { cp -p -- "$here" "$there"; continue; }
		cmp -s -- "$here" "$TMP/was" ||
			die "$path was edited here and in $TREE, differently; make them the same first"
	fi
done < "$TMP/brought"

# From here on nothing fails but the disk. Written beside and renamed.
while read -r path; do
	cmp -s -- "$TMP/files/$path" "$TOP/$path" &&
	[ "$(stat -c %A "$TMP/files/$path" | cut -c4)" = \
	  "$(stat -c %A "$TOP/$path" | cut -c4)" ] && continue
	mkdir -p -- "$(dirname -- "$TOP/$path")"
	cp -- "$TMP/files/$path" "$TOP/$path.new"
	[ ! -x "$TMP/files/$path" ] || chmod +x -- "$TOP/$path.new"
	mv -- "$TOP/$path.new" "$TOP/$path"
done < "$TMP/brought"
for old in "$PATCHES"/*.patch; do
	[ -f "$old" ] || continue
	[ -f "$TMP/patches/${old##*/}" ] && continue
	# Its number may have changed: other series go on referring to it.
	for new in "$TMP"/patches/*-"$(basename -- "$old" | cut -d- -f2-)"; do
		[ -f "$new" ] || continue
		sed -i "s|^\.\./$BASE/${old##*/}\$|../$BASE/${new##*/}|" \
			"$TOP"/patches/*/series
	done
	rm -- "$old"
done
for new in "$TMP"/patches/*.patch; do
	[ -f "$new" ] || continue
	cmp -s -- "$new" "$PATCHES/${new##*/}" || cp -- "$new" "$PATCHES/"
done
cmp -s -- "$TMP/series" "$SERIES" || cp -- "$TMP/series" "$SERIES"

unset GIT_INDEX_FILE
git update-ref refs/series/applied HEAD
cd -- "$TOP"
rm -rf -- "$TMP"
exec 8>&-
"$TOP/scripts/tree.sh"
say "patches/$BASE: $number patches, $(grep -c "$(printf '^\t')" "$SERIES" || :) new files"
