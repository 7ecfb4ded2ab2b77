#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y series.sh [DIRECTORY]
#
# Write the mailable series, cover letter included, to DIRECTORY (default:
# build/x.y/series). The patches in this repository carry no Signed-off-by,
# because only a person can certify where a patch comes from; this adds the
# caller's, that is the identity that git is configured with. SIGNOFF=no
# leaves it out, for trying. What DIRECTORY holds is replaced, which must be
# such mails and nothing else.
#
# Environment: BASE, LINUX, BUILD, SIGNOFF, REROLL (vN). Exit status: 0 or 1.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base

out=${1:-$WORK/series}
[ -z "${out##/*}" ] || out=$PWD/$out
out=${out%/}
[ ! -e "$out" ] || [ -d "$out" ] || die "$out is no directory"
other=
[ ! -d "$out" ] || other=$(find "$out" -mindepth 1 ! -name '*.patch' -print -quit)
[ -z "$other" ] || die "$out holds ${other#"$out/"}, which is no mail; choose another directory"
# What is said about all of the series is not true of a part of it.
cover=$PATCHES/cover-letter
[ -f "$cover" ] || cover=$TOP/patches/cover-letter
[ -s "$cover" ] || die "${cover#"$TOP/"} is missing"
name=$(git config user.name || :)
email=$(git config user.email || :)
{ [ -n "$name" ] && [ -n "$email" ]; } ||
	die "git does not know who you are: git config --global user.name and user.email"
# The tree may be configured otherwise.
export GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email
git_config user.name="$name" user.email="$email"

"$TOP/scripts/tree.sh"
cd -- "$TREE"
[ "$(git rev-parse HEAD)" != "$(git rev-parse base)" ] ||
	die "patches/$BASE/series is empty"

sign=(--signoff) signed=", signed off by $name <$email>"
[ "${SIGNOFF:-yes}" != no ] || sign=(--no-signoff) signed=
rm -rf -- "$out.tmp"
git branch -q -f mail HEAD
# The base commit is known here only; what it is made from is known to all.
git config branch.mail.description "$(cat -- "$cover"
	[ -n "$LINUX" ] || printf '\nBased on %s %s.\n' "$PACKAGE" "$VERSION")"
git format-patch -q \
	-o "$out.tmp" --cover-letter --cover-from-description=subject \
	--base="$(git rev-parse base)" ${REROLL:+-v "$REROLL"} --no-renames \
	"${sign[@]}" --thread=shallow base..mail
rm -rf -- "$out"
mv -- "$out.tmp" "$out"
others=$(git log --format='%an <%ae>' base..mail | sort -u | grep -vxF "$name <$email>" || :)
[ -z "$signed" ] || [ -z "$others" ] ||
	say "note: signed off by you, but the author is $others; git rebase --exec 'git commit --amend --reset-author' makes it you"
say "$(find "$out" -name '*.patch' | wc -l) mails in $out$signed"
