# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by scripts that take packages of other Debian releases than the one
# that runs here: a private set of lists from the archive that this machine's
# apt uses. The system's own sources and lists are not touched.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The archive of the security suites is another one than that of the rest.
archive_uri()
{
	# Without lists there is no Origin to go by: leave out what is
	# not the main archive by its address.
	# shellcheck disable=SC2016 # a format of apt, not of the shell
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' \
		'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }
		     $2 !~ /^(Debian)?$/ || $1 ~ /security/ { next }
		     !first { first = $1 }
		     END { if (first) print first }' | head -n 1
}

security_uri()
{
	# shellcheck disable=SC2016 # a format of apt, not of the shell
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' \
		'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" && $3 == "Debian-Security" { print $1; exit }
		     $2 !~ /^(Debian)?$/ || $1 !~ /security/ { next }
		     !first { first = $1 }
		     END { if (first) print first }' | head -n 1
}

# apt_setup NAME SUITE...: lists of these, kept as NAME in the cache. Sets APT,
# the options for apt-get and apt-cache, to which no package is installed.
apt_setup()
{
	local dir=$CACHE/$1 main security uri suite signed='' lines='' without=''
	shift

	main=$(archive_uri)
	security=$(security_uri)
	[ ! -e "$KEYRING" ] || signed="[signed-by=$KEYRING] "
	for suite; do
		uri=$main
		[[ $suite != *-security ]] || uri=$security
		if [ -n "$uri" ]; then
			lines+="deb $signed$uri $suite main"$'\n'
		else
			without+=" $suite"
		fi
	done
	if [ -z "$lines" ]; then
		say "note: apt knows no Debian archive here"
		return 1
	fi
	[ -z "$without" ] ||
		say "note: apt knows no archive here that has$without"

	mkdir -p -- "$dir/lists/partial" "$dir/cache/archives/partial"
	: > "$dir/status"
	printf '%s' "$lines" > "$dir/sources.list"
	APT=(-o Dir::Etc::sourcelist="$dir/sources.list"
	     -o Dir::Etc::sourceparts=/dev/null
	     -o Dir::State::lists="$dir/lists"
	     -o Dir::State::status="$dir/status"
	     -o Dir::Cache="$dir/cache"
	     -o APT::Update::Post-Invoke-Success::=
	     -o APT::Sandbox::User=root
	     -o Acquire::Languages=none -o Acquire::Retries=2)
	# A suite that is gone must not hide the package in another one.
	apt-get "${APT[@]}" -q update >&2 || :
}
