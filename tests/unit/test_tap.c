/*
 * Real taps, in a network namespace of this test's own: opening them, and
 * virtio-net on one. Needs root and /dev/net/tun.
 */

#include "base/clock.h"
#include "net/tap.h"
#include "net_driver.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIT(n) (1ull << (n))
#define OFFLOADS                                                               \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |         \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))
#define FEATURES                                                               \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF) |               \
		BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_VQ))
#define NAME "mf-test0"
#define NAME_FIELD "network-interfaces.host_dev_name"

static struct tap tap;
static struct error err;
static int here = -1; /* the namespace all this is in */

static void run(const char *command)
{
	int status = system(command); /* NOLINT(cert-env33-c) */

	ck_assert_msg(status == 0, "%s", command);
}

static bool in_same_namespace(void)
{
	struct stat a, b;

	return fstat(here, &a) == 0 && stat("/proc/self/ns/net", &b) == 0 &&
	       a.st_ino == b.st_ino;
}

static int open_tap(struct tap_config config)
{
	int r;

	if (!config.n_queues)
		config.n_queues = 1;
	if (!config.name)
		config.name = NAME;
	err = (struct error){0};
	r = tap_open(&tap, &config, &err);
	ck_assert(in_same_namespace());
	return r;
}

static int create(void)
{
	return open_tap((struct tap_config){.create = true});
}

static bool exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

static void clean_up(void)
{
	if (exists(NAME))
		run("ip link del " NAME);
	if (exists("mf-bridge"))
		run("ip link del mf-bridge");
}

/* Opening */

