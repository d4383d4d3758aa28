# shellcheck shell=bash
# Which kernel modules to load, and in which order.

# modules_closure DIR NAME...: DIR is a lib/modules/VERSION with modules.dep.
# Prints the .ko files, relative to DIR, each after those it depends on. A name
# that is built into the kernel prints nothing; an unknown one is an error.
modules_closure() {
	local dir=$1
	shift
	awk -v names="$*" '
	function canon(path) {
		sub(/.*\//, "", path); sub(/\.ko.*/, "", path)
		gsub(/-/, "_", path)
		return path
	}
	FILENAME ~ /modules\.builtin$/ { builtin[canon($1)] = 1; next }
	{
		file = $1; sub(/:$/, "", file)
		path[canon(file)] = file
		for (i = NF; i > 1; i--)
			deps[file] = deps[file] " " $i
	}
	function emit(file) {
		if (!seen[file]++)
			print file
	}
	END {
		n = split(names, want, " ")
		for (i = 1; i <= n; i++) {
			name = canon(want[i])
			if (name in builtin)
				continue
			if (!(name in path)) {
				print "no kernel module " want[i] >"/dev/stderr"
				exit 1
			}
			m = split(deps[path[name]], d, " ")
			for (j = 1; j <= m; j++)
				emit(d[j])
			emit(path[name])
		}
	}' "$dir/modules.builtin" "$dir/modules.dep"
}
