# bash completion for mayfly
_mayfly() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands='run create start stop pause resume rm ps inspect logs
		console wait events top stats host'
	local vm='--config --kernel --initrd --append --cpus --memory --root
		--disk --net --vsock --entropy --balloon --hugepages
		--virtio-console --label --help'
	local word command='' options='' socket=()
	local i

	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket) socket=(--socket "${COMP_WORDS[++i]}") ;;
		-*) ;;
		*) command=$word && break ;;
		esac
	done
	case $prev in
	--socket | --config | --kernel | -k | --initrd | -i | --root | -r | \
		--disk | -d)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	case $command:$prev in
	ps:--state | ps:-s)
		local IFS=$'\n'
		mapfile -t COMPREPLY < <(compgen -W \
			$'Not\\ started\nRunning\nPaused\nExited' -- "$cur")
		return
		;;
	events:--vm | events:-v)
		options=$(mayfly "${socket[@]}" ps -q 2>/dev/null)
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		return
		;;
	esac
	if [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W \
			"$commands --socket --json --version --help" -- "$cur")
		return
	fi
	if [[ $cur == -* ]]; then
		case $command in
		run) options="$vm --rm --detach" ;;
		create) options=$vm ;;
		stop) options='--timeout --force --help' ;;
		rm) options='--force --help' ;;
		logs) options='--follow --help' ;;
		wait) options='--timeout --help' ;;
		ps) options='--quiet --label --state --help' ;;
		events) options='--all --vm --label --help' ;;
		top) options='--delay --number --help' ;;
		*) options='--help' ;;
		esac
	else
		case $command in
		run | create | ps | events | top | host) return ;;
		*) options=$(mayfly "${socket[@]}" ps -q 2>/dev/null) ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}
complete -F _mayfly mayfly
