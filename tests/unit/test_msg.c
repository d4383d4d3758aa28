#include "base/cleanup.h"
#include "vmm/msg.h"

#include "vmm/config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the table must say, written down a second time. */
static const struct {
	size_t size;
	uint32_t type;
	enum msg_end from;
} types[] = {
	{sizeof(struct msg_prepare), MSG_PREPARE, MSG_DAEMON},
	{sizeof(struct msg_start), MSG_START, MSG_DAEMON},
	{sizeof(struct msg_plain), MSG_ADOPT, MSG_DAEMON},
	{sizeof(struct msg_plain), MSG_PAUSE, MSG_DAEMON},
	{sizeof(struct msg_plain), MSG_RESUME, MSG_DAEMON},
	{sizeof(struct msg_plain), MSG_CTRL_ALT_DEL, MSG_DAEMON},
	{sizeof(struct msg_console_input), MSG_CONSOLE_INPUT, MSG_DAEMON},
	{sizeof(struct msg_console_size), MSG_CONSOLE_SIZE, MSG_DAEMON},
	{sizeof(struct msg_drive_update), MSG_DRIVE, MSG_DAEMON},
	{sizeof(struct msg_limit), MSG_LIMIT, MSG_DAEMON},
	{sizeof(struct msg_balloon), MSG_BALLOON, MSG_DAEMON},
	{sizeof(struct msg_memory), MSG_MEMORY, MSG_DAEMON},
	{sizeof(struct msg_mmds), MSG_MMDS, MSG_DAEMON},
	{sizeof(struct msg_vsock_connected), MSG_VSOCK_CONNECTED, MSG_DAEMON},
	{sizeof(struct msg_plain), MSG_STARTED, MSG_VMM},
	{sizeof(struct msg_failed), MSG_FAILED, MSG_VMM},
	{sizeof(struct msg_done), MSG_DONE, MSG_VMM},
	{sizeof(struct msg_event), MSG_EVENT, MSG_VMM},
	{sizeof(struct msg_vsock_connect), MSG_VSOCK_CONNECT, MSG_VMM},
	{sizeof(struct msg_exiting), MSG_EXITING, MSG_VMM},
};
#define N_TYPES ((int)(sizeof(types) / sizeof(types[0])))
_Static_assert(N_TYPES == MSG_TYPES - 1, "each type but MSG_INVALID");

static int pair[2]; /* pair[MSG_DAEMON], pair[MSG_VMM] */
static int some_fd;

static void setup(void)
{
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair),
		0);
	some_fd = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_ge(some_fd, 0);
}

static void teardown(void)
{
	close(pair[0]);
	close(pair[1]);
	close(some_fd);
}

static enum msg_end other(enum msg_end e)
{
	return e == MSG_DAEMON ? MSG_VMM : MSG_DAEMON;
}

/* A message of that type which is right in every way; returns its fds. */
static unsigned make(union msg *m, uint32_t type)
{
	memset(m, 0, sizeof(*m));
	m->hdr.type = type;
	m->hdr.seq = 7;
	if (type == MSG_CONSOLE_INPUT)
		m->input.len = 1;
	if (type == MSG_EXITING)
		m->exiting.reason = VM_EXIT_SHUTDOWN;
	if (type == MSG_PREPARE)
		return MSG_PREPARE_FD_CONTROL;
	if (type == MSG_START)
		return MSG_START_FD_FIXED;
	return type == MSG_ADOPT || type == MSG_DRIVE || type == MSG_MMDS;
}

