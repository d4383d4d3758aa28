# shellcheck shell=bash
# Things that take long to make and never change: kept outside of the tree, one
# directory per content key. Made in a temporary directory and renamed, under
# a lock, so that an entry is either whole or absent however many ask at once.

MAYFLY_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mayfly

# cache_key FILE-OR-WORD...: a short hash over file contents and plain words.
cache_key() {
	local item
	for item in "$@"; do
		if [[ -f $item ]]; then
			printf 'file %s\n' "${item##*/}"
			cat "$item"
		else
			printf 'word %s\n' "$item"
		fi
	done | sha256sum | cut -c1-16
}

# cache_dir KIND KEY MAKER [ARGUMENT...]: prints the entry's directory. When it
# is not there, MAKER runs in an empty directory which then becomes the entry;
# what MAKER prints goes to stderr. Call it plainly or as VAR=$(cache_dir ...): in
# a condition (if, ||, &&) bash would let MAKER run on after a failure.
cache_dir() {
	local kind=$1 key=$2
	shift 2
	local dir=$MAYFLY_CACHE/$kind-$key
	if [[ ! -d $dir ]]; then
		mkdir -p "$MAYFLY_CACHE"
		(
			exec 9>"$MAYFLY_CACHE/.$kind.lock"
			flock -n 9 || {
				say "Waiting for another run that makes $kind."
				flock 9
			}
			[[ ! -d $dir ]] || exit 0
			tmp=$(mktemp -d "$MAYFLY_CACHE/.$kind-XXXXXX")
			trap 'rm -rf "$tmp"' EXIT
			trap 'exit 130' INT TERM HUP
			chmod 755 "$tmp"
			cd "$tmp" || exit
			"$@" >&2 9>&-
			mv -T "$tmp" "$dir"
		)
	fi
	printf '%s\n' "$dir"
}
