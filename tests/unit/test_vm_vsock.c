#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/vmm_thread.h"
#include "tests/unit/vsock_talk.h"

#include <poll.h>

/* The way from a guest's vsock to the daemon and back. */

static struct vmm_thread t;
static struct vsock_guest g;
static struct virtio_vsock_hdr hdr;

static void start(bool with_vsock)
{
	struct vm *vm = &t.vm;

	vmm_thread_make(&t, 1);
	vmm_thread_listen(&t);
	memset(&g, 0, sizeof(g));
	vsock_guest_listen(&g);
	if (with_vsock) {
		t.s.msg.start.has_vsock = 1;
		t.s.msg.start.guest_cid = GUEST_CID;
		t.s.fds[t.s.n_fds++] = g.listen_fd;
	}
	vmm_thread_start(&t);
	if (!with_vsock)
		return;
	/* Behind the drive. */
	ck_assert_ptr_eq(vm->slots[1].dev, vm->vsock);
	vsock_guest_borrow(&g, &vm->mem, vm->slots[1].transport, vm->vsock,
		vm->workers[VM_WORKER_NET]);
	vsock_guest_up(&g, GUEST_V1, 8);
}

static void stop(void)
{
	bool had_vsock = t.vm.vsock;

	vm_events_end(&t.vm.events, VM_EXIT_SHUTDOWN, "");
	ck_assert_int_eq(vmm_thread_join(&t), 0);
	unlink(g.path);
	if (!had_vsock)
		close_fd(&g.listen_fd);
	vmm_thread_free(&t);
}

static void expect_connect(union msg *m, uint32_t port)
{
	ck_assert_int_eq(vmm_thread_receive(&t, m), 1);
	ck_assert_uint_eq(m->hdr.type, MSG_VSOCK_CONNECT);
	ck_assert_uint_eq(m->hdr.seq, 0);
	ck_assert_uint_eq(m->vsock_connect.port, port);
}

static void answer(uint64_t token, int fd)
{
	union msg m = {.vsock_connected = {.hdr = {MSG_VSOCK_CONNECTED, 0},
			       .token = token,
			       .has_fd = fd >= 0}};

	ck_assert_int_eq(msg_send(t.sock[0], MSG_DAEMON, &m, &fd, fd >= 0), 0);
}

/* Both refused, in whichever order. */
static void hear_both_refused(const struct link *a, const struct link *b)
{
	uint32_t ports[2];

	for (unsigned i = 0; i < 2; i++) {
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(RST));
		ports[i] = hdr.dst_port;
	}
	ck_assert_uint_ne(ports[0], ports[1]);
	ck_assert(ports[0] == a->guest_port || ports[0] == b->guest_port);
	ck_assert(ports[1] == a->guest_port || ports[1] == b->guest_port);
}

START_TEST(a_guests_connection_is_asked_of_the_daemon)
{
	struct link l = {52, 53, -1};
	union msg m;
	int pair[2];
	char buf[5];

	start(true);
	say(&g, OP(REQUEST), &l);
	expect_connect(&m, 52);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	answer(m.vsock_connect.token, pair[1]);
	close(pair[1]);
	hear(&g, OP(RESPONSE), &l, &hdr);
	send_bytes(&g, &l, "hello", 5);
	vsock_host_read(pair[0], buf, 5);
	ck_assert_mem_eq(buf, "hello", 5);
	/* An answer is not answered. */
	ck_assert(vmm_thread_is_silent(&t));
	ck_assert_uint_eq(t.s.shared->vsock.opened, 1);
	/* It ends with its VM. */
	stop();
	ck_assert(vsock_host_is_closed(pair[0]));
	close(pair[0]);
}
END_TEST

START_TEST(a_refusal_reaches_the_guest)
{
	struct link l = {52, 53, -1};
	union msg m;

	start(true);
	say(&g, OP(REQUEST), &l);
	expect_connect(&m, 52);
	answer(m.vsock_connect.token, -1);
	hear(&g, OP(RST), &l, &hdr);
	ck_assert(vmm_thread_is_silent(&t));
	stop();
}
END_TEST

START_TEST(more_are_asked_for_as_answers_come)
{
	struct link l = {1000, 0, -1};
	union msg m[VSOCK_MAX_CONNECTING], more;

	start(true);
	for (; l.guest_port < 20; l.guest_port++)
		say(&g, OP(REQUEST), &l);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTING; i++)
		expect_connect(&m[i], 1000);
	ck_assert(vmm_thread_is_silent(&t));
	for (unsigned i = 0; i < 4; i++) {
		answer(m[i].vsock_connect.token, -1);
		expect_connect(&more, 1000);
	}
	answer(m[4].vsock_connect.token, -1);
	ck_assert(vmm_thread_is_silent(&t));
	stop();
}
END_TEST

START_TEST(a_client_of_the_host_needs_no_daemon)
{
	struct link l;

	start(true);
	l = open_client(&g, 77);
	ck_assert(vmm_thread_is_silent(&t));
	/* Neither an open connection nor one that says nothing keeps a VM from
	 * ending. */
	int quiet = vsock_guest_client(&g);
	stop();
	ck_assert(vsock_host_is_closed(l.fd));
	close(l.fd);
	close(quiet);
}
END_TEST

