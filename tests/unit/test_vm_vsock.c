#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/vm_start.h"
#include "tests/unit/vsock_talk.h"
#include "vmm/control.h"

#include <poll.h>

/* The way from a guest's vsock to the daemon and back. */

static struct vm vm;
static struct vm_start s;
static struct vsock_guest g;
static struct virtio_vsock_hdr hdr;
static int sock[2]; /* the daemon's end, the VMM's */
static pthread_t thread;

static void *run(void *arg)
{
	(void)arg;
	control_run(&vm, sock[1]);
	return NULL;
}

/* The next message from the VMM; 0 at its end. */
static int receive(union msg *m)
{
	struct pollfd p = {.fd = sock[0], .events = POLLIN};
	int fds[MSG_MAX_FDS];
	unsigned n_fds;

	ck_assert_msg(poll(&p, 1, 10000) == 1, "no message");
	return msg_recv(sock[0], MSG_DAEMON, m, fds, &n_fds);
}

static void start(bool with_vsock)
{
	union msg m;

	fake_kvm_reset();
	ck_assert_int_eq(vm_init(&vm, 1), 0);
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
	vm_start_make(&s, 1);
	memset(&g, 0, sizeof(g));
	vsock_guest_listen(&g);
	if (with_vsock) {
		s.msg.start.has_vsock = 1;
		s.msg.start.guest_cid = GUEST_CID;
		s.fds[s.n_fds++] = g.listen_fd;
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
	ck_assert_int_eq(
		msg_send(sock[0], MSG_DAEMON, &s.msg, s.fds, s.n_fds), 0);
	ck_assert_int_eq(receive(&m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_STARTED);
	if (!with_vsock)
		return;
	/* Behind the drive. */
	ck_assert_ptr_eq(vm.slots[1].dev, vm.vsock);
	vsock_guest_borrow(&g, &vm.mem, vm.slots[1].transport, vm.vsock,
		vm.workers[VM_WORKER_NET]);
	vsock_guest_up(&g, GUEST_V1, 8);
}

static void stop(void)
{
	close_fd(&sock[0]);
	pthread_join(thread, NULL);
	vm_start_destroy_vm(&vm);
	unlink(g.path);
	if (!vm.vsock)
		close_fd(&g.listen_fd);
	vm_start_free(&s);
	close_fd(&sock[1]);
}

static void expect_connect(union msg *m, uint32_t port)
{
	ck_assert_int_eq(receive(m), 1);
	ck_assert_uint_eq(m->hdr.type, MSG_VSOCK_CONNECT);
	ck_assert_uint_eq(m->hdr.seq, 0);
	ck_assert_uint_eq(m->vsock_connect.port, port);
}

static void answer(uint64_t token, int fd)
{
	union msg m = {.vsock_connected = {.hdr = {MSG_VSOCK_CONNECTED, 0},
			       .token = token,
			       .has_fd = fd >= 0}};

	ck_assert_int_eq(msg_send(sock[0], MSG_DAEMON, &m, &fd, fd >= 0), 0);
}

static bool silent(void)
{
	struct pollfd p = {.fd = sock[0], .events = POLLIN};

	return poll(&p, 1, 50) == 0;
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
	ck_assert(silent());
	ck_assert_uint_eq(s.shared->vsock.opened, 1);
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
	ck_assert(silent());
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
	ck_assert(silent());
	for (unsigned i = 0; i < 4; i++) {
		answer(m[i].vsock_connect.token, -1);
		expect_connect(&more, 1000);
	}
	answer(m[4].vsock_connect.token, -1);
	ck_assert(silent());
	stop();
}
END_TEST

START_TEST(a_client_of_the_host_needs_no_daemon)
{
	struct link l;

	start(true);
	l = open_client(&g, 77);
	ck_assert(silent());
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
	ck_assert_ptr_null(vm.vsock);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	answer(0, pair[1]);
	close(pair[1]);
	ck_assert(vsock_host_is_closed(pair[0]));
	answer(0, -1);
	ck_assert(silent());
	stop();
	close(pair[0]);
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
