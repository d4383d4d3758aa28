#include "base/cleanup.h"
#include "vmm/serial.h"

#include <check.h>
#include <errno.h>
#include <linux/serial_reg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

static struct serial serial;
static int irq_fd;
static char sent[256];
static size_t n_sent;

static void on_tx(void *arg, const uint8_t *buf, size_t n)
{
	ck_assert_ptr_eq(arg, &serial);
	ck_assert_uint_le(n_sent + n, sizeof(sent));
	memcpy(sent + n_sent, buf, n);
	n_sent += n;
}

static void setup(void)
{
	n_sent = 0;
	irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	serial_init(&serial, irq_fd, on_tx, &serial);
}

static void teardown(void)
{
	serial_fini(&serial);
	close_fd(&irq_fd);
}

static uint8_t in(unsigned reg)
{
	uint8_t v = 0;

	serial_read(&serial, reg, &v, 1);
	return v;
}

static void out(unsigned reg, uint8_t v)
{
	serial_write(&serial, reg, &v, 1);
}

static int type(const char *text)
{
	return serial_input(&serial, (const uint8_t *)text, strlen(text));
}

/* Edges since the last call. */
static uint64_t edges(void)
{
	uint64_t v = 0;

	return read(irq_fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

/* Interrupt identification without the bits which say that the FIFO is on. */
static uint8_t iir(void)
{
	return in(UART_IIR)&0x0f;
}

/* ---- registers ---- */

START_TEST(output_goes_out_at_once_and_the_transmitter_stays_empty)
{
	out(UART_TX, 'h');
	ck_assert_uint_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	out(UART_TX, 'i');
	ck_assert_uint_eq(n_sent, 2);
	ck_assert_mem_eq(sent, "hi", 2);
	ck_assert_uint_eq(edges(), 0);
}
END_TEST

START_TEST(registers_keep_what_they_keep)
{
	ck_assert_uint_eq(in(UART_IER), 0);
	ck_assert_uint_eq(in(UART_IIR), UART_IIR_NO_INT);
	ck_assert_uint_eq(in(UART_MCR), 0);
	out(UART_SCR, 0x5a);
	ck_assert_uint_eq(in(UART_SCR), 0x5a);
	/* A 16550 has four interrupts: how drivers tell it from later ones. */
	out(UART_IER, 0xff);
	ck_assert_uint_eq(in(UART_IER), 0x0f);
	out(UART_MCR, 0xff);
	ck_assert_uint_eq(in(UART_MCR), 0x1f);
	out(UART_MCR, 0);
	ck_assert_uint_eq(
		in(UART_MSR)&0xf0, UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	out(UART_LSR, 0xff);
	out(UART_MSR, 0xff);
	ck_assert_uint_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	ck_assert_uint_eq(in(UART_MSR)&0x0f, 0);
}
END_TEST

START_TEST(the_divisor_lies_behind_dlab)
{
	out(UART_IER, UART_IER_RDI);
	out(UART_LCR, UART_LCR_DLAB | 3);
	ck_assert_uint_eq(in(UART_LCR), UART_LCR_DLAB | 3);
	out(UART_DLL, 0x01);
	out(UART_DLM, 0xc2);
	ck_assert_uint_eq(in(UART_DLL), 0x01);
	ck_assert_uint_eq(in(UART_DLM), 0xc2);
	out(UART_LCR, 3);
	ck_assert_uint_eq(n_sent, 0);
	ck_assert_uint_eq(in(UART_IER), UART_IER_RDI);
	ck_assert_uint_eq(in(UART_RX), 0);
}
END_TEST

START_TEST(the_fifo_shows_in_iir_as_in_a_16550a)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	ck_assert_uint_eq(in(UART_IIR), UART_IIR_NO_INT | 0xc0);
	/* No 16750: bit 5 does not answer, nor does an EFR appear. */
	out(UART_LCR, UART_LCR_DLAB);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	ck_assert_uint_eq(in(UART_IIR), UART_IIR_NO_INT | 0xc0);
	out(UART_LCR, UART_LCR_CONF_MODE_B);
	ck_assert_uint_eq(in(UART_EFR), UART_IIR_NO_INT | 0xc0);
	out(UART_LCR, 0);
	out(UART_FCR, 0);
	ck_assert_uint_eq(in(UART_IIR), UART_IIR_NO_INT);
}
END_TEST

START_TEST(wide_and_stray_accesses_are_harmless)
{
	uint8_t v[8];

	/* Two bytes at once reach two registers. */
	serial_write(&serial, UART_MCR, "\x0b\x00", 2);
	ck_assert_uint_eq(in(UART_MCR), 0x0b);
	serial_read(&serial, UART_LCR, v, 8);
	ck_assert_uint_eq(v[1], 0x0b);
	ck_assert_uint_eq(v[2], UART_LSR_THRE | UART_LSR_TEMT);
	ck_assert_uint_eq(v[5], 0xff);
	ck_assert_uint_eq(v[7], 0xff);
	serial_write(&serial, UINT64_MAX - 3, "\1\2\3\4\5\6\7\1", 8);
	serial_read(&serial, UINT64_MAX, v, 1);
	ck_assert_uint_eq(v[0], 0xff);
	serial_write(&serial, 8, "\1", 1);
	serial_write(&serial, 1ull << 32, "\1", 1);
	ck_assert_uint_eq(n_sent, 1); /* the access that wrapped to THR */
}
END_TEST

/* ---- loopback, as drivers probe with it ---- */

START_TEST(loopback_shows_outputs_as_modem_lines)
{
	static const uint8_t lines[][2] = {
		{UART_MCR_DTR, UART_MSR_DSR},
		{UART_MCR_RTS, UART_MSR_CTS},
		{UART_MCR_OUT1, UART_MSR_RI},
		{UART_MCR_OUT2, UART_MSR_DCD},
	};

	for (unsigned i = 0; i < 4; i++) {
		out(UART_MCR, UART_MCR_LOOP | lines[i][0]);
		ck_assert_uint_eq(in(UART_MSR)&0xf0, lines[i][1]);
	}
}
END_TEST

START_TEST(loopback_returns_bytes_and_sends_none)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'x');
	out(UART_TX, 'y');
	ck_assert_uint_eq(n_sent, 0);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR);
	ck_assert_uint_eq(in(UART_RX), 'x');
	ck_assert_uint_eq(in(UART_RX), 'y');
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
}
END_TEST

