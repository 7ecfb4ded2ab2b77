#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: BASE=x.y series.sh [DIRECTORY]
#
# Write the mailable series, cover letter included, to DIRECTORY (default:
# build/x.y/series). The patches in this repository carry no Signed-off-by,
# because only a person can certify where a patch comes from; this adds the
# caller's, that is the identity that git is configured with. SIGNOFF=no
# leaves it out, for trying.
#
# Environment: BASE, LINUX, BUILD, SIGNOFF, REROLL (vN). Exit status: 0 or 1.

. "$(dirname -- "$0")/lib.sh"
getopt_help "$@"
load_base

out=${1:-$WORK/series}
name=$(git config user.name || :)
email=$(git config user.email || :)
{ [ -n "$name" ] && [ -n "$email" ]; } ||
	die "git does not know who you are: git config --global user.name and user.email"

"$TOP/scripts/tree.sh"
cd -- "$TREE"
[ "$(git rev-parse HEAD)" != "$(git rev-parse base)" ] ||
	die "patches/$BASE/series is empty"

sign=(--signoff)
[ "${SIGNOFF:-yes}" != no ] || sign=(--no-signoff)
rm -rf -- "$out.tmp"
git branch -q -f mail HEAD
git config branch.mail.description "$(cat -- "$TOP/patches/cover-letter")"
git format-patch -q \
	-o "$out.tmp" --cover-letter --cover-from-description=subject \
	--base="$(git rev-parse base)" ${REROLL:+-v "$REROLL"} --no-renames \
	"${sign[@]}" --thread=shallow base..mail
rm -rf -- "$out"
mv -- "$out.tmp" "$out"
say "$(find "$out" -name '*.patch' | wc -l) mails in $out, signed off by $name <$email>"