START_TEST(an_answer_without_a_vsock_is_closed)
{
	int pair[2];

	start(false);
	ck_assert_ptr_null(t.vm.vsock);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	answer(0, pair[1]);
	close(pair[1]);
	ck_assert(vsock_host_is_closed(pair[0]));
	answer(0, -1);
	ck_assert(vmm_thread_is_silent(&t));
	stop();
	close(pair[0]);
}
END_TEST

/* Nobody is left to answer; the guest need not wait for its time-out. */
START_TEST(an_answer_to_no_question_makes_room_for_none)
{
	struct link l = {1000, 0, -1};
	union msg m;

	start(true);
	for (; l.guest_port < VSOCK_MAX_CONNECTING + 2; l.guest_port++)
		say(&g, OP(REQUEST), &l);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTING; i++)
		expect_connect(&m, 1000);
	answer(UINT64_MAX, -1);
	answer(UINT64_MAX, -1);
	ck_assert(vmm_thread_is_silent(&t));
	answer(m.vsock_connect.token, -1);
	expect_connect(&m, 1000);
	stop();
}
END_TEST

START_TEST(what_a_daemon_has_not_answered_is_refused_when_it_goes)
{
	struct link first = {52, 53, -1}, second = {52, 54, -1};
	struct link answered = {52, 55, -1};
	union msg m;
	int pair[2];

	start(true);
	say(&g, OP(REQUEST), &first);
	expect_connect(&m, 52);
	say(&g, OP(REQUEST), &answered);
	expect_connect(&m, 52);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	answer(m.vsock_connect.token, pair[1]);
	close(pair[1]);
	hear(&g, OP(RESPONSE), &answered, &hdr);
	say(&g, OP(REQUEST), &second);
	expect_connect(&m, 52);
	ck_assert(vsock_guest_is_quiet(&g));
	vmm_thread_lose(&t);
	hear_both_refused(&first, &second);
	/* What was answered goes on. */
	send_bytes(&g, &answered, "hello", 5);
	vsock_host_read(pair[0], (char[5]){0}, 5);
	ck_assert(vsock_guest_is_quiet(&g));
	stop();
	close(pair[0]);
}
END_TEST

START_TEST(what_a_guest_asks_for_without_a_daemon_is_asked_of_the_next)
{
	struct link l[3] = {{52, 53, -1}, {53, 54, -1}, {54, 55, -1}};
	union msg m;

	start(true);
	vmm_thread_lose(&t);
	for (unsigned i = 0; i < 3; i++)
		say(&g, OP(REQUEST), &l[i]);
	ck_assert(vsock_guest_is_quiet(&g)); /* neither refused nor open */
	vmm_thread_connect(&t);
	for (unsigned i = 0; i < 3; i++) {
		expect_connect(&m, l[i].host_port);
		answer(m.vsock_connect.token, -1);
		hear(&g, OP(RST), &l[i], &hdr);
	}
	stop();
}
END_TEST

/* As many as can be asked for at a time: the next daemon has room for as
 * many. */
START_TEST(a_daemon_that_goes_owes_no_answer)
{
	struct link l = {1000, 0, -1};
	union msg m;

	start(true);
	for (; l.guest_port < VSOCK_MAX_CONNECTING; l.guest_port++) {
		say(&g, OP(REQUEST), &l);
		expect_connect(&m, 1000);
	}
	vmm_thread_lose(&t);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTING; i++) {
		vsock_guest_recv(&g, &hdr, NULL);
		ck_assert_uint_eq(hdr.op, OP(RST));
	}
	for (; l.guest_port < 2 * VSOCK_MAX_CONNECTING + 1; l.guest_port++)
		say(&g, OP(REQUEST), &l);
	ck_assert(vsock_guest_is_quiet(&g));
	vmm_thread_connect(&t);
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTING; i++)
		expect_connect(&m, 1000);
	ck_assert(vmm_thread_is_silent(&t));
	answer(m.vsock_connect.token, -1);
	expect_connect(&m, 1000);
	stop();
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("vm_vsock");
	TCase *tc = tcase_create("daemon");

	tcase_add_test(tc, a_guests_connection_is_asked_of_the_daemon);
	tcase_add_test(tc, a_refusal_reaches_the_guest);
	tcase_add_test(tc, more_are_asked_for_as_answers_come);
	tcase_add_test(tc, a_client_of_the_host_needs_no_daemon);
	tcase_add_test(tc, an_answer_without_a_vsock_is_closed);
	tcase_add_test(tc, an_answer_to_no_question_makes_room_for_none);
	tcase_add_test(
		tc, what_a_daemon_has_not_answered_is_refused_when_it_goes);
	tcase_add_test(tc,
		what_a_guest_asks_for_without_a_daemon_is_asked_of_the_next);
	tcase_add_test(tc, a_daemon_that_goes_owes_no_answer);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