/* The same descriptor n times, as the n to be passed. */
static const int *fds(unsigned n)
{
	static int all[FD_PASS_MAX];

	for (unsigned i = 0; i < n; i++)
		all[i] = some_fd;
	return all;
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Sends bytes as they are, past msg_send(), and wants them refused without a
 * descriptor left behind. */
static void refused(
	enum msg_end to, const void *buf, size_t len, unsigned n_fds)
{
	int before = count_open(), got[MSG_MAX_FDS];
	union msg m;
	unsigned n = 99;

	ck_assert_int_eq(
		fd_send(pair[other(to)], buf, len, fds(n_fds), n_fds), 0);
	ck_assert_int_eq(msg_recv(pair[to], to, &m, got, &n), -EPROTO);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(count_open(), before);
}

START_TEST(every_type_arrives_as_sent)
{
	enum msg_end to = other(types[_i].from);
	int got[MSG_MAX_FDS];
	unsigned want, n;
	union msg m, r;

	want = make(&m, types[_i].type);
	ck_assert_int_eq(msg_send(pair[types[_i].from], types[_i].from, &m,
				 fds(want), want),
		0);
	ck_assert_int_eq(msg_recv(pair[to], to, &r, got, &n), 1);
	ck_assert_uint_eq(n, want);
	ck_assert_mem_eq(&m, &r, types[_i].size);
	for (unsigned i = 0; i < n; i++)
		close(got[i]);
}
END_TEST

START_TEST(wrong_size_is_refused)
{
	/* One byte more than the largest, with room for it. */
	struct {
		union msg m;
		char more;
	} big = {0};
	unsigned n_fds = make(&big.m, types[_i].type);
	enum msg_end to = other(types[_i].from);

	refused(to, &big, types[_i].size + 1, n_fds);
	refused(to, &big, types[_i].size - 1, n_fds);
	refused(to, &big, sizeof(struct msg_hdr) - 1, n_fds);
}
END_TEST

START_TEST(wrong_direction_is_refused)
{
	unsigned n_fds;
	union msg m;

	n_fds = make(&m, types[_i].type);
	refused(types[_i].from, &m, types[_i].size, n_fds);
	ck_assert_int_eq(
		msg_send(pair[0], other(types[_i].from), &m, fds(n_fds), n_fds),
		-EINVAL);
}
END_TEST

START_TEST(wrong_number_of_descriptors_is_refused)
{
	enum msg_end to = other(types[_i].from);
	unsigned n_fds;
	union msg m;

	n_fds = make(&m, types[_i].type);
	refused(to, &m, types[_i].size, n_fds + 1);
	ck_assert_int_eq(msg_send(pair[types[_i].from], types[_i].from, &m,
				 fds(n_fds + 1), n_fds + 1),
		-EINVAL);
	if (n_fds == 0)
		return;
	refused(to, &m, types[_i].size, n_fds - 1);
	refused(to, &m, types[_i].size, 0);
	refused(to, &m, types[_i].size, FD_PASS_MAX);
}
END_TEST

START_TEST(unknown_type_is_refused_both_ways)
{
	static const uint32_t bad[] = {
		MSG_INVALID, MSG_TYPES, MSG_TYPES + 1, 1u << 31, UINT32_MAX};
	union msg m = {.hdr.type = bad[_i]};

	refused(MSG_VMM, &m, sizeof(struct msg_plain), 0);
	refused(MSG_DAEMON, &m, sizeof(struct msg_plain), 0);
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), -EINVAL);
}
END_TEST