START_TEST(a_byte_too_many_overruns_and_says_so_once)
{
	out(UART_IER, UART_IER_RLSI);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'x'); /* no FIFO: room for one */
	ck_assert_uint_eq(edges(), 0);
	out(UART_TX, 'y');
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_RLSI);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_OE, UART_LSR_OE);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_OE, 0);
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	ck_assert_uint_eq(in(UART_RX), 'x');
	ck_assert_uint_eq(in(UART_RX), 0);
}
END_TEST

START_TEST(the_fifo_holds_64_bytes)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	for (unsigned i = 0; i < 70; i++)
		out(UART_TX, (uint8_t)i);
	for (unsigned i = 0; i < 64; i++)
		ck_assert_uint_eq(in(UART_RX), i);
	ck_assert_uint_eq(
		in(UART_LSR) & (UART_LSR_DR | UART_LSR_OE), UART_LSR_OE);
}
END_TEST

START_TEST(modem_changes_interrupt_and_are_cleared_by_reading)
{
	out(UART_MCR, UART_MCR_LOOP);
	in(UART_MSR);
	out(UART_IER, UART_IER_MSI);
	edges();
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS | UART_MCR_OUT1);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_MSI);
	/* RI counts when it goes away, the others whenever they change. */
	ck_assert_uint_eq(
		in(UART_MSR), UART_MSR_CTS | UART_MSR_RI | UART_MSR_DCTS);
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	ck_assert_uint_eq(in(UART_MSR), UART_MSR_CTS | UART_MSR_TERI);
	edges();
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	ck_assert_uint_eq(edges(), 0);
}
END_TEST

