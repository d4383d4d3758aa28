# shellcheck shell=bash
# Checks of the source itself. Needs common.sh, deps.sh and tally.sh.

# sources PATTERN...: files of the tree, as git knows them.
sources() {
	git -C "$MAYFLY_ROOT" -c safe.directory="$MAYFLY_ROOT" \
		ls-files --cached --others --exclude-standard "$@" |
		while IFS= read -r file; do
			[[ ! -f $MAYFLY_ROOT/$file ]] || printf '%s\n' "$file"
		done
}

check_format() {
	local files
	deps_need clang-format git
	step "Layout of the C sources (clang-format)"
	mapfile -t files < <(sources '*.c' '*.h')
	tally_check format "run clang-format -i on the files named above" \
		clang-format --dry-run -Werror "${files[@]/#/$MAYFLY_ROOT/}"
}

check_shell() {
	local file first scripts=()
	deps_need shellcheck git
	step "Shell scripts (shellcheck)"
	while IFS= read -r file; do
		first=
		IFS= read -r first <"$MAYFLY_ROOT/$file" || true
		case $file:$first in
		*.sh:* | *:'#!'*sh) scripts+=("$MAYFLY_ROOT/$file") ;;
		esac
	done < <(sources tools .ci) 2>/dev/null
	tally_check shellcheck "see above" shellcheck "${scripts[@]}"
}

# tidy_one BUILD HASH FILE: a file that was clean stays so while it, the headers
# and the configuration are the same.
tidy_one() {
	local build=$1 stamp log
	stamp=$build/tidy/$(cat - "$MAYFLY_ROOT/$3" <<<"$2 $3" |
		sha256sum | cut -c1-32)
	[[ ! -e $stamp ]] || return 0
	log=$(clang-tidy --quiet -p "$build" "$MAYFLY_ROOT/$3" 2>&1) || {
		printf '%s\n' "$log"
		return 1
	}
	touch "$stamp"
	printf '  clang-tidy %s\n' "$3"
}

# check_static BUILD: what compile_commands.json of BUILD names.
check_static() {
	local build=$1 files hash
	deps_need clang-tidy clang cppcheck git jq
	step "Static analysis (clang-tidy; the first time takes some minutes)"
	mapfile -t files < <(jq -r '.[].file' "$build/compile_commands.json" |
		while IFS= read -r file; do
			realpath -m --relative-to="$MAYFLY_ROOT" "$build/$file"
		done | LC_ALL=C sort -u | grep '\.c$')
	mkdir -p "$build/tidy"
	hash=$(cd "$MAYFLY_ROOT" && sources '*.h' .clang-tidy meson.build |
		xargs sha256sum | sha256sum | cut -c1-32)
	export -f tidy_one
	tally_check clang-tidy "see above" xargs -d '\n' -n 1 -P "$(nproc)" \
		bash -c 'tidy_one "$@"' _ "$build" "$hash" \
		<<<"$(printf '%s\n' "${files[@]}")"
	step "Static analysis (cppcheck)"
	mkdir -p "$build/cppcheck"
	tally_check cppcheck "see above" cppcheck --quiet -j "$(nproc)" \
		--project="$build/compile_commands.json" \
		--cppcheck-build-dir="$build/cppcheck" --error-exitcode=1 \
		--enable=warning,performance,portability --inline-suppr \
		--library="$MAYFLY_ROOT/tools/lib/cppcheck.cfg" \
		--suppress='*:/usr/*'
}
