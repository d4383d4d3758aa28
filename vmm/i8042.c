#include "vmm/i8042.h"

#include "base/fd.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
	REG_DATA = 0,
	REG_COMMAND = 4, /* written */
	REG_STATUS = 4,  /* read */
};

/* Status register. */
#define STATUS_OBF 0x01u
#define STATUS_SELF_TEST_OK 0x04u
#define STATUS_LAST_WAS_COMMAND 0x08u
#define STATUS_NOT_LOCKED 0x10u

/* Command byte. */
#define CTR_KBD_INT 0x01u
#define CTR_SELF_TEST_OK 0x04u
#define CTR_KBD_DISABLE 0x10u
#define CTR_AUX_DISABLE 0x20u
#define CTR_TRANSLATE 0x40u

/* Controller commands. */
enum {
	CMD_READ_CTR = 0x20,
	CMD_READ_RAM_LAST = 0x3f,
	CMD_WRITE_CTR = 0x60,
	CMD_WRITE_RAM_LAST = 0x7f,
	CMD_AUX_DISABLE = 0xa7,
	CMD_AUX_ENABLE = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_DISABLE = 0xad,
	CMD_KBD_ENABLE = 0xae,
	CMD_READ_OUTPUT_PORT = 0xd0,
	CMD_WRITE_OUTPUT_PORT = 0xd1,
	CMD_KBD_LOOP = 0xd2,
	CMD_AUX_LOOP = 0xd3,
	CMD_AUX_SEND = 0xd4,
	CMD_PULSE = 0xf0, /* and up: pulses the output bits which are 0 */
};

#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20 0x02u

#define SELF_TEST_PASSED 0x55u
#define KBD_TEST_PASSED 0x00u
#define AUX_CLOCK_STUCK 0x01u /* no mouse is there */

/* Keyboard commands and answers. */
enum {
	KBD_SET_LEDS = 0xed,
	KBD_ECHO = 0xee,
	KBD_SCANCODE_SET = 0xf0,
	KBD_ID = 0xf2,
	KBD_SET_RATE = 0xf3,
	KBD_SCAN_ON = 0xf4,
	KBD_SCAN_OFF = 0xf5,
	KBD_DEFAULTS = 0xf6,
	KBD_RESEND = 0xfe,
	KBD_RESET = 0xff,
	KBD_ACK = 0xfa,
	KBD_BAT_PASSED = 0xaa,
};

/* As firmware leaves it: scancode set 2, translated to set 1. */
#define CTR_AT_RESET                                                           \
	(CTR_KBD_INT | CTR_SELF_TEST_OK | CTR_AUX_DISABLE | CTR_TRANSLATE)

void i8042_init(
	struct i8042 *k, int irq_fd, void (*reset)(void *arg), void *arg)
{
	memset(k, 0, sizeof(*k));
	pthread_mutex_init(&k->lock, NULL);
	k->irq_fd = irq_fd;
	k->reset = reset;
	k->arg = arg;
	k->ctr = CTR_AT_RESET;
	k->kbd_scanning = true;
}

void i8042_fini(struct i8042 *k)
{
	pthread_mutex_destroy(&k->lock);
}

/* A byte of the keyboard's can be read: the guest has not switched it off. */
static bool kbd_ready(const struct i8042 *k)
{
	return k->queue_n > 0 && !(k->ctr & CTR_KBD_DISABLE);
}

/* An edge for each byte. The controller's own answers raise none: whoever sent
 * the command polls for them. */
static void raise_irq(const struct i8042 *k)
{
	if (kbd_ready(k) && !k->reply_full && (k->ctr & CTR_KBD_INT))
		fd_notify(k->irq_fd);
}

static void kbd_send(struct i8042 *k, uint8_t byte)
{
	if (k->queue_n == I8042_QUEUE)
		return; /* the guest asks and never reads: its loss */
	k->queue[(k->queue_head + k->queue_n++) % I8042_QUEUE] = byte;
	if (k->queue_n == 1)
		raise_irq(k);
}

static void reply(struct i8042 *k, uint8_t byte)
{
	k->reply = byte;
	k->reply_full = true;
}

static uint8_t read_data(struct i8042 *k)
{
	uint8_t v = k->kbd_last;

	if (k->reply_full) {
		k->reply_full = false;
		v = k->reply;
	} else if (kbd_ready(k)) {
		v = k->queue[k->queue_head];
		k->kbd_last = v;
		k->queue_head = (k->queue_head + 1) % I8042_QUEUE;
		k->queue_n--;
	} else {
		return v;
	}
	raise_irq(k);
	return v;
}

static uint8_t read_status(const struct i8042 *k)
{
	uint8_t v = STATUS_SELF_TEST_OK | STATUS_NOT_LOCKED;

	if (k->reply_full || kbd_ready(k))
		v |= STATUS_OBF;
	if (k->last_was_command)
		v |= STATUS_LAST_WAS_COMMAND;
	return v;
}

static void set_ctr(struct i8042 *k, uint8_t v)
{
	k->ctr = v;
	raise_irq(k);
}

