#include "vmm/aml.h"

#include <assert.h>
#include <string.h>

/* Opcodes, ACPI 6.4 §20.3. */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5b,
	OP_EXT_REGION = 0x80,
	OP_EXT_FIELD = 0x81,
	OP_EXT_DEVICE = 0x82,
	OP_ROOT_CHAR = 0x5c,
	OP_ARG0 = 0x68,
	OP_STORE = 0x70,
	OP_NOTIFY = 0x86,
	OP_EQUAL = 0x93,
	OP_IF = 0xa0,
	OP_RETURN = 0xa4,
};

/* Resource descriptors, ACPI 6.4 §6.4. */
enum {
	RES_IO = 0x47,      /* small: type 8, 7 bytes follow */
	RES_END_TAG = 0x79, /* small: type 15, 1 byte follows */
	RES_MEMORY32_FIXED = 0x86,
	RES_EXT_INTERRUPT = 0x89,
};
#define IO_DECODE_16 0x01
#define MEMORY_READ_WRITE 0x01
#define INTERRUPT_CONSUMER 0x01
#define INTERRUPT_EDGE 0x02
#define REGION_SYSTEM_IO 0x01
#define FIELD_BYTE_ACCESS 0x01

/* Packages are closed with lengths of this many bytes, whatever they hold. */
#define PKG_LENGTH_BYTES 3u
#define PKG_LENGTH_MAX 0xfffffu

#define NAME_LEN 4u

static void bytes(struct aml *a, const void *p, size_t n)
{
	if (n > a->cap - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->buf + a->len, p, n);
	a->len += n;
}

/* n bytes of v, least significant first. */
static void le(struct aml *a, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t b = (uint8_t)(v >> (8 * i));

		bytes(a, &b, 1);
	}
}

static void op(struct aml *a, unsigned code)
{
	le(a, code, 1);
}

static void name_seg(struct aml *a, const char *name)
{
	assert(strlen(name) == NAME_LEN);
	bytes(a, name, NAME_LEN);
}

static void integer(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		op(a, v == 0 ? OP_ZERO : OP_ONE);
	} else if (v <= UINT8_MAX) {
		op(a, OP_BYTE);
		le(a, v, 1);
	} else if (v <= UINT16_MAX) {
		op(a, OP_WORD);
		le(a, v, 2);
	} else if (v <= UINT32_MAX) {
		op(a, OP_DWORD);
		le(a, v, 4);
	} else {
		op(a, OP_QWORD);
		le(a, v, 8);
	}
}

/* Leaves room for a package length; the mark is where. */
static size_t open_pkg(struct aml *a)
{
	size_t mark = a->len;

	le(a, 0, PKG_LENGTH_BYTES);
	return mark;
}

/* ACPI 6.4 §20.2.4: the two top bits tell how many bytes follow the first,
 * whose low nibble is the length's. */
void aml_close(struct aml *a, size_t mark)
{
	size_t len = a->len - mark;

	if (a->overflow)
		return;
	assert(len >= PKG_LENGTH_BYTES && len <= PKG_LENGTH_MAX);
	a->buf[mark] = (uint8_t)((PKG_LENGTH_BYTES - 1) << 6 | (len & 0xf));
	a->buf[mark + 1] = (uint8_t)(len >> 4);
	a->buf[mark + 2] = (uint8_t)(len >> 12);
}

size_t aml_scope(struct aml *a, const char *name)
{
	size_t mark;

	op(a, OP_SCOPE);
	mark = open_pkg(a);
	op(a, OP_ROOT_CHAR);
	name_seg(a, name);
	return mark;
}

size_t aml_device(struct aml *a, const char *name)
{
	size_t mark;

	op(a, OP_EXT);
	op(a, OP_EXT_DEVICE);
	mark = open_pkg(a);
	name_seg(a, name);
	return mark;
}

size_t aml_method(struct aml *a, const char *name, unsigned n_args)
{
	size_t mark;

	op(a, OP_METHOD);
	mark = open_pkg(a);
	name_seg(a, name);
	le(a, n_args & 7, 1); /* not serialized */
	return mark;
}

void aml_name_integer(struct aml *a, const char *name, uint64_t value)
{
	op(a, OP_NAME);
	name_seg(a, name);
	integer(a, value);
}