START_TEST(a_tap_that_is_made_is_up_and_goes_with_its_descriptors)
{
	ck_assert_int_eq(create(), 0);
	ck_assert(exists(NAME));
	run("ip link show up dev " NAME " | grep -q UP");
	ck_assert_int_eq(tap.features & OFFLOADS, OFFLOADS);
	ck_assert_int_eq(fcntl(tap.fds[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	ck_assert_int_eq(fcntl(tap.fds[0], F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(tap.fds[1], -1);
	ck_assert(tap_in_use(&tap));
	tap_close_queues(&tap);
	ck_assert(!exists(NAME));
	ck_assert(!tap_in_use(&tap));
	tap_close(&tap);
}
END_TEST

START_TEST(a_tap_that_is_there_stays_as_it_is)
{
	run("ip tuntap add " NAME " mode tap && ip link set " NAME " mtu 1300");
	ck_assert_int_eq(open_tap((struct tap_config){.mtu = 1400}), 0);
	run("ip link show " NAME " | grep -q 'mtu 1300'");
	run("! ip link show up dev " NAME " | grep -q .");
	tap_close(&tap);
	ck_assert(exists(NAME));
	/* One with several queues can be had for one. */
	run("ip link del " NAME " && ip tuntap add " NAME
	    " mode tap multi_queue");
	ck_assert_int_eq(open_tap((struct tap_config){.n_queues = 1}), 0);
	tap_close(&tap);
	ck_assert_int_eq(open_tap((struct tap_config){.n_queues = 8}), 0);
	ck_assert_int_ge(tap.fds[7], 0);
	run("ip link set " NAME " up");
	ck_assert(tap_in_use(&tap));
	tap_close_queues(&tap);
	ck_assert(!tap_in_use(&tap));
	tap_close(&tap);
}
END_TEST

START_TEST(one_that_is_made_has_mtu_bridge_and_queues)
{
	run("ip link add mf-bridge type bridge");
	ck_assert_int_eq(open_tap((struct tap_config){.create = true,
				 .bridge = "mf-bridge",
				 .mtu = 9000,
				 .n_queues = 4}),
		0);
	run("ip link show " NAME " | grep -q 'mtu 9000.*master mf-bridge'");
	ck_assert_int_ge(tap.fds[3], 0);
	tap_close(&tap);
	ck_assert(!exists(NAME));
}
END_TEST

START_TEST(one_in_a_namespace_is_made_there)
{
	run("ip netns add mf-test");
	ck_assert_int_eq(
		open_tap((struct tap_config){
			.create = true, .netns = "mf-test", .mtu = 1234}),
		0);
	ck_assert(!exists(NAME));
	run("ip -n mf-test link show up dev " NAME " | grep -q 'mtu 1234'");
	ck_assert(tap_in_use(&tap));
	tap_close_queues(&tap);
	ck_assert(!tap_in_use(&tap));
	run("! ip -n mf-test link show dev " NAME " 2>/dev/null");
	tap_close(&tap);
	/* What fails there leaves us here as well. */
	ck_assert_int_eq(
		open_tap((struct tap_config){.netns = "mf-test"}), -ENOENT);
	run("ip netns del mf-test");
}
END_TEST

static const struct {
	const char *what, *before; /* a command, or NULL */
	struct tap_config config;
	int code;
	const char *field;
} refusals[] = {
	{"none there", NULL, {.n_queues = 1}, ENOENT, NAME_FIELD},
	{"there already", "ip tuntap add " NAME " mode tap", {.create = true},
		EEXIST, NAME_FIELD},
	{"there, and no tap", "ip link add " NAME " type bridge",
		{.create = true}, EEXIST, NAME_FIELD},
	{"no tap", "ip link add " NAME " type bridge", {.n_queues = 1}, EINVAL,
		NAME_FIELD},
	{"a tun", "ip tuntap add " NAME " mode tun", {.n_queues = 1}, EINVAL,
		NAME_FIELD},
	{"one queue only", "ip tuntap add " NAME " mode tap", {.n_queues = 2},
		EINVAL, NAME_FIELD},
	{"no name", NULL, {.name = "", .create = true}, EINVAL, NAME_FIELD},
	{"a long name", NULL, {.name = "sixteen-bytes-ab", .create = true},
		EINVAL, NAME_FIELD},
	{"a pattern", NULL, {.name = "tap%d", .create = true}, EINVAL,
		NAME_FIELD},
	{"a path", NULL, {.name = "a/b", .create = true}, EINVAL, NAME_FIELD},
	{"a space", NULL, {.name = "a b", .create = true}, EINVAL, NAME_FIELD},
	{"dots", NULL, {.name = "..", .create = true}, EINVAL, NAME_FIELD},
	{"a dot", NULL, {.name = ".", .create = true}, EINVAL, NAME_FIELD},
	{"no bridge there", NULL, {.create = true, .bridge = "mf-bridge"},
		ENOENT, "network-interfaces.bridge"},
	{"no bridge", "ip tuntap add mf-bridge mode tap",
		{.create = true, .bridge = "mf-bridge"}, EINVAL,
		"network-interfaces.bridge"},
	{"a bridge's bad name", NULL, {.create = true, .bridge = "a/b"}, EINVAL,
		"network-interfaces.bridge"},
	{"an MTU too small", NULL, {.create = true, .mtu = 67}, EINVAL,
		"network-interfaces.mtu"},
	{"no namespace there", NULL, {.create = true, .netns = "mf-none"},
		ENOENT, "network-interfaces.netns"},
	{"a namespace's path", NULL, {.create = true, .netns = "../netns"},
		EINVAL, "network-interfaces.netns"},
	{"a namespace without name", NULL, {.create = true, .netns = ""},
		EINVAL, "network-interfaces.netns"},
	{"a namespace of dots", NULL, {.create = true, .netns = ".."}, EINVAL,
		"network-interfaces.netns"},
	{"no namespace", "touch /run/netns/mf-file",
		{.create = true, .netns = "mf-file"}, EINVAL,
		"network-interfaces.netns"},
	{"no queue", NULL, {.create = true, .n_queues = TAP_MAX_QUEUES + 1},
		EINVAL, "network-interfaces.queue_pairs"},
};

START_TEST(what_cannot_be_opened_is_told_by_its_field)
{
	bool there;

	if (refusals[_i].before)
		run(refusals[_i].before);
	there = exists(NAME);
	ck_assert_msg(open_tap(refusals[_i].config) == -refusals[_i].code,
		"%s: %d, %s", refusals[_i].what, err.code, err.msg);
	ck_assert_str_eq(err.field, refusals[_i].field);
	ck_assert(err.msg[0]);
	/* Nothing is left of the attempt. */
	ck_assert_int_eq(exists(NAME), there);
}
END_TEST

START_TEST(a_tap_in_use_is_busy)
{
	struct tap other;

	run("ip tuntap add " NAME " mode tap");
	ck_assert_int_eq(open_tap((struct tap_config){.n_queues = 1}), 0);
	other = tap;
	ck_assert_int_eq(open_tap((struct tap_config){.n_queues = 1}), -EBUSY);
	ck_assert_str_eq(err.field, NAME_FIELD);
	tap_close(&other);
	ck_assert_int_eq(open_tap((struct tap_config){.n_queues = 1}), 0);
	tap_close(&tap);
}
END_TEST

/* virtio-net on one */

static struct nd d;
static int host = -1;
static uint8_t frame[1514];

static void setup_device(void)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	ck_assert_int_eq(create(), 0);
	nd_init(&d, (struct net_config){.tap_fds = tap.fds,
			    .n_pairs = 1,
			    .tap_features = tap.features});
	at.sll_ifindex = (int)if_nametoindex(NAME);
	host = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	ck_assert_int_eq(bind(host, (struct sockaddr *)&at, sizeof(at)), 0);
	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[12] = 0x88; /* an EtherType of nobody's */
	frame[13] = 0xb5;
}

static void teardown_device(void)
{
	uint64_t end = clock_ns() + 5000000000u;

	close(host);
	nd_fini(&d);
	tap_close_queues(&tap);
	/* The worker's ring lets go of it when it likes. */
	while (exists(NAME) && clock_ns() < end)
		nd_pause_ms(1);
	ck_assert(!tap_in_use(&tap));
	tap_close(&tap);
}

static void sends(size_t len)
{
	nd_offer_tx(&d, 1, 0, frame, len);
	nd_kick(&d, 1);
}

static uint16_t link_status(void)
{
	uint16_t status;

	virtio_mmio_read(d.m,
		VIRTIO_MMIO_CONFIG + offsetof(struct virtio_net_config, status),
		&status, sizeof(status));
	return status;
}

static bool link_becomes(uint16_t status)
{
	uint64_t end = clock_ns() + 5000000000u;

	while (link_status() != status && clock_ns() < end)
		nd_pause_ms(1);
	return link_status() == status;
}

START_TEST(frames_cross_the_tap_both_ways)
{
	uint8_t buf[2048];
	uint64_t end = clock_ns() + 5000000000u;
	uint32_t len, id;
	bool seen = false;

	nd_up(&d, FEATURES, 3);
	for (uint16_t i = 0; i < 32; i++)
		nd_offer_rx(&d, 0, i, 2048);
	nd_kick(&d, 0);
	frame[14] = 0x11;
	ck_assert_int_eq(send(host, frame, 100, 0), 100);
	do
		id = nd_wait(&d, 0, &len);
	while (memcmp((uint8_t *)nd_ptr(&d, nd_place(0, id)) + 12, frame,
		       100) != 0);
	ck_assert_uint_eq(len, 112);
	frame[14] = 0x22;
	sends(200);
	while (!seen && clock_ns() < end)
		seen = recv(host, buf, sizeof(buf), 0) == 200 &&
		       memcmp(buf, frame, 200) == 0;
	ck_assert(seen);
	ck_assert_uint_eq(d.stats.tap_errors, 0);
}
END_TEST

START_TEST(a_vnet_header_without_sense_is_the_guests_fault)
{
	uint8_t *hdr = nd_ptr(&d, nd_place(1, 0));
	uint32_t len;

	nd_up(&d, FEATURES, 3);
	nd_offer_tx(&d, 1, 0, frame, 100);
	hdr[1] = 0x7f; /* gso_type */
	nd_kick(&d, 1);
	nd_wait(&d, 1, &len);
	ck_assert(nd_counts(&d.stats.malformed, 1));
	ck_assert_uint_eq(d.stats.tx_dropped, 1);
	ck_assert_uint_eq(d.stats.tap_errors, 0);
	ck_assert_uint_eq(d.n_errors, 0);
	ck_assert_uint_eq(link_status(), VIRTIO_NET_S_LINK_UP);
}
END_TEST

START_TEST(a_tap_that_is_down_is_a_link_that_is_down)
{
	uint64_t submits;
	uint32_t len;

	nd_up(&d, FEATURES, 3);
	run("ip link set " NAME " down");
	sends(100);
	nd_wait(&d, 1, &len);
	ck_assert(link_becomes(0));
	ck_assert_uint_eq(d.stats.tx_dropped, 1);
	nd_pause_ms(5);
	submits = worker_submits(d.worker);
	nd_pause_ms(20);
	ck_assert_uint_eq(worker_submits(d.worker), submits);
	ck_assert_uint_eq(link_status(), 0);
	/* Also for a driver that begins only now. */
	nd_reset(&d);
	nd_up(&d, FEATURES, 3);
	ck_assert_uint_eq(link_status(), 0);
	run("ip link set " NAME " up");
	ck_assert(link_becomes(VIRTIO_NET_S_LINK_UP));
	sends(100);
	nd_wait(&d, 1, &len);
	ck_assert(nd_counts(&d.stats.tx_packets, 1));
}
END_TEST

START_TEST(a_tap_that_is_gone_is_a_dead_link_and_no_work)
{
	uint64_t submits;
	uint32_t len;

	nd_up(&d, FEATURES, 3);
	for (uint16_t i = 0; i < 32; i++)
		nd_offer_rx(&d, 0, i, 2048);
	nd_kick(&d, 0);
	nd_pause_ms(10);
	run("ip link del " NAME);
	if (_i) {
		sends(100);
		nd_wait(&d, 1, &len);
	}
	ck_assert(link_becomes(0));
	ck_assert_uint_eq(__atomic_load_n(&d.n_errors, __ATOMIC_ACQUIRE), 1);
	ck_assert_int_eq(d.last_error, EBADFD);
	nd_pause_ms(20);
	submits = worker_submits(d.worker);
	nd_pause_ms(20);
	ck_assert_uint_eq(worker_submits(d.worker), submits);
	/* Whatever is sent is given back. */
	for (unsigned i = 0; i < 5; i++) {
		sends(100);
		nd_wait(&d, 1, &len);
	}
	ck_assert_uint_ge(d.stats.tx_dropped, 5);
	ck_assert(!tap_in_use(&tap));
}
END_TEST

static bool does(uint32_t cmd)
{
	struct ethtool_value value = {.cmd = cmd};
	struct ifreq ifr = {.ifr_name = NAME};

	ifr.ifr_data = (void *)&value;
	ck_assert_int_eq(ioctl(tap.sock, SIOCETHTOOL, &ifr), 0);
	return value.data;
}

/* What the tap does is what the driver asked for. */
START_TEST(offloads_follow_the_driver)
{
	uint64_t zero = 0, all = OFFLOADS;

	nd_up(&d, FEATURES | OFFLOADS | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
		3);
	nd_pause_ms(30);
	ck_assert(does(ETHTOOL_GTSO));
	ck_assert_uint_eq(
		nd_ctrl(&d, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &zero, 8), 0);
	nd_pause_ms(60);
	ck_assert(!does(ETHTOOL_GTSO));
	ck_assert(!does(ETHTOOL_GTXCSUM));
	ck_assert_uint_eq(
		nd_ctrl(&d, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &all, 8), 0);
	nd_pause_ms(60);
	ck_assert(does(ETHTOOL_GTSO));
	/* Another driver, which can do less. */
	nd_reset(&d);
	nd_up(&d, FEATURES | BIT(VIRTIO_NET_F_GUEST_CSUM), 3);
	nd_pause_ms(60);
	ck_assert(!does(ETHTOOL_GTSO));
	ck_assert(does(ETHTOOL_GTXCSUM));
	ck_assert_uint_eq(d.stats.tap_errors, 0);
}
END_TEST

/* Each change takes the kernel's lock for all devices: a guest gets few. */
START_TEST(offloads_change_a_few_times_a_second)
{
	uint64_t start = clock_ns();

	nd_up(&d, FEATURES | OFFLOADS | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
		3);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t offloads = i % 2 ? OFFLOADS : 0;

		ck_assert_uint_eq(nd_ctrl(&d, 2, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
					  0, &offloads, 8),
			0);
	}
	ck_assert_uint_ge(clock_ns() - start, 160000000u);
}
END_TEST

static void at_home(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("t", "/run", "tmpfs", 0, NULL) < 0 ||
		mkdir("/run/netns", 0755) < 0) {
		perror("a namespace of its own");
		exit(77);
	}
	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	/* Nobody else shall send anything. */
	/* NOLINTNEXTLINE(cert-env33-c) */
	(void)!system("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 "
		      "net.ipv6.conf.default.disable_ipv6=1 2>/dev/null");
}

int main(void)
{
	Suite *s = suite_create("tap");
	TCase *opening = tcase_create("opening"), *on = tcase_create("device");
	SRunner *r = srunner_create(s);
	int failed;

	if (access("/dev/net/tun", R_OK | W_OK) < 0 || geteuid() != 0)
		return 77;
	at_home();
	tcase_add_checked_fixture(opening, NULL, clean_up);
	tcase_set_timeout(opening, 60);
	tcase_add_test(opening,
		a_tap_that_is_made_is_up_and_goes_with_its_descriptors);
	tcase_add_test(opening, a_tap_that_is_there_stays_as_it_is);
	tcase_add_test(opening, one_that_is_made_has_mtu_bridge_and_queues);
	tcase_add_test(opening, one_in_a_namespace_is_made_there);
	tcase_add_loop_test(opening, what_cannot_be_opened_is_told_by_its_field,
		0, sizeof(refusals) / sizeof(refusals[0]));
	tcase_add_test(opening, a_tap_in_use_is_busy);
	suite_add_tcase(s, opening);
	tcase_add_checked_fixture(on, setup_device, teardown_device);
	tcase_set_timeout(on, 60);
	tcase_add_test(on, frames_cross_the_tap_both_ways);
	tcase_add_test(on, a_vnet_header_without_sense_is_the_guests_fault);
	tcase_add_test(on, a_tap_that_is_down_is_a_link_that_is_down);
	tcase_add_loop_test(
		on, a_tap_that_is_gone_is_a_dead_link_and_no_work, 0, 2);
	tcase_add_test(on, offloads_follow_the_driver);
	tcase_add_test(on, offloads_change_a_few_times_a_second);
	suite_add_tcase(s, on);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
