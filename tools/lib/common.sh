# shellcheck shell=bash
# Sourced by every tool: where things are, and how a tool speaks.
# Products go to stdout; everything said to a person goes to stderr.

# A failure inside $(...) ends the tool just as it does outside.
shopt -s inherit_errexit

# Debian's own programs, before others of the same name (pyenv's python3 say).
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

MAYFLY_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
export MAYFLY_ROOT

say() {
	printf '%s\n' "$*" >&2
}

# One heading per long step, so that a person always sees what is going on.
step() {
	if [[ -t 2 ]]; then
		printf '\033[1m==> %s\033[0m\n' "$*" >&2
	else
		printf '==> %s\n' "$*" >&2
	fi
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# has COMMAND: is it on the PATH?
has() {
	command -v "$1" >/dev/null 2>&1
}

# quoted WORD...: the words as a shell would read them back.
quoted() {
	local out
	printf -v out '%q ' "$@"
	printf '%s\n' "${out% }"
}