START_TEST(start_carries_initrd_and_drives)
{
	unsigned n_fds = MSG_START_FD_FIXED + 1 + VM_MAX_DRIVES, n;
	int got[MSG_MAX_FDS];
	union msg m, r;

	make(&m, MSG_START);
	m.start.has_initrd = 1;
	m.start.n_drives = VM_MAX_DRIVES;
	ck_assert_int_eq(
		msg_send(pair[0], MSG_DAEMON, &m, fds(n_fds), n_fds), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	ck_assert_uint_eq(n, n_fds);
	for (unsigned i = 0; i < n; i++) {
		ck_assert_int_eq(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		close(got[i]);
	}
}
END_TEST

START_TEST(prepare_carries_where_to_listen_if_it_says_so)
{
	unsigned without = MSG_PREPARE_FD_CONTROL, n;
	int got[MSG_MAX_FDS];
	union msg m, r;

	make(&m, MSG_PREPARE);
	m.prepare.has_control = 1;
	ck_assert_int_eq(
		msg_send(pair[0], MSG_DAEMON, &m, fds(without), without),
		-EINVAL);
	refused(MSG_VMM, &m, sizeof(m.prepare), without);
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, fds(without + 1),
				 without + 1),
		0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	ck_assert_uint_eq(n, MSG_PREPARE_FDS);
	for (unsigned i = 0; i < n; i++)
		close(got[i]);
}
END_TEST

START_TEST(start_carries_the_metadata_last_and_if_there_is_some)
{
	struct msg_start_fds at;
	union msg m;

	make(&m, MSG_START);
	m.start.has_vsock = 1;
	m.start.has_mmds = 1;
	msg_start_fds(&m.start, &at);
	ck_assert_int_eq(at.mmds, -1);
	ck_assert_uint_eq(at.n, MSG_START_FD_FIXED + 1);
	m.start.mmds.data_len = 1;
	msg_start_fds(&m.start, &at);
	ck_assert_int_eq(at.vsock, MSG_START_FD_FIXED);
	ck_assert_int_eq(at.mmds, MSG_START_FD_FIXED + 1);
	ck_assert_uint_eq(at.n, MSG_START_FD_FIXED + 2);
	m.start.has_mmds = 0;
	msg_start_fds(&m.start, &at);
	ck_assert_int_eq(at.mmds, -1);
	ck_assert_uint_eq(at.n, MSG_START_FD_FIXED + 1);
}
END_TEST

/* The daemon has no room for any, and must not need it. */
START_TEST(a_descriptor_for_the_daemon_is_refused)
{
	union msg m, r;
	unsigned n = 7;

	make(&m, MSG_EVENT);
	ck_assert_int_eq(
		fd_send(pair[MSG_VMM], &m, sizeof(m.event), &some_fd, 1), 0);
	ck_assert_int_eq(
		msg_recv(pair[MSG_DAEMON], MSG_DAEMON, &r, NULL, &n), -EPROTO);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(counts_out_of_range_are_refused)
{
	union msg m;

	make(&m, MSG_START);
	m.start.has_initrd = 2;
	refused(MSG_VMM, &m, sizeof(m.start), MSG_START_FD_FIXED + 2);
	make(&m, MSG_START);
	m.start.has_mmds = 2;
	refused(MSG_VMM, &m, sizeof(m.start), MSG_START_FD_FIXED);
	make(&m, MSG_START);
	m.start.n_drives = VM_MAX_DRIVES + 1;
	refused(MSG_VMM, &m, sizeof(m.start),
		MSG_START_FD_FIXED + VM_MAX_DRIVES + 1);
	make(&m, MSG_PREPARE);
	m.prepare.n_cpuid = MSG_CPUID_MAX + 1;
	refused(MSG_VMM, &m, sizeof(m.prepare), MSG_PREPARE_FD_CONTROL);
}
END_TEST

/* One count or enumerator beyond its range, and as many descriptors as it would
 * take if nobody looked. */
START_TEST(numbers_beyond_their_range_are_refused)
{
	static const struct {
		uint32_t type;
		size_t off, size;
		uint32_t value;
		unsigned n_fds;
	} cases[] = {
#define START(member, v, n)                                                    \
	{MSG_START, offsetof(union msg, start.member),                         \
		sizeof(((struct msg_start *)0)->member), v,                    \
		MSG_START_FD_FIXED + (n)}
#define PREPARE(member, v, n)                                                  \
	{                                                                      \
		MSG_PREPARE, offsetof(union msg, prepare.member),              \
			sizeof(((struct msg_prepare *)0)->member), v,          \
			MSG_PREPARE_FD_CONTROL + (n)                           \
	}
		START(has_initrd, 2, 1),
		START(has_vsock, 2, 1),
		START(n_nets, VM_MAX_NETS + 1, VM_MAX_NETS + 1),
		START(n_pmem, VM_MAX_PMEM + 1, VM_MAX_PMEM + 1),
		START(nets[0].n_pairs, 0, 0),
		START(nets[0].n_pairs, VM_MAX_QUEUE_PAIRS + 1,
			VM_MAX_QUEUE_PAIRS + 1),
		PREPARE(has_control, 2, 2),
		PREPARE(n_cpuid_mods, VM_MAX_CPUID_MODS + 1, 0),
		PREPARE(n_msr_mods, VM_MAX_MSR_MODS + 1, 0),
		PREPARE(cpuid_mods[0].reg, VM_CPUID_EDX + 1, 0),
		{MSG_LIMIT, offsetof(union msg, limit.kind), 4, MSG_LIMIT_KINDS,
			0},
		{MSG_BALLOON, offsetof(union msg, balloon.what), 4,
			MSG_BALLOON_WHATS, 0},
		{MSG_VSOCK_CONNECTED,
			offsetof(union msg, vsock_connected.has_fd), 1, 2, 2},
	};
	size_t size = sizeof(struct msg_start);
	union msg m;

	make(&m, cases[_i].type);
	if (cases[_i].type == MSG_START) {
		/* What lies behind the arrays would do, too. */
		memset(m.start.nets, 1, sizeof(m.start.nets));
		memset(m.start.pmem, 1, sizeof(m.start.pmem));
		m.start.n_nets = _i == 4 || _i == 5;
	} else if (cases[_i].type == MSG_PREPARE) {
		m.prepare.n_cpuid_mods = 1;
		size = sizeof(m.prepare);
	} else if (cases[_i].type == MSG_LIMIT) {
		size = sizeof(m.limit);
	} else if (cases[_i].type == MSG_BALLOON) {
		size = sizeof(m.balloon);
	} else {
		size = sizeof(m.vsock_connected);
	}
	memcpy((char *)&m + cases[_i].off, &cases[_i].value, cases[_i].size);
	refused(MSG_VMM, &m, size, cases[_i].n_fds);
}
END_TEST
#define N_BEYOND 13

START_TEST(the_largest_counts_are_taken)
{
	int got[MSG_MAX_FDS];
	struct msg_start_fds at;
	union msg m, r;
	unsigned n;

	make(&m, MSG_START);
	m.start.has_initrd = m.start.has_vsock = m.start.has_mmds = 1;
	m.start.n_drives = VM_MAX_DRIVES;
	m.start.n_nets = VM_MAX_NETS;
	m.start.n_pmem = VM_MAX_PMEM;
	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		m.start.nets[i].n_pairs = i ? VM_MAX_QUEUE_PAIRS : 1;
	msg_start_fds(&m.start, &at);
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, fds(at.n), at.n), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	ck_assert_uint_eq(n, at.n);
	for (unsigned i = 0; i < n; i++)
		close(got[i]);

	make(&m, MSG_PREPARE);
	m.prepare.has_control = 1;
	m.prepare.n_cpuid = MSG_CPUID_MAX;
	m.prepare.n_cpuid_mods = VM_MAX_CPUID_MODS;
	m.prepare.n_msr_mods = VM_MAX_MSR_MODS;
	for (unsigned i = 0; i < VM_MAX_CPUID_MODS; i++)
		m.prepare.cpuid_mods[i].reg = VM_CPUID_EDX;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, fds(MSG_PREPARE_FDS),
				 MSG_PREPARE_FDS),
		0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	for (unsigned i = 0; i < n; i++)
		close(got[i]);

	make(&m, MSG_LIMIT);
	m.limit.kind = MSG_LIMIT_KINDS - 1;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	make(&m, MSG_BALLOON);
	m.balloon.what = MSG_BALLOON_WHATS - 1;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	make(&m, MSG_VSOCK_CONNECTED);
	m.vsock_connected.has_fd = 1;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, fds(1), 1), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	close(got[0]);
}
END_TEST

