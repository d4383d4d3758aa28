/*
 * The legacy devices behind the bus, as a guest and a typist meet them. Each
 * step of the input is [what][port][length][bytes...]; what a device keeps must
 * stay within its bounds.
 */

#include "tests/fuzz/fuzz.h"
#include "vmm/acpi_sleep.h"
#include "vmm/bus.h"
#include "vmm/i8042.h"
#include "vmm/layout.h"
#include "vmm/pvpanic.h"
#include "vmm/ready_port.h"
#include "vmm/serial.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct serial serial;
static struct i8042 keyboard;
static uint64_t calls, sent;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_call(void *arg)
{
	++*(uint64_t *)arg;
}

static void on_tx(void *arg, const uint8_t *buf, size_t n)
{
	(void)buf;
	check(n == 1);
	++*(uint64_t *)arg;
}

static void fill_bus(struct bus *bus)
{
	static struct pvpanic panic = {on_call, &calls};
	static struct acpi_sleep sleep_regs = {on_call, &calls};
	static struct ready_port ready = {on_call, &calls};
	const struct bus_range ranges[] = {
		{LAYOUT_PORT_READY, 1, &ready, ready_port_read,
			ready_port_write},
		{LAYOUT_PORT_SERIAL, SERIAL_PORTS, &serial, serial_read,
			serial_write},
		{LAYOUT_PORT_SLEEP_CONTROL, 2, &sleep_regs, acpi_sleep_read,
			acpi_sleep_write},
		{LAYOUT_PORT_I8042_DATA, I8042_PORTS, &keyboard, i8042_read,
			i8042_write},
		{LAYOUT_PORT_PVPANIC, 1, &panic, pvpanic_read, pvpanic_write},
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		check(bus_add(bus, &ranges[i]) == 0);
}

static void check_state(void)
{
	check(serial.fifo_n <= (serial.fifo_on ? SERIAL_RX_FIFO : 1u));
	check(serial.fifo_head < SERIAL_RX_FIFO);
	check(serial.input_n <= VM_CONSOLE_INPUT_MAX);
	check(serial.input_head < VM_CONSOLE_INPUT_MAX);
	check(serial.ier <= 0x0f && serial.mcr <= 0x1f);
	check(keyboard.queue_n <= I8042_QUEUE);
	check(keyboard.queue_head < I8042_QUEUE);
}

/* Mostly at the devices, sometimes beside them. */
static uint64_t port_of(uint8_t b)
{
	static const uint16_t bases[] = {LAYOUT_PORT_SERIAL,
		LAYOUT_PORT_I8042_DATA, LAYOUT_PORT_PVPANIC,
		LAYOUT_PORT_SLEEP_CONTROL, LAYOUT_PORT_READY, 0xfffe};

	return bases[(b >> 4) % 6] + (b & 0xfu);
}

/* Takes one step off the input; returns how many bytes it was. */
static size_t step(const struct bus *bus, const uint8_t *data, size_t size)
{
	static const unsigned lens[] = {1, 1, 1, 2, 4, 8, 3, 7};
	uint8_t buf[8] = {0};
	uint64_t port = port_of(data[1]);
	unsigned len = lens[data[2] % 8];
	size_t given = size - 3 < len ? size - 3 : len;

	memcpy(buf, data + 3, given);
	switch (data[0] % 8) {
	case 0:
	case 1:
	case 2:
		bus_read(bus, port, buf, len);
		return 3;
	case 3:
		serial_input(&serial, data, size < 300 ? size : 300);
		return 3;
	case 4:
		i8042_ctrl_alt_del(&keyboard);
		return 3;
	default:
		bus_write(bus, port, buf, len);
		return 3 + given;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct bus bus = {.n = 0};
	uint64_t edges;

	check(irq_fd >= 0);
	serial_init(&serial, irq_fd, on_tx, &sent);
	i8042_init(&keyboard, irq_fd, on_call, &calls);
	fill_bus(&bus);
	while (size >= 3) {
		size_t n = step(&bus, data, size);

		check_state();
		data += n;
		size -= n;
	}
	/* What waits and may interrupt has said so. */
	if (serial.fifo_n > 0 && (serial.ier & 1))
		check(read(irq_fd, &edges, sizeof(edges)) == sizeof(edges));
	serial_fini(&serial);
	i8042_fini(&keyboard);
	close(irq_fd);
	return 0;
}

#define WRITE(port, value) 5, port, 0, value
#define READ(port) 0, port, 0
#define TYPE 3, 0, 0

/* A driver that starts; one that probes the keyboard; all the small ports. */
static const uint8_t serial_seed[] = {WRITE(2, 1), WRITE(2, 7), WRITE(2, 0),
	READ(5), READ(0), READ(2), READ(6), TYPE, WRITE(3, 0x83), WRITE(0, 1),
	WRITE(1, 0), WRITE(3, 3), WRITE(4, 0x1a), READ(6), WRITE(0, 'x'),
	READ(0), WRITE(4, 0x0b), WRITE(1, 5), WRITE(2, 1), READ(2), READ(5),
	READ(0), TYPE, READ(0), WRITE(1, 7), READ(2), WRITE(0, 'y'), READ(2)};
static const uint8_t keyboard_seed[] = {WRITE(0x14, 0xaa), READ(0x14),
	READ(0x10), WRITE(0x14, 0x20), READ(0x10), WRITE(0x14, 0x60),
	WRITE(0x10, 0x75), WRITE(0x14, 0xae), WRITE(0x10, 0xf2), READ(0x10),
	READ(0x10), WRITE(0x10, 0xed), WRITE(0x10, 2), 4, 0, 0, READ(0x10),
	WRITE(0x14, 0xd1), WRITE(0x10, 2), WRITE(0x14, 0xfe)};
static const uint8_t ports_seed[] = {READ(0x20), WRITE(0x20, 1),
	WRITE(0x30, 0x34), READ(0x31), WRITE(0x40, 0), 5, 0x50, 5, 1, 2, 3, 4,
	5, 6, 7, 8, READ(0x50), 0, 0x4f, 4};

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const struct {
		const uint8_t *bytes;
		size_t n;
	} seeds[] = {
		{serial_seed, sizeof(serial_seed)},
		{keyboard_seed, sizeof(keyboard_seed)},
		{ports_seed, sizeof(ports_seed)},
	};

	if (n >= sizeof(seeds) / sizeof(seeds[0]) || seeds[n].n > cap)
		return 0;
	memcpy(buf, seeds[n].bytes, seeds[n].n);
	return seeds[n].n;
}
