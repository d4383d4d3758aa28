# shellcheck shell=bash
# Where Linux guests run: on this host's KVM (the native lane) or inside of the
# test bed. Needs common.sh.

# shellcheck disable=SC2034 # who sources this uses them
# lane_choose BUILD: sets lane (native or testbed), lane_why (a sentence) and
# host_kvm (yes when this host's KVM at least runs small guests). MAYFLY_LANE in
# the environment overrules the probe.
lane_choose() {
	local build=$1 status=0
	lane_why=$("$build/daemon/mayflyd" --probe 2>&1 >/dev/null) || status=$?
	case $status in
	0) lane=native host_kvm=yes ;;
	3) lane=testbed host_kvm=yes ;;
	4) lane=testbed host_kvm=no ;;
	*) die "mayflyd --probe failed with status $status: $lane_why" ;;
	esac
	lane_why=${lane_why#*: }
	case ${MAYFLY_LANE:-} in
	'') ;;
	native | testbed)
		lane=$MAYFLY_LANE
		lane_why="MAYFLY_LANE says so. $lane_why"
		;;
	*) die "MAYFLY_LANE is native or testbed, not $MAYFLY_LANE." ;;
	esac
	[[ $lane == native ]] || lane_need_testbed
}

# The test bed needs nothing of the host but QEMU.
lane_need_testbed() {
	has qemu-system-x86_64 && return
	if has apt-get && ((EUID == 0)); then
		return # tools/testbed installs it
	fi
	die "this host's KVM cannot run Linux guests ($lane_why), and the test" \
		"bed that would do instead needs QEMU: install qemu-system-x86."
}

lane_say() {
	case $lane in
	native) step "Guests run on this host's /dev/kvm. $lane_why" ;;
	testbed)
		step "Guests run in the test bed (QEMU emulating a machine with" \
			"KVM): slower, and the same otherwise. $lane_why"
		;;
	esac
}

# lane_run [TESTBED-OPTION...] -- CMD...: in the chosen lane.
lane_run() {
	local options=()
	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	shift
	if [[ $lane == native ]]; then
		"$@"
	else
		"$MAYFLY_ROOT/tools/testbed" run \
			${options[@]+"${options[@]}"} -- "$@"
	fi
}
