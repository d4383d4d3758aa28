# shellcheck shell=bash
# The guest's userland, which the root disk and the initrd share.

# guest_root_inputs: the files it is made of, for cache keys.
guest_root_inputs() {
	find "$MAYFLY_ROOT/tools/guest/root" -type f | LC_ALL=C sort
	printf '%s\n' "$MAYFLY_ROOT"/tools/guest/{ready,defaults}.c \
		/bin/busybox "$MAYFLY_ROOT/tools/lib/guest-root.sh"
}

# guest_root_make DIR: busybox with our init, and the mount points it needs.
guest_root_make() {
	local dir=$1 guest=$MAYFLY_ROOT/tools/guest applet program
	mkdir -p "$dir"/{bin,sbin,usr/bin,usr/sbin,etc,dev,proc,sys,run,tmp}
	mkdir -p "$dir"/{root,mnt}
	cp /bin/busybox "$dir/bin/busybox"
	cp -r "$guest/root/." "$dir"
	for program in ready defaults; do
		gcc -Os -static -nostdlib -ffreestanding -fno-stack-protector \
			-fno-pie -no-pie -fcf-protection=none -s \
			-Wl,--build-id=none -Wall -Wextra -Werror \
			-o "$dir/sbin/$program" "$guest/$program.c"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$dir/etc/passwd"
	printf 'root:x:0:\n' >"$dir/etc/group"
	for applet in $(busybox --list-full); do
		[[ -e $dir/$applet ]] || ln -s /bin/busybox "$dir/$applet"
	done
	chmod -R u=rwX,go=rX "$dir"
	find "$dir" -exec touch -h -d @0 {} +
}

# guest_root_add DIR PACKAGE...: the programs of Debian packages that are
# installed here, and the libraries they are linked with.
guest_root_add() {
	local dir=$1 file
	shift
	(($#)) || return 0
	dpkg -L "$@" | grep -E '^(/usr)?/s?bin/[^/]+$' | while read -r file; do
		[[ -x $file ]] || continue
		rm -f "$dir$file"
		cp -L "$file" "$dir$file"
		ldd "$file" 2>/dev/null |
			grep -oE '/[^ ]+\.so[^ ]*' || true
	done | sort -u | while read -r file; do
		install -D -m 755 "$file" "$dir$file"
	done
	find "$dir" -exec touch -h -d @0 {} +
}