/* ---- interrupts ---- */

START_TEST(enabling_thri_interrupts_since_the_transmitter_is_empty)
{
	out(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_THRI);
	/* Reading IIR is what acknowledges it. */
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	/* No news without a change. */
	out(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(edges(), 0);
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	/* How Linux looks for a broken THRE: off and on. */
	out(UART_IER, 0);
	out(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_THRI);
}
END_TEST

START_TEST(a_burst_of_output_takes_one_interrupt)
{
	out(UART_IER, UART_IER_THRI);
	iir();
	edges();
	for (unsigned i = 0; i < 16; i++)
		out(UART_TX, 'a');
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_THRI);
	out(UART_TX, 'b');
	ck_assert_uint_eq(edges(), 1);
}
END_TEST

START_TEST(output_polled_under_a_closed_ier_is_news_when_it_opens)
{
	out(UART_TX, 'a');
	ck_assert_uint_eq(edges(), 0);
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	out(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(edges(), 1);
}
END_TEST

START_TEST(a_typed_byte_interrupts_until_it_is_read)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	ck_assert_uint_eq(edges(), 0);
	ck_assert_int_eq(type("ab"), 0);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(iir(), UART_IIR_RDI);
	ck_assert_uint_eq(iir(), UART_IIR_RDI);
	ck_assert_uint_eq(in(UART_RX), 'a');
	ck_assert_uint_eq(iir(), UART_IIR_RDI);
	ck_assert_uint_eq(in(UART_RX), 'b');
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
}
END_TEST

START_TEST(an_ier_that_enables_nothing_new_does_not_interrupt)
{
	out(UART_IER, UART_IER_RDI);
	type("a");
	ck_assert_uint_eq(edges(), 1);
	out(UART_IER, UART_IER_RDI);
	out(UART_IER, UART_IER_RDI | 0xf0);
	ck_assert_uint_eq(edges(), 0);
}
END_TEST

START_TEST(an_empty_receiver_can_be_read)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	ck_assert_uint_eq(in(UART_RX), 0);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
	type("a");
	ck_assert_uint_eq(in(UART_RX), 'a');
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
}
END_TEST

START_TEST(received_data_goes_before_the_empty_transmitter)
{
	out(UART_IER, UART_IER_RDI | UART_IER_THRI | UART_IER_MSI);
	type("a");
	ck_assert_uint_eq(iir(), UART_IIR_RDI);
	in(UART_RX);
	/* It was not lost meanwhile. */
	ck_assert_uint_eq(iir(), UART_IIR_THRI);
}
END_TEST

START_TEST(a_closed_ier_holds_interrupts_back_until_it_opens)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	type("a");
	edges();
	out(UART_IER, 0); /* as a console does while it prints */
	ck_assert_uint_eq(iir(), UART_IIR_NO_INT);
	type("b");
	ck_assert_uint_eq(edges(), 0);
	out(UART_IER, UART_IER_RDI);
	ck_assert_uint_ge(edges(), 1);
	ck_assert_uint_eq(in(UART_RX), 'a');
	ck_assert_uint_eq(in(UART_RX), 'b');
}
END_TEST

/* ---- input ---- */

START_TEST(what_was_typed_early_survives_a_driver_that_starts)
{
	type("early");
	/* 8250's start-up: clears FIFOs, drains LSR, RX, IIR, MSR. */
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR |
			      UART_FCR_CLEAR_XMIT);
	out(UART_FCR, 0);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
	in(UART_RX);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
	in(UART_RX);
	edges();
	out(UART_IER, UART_IER_RDI | UART_IER_RLSI);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_R_TRIG_10);
	ck_assert_uint_ge(edges(), 1);
	for (const char *c = "early"; *c; c++)
		ck_assert_int_eq(in(UART_RX), *c);
}
END_TEST

START_TEST(a_cleared_fifo_loses_what_was_in_it)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	type("abc");
	out(UART_IER, 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
	/* So does one that is switched. */
	out(UART_IER, UART_IER_RDI);
	type("d");
	out(UART_IER, 0);
	out(UART_FCR, 0);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
}
END_TEST

