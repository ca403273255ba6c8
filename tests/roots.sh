# shellcheck shell=bash
# Throw-away roots of Debian, as debootstrap makes them, for the scripts that source this, whose
# arguments are [--check] [DISTRO ...]: 12, 13, or both (default) go to $distros.  With --check
# the script ends here, if the names are known.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

declare -A codename=([12]=bookworm [13]=trixie)
check=
[ "${1:-}" != --check ] || { check=yes; shift; }
distros=("${@:-13 12}")
read -ra distros <<< "${distros[*]}"
for distro in "${distros[@]}"; do
	[ -n "${codename[$distro]:-}" ] || die "DISTRO=$distro is not known: there are 12 and 13, of Debian"
done
[ -z "$check" ] || exit 0
[ "$(id -u)" = 0 ] || die "root is needed, for debootstrap and chroot: run 'sudo make ${0##*/}'"
need debootstrap git rsync
need_space "$build" 15000
# Mounts of its own, which end with it, however it ends: whoever removes build/ must not find
# the machine's /dev in there.
[ "${own_mounts:-}" = yes ] || exec env own_mounts=yes unshare --mount "$0" "${distros[@]}"
here=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
archive=$(mirror "$here")
security=$(mirror "$here-security")
[ -n "${archive:+$security}" ] || die "apt knows no archive of Debian $here, and of its security: run 'apt-get update'"

# inside COMMAND...: in $root
inside()
{
	env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		chroot "$root" "$@"
}

# bare DISTRO: build/distro/DISTRO.bare is what debootstrap has made, and nothing has changed it
bare()
{
	local name=${codename[$1]} bare=$build/distro/$1.bare

	[ ! -e "$bare/made" ] || return 0
	say make "a minimal Debian $1 (a minute)"
	rm -rf "$bare"
	mkdir -p "${bare%/*}"
	debootstrap --variant=minbase "$name" "$bare" "$archive" > "$log" 2>&1 ||
		die "debootstrap failed (build/${log##*/}): check the network, then try again"
	printf 'deb %s main\n' "$archive $name" "$archive $name-updates" "$security $name-security" > "$bare/etc/apt/sources.list"
	touch "$bare/made"
}

# enter: $root gets this machine's /dev, and how it gets to the archives, which is nothing of
# the project's
enter()
{
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	{ grep -ls '^Acquire::.*Proxy' /etc/apt/apt.conf /etc/apt/apt.conf.d/* || true; } | xargs -r cp -t "$root/etc/apt/apt.conf.d"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	# make is all that the README takes for granted.
	{ inside apt-get -q update && inside apt-get -q install -y --no-install-recommends make; } >> "$log" 2>&1 ||
		die "apt-get failed in ${root#"$top/"} (build/${log##*/}): check the network, then try again"
}

# builder DISTRO: $root has the project in /src, and keeps what was built there
builder()
{
	root=$build/distro/$1
	log=$build/${0##*/}-$1.log
	: > "$log"
	if [ ! -e "$root/made" ]; then
		bare "$1"
		rm -rf "$root" "$root.new"
		cp -a "$root.bare" "$root.new"
		mv "$root.new" "$root"
	fi
	enter
	# What has gone here must go there, too, but what was built there.
	mkdir -p "$root/src"
	find "$root/src" -mindepth 1 -maxdepth 1 ! -name build ! -name out -exec rm -rf {} +
	git -C "$top" ls-files -z | rsync -a --from0 --files-from=- "$top/" "$root/src/"
}

# served DISTRO: the kernels of $base.y that it serves, newest first, into $kernels
served()
{
	mapfile -t kernels < <(inside apt-cache pkgnames linux-headers-$base. | sed 's/^linux-headers-//' |
		grep -E "^${base}\.[0-9]+\+deb$1(\.[0-9]+)?(-rt)?-amd64\$" | sort -Vr)
	[ ${#kernels[@]} -gt 0 ] || die "Debian $1 serves no $base.y"
}
