#include "vmm/serial.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/fd.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>

#define IER_MASK (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI)
#define MCR_MASK                                                               \
	(UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 |         \
		UART_MCR_LOOP)
#define IIR_FIFO_ON 0xc0u
#define DIVISOR_9600 12u

void serial_init(struct serial *s, int irq_fd,
	void (*tx)(void *arg, const uint8_t *buf, size_t n), void *arg)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_init(&s->lock, NULL);
	s->irq_fd = irq_fd;
	s->tx = tx;
	s->arg = arg;
	s->dll = DIVISOR_9600;
}

void serial_init_limiter(struct serial *s,
	const struct rate_limiter_config *config, uint64_t *limited)
{
	rate_limiter_init(&s->limiter, config, clock_ns());
	s->limited = limited;
}

void serial_limit(struct serial *s, const struct rate_limiter_update *u)
{
	pthread_mutex_lock(&s->lock);
	rate_limiter_update(&s->limiter, u, clock_ns());
	pthread_mutex_unlock(&s->lock);
}

void serial_fini(struct serial *s)
{
	pthread_mutex_destroy(&s->lock);
}

/* A condition newly holds: signals it if its interrupt is enabled. */
static void raise_irq(const struct serial *s, uint8_t ier_bit)
{
	if (s->ier & ier_bit)
		fd_notify(s->irq_fd);
}

static bool loopback(const struct serial *s)
{
	return s->mcr & UART_MCR_LOOP;
}

static bool rx_push(struct serial *s, uint8_t byte)
{
	unsigned depth = s->fifo_on ? SERIAL_RX_FIFO : 1;

	if (s->fifo_n >= depth)
		return false;
	s->fifo[(s->fifo_head + s->fifo_n++) % SERIAL_RX_FIFO] = byte;
	return true;
}

/* Moves what was typed into the FIFO, as far as the driver listens. A driver
 * that takes a fixed number of bytes for each interrupt gets one each time. */
static void rx_fill(struct serial *s)
{
	unsigned before = s->fifo_n;

	if (!(s->ier & UART_IER_RDI) || loopback(s))
		return;
	while (s->input_n > 0 && rx_push(s, s->input[s->input_head])) {
		s->input_head = (s->input_head + 1) % VM_CONSOLE_INPUT_MAX;
		s->input_n--;
	}
	if (s->fifo_n > before)
		raise_irq(s, UART_IER_RDI);
}

/* Modem status: a terminal that is always there, or, in loopback, our own
 * outputs: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. */
static uint8_t modem_lines(const struct serial *s)
{
	if (!loopback(s))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	return (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	       (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	       (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

/* The highest interrupt that is enabled and holds. */
static uint8_t iir(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) && s->overrun)
		return UART_IIR_RLSI;
	if ((s->ier & UART_IER_RDI) && s->fifo_n > 0)
		return UART_IIR_RDI;
	if ((s->ier & UART_IER_THRI) && s->thri)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && s->msr_delta)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static uint8_t read_rbr(struct serial *s)
{
	uint8_t v;

	if (s->fifo_n == 0)
		return 0;
	v = s->fifo[s->fifo_head];
	s->fifo_head = (s->fifo_head + 1) % SERIAL_RX_FIFO;
	s->fifo_n--;
	if (s->fifo_n == 0)
		rx_fill(s);
	return v;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t v = iir(s);

	if (v == UART_IIR_THRI)
		s->thri = false;
	return v | (s->fifo_on ? IIR_FIFO_ON : 0);
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t v = UART_LSR_THRE | UART_LSR_TEMT;

	if (s->fifo_n > 0)
		v |= UART_LSR_DR;
	if (s->overrun)
		v |= UART_LSR_OE;
	s->overrun = false;
	return v;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t v = modem_lines(s) | s->msr_delta;

	s->msr_delta = 0;
	return v;
}

static uint8_t read_reg(struct serial *s, uint64_t reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : read_rbr(s);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s);
	case UART_MSR:
		return read_msr(s);
	case UART_SCR:
		return s->scr;
	default:
		return 0xff;
	}
}

static void send(struct serial *s, uint8_t v)
{
	if (s->limited && rate_limiter_active(&s->limiter) &&
		rate_limiter_take(&s->limiter, 1, clock_ns())) {
		/* One writer: the lock's owner. */
		counter_add(s->limited, 1);
		return;
	}
	s->tx(s->arg, &v, 1);
}

static void write_thr(struct serial *s, uint8_t v)
{
	if (!loopback(s)) {
		send(s, v);
	} else if (rx_push(s, v)) {
		raise_irq(s, UART_IER_RDI);
	} else {
		s->overrun = true;
		raise_irq(s, UART_IER_RLSI);
	}
	/* Sent already. While the last interrupt has not been looked at, more
	 * bytes do not need another. */
	if (!s->thri) {
		s->thri = true;
		raise_irq(s, UART_IER_THRI);
	}
}

static void write_ier(struct serial *s, uint8_t v)
{
	uint8_t enabled = v & ~s->ier & IER_MASK;

	s->ier = v & IER_MASK;
	/* Enabled while the transmitter is empty, which it always is. */
	if (enabled & UART_IER_THRI)
		s->thri = true;
	if (enabled && iir(s) != UART_IIR_NO_INT)
		fd_notify(s->irq_fd);
	rx_fill(s);
}

static void write_fcr(struct serial *s, uint8_t v)
{
	bool on = v & UART_FCR_ENABLE_FIFO;

	/* A 16550 forgets the byte it holds when its FIFO is switched on, too.
	 * We do not: Linux listens first and then switches, and what was typed
	 * in between would be lost. */
	if ((s->fifo_on && !on) || (on && (v & UART_FCR_CLEAR_RCVR)))
		s->fifo_n = 0;
	s->fifo_on = on;
	rx_fill(s);
}

static void write_mcr(struct serial *s, uint8_t v)
{
	uint8_t before = modem_lines(s), changed;

	s->mcr = v & MCR_MASK;
	changed = before ^ modem_lines(s);
	/* DCTS, DDSR, DDCD lie four bits below their lines; TERI tells only of
	 * RI going away. */
	changed &= ~(modem_lines(s) & UART_MSR_RI);
	if (changed) {
		s->msr_delta |= changed >> 4;
		raise_irq(s, UART_IER_MSI);
	}
	rx_fill(s);
}

static void write_reg(struct serial *s, uint64_t reg, uint8_t v)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = v;
		else
			write_thr(s, v);
		break;
	case UART_IER:
		if (dlab)
			s->dlm = v;
		else
			write_ier(s, v);
		break;
	case UART_FCR:
		write_fcr(s, v);
		break;
	case UART_LCR:
		s->lcr = v;
		break;
	case UART_MCR:
		write_mcr(s, v);
		break;
	case UART_SCR:
		s->scr = v;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* An 8-bit device: wider accesses are as many accesses to neighbours. */
void serial_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct serial *s = dev;
	uint8_t *d = data;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		d[i] = read_reg(s, off + i);
	pthread_mutex_unlock(&s->lock);
}

void serial_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct serial *s = dev;
	const uint8_t *d = data;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		write_reg(s, off + i, d[i]);
	pthread_mutex_unlock(&s->lock);
}

int serial_input(struct serial *s, const uint8_t *buf, size_t n)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (n > VM_CONSOLE_INPUT_MAX - s->input_n) {
		r = -ENOBUFS;
	} else {
		for (size_t i = 0; i < n; i++)
			s->input[(s->input_head + s->input_n++) %
				 VM_CONSOLE_INPUT_MAX] = buf[i];
		rx_fill(s);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}