START_TEST(a_full_queue_takes_all_or_nothing)
{
	static uint8_t big[VM_CONSOLE_INPUT_MAX];

	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	ck_assert_int_eq(serial_input(&serial, big, sizeof(big) - 1), 0);
	ck_assert_int_eq(serial_input(&serial, big, 2), -ENOBUFS);
	ck_assert_int_eq(serial_input(&serial, big + sizeof(big) - 1, 1), 0);
	ck_assert_int_eq(serial_input(&serial, big, 1), -ENOBUFS);
	ck_assert_int_eq(serial_input(&serial, big, 0), 0);
	ck_assert_int_eq(serial_input(&serial, big, SIZE_MAX), -ENOBUFS);

	/* The FIFO fills again from the queue; each filling is one edge. */
	out(UART_IER, UART_IER_RDI);
	ck_assert_uint_eq(edges(), 1);
	for (unsigned i = 0; i < sizeof(big); i++) {
		ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, UART_LSR_DR);
		ck_assert_uint_eq(in(UART_RX), big[i]);
	}
	ck_assert_uint_eq(edges(), sizeof(big) / SERIAL_RX_FIFO - 1);
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
}
END_TEST

START_TEST(the_queue_goes_around)
{
	static uint8_t chunk[1000];
	uint8_t next = 0, want = 0;

	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < sizeof(chunk); i++)
			chunk[i] = next++;
		ck_assert_int_eq(
			serial_input(&serial, chunk, sizeof(chunk)), 0);
		for (unsigned i = 0; i < sizeof(chunk); i++)
			ck_assert_uint_eq(in(UART_RX), want++);
	}
}
END_TEST

START_TEST(without_a_fifo_bytes_come_one_by_one)
{
	out(UART_IER, UART_IER_RDI);
	type("ab");
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(in(UART_RX), 'a');
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(in(UART_RX), 'b');
	ck_assert_uint_eq(edges(), 0);
}
END_TEST

START_TEST(loopback_keeps_typed_bytes_out)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	out(UART_MCR, UART_MCR_LOOP);
	type("a");
	ck_assert_uint_eq(edges(), 0);
	out(UART_TX, 'l');
	ck_assert_uint_eq(in(UART_RX), 'l');
	ck_assert_uint_eq(in(UART_LSR)&UART_LSR_DR, 0);
	edges();
	out(UART_MCR, 0);
	ck_assert_uint_eq(edges(), 1);
	ck_assert_uint_eq(in(UART_RX), 'a');
}
END_TEST

/* ---- the limit ---- */

static uint64_t limited;

/* Three bytes at once, then one in an hour. */
static const struct rate_limiter_config three = {
	.bytes = {.size = 3, .refill_ns = 3 * 3600000000000ull}};

START_TEST(output_over_the_limit_is_dropped_and_counted)
{
	limited = 0;
	serial_init_limiter(&serial, &three, &limited);
	out(UART_IER, UART_IER_THRI);
	for (const char *c = "abcdefg"; *c; c++)
		out(UART_TX, (uint8_t)*c);
	ck_assert_uint_eq(n_sent, 3);
	ck_assert_mem_eq(sent, "abc", 3);
	ck_assert_uint_eq(limited, 4);
	/* The driver sees a port that sends. */
	ck_assert_uint_eq(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	ck_assert_uint_eq(iir(), UART_IIR_THRI);
	/* What it sends to itself is no output. */
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 'x');
	ck_assert_uint_eq(in(UART_RX), 'x');
	ck_assert_uint_eq(limited, 4);
}
END_TEST

