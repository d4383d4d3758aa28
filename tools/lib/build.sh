# shellcheck shell=bash
# Building Mayfly. Needs common.sh and deps.sh.

# What a build needs beyond a minimal Debian.
build_packages=(gcc libc6-dev musl-dev meson ninja-build pkg-config python3
	liburing-dev libseccomp-dev libmicrohttpd-dev libjson-c-dev
	libcurl4-openssl-dev libsystemd-dev check)

# build_tree DIR MESON-OPTION...: DIR is built and up to date afterwards.
build_tree() {
	local dir=$1
	shift
	deps_need "${build_packages[@]}"
	if [[ ! -f $dir/build.ninja ]]; then
		step "Configuring $dir (meson setup $*)"
		meson setup "$dir" "$MAYFLY_ROOT" "$@" >&2
	fi
	step "Building in $dir (ninja)"
	ninja -C "$dir" >&2
}