START_TEST(console_input_of_no_or_too_many_bytes_is_refused)
{
	union msg m;

	make(&m, MSG_CONSOLE_INPUT);
	m.input.len = 0;
	refused(MSG_VMM, &m, sizeof(m.input), 0);
	m.input.len = VM_CONSOLE_INPUT_MAX + 1;
	refused(MSG_VMM, &m, sizeof(m.input), 0);
}
END_TEST

START_TEST(enumerators_out_of_range_are_refused)
{
	union msg m;

	make(&m, MSG_EVENT);
	m.event.kind = MSG_EVENT_KINDS;
	refused(MSG_DAEMON, &m, sizeof(m.event), 0);
	make(&m, MSG_EXITING);
	m.exiting.reason = VM_EXIT_NONE;
	refused(MSG_DAEMON, &m, sizeof(m.exiting), 0);
	m.exiting.reason = VM_EXIT_KILLED; /* the daemon's own to say */
	refused(MSG_DAEMON, &m, sizeof(m.exiting), 0);
}
END_TEST

START_TEST(the_largest_values_are_taken)
{
	int got[MSG_MAX_FDS];
	union msg m, r;
	unsigned n;

	make(&m, MSG_CONSOLE_INPUT);
	m.input.len = VM_CONSOLE_INPUT_MAX;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	make(&m, MSG_EXITING);
	m.exiting.reason = VM_EXIT_INTERNAL_ERROR;
	ck_assert_int_eq(msg_send(pair[1], MSG_VMM, &m, NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &r, got, &n), 1);
}
END_TEST

