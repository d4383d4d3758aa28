/*
 * What a daemon finds in the state directory. The first byte says as what the
 * rest is read: 'p', a process file; 'm', metadata; anything else, a VM's
 * configuration. What is taken is written again as it was read; what is refused
 * leaves nothing behind.
 */

#include "api/record.h"
#include "api/mmds_data.h"
#include "base/fd.h"
#include "daemon/state.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/dev/shm/fuzz-record-XXXXXX";
static struct state state = {-1, -1, -1};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void remove_dir(void)
{
	unlinkat(state.procs_fd, "a/process", 0);
	unlinkat(state.procs_fd, "b/process", 0);
	unlinkat(state.procs_fd, "a", AT_REMOVEDIR);
	unlinkat(state.procs_fd, "b", AT_REMOVEDIR);
	rmdir(dir);
}

static void make_dir(void)
{
	check(mkdtemp(dir));
	state.procs_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(mkdirat(state.procs_fd, "a", 0700) == 0 &&
		mkdirat(state.procs_fd, "b", 0700) == 0);
	atexit(remove_dir);
}

static void check_proc(const char *text, size_t len)
{
	struct state_proc p = {.pid = 7};
	char again[512];
	ssize_t n;
	int fd;

	if (state.procs_fd < 0)
		make_dir();
	fd = openat(state.procs_fd, "a/process",
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && fd_pwrite_full(fd, text, len, 0) == 0);
	close(fd);
	if (state_read_proc(&state, "a", &p) < 0) {
		check(p.pid == 7 && !p.start && !p.cgroup[0]);
		return;
	}
	check(p.pid > 1 && p.uid && p.start &&
		memchr(p.cgroup, '\0', sizeof(p.cgroup)));
	unlinkat(state.procs_fd, "b/process", 0);
	check(state_write_proc(&state, "b", &p) == 0);
	fd = openat(state.procs_fd, "b/process", O_RDONLY | O_CLOEXEC);
	n = read(fd, again, sizeof(again));
	close(fd);
	check(n > 0 && (size_t)n <= len && memcmp(again, text, (size_t)n) == 0);
	/* But for what stands behind a NUL. */
	check((size_t)n == len || text[n] == '\0');
}

static void check_mmds(const char *text, size_t len)
{
	struct api_mmds_data d = {NULL};
	struct error err;

	if (record_read_mmds(text, len, &d, &err) < 0) {
		check(!d.json && !d.image && err.code > 0);
		return;
	}
	check(d.json && strlen(d.json) <= VM_MMDS_MAX);
	free(d.json);
	free(d.image);
}

static void check_record(const char *text, size_t len)
{
	struct vm_config empty;
	struct record r, again;
	struct error err;
	char *first, *second;

	if (record_read(text, len, &r, &err) < 0) {
		vm_config_init(&empty);
		first = record_write(&empty, false, 0);
		second = record_write(&r.config, r.start, 0);
		check(err.code > 0 && strcmp(first, second) == 0);
		free(first);
		free(second);
		return;
	}
	check(r.number < INT64_MAX);
	first = record_write(&r.config, r.start, r.number);
	check(first && record_read(first, strlen(first), &again, &err) == 0);
	second = record_write(&again.config, again.start, again.number);
	check(second && strcmp(first, second) == 0);
	free(first);
	free(second);
	vm_config_fini(&r.config);
	vm_config_fini(&again.config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (size && text[0] == 'p')
		check_proc(text + 1, size - 1);
	else if (size && text[0] == 'm')
		check_mmds(text + 1, size - 1);
	else if (size)
		check_record(text + 1, size - 1);
	free(text);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"ppid 4711 start 2992504 uid 1000003 protocol 7 "
		"cgroup vm-1000003 end\n",
		"m{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-1\","
		"\"n\":[1,2.5,true,null]}}}",
		"c{\"created\":1795197910000000000,\"labels\":{\"a.b/"
		"c\":\"d\"},"
		"\"boot-source\":{\"kernel_image_path\":\"/k\","
		"\"boot_args\":\"console=ttyS0\",\"initrd_path\":\"/i\"},"
		"\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":64,"
		"\"smt\":false,\"track_dirty_pages\":false,"
		"\"huge_pages\":\"None\"},\"start\":true}",
		"c{\"created\":1,\"host\":{\"path_root\":\"/srv\","
		"\"owner_pid\":3,\"owner_start_time\":4},"
		"\"api_socket\":{\"path\":\"/s\"},"
		"\"drives\":[{\"drive_id\":\"d\",\"path_on_host\":\"/d\","
		"\"is_root_device\":true,\"is_read_only\":true}],"
		"\"network-interfaces\":[{\"iface_id\":\"n\","
		"\"host_dev_name\":\"tap0\",\"guest_mac\":"
		"\"02:00:00:00:00:01\"}],\"vsock\":{\"guest_cid\":3,"
		"\"uds_path\":\"/v\"},\"mmds-config\":{"
		"\"network_interfaces\":[\"n\"],\"version\":\"V2\"}}",
		"c{\"created\":2,\"entropy\":{},\"balloon\":{\"amount_mib\":1,"
		"\"deflate_on_oom\":true,\"stats_polling_interval_s\":1},"
		"\"memory-hotplug\":{\"total_size_mib\":1024},"
		"\"pmem\":[{\"id\":\"p\",\"path_on_host\":\"/p\","
		"\"root_device\":true,\"read_only\":false}],"
		"\"serial\":{\"rate_limiter\":{\"bandwidth\":{\"size\":1,"
		"\"refill_time\":2}}}}",
		"c{\"created\":18446744073709551615}",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n]);
	if (len > cap)
		return 0;
	memcpy(buf, seeds[n], len);
	return len;
}
