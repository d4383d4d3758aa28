# shellcheck shell=bash
# Counts of passed, failed and skipped tests. Needs common.sh.

passed=0 failed=0 skipped=0
failures=()

tally_ok() {
	printf 'ok %s\n' "$1"
	passed=$((passed + 1))
}

# tally_fail NAME WHY
tally_fail() {
	printf 'not ok %s: %s\n' "$1" "$2"
	failed=$((failed + 1))
	failures+=("$1")
}

# tally_check NAME WHY COMMAND...: one test that is a command.
tally_check() {
	local name=$1 why=$2
	shift 2
	if "$@"; then
		tally_ok "$name"
	else
		tally_fail "$name" "$why"
	fi
}

# tally_counts NAME STATUS FILE: adds what a program said in FILE's last line,
# "N passed, N failed, N skipped". One that failed without saying so has failed.
tally_counts() {
	local name=$1 status=$2 file=$3 last
	last=$(tail -n 1 "$file")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		skipped=$((skipped + BASH_REMATCH[3]))
		((BASH_REMATCH[2] == 0)) || failures+=("$name")
		((BASH_REMATCH[2] == 0 && status != 0)) || return 0
	fi
	tally_fail "$name" "ended with status $status before its last line"
}

# tally_end: the last line; the status says whether all went well.
tally_end() {
	((failed == 0)) || printf '\nFailed: %s\n' "${failures[*]}"
	printf '\n%d passed, %d failed, %d skipped\n' \
		"$passed" "$failed" "$skipped"
	((failed == 0))
}
