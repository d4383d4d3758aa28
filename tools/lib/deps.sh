# shellcheck shell=bash
# Debian packages a tool needs: installed when missing, never touched otherwise.

deps_missing() {
	local pkg status
	for pkg in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$pkg" \
			2>/dev/null || true)
		[[ $status == installed ]] || printf '%s\n' "$pkg"
	done
}

# deps_apt ARGUMENT...: apt-get for a script, its progress on stderr.
deps_apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=600 "$@" >&2
}

# deps_lists: package lists are there (a fresh container has none).
deps_lists() {
	compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null && return
	step "Fetching the package lists (apt-get update)"
	deps_apt update || die "apt-get update failed: check the network and" \
		"/etc/apt/sources.list, then run this again."
}

# deps_need PACKAGE...: all are installed afterwards, or the tool ends.
deps_need() {
	local missing
	mapfile -t missing < <(deps_missing "$@")
	((${#missing[@]})) || return 0
	has apt-get || die "needs the Debian packages ${missing[*]}, and this" \
		"machine has no apt-get: install their equivalents by hand."
	((EUID == 0)) || die "needs packages that are not installed; run:" \
		"sudo apt-get install ${missing[*]}"
	deps_lists
	step "Installing ${missing[*]} (apt-get)"
	deps_apt install --no-install-recommends "${missing[@]}" && return
	say "That failed; trying again with fresh package lists."
	deps_apt update
	deps_apt install --no-install-recommends "${missing[@]}" ||
		die "apt-get could not install ${missing[*]}: see its message" \
			"above."
}