void aml_name_string(struct aml *a, const char *name, const char *value)
{
	op(a, OP_NAME);
	name_seg(a, name);
	op(a, OP_STRING);
	bytes(a, value, strlen(value) + 1);
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* ACPI 6.4 §19.3.4: five bits a letter, four a digit, most significant byte
 * first. */
void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	uint32_t v = 0;

	assert(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | ((unsigned)(id[i] - 'A' + 1) & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | (hex_digit(id[i]) & 0xf);
	op(a, OP_NAME);
	name_seg(a, name);
	op(a, OP_DWORD);
	le(a, __builtin_bswap32(v), 4);
}

void aml_name_package(
	struct aml *a, const char *name, const uint32_t *values, unsigned n)
{
	size_t mark;

	op(a, OP_NAME);
	name_seg(a, name);
	op(a, OP_PACKAGE);
	mark = open_pkg(a);
	le(a, n, 1);
	for (unsigned i = 0; i < n; i++)
		integer(a, values[i]);
	aml_close(a, mark);
}

/*
 * A resource template is a buffer: its package length, its size as an integer,
 * its bytes. The size is written as a word once it is known.
 */
#define CRS_SIZE_AT PKG_LENGTH_BYTES
#define CRS_BYTES_AT (CRS_SIZE_AT + 3)

size_t aml_crs(struct aml *a)
{
	size_t mark;

	op(a, OP_NAME);
	name_seg(a, "_CRS");
	op(a, OP_BUFFER);
	mark = open_pkg(a);
	op(a, OP_WORD);
	le(a, 0, 2);
	return mark;
}

void aml_crs_close(struct aml *a, size_t mark)
{
	size_t n;

	op(a, RES_END_TAG);
	le(a, 0, 1); /* no checksum */
	if (a->overflow)
		return;
	n = a->len - mark - CRS_BYTES_AT;
	assert(n <= UINT16_MAX);
	a->buf[mark + CRS_SIZE_AT + 1] = (uint8_t)n;
	a->buf[mark + CRS_SIZE_AT + 2] = (uint8_t)(n >> 8);
	aml_close(a, mark);
}

void aml_crs_io(struct aml *a, uint16_t base, uint8_t len)
{
	op(a, RES_IO);
	le(a, IO_DECODE_16, 1);
	le(a, base, 2); /* lowest and highest base */
	le(a, base, 2);
	le(a, 1, 1); /* alignment */
	le(a, len, 1);
}

void aml_crs_memory32_fixed(struct aml *a, uint32_t base, uint32_t len)
{
	op(a, RES_MEMORY32_FIXED);
	le(a, 9, 2);
	le(a, MEMORY_READ_WRITE, 1);
	le(a, base, 4);
	le(a, len, 4);
}

void aml_crs_interrupt(struct aml *a, uint32_t gsi)
{
	op(a, RES_EXT_INTERRUPT);
	le(a, 6, 2);
	le(a, INTERRUPT_CONSUMER | INTERRUPT_EDGE, 1);
	le(a, 1, 1); /* one interrupt */
	le(a, gsi, 4);
}

void aml_io_region(
	struct aml *a, const char *region, uint16_t port, uint8_t len)
{
	op(a, OP_EXT);
	op(a, OP_EXT_REGION);
	name_seg(a, region);
	le(a, REGION_SYSTEM_IO, 1);
	integer(a, port);
	integer(a, len);
}

void aml_byte_field(struct aml *a, const char *region, const char *field)
{
	size_t mark;

	op(a, OP_EXT);
	op(a, OP_EXT_FIELD);
	mark = open_pkg(a);
	name_seg(a, region);
	le(a, FIELD_BYTE_ACCESS, 1); /* no lock, preserve */
	name_seg(a, field);
	le(a, 8, 1); /* bits: a package length of one byte */
	aml_close(a, mark);
}

void aml_return_name(struct aml *a, const char *name)
{
	op(a, OP_RETURN);
	name_seg(a, name);
}

void aml_store_arg0(struct aml *a, const char *name)
{
	op(a, OP_STORE);
	op(a, OP_ARG0);
	name_seg(a, name);
}

size_t aml_if_arg0_is(struct aml *a, uint64_t value)
{
	size_t mark;

	op(a, OP_IF);
	mark = open_pkg(a);
	op(a, OP_EQUAL);
	op(a, OP_ARG0);
	integer(a, value);
	return mark;
}

void aml_notify(struct aml *a, const char *device, uint64_t value)
{
	op(a, OP_NOTIFY);
	name_seg(a, device);
	integer(a, value);
}
