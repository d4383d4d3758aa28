# shellcheck shell=bash
# Initramfs archives.

# cpio_make DIR FILE: DIR's tree as an uncompressed newc archive, all of it
# root's. Uncompressed, because under emulation the kernel copies faster than
# it decompresses. The kernel's own initramfs has /dev/console already.
cpio_make() {
	local dir=$1 file=$2
	find "$dir" -exec touch -h -d @0 {} +
	(cd "$dir" && find . | LC_ALL=C sort |
		busybox cpio -o -H newc -R 0:0 \
		--renumber-inodes --ignore-devno) >"$file" 2>/dev/null
}