START_TEST(a_limit_can_be_changed_and_taken_away)
{
	struct rate_limiter_update u = {.has_bytes = true, .config = three};

	limited = 0;
	serial_init_limiter(
		&serial, &(struct rate_limiter_config){{0}}, &limited);
	for (unsigned i = 0; i < 10; i++)
		out(UART_TX, 'a');
	ck_assert_uint_eq(n_sent, 10);
	serial_limit(&serial, &u);
	for (unsigned i = 0; i < 10; i++)
		out(UART_TX, 'b');
	ck_assert_uint_eq(n_sent, 13);
	ck_assert_uint_eq(limited, 7);
	u.config = (struct rate_limiter_config){{0}};
	serial_limit(&serial, &u);
	out(UART_TX, 'c');
	ck_assert_uint_eq(n_sent, 14);
	ck_assert_uint_eq(limited, 7);
}
END_TEST

static void *type_many(void *arg)
{
	for (unsigned i = 0; i < 20000;) {
		uint8_t b = (uint8_t)i;

		if (serial_input(&serial, &b, 1) == 0)
			i++;
	}
	return arg;
}

START_TEST(typing_and_reading_at_once_loses_nothing)
{
	pthread_t t;
	unsigned got = 0;

	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI);
	ck_assert_int_eq(pthread_create(&t, NULL, type_many, NULL), 0);
	while (got < 20000) {
		if (!(in(UART_LSR)&UART_LSR_DR))
			continue;
		ck_assert_uint_eq(in(UART_RX), (uint8_t)got);
		got++;
	}
	pthread_join(t, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("serial");
	TCase *g = tcase_create("registers"), *l = tcase_create("loopback");
	TCase *i = tcase_create("interrupts"), *n = tcase_create("input");
	TCase *o = tcase_create("limit");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(g, setup, teardown);
	tcase_add_test(
		g, output_goes_out_at_once_and_the_transmitter_stays_empty);
	tcase_add_test(g, registers_keep_what_they_keep);
	tcase_add_test(g, the_divisor_lies_behind_dlab);
	tcase_add_test(g, the_fifo_shows_in_iir_as_in_a_16550a);
	tcase_add_test(g, wide_and_stray_accesses_are_harmless);
	tcase_add_checked_fixture(l, setup, teardown);
	tcase_add_test(l, loopback_shows_outputs_as_modem_lines);
	tcase_add_test(l, loopback_returns_bytes_and_sends_none);
	tcase_add_test(l, a_byte_too_many_overruns_and_says_so_once);
	tcase_add_test(l, the_fifo_holds_64_bytes);
	tcase_add_test(l, modem_changes_interrupt_and_are_cleared_by_reading);
	tcase_add_checked_fixture(i, setup, teardown);
	tcase_add_test(
		i, enabling_thri_interrupts_since_the_transmitter_is_empty);
	tcase_add_test(i, a_burst_of_output_takes_one_interrupt);
	tcase_add_test(
		i, output_polled_under_a_closed_ier_is_news_when_it_opens);
	tcase_add_test(i, a_typed_byte_interrupts_until_it_is_read);
	tcase_add_test(i, an_ier_that_enables_nothing_new_does_not_interrupt);
	tcase_add_test(i, an_empty_receiver_can_be_read);
	tcase_add_test(i, received_data_goes_before_the_empty_transmitter);
	tcase_add_test(i, a_closed_ier_holds_interrupts_back_until_it_opens);
	tcase_add_checked_fixture(n, setup, teardown);
	tcase_add_test(n, what_was_typed_early_survives_a_driver_that_starts);
	tcase_add_test(n, a_cleared_fifo_loses_what_was_in_it);
	tcase_add_test(n, a_full_queue_takes_all_or_nothing);
	tcase_add_test(n, the_queue_goes_around);
	tcase_add_test(n, without_a_fifo_bytes_come_one_by_one);
	tcase_add_test(n, loopback_keeps_typed_bytes_out);
	tcase_add_test(n, typing_and_reading_at_once_loses_nothing);
	suite_add_tcase(s, g);
	suite_add_tcase(s, l);
	suite_add_tcase(s, i);
	suite_add_tcase(s, n);
	tcase_add_checked_fixture(o, setup, teardown);
	tcase_add_test(o, output_over_the_limit_is_dropped_and_counted);
	tcase_add_test(o, a_limit_can_be_changed_and_taken_away);
	suite_add_tcase(s, o);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
