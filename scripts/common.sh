# shellcheck shell=bash disable=SC2034 # the names are for those who source this
# What every script needs: where things are, and how to fail with one line.
# Sourced, so it sets names and does nothing else.

set -euo pipefail

base=6.12
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
out=$top/out
patches=$top/patches/$base
linux=$build/linux		# the kernel tree: tag `base`, branch `series`

# The project's own author: whoever sends a patch upstream signs it themselves.
export GIT_AUTHOR_NAME=kvm-lockless-mmu
export GIT_AUTHOR_EMAIL=kvm-lockless-mmu@example.org
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME
export GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
# The user's git configuration must not change what comes out.  build/ may belong
# to somebody else, as when root runs what a user began.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
unset GIT_DIFF_OPTS
# Nor must the options of the make that called: kbuild is told its own.
unset MAKEFLAGS MFLAGS MAKELEVEL
# Nor who built a kernel where and when, or it would be linked anew each time.
export KBUILD_BUILD_USER=kvm-lockless-mmu KBUILD_BUILD_HOST=build KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 1970"
# ccache does not read a header twice.
export CCACHE_INODECACHE=1
# depmod and modinfo live here, and Debian's users have no such PATH.
export PATH=$PATH:/usr/sbin:/sbin

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

say()
{
	echo "  ${1^^}	${*:2}"
}

need()
{
	local cmd

	for cmd in "$@"; do
		command -v "$cmd" >/dev/null || die "no $cmd here: run 'make deps', or install it with this distribution's own tool"
	done
}

# need_space DIR MIB
need_space()
{
	local free

	mkdir -p "$1"
	free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$2" ] || die "$1 has $free MiB free, $2 are needed: make room, or clone to a larger disk"
}

# mirror CODENAME: where apt has that one of Debian's archives from
mirror()
{
	apt-get indextargets "Codename: $1" 'Created-By: Packages' | sed -n 's/^Repo-URI: //p' | head -n 1
}

# apt_apart DIR: sets $apt to apt-get with lists of its own, in DIR, of DIR/sources.list
# alone; nothing it does changes what the machine installs
apt_apart()
{
	mkdir -p "$1/lists/partial" "$1/deb"
	apt=(apt-get -q -o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State::lists=$1/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
		-o APT::Sandbox::User=root -o Dir::Etc::preferences=- -o Dir::Etc::preferencesparts=-)
}

# A fingerprint of files and words, for "is what was made still current?"
fingerprint()
{
	local arg

	for arg in "$@"; do
		if [ -d "$arg" ]; then
			(cd "$arg" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
		elif [ -f "$arg" ]; then
			sha256sum < "$arg"
		else
			echo "$arg"
		fi
	done | sha256sum | cut -d' ' -f1
}

# errors LOG: the lines of a build's log that tell why it failed
errors()
{
	grep -E 'error|ERROR|\*\*\*' "$1" | sed -n '1,8p' >&2 || true
}

# patches_of series|modules: the patches of that branch, in order
patches_of()
{
	local patch

	for patch in "$patches"/[0-9]*.patch; do
		[ "$1" = modules ] && grep -qE '^Scope: (mm|kunit)$' "$patch" || echo "$patch"
	done
	[ "$1" != modules ] || printf '%s\n' "$patches"/modules/[0-9]*.patch
}

# kvm_tree COMMIT DIR: the KVM part of a commit, ready to be built as
# modules.  What is in DIR already and has the same content stays untouched.
kvm_tree()
{
	local scratch files

	mapfile -t files < "$top/dkms/kvm-files"
	scratch=$(mktemp -d -p "$build")
	git -C "$linux" archive "$1" "${files[@]}" |
		tar -x -C "$scratch"
	cp "$top/Kbuild" "$top/VERSION" "$scratch/"
	cp "$top/Kbuild" "$scratch/arch/x86/kvm/Kbuild"
	mkdir -p "$2"
	# By content, as archive sets all times to the commit's.  What make made stays.
	rsync -rc --delete --exclude='*.o' --exclude='*.ko' --exclude='*.mod' --exclude='*.mod.c' \
		--exclude='.*.cmd' --exclude='*.symvers' --exclude='modules.order' \
		--exclude='kvm-asm-offsets.[sh]' "$scratch/" "$2/"
	rm -rf "$scratch"
}