START_TEST(what_would_be_refused_is_not_sent)
{
	int got[MSG_MAX_FDS];
	union msg m;
	unsigned n;

	make(&m, MSG_CONSOLE_INPUT);
	m.input.len = 0;
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), -EINVAL);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &m, got, &n), -EAGAIN);
}
END_TEST

START_TEST(strings_end_whatever_the_peer_sent)
{
	int got[MSG_MAX_FDS];
	union msg m, r;
	unsigned n;

	make(&m, MSG_START);
	memset(m.start.cmdline, 'c', sizeof(m.start.cmdline));
	memset(m.start.id, 'i', sizeof(m.start.id));
	ck_assert_int_eq(fd_send(pair[0], &m, sizeof(m.start),
				 fds(MSG_START_FD_FIXED), MSG_START_FD_FIXED),
		0);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 1);
	ck_assert_uint_eq(strnlen(r.start.cmdline, sizeof(r.start.cmdline)),
		sizeof(r.start.cmdline) - 1);
	ck_assert_uint_eq(strnlen(r.start.id, sizeof(r.start.id)),
		sizeof(r.start.id) - 1);
	for (unsigned i = 0; i < n; i++)
		close(got[i]);

	make(&m, MSG_FAILED);
	memset(m.failed.field, 'f', sizeof(m.failed.field));
	memset(m.failed.text, 't', sizeof(m.failed.text));
	ck_assert_int_eq(fd_send(pair[1], &m, sizeof(m.failed), NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &r, got, &n), 1);
	ck_assert_uint_eq(strnlen(r.failed.field, sizeof(r.failed.field)),
		sizeof(r.failed.field) - 1);
	ck_assert_uint_eq(strnlen(r.failed.text, sizeof(r.failed.text)),
		sizeof(r.failed.text) - 1);

	make(&m, MSG_EXITING);
	memset(m.exiting.detail, 'd', sizeof(m.exiting.detail));
	ck_assert_int_eq(fd_send(pair[1], &m, sizeof(m.exiting), NULL, 0), 0);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &r, got, &n), 1);
	ck_assert_uint_eq(strnlen(r.exiting.detail, sizeof(r.exiting.detail)),
		sizeof(r.exiting.detail) - 1);
}
END_TEST