/* Returns whether the machine is to be reset. */
static bool write_command(struct i8042 *k, uint8_t v)
{
	k->last_was_command = true;
	k->command = 0;
	switch (v) {
	case CMD_READ_CTR:
		reply(k, k->ctr);
		break;
	case CMD_READ_CTR + 1 ... CMD_READ_RAM_LAST:
		reply(k, 0);
		break;
	case CMD_WRITE_CTR ... CMD_WRITE_RAM_LAST:
	case CMD_WRITE_OUTPUT_PORT:
	case CMD_KBD_LOOP:
	case CMD_AUX_LOOP:
	case CMD_AUX_SEND:
		k->command = v;
		break;
	case CMD_AUX_DISABLE:
		set_ctr(k, k->ctr | CTR_AUX_DISABLE);
		break;
	case CMD_AUX_ENABLE:
		set_ctr(k, k->ctr & ~CTR_AUX_DISABLE);
		break;
	case CMD_AUX_TEST:
		reply(k, AUX_CLOCK_STUCK);
		break;
	case CMD_SELF_TEST:
		reply(k, SELF_TEST_PASSED);
		break;
	case CMD_KBD_TEST:
		reply(k, KBD_TEST_PASSED);
		break;
	case CMD_KBD_DISABLE:
		set_ctr(k, k->ctr | CTR_KBD_DISABLE);
		break;
	case CMD_KBD_ENABLE:
		set_ctr(k, k->ctr & ~CTR_KBD_DISABLE);
		break;
	case CMD_READ_OUTPUT_PORT:
		reply(k, OUTPUT_NO_RESET | OUTPUT_A20);
		break;
	case CMD_PULSE ... 0xff:
		return !(v & OUTPUT_NO_RESET);
	default:
		break;
	}
	return false;
}

static void kbd_parameter(struct i8042 *k, uint8_t v)
{
	uint8_t command = k->kbd_command;

	k->kbd_command = 0;
	kbd_send(k, KBD_ACK);
	/* Parameter 0 asks for the set in use. LEDs, rate and other sets are
	 * taken and change nothing. */
	if (command == KBD_SCANCODE_SET && v == 0)
		kbd_send(k, 2);
}

static void kbd_write(struct i8042 *k, uint8_t v)
{
	if (k->kbd_command && v < KBD_SET_LEDS) {
		kbd_parameter(k, v);
		return;
	}
	k->kbd_command = 0;
	switch (v) {
	case KBD_ECHO:
		kbd_send(k, KBD_ECHO);
		return;
	case KBD_RESEND:
		kbd_send(k, k->kbd_last);
		return;
	case KBD_SET_LEDS:
	case KBD_SCANCODE_SET:
	case KBD_SET_RATE:
		k->kbd_command = v;
		break;
	case KBD_SCAN_ON:
	case KBD_DEFAULTS:
		k->kbd_scanning = true;
		break;
	case KBD_SCAN_OFF:
		k->kbd_scanning = false;
		break;
	case KBD_RESET:
		k->kbd_scanning = true;
		k->queue_n = 0;
		break;
	default:
		if (v < KBD_SET_LEDS) {
			kbd_send(k, KBD_RESEND);
			return;
		}
		break;
	}
	kbd_send(k, KBD_ACK);
	if (v == KBD_RESET) {
		kbd_send(k, KBD_BAT_PASSED);
	} else if (v == KBD_ID) {
		/* An MF2 keyboard; 0x83 reads as 0x41 through translation. */
		kbd_send(k, 0xab);
		kbd_send(k, k->ctr & CTR_TRANSLATE ? 0x41 : 0x83);
	}
}

/* Returns whether the machine is to be reset. */
static bool write_data(struct i8042 *k, uint8_t v)
{
	uint8_t command = k->command;

	k->last_was_command = false;
	k->command = 0;
	switch (command) {
	case 0:
		/* Sending clocks the keyboard. */
		if (k->ctr & CTR_KBD_DISABLE)
			set_ctr(k, k->ctr & ~CTR_KBD_DISABLE);
		kbd_write(k, v);
		break;
	case CMD_WRITE_CTR:
		set_ctr(k, v);
		break;
	case CMD_WRITE_OUTPUT_PORT:
		return !(v & OUTPUT_NO_RESET);
	case CMD_KBD_LOOP:
		kbd_send(k, v);
		break;
	case CMD_AUX_LOOP:
		/* Comes back as a keyboard byte: so a driver which looks for a
		 * mouse port is answered, and finds none. */
		reply(k, v);
		break;
	default: /* the controller's RAM, the mouse: nothing there */
		break;
	}
	return false;
}

/* An 8-bit device: wider accesses are as many accesses to neighbours. */
void i8042_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct i8042 *k = dev;
	uint8_t *d = data;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < len; i++) {
		if (off + i == REG_DATA)
			d[i] = read_data(k);
		else if (off + i == REG_STATUS)
			d[i] = read_status(k);
		else
			d[i] = 0xff;
	}
	pthread_mutex_unlock(&k->lock);
}

void i8042_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct i8042 *k = dev;
	const uint8_t *d = data;
	bool reset = false;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < len; i++) {
		if (off + i == REG_DATA)
			reset |= write_data(k, d[i]);
		else if (off + i == REG_COMMAND)
			reset |= write_command(k, d[i]);
	}
	pthread_mutex_unlock(&k->lock);
	if (reset)
		k->reset(k->arg);
}

/* Ctrl, Alt and Delete pressed, then released in the opposite order. */
static const uint8_t set1[] = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};
static const uint8_t set2[] = {
	0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14};

int i8042_ctrl_alt_del(struct i8042 *k)
{
	const uint8_t *codes = set2;
	size_t n = sizeof(set2);
	int r = 0;

	pthread_mutex_lock(&k->lock);
	if (k->ctr & CTR_TRANSLATE) {
		codes = set1;
		n = sizeof(set1);
	}
	if (!k->kbd_scanning)
		r = -EAGAIN;
	else if (I8042_QUEUE - k->queue_n < n)
		r = -ENOBUFS;
	for (size_t i = 0; r == 0 && i < n; i++)
		kbd_send(k, codes[i]);
	pthread_mutex_unlock(&k->lock);
	return r;
}