START_TEST(last_words_arrive_from_a_peer_that_has_not_read_ours)
{
	union msg m, r;
	unsigned n;

	make(&m, MSG_PAUSE);
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), 0);
	make(&m, MSG_EXITING);
	ck_assert_int_eq(msg_send(pair[1], MSG_VMM, &m, NULL, 0), 0);
	close(pair[1]);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &r, NULL, &n), 1);
	ck_assert_uint_eq(r.hdr.type, MSG_EXITING);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &r, NULL, &n), 0);
	pair[1] = -1;
}
END_TEST

START_TEST(end_and_nothing_are_told_apart)
{
	int got[MSG_MAX_FDS];
	unsigned n;
	union msg r;

	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), -EAGAIN);
	close(pair[0]);
	ck_assert_int_eq(msg_recv(pair[1], MSG_VMM, &r, got, &n), 0);
	pair[0] = dup(some_fd);
}
END_TEST

/* A peer that dies without having read what was sent to it. */
START_TEST(a_reset_connection_is_an_end)
{
	int got[MSG_MAX_FDS];
	union msg m;
	unsigned n;

	make(&m, MSG_PAUSE);
	ck_assert_int_eq(msg_send(pair[0], MSG_DAEMON, &m, NULL, 0), 0);
	close(pair[1]);
	ck_assert_int_eq(msg_recv(pair[0], MSG_DAEMON, &m, got, &n), 0);
	pair[1] = dup(some_fd);
}
END_TEST

START_TEST(empty_datagram_does_not_smuggle_descriptors)
{
	refused(MSG_DAEMON, "", 0, 3);
	refused(MSG_VMM, "", 0, 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("msg");
	TCase *recv_tc = tcase_create("msg_recv");
	TCase *table_tc = tcase_create("table");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(table_tc, setup, teardown);
	tcase_add_loop_test(table_tc, every_type_arrives_as_sent, 0, N_TYPES);
	tcase_add_loop_test(table_tc, wrong_size_is_refused, 0, N_TYPES);
	tcase_add_loop_test(table_tc, wrong_direction_is_refused, 0, N_TYPES);
	tcase_add_loop_test(
		table_tc, wrong_number_of_descriptors_is_refused, 0, N_TYPES);
	tcase_add_loop_test(table_tc, unknown_type_is_refused_both_ways, 0, 5);
	suite_add_tcase(s, table_tc);

	tcase_add_checked_fixture(recv_tc, setup, teardown);
	tcase_add_test(recv_tc, start_carries_initrd_and_drives);
	tcase_add_test(recv_tc, prepare_carries_where_to_listen_if_it_says_so);
	tcase_add_test(
		recv_tc, start_carries_the_metadata_last_and_if_there_is_some);
	tcase_add_test(recv_tc, a_descriptor_for_the_daemon_is_refused);
	tcase_add_test(recv_tc, counts_out_of_range_are_refused);
	tcase_add_loop_test(
		recv_tc, numbers_beyond_their_range_are_refused, 0, N_BEYOND);
	tcase_add_test(recv_tc, the_largest_counts_are_taken);
	tcase_add_test(
		recv_tc, console_input_of_no_or_too_many_bytes_is_refused);
	tcase_add_test(recv_tc, enumerators_out_of_range_are_refused);
	tcase_add_test(recv_tc, the_largest_values_are_taken);
	tcase_add_test(recv_tc, what_would_be_refused_is_not_sent);
	tcase_add_test(recv_tc, a_reset_connection_is_an_end);
	tcase_add_test(recv_tc, strings_end_whatever_the_peer_sent);
	tcase_add_test(
		recv_tc, last_words_arrive_from_a_peer_that_has_not_read_ours);
	tcase_add_test(recv_tc, end_and_nothing_are_told_apart);
	tcase_add_test(recv_tc, empty_datagram_does_not_smuggle_descriptors);
	suite_add_tcase(s, recv_tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
