/*
 * virtio-net with a driver and a tap that do anything. The input: a byte of
 * features, then operations, each a byte and what it needs: fields of rings and
 * descriptors, whole descriptors, kicks, packets and errors of the tap, timers,
 * resets. The worker is a fake one without thread or ring: reads and writes are
 * carried out here, and have to stay in guest memory or the device's own.
 *
 * After a reset nothing may be out that knows guest memory.
 */

#include "net/net.h"
#include "tests/fuzz/fuzz.h"
#include "virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAIRS 2u
#define QUEUES (2 * PAIRS + 1)
#define SIZE 16u
#define RAM_GPA 0x10000ull
#define RAM_BYTES 0x40000u
#define RING_BYTES 0x1000u
#define AVAIL_OFF 0x400u
#define USED_OFF 0x800u
#define DATA_OFF 0x8000u
#define MAX_OPS 512u

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* ---- a worker ---- */

struct worker {
	struct worker_op *ready, **ready_end;
	struct worker_op *out; /* reads, writes, polls, timers */
	struct worker_op *watches[QUEUES];
	unsigned n_files, n_watches;
};

enum { READ = 1, WRITE, POLL };

static struct worker *worker; /* the one in use */
static uint8_t *ram;

/* What the tap has for the guest, or does to its packets. */
static size_t packet_len;
static uint8_t packet_hdr[2];
static int write_result;

static void make_ready(struct worker_op *op, int32_t res)
{
	op->state = WORKER_OP_READY;
	op->res = res;
	op->next = NULL;
	*worker->ready_end = op;
	worker->ready_end = &op->next;
}

static void take_out(struct worker_op *op, int32_t res)
{
	struct worker_op **at = &worker->out;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	make_ready(op, res);
}

static void put_out(
	struct worker_op *op, uint8_t opcode, enum worker_op_state state)
{
	check(op->state == WORKER_OP_IDLE);
	op->opcode = opcode;
	op->state = state;
	op->next = worker->out;
	worker->out = op;
}

/* Bounded: what is deferred may be deferred again. */
static void run_ready(unsigned max)
{
	while (worker->ready && max--) {
		struct worker_op *op = worker->ready;

		worker->ready = op->next;
		if (!worker->ready)
			worker->ready_end = &worker->ready;
		op->state = WORKER_OP_IDLE;
		op->done(op, op->res);
	}
}

int worker_add_file(struct worker *w, int fd, unsigned *ret_index)
{
	(void)fd;
	*ret_index = w->n_files++;
	return 0;
}

int worker_watch(struct worker *w, struct worker_op *op, unsigned file)
{
	(void)file;
	check(w->n_watches < QUEUES);
	w->watches[w->n_watches++] = op;
	return 0;
}

void worker_readv(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes)
{
	(void)w;
	(void)off_bytes;
	op->file = file;
	op->iov = iov;
	op->n_iov = n;
	put_out(op, READ, WORKER_OP_SUBMITTED);
}

void worker_writev(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes)
{
	(void)w;
	(void)off_bytes;
	op->file = file;
	op->iov = iov;
	op->n_iov = n;
	put_out(op, WRITE, WORKER_OP_SUBMITTED);
}

void worker_poll(
	struct worker *w, struct worker_op *op, unsigned file, short events)
{
	(void)w;
	(void)file;
	(void)events;
	put_out(op, POLL, WORKER_OP_SUBMITTED);
}

void worker_timer(struct worker *w, struct worker_op *op, uint64_t deadline_ns)
{
	(void)w;
	(void)deadline_ns;
	put_out(op, 0, WORKER_OP_TIMER);
}

void worker_defer(struct worker *w, struct worker_op *op)
{
	(void)w;
	check(op->state == WORKER_OP_IDLE);
	make_ready(op, 0);
}

uint64_t worker_now(struct worker *w)
{
	(void)w;
	return 1;
}

void worker_cancel(struct worker *w, struct worker_op *op)
{
	(void)w;
	if (op->state == WORKER_OP_SUBMITTED || op->state == WORKER_OP_TIMER)
		take_out(op, -ECANCELED);
}

/* As without a thread: what it made ready is called as well. */
void worker_call(struct worker *w, void (*fn)(void *arg), void *arg)
{
	(void)w;
	fn(arg);
	run_ready(10000);
}

/* ---- the tap ---- */

static size_t length(const struct worker_op *op)
{
	size_t sum = 0;

	for (unsigned i = 0; i < op->n_iov; i++) {
		check(op->iov[i].iov_len > 0);
		sum += op->iov[i].iov_len;
	}
	check(op->n_iov > 0 && op->n_iov <= VIRTQ_MAX + 1);
	return sum;
}

static int32_t do_read(const struct worker_op *op)
{
	size_t len = packet_len, off = 0;

	if (len > length(op))
		len = length(op);
	for (unsigned i = 0; i < op->n_iov && off < len; i++) {
		size_t n = op->iov[i].iov_len;

		if (n > len - off)
			n = len - off;
		memset(op->iov[i].iov_base, (int)(off & 0xff), n);
		if (off == 0)
			memcpy(op->iov[i].iov_base, packet_hdr,
				n < sizeof(packet_hdr) ? n
						       : sizeof(packet_hdr));
		off += n;
	}
	return (int32_t)len;
}

static int32_t do_write(const struct worker_op *op)
{
	static volatile uint8_t sink;
	size_t len = length(op);

	check(len >= 12 + 14);
	for (unsigned i = 0; i < op->n_iov; i++) {
		const uint8_t *at = op->iov[i].iov_base;

		check(at >= ram && at < ram + RAM_BYTES);
		check(op->iov[i].iov_len <= (size_t)(ram + RAM_BYTES - at));
		sink = at[0];
		sink = at[op->iov[i].iov_len - 1];
	}
	(void)sink;
	return write_result ? -write_result : (int32_t)len;
}

/* Carries out what is out of one kind, or all timers; reads: one. */
static void carry_out(uint8_t opcode, int32_t poll_events)
{
	struct worker_op *op = worker->out, *next;

	for (; op; op = next) {
		next = op->next;
		if (op->opcode != opcode)
			continue;
		if (opcode == READ) {
			take_out(
				op, write_result ? -write_result : do_read(op));
			return;
		}
		if (opcode == WRITE)
			take_out(op, do_write(op));
		else
			take_out(op, opcode == POLL ? poll_events : -ETIME);
	}
}

/* ---- the metadata service ---- */

static unsigned frames;
static struct mmds *const service = (struct mmds *)&frames;

int mmds_port_create(struct mmds_port **ret, struct mmds *m, struct error *err)
{
	(void)m;
	(void)err;
	*ret = (struct mmds_port *)&frames;
	return 0;
}

void mmds_port_destroy(struct mmds_port *p)
{
	(void)p;
}

void mmds_port_reset(struct mmds_port *p)
{
	(void)p;
	frames = 0;
}

bool mmds_port_input(struct mmds_port *p, const struct iovs *frame, size_t off,
	size_t len, bool partial_csum)
{
	uint8_t last;

	(void)p;
	check(off == 12 && len >= 14 && frame->len == off + len);
	check(iovs_read(frame, off + len - 1, &last, 1) == 0);
	frames += last % 4;
	return partial_csum || last % 2;
}

size_t mmds_port_output(struct mmds_port *p, void *buf)
{
	(void)p;
	if (frames == 0)
		return 0;
	memset(buf, 0x77, MMDS_FRAME_MAX);
	return frames-- % 2 ? MMDS_FRAME_MAX : 60;
}

uint64_t mmds_port_deadline(const struct mmds_port *p)
{
	(void)p;
	return frames ? 1 : UINT64_MAX;
}

/* ---- the driver ---- */

struct input {
	const uint8_t *at, *end;
};

static unsigned take8(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static unsigned take16(struct input *in)
{
	unsigned low = take8(in);

	return low | take8(in) << 8;
}

static void reg(struct virtio_mmio *m, uint64_t off, uint32_t value)
{
	virtio_mmio_write(m, off, &value, sizeof(value));
}

static uint64_t features_of(unsigned bits, const struct virtio_dev *dev)
{
	static const unsigned features[] = {VIRTIO_NET_F_MRG_RXBUF,
		VIRTIO_NET_F_MQ, VIRTIO_RING_F_EVENT_IDX,
		VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_NET_F_CTRL_VQ,
		VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_CTRL_GUEST_OFFLOADS};
	uint64_t ret = 1ull << VIRTIO_F_VERSION_1;

	for (unsigned i = 0; i < 8; i++)
		if (bits & (1u << i))
			ret |= 1ull << features[i];
	return ret & dev->features;
}

static void set_up_queue(struct virtio_mmio *m, unsigned q)
{
	uint32_t gpa = (uint32_t)RAM_GPA + q * RING_BYTES;

	reg(m, VIRTIO_MMIO_QUEUE_SEL, q);
	reg(m, VIRTIO_MMIO_QUEUE_NUM, SIZE);
	reg(m, VIRTIO_MMIO_QUEUE_DESC_LOW, gpa);
	reg(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, gpa + AVAIL_OFF);
	reg(m, VIRTIO_MMIO_QUEUE_USED_LOW, gpa + USED_OFF);
	reg(m, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void up(struct virtio_mmio *m, uint64_t features)
{
	memset(ram, 0, DATA_OFF);
	reg(m, VIRTIO_MMIO_STATUS, 0);
	check(worker->out == NULL && worker->ready == NULL);
	reg(m, VIRTIO_MMIO_STATUS, 1);
	reg(m, VIRTIO_MMIO_STATUS, 3);
	for (unsigned i = 0; i < 2; i++) {
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES,
			(uint32_t)(features >> (32 * i)));
	}
	reg(m, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++)
		set_up_queue(m, q);
	reg(m, VIRTIO_MMIO_STATUS, 15);
}

static struct vring_desc *desc_of(unsigned q, unsigned i)
{
	return (struct vring_desc *)(ram + (size_t)(q % QUEUES) * RING_BYTES) +
	       i % SIZE;
}

static void offer(unsigned q, unsigned head)
{
	struct vring_avail *avail =
		(struct vring_avail *)(ram + (size_t)(q % QUEUES) * RING_BYTES +
				       AVAIL_OFF);

	avail->ring[avail->idx % SIZE] = (uint16_t)head;
	avail->idx++;
}

/* A descriptor with a place of its own, or one anywhere. */
static void write_desc(struct input *in)
{
	unsigned q = take8(in), i = take8(in);
	struct vring_desc *d = desc_of(q, i);

	d->addr = RAM_GPA + DATA_OFF + take16(in) * 4ull;
	d->len = take16(in);
	d->flags = (uint16_t)(take8(in) & 7);
	d->next = (uint16_t)take8(in);
}

static void write_data(struct input *in)
{
	unsigned off = take16(in) * 4u % (RAM_BYTES - 64), n = take8(in) % 64;

	while (n--)
		ram[off++] = (uint8_t)take8(in);
}

static void operate(struct input *in, struct virtio_mmio *m, uint64_t features)
{
	unsigned op = take8(in), q;

	switch (op % 12) {
	case 0:
		write_desc(in);
		break;
	case 1:
		q = take8(in);
		offer(q, take8(in));
		break;
	case 2:
		q = take8(in) % QUEUES;
		worker->watches[q]->done(worker->watches[q], 0);
		break;
	case 3:
		packet_len = (size_t)take16(in) << (op & 16 ? 1 : 0);
		packet_hdr[0] = (uint8_t)take8(in);
		packet_hdr[1] = (uint8_t)take8(in);
		carry_out(READ, 0);
		break;
	case 4:
		carry_out(WRITE, 0);
		break;
	case 5:
		carry_out(POLL, (int32_t)take8(in));
		break;
	case 6:
		carry_out(0, 0);
		break;
	case 7:
		run_ready(1 + take8(in));
		break;
	case 8:
		write_result = op & 16 ? (int)take8(in) : 0;
		break;
	case 9:
		write_data(in);
		break;
	case 10:
		up(m, features);
		break;
	default:
		/* A buffer or a packet as a driver would have it. */
		q = take8(in) % QUEUES;
		*desc_of(q, op >> 4) = (struct vring_desc){
			.addr = RAM_GPA + DATA_OFF + (op >> 4) * 0x2000ull,
			.len = take16(in) % 0x2000,
			.flags = q % 2 ? 0 : VRING_DESC_F_WRITE};
		offer(q, op >> 4);
		break;
	}
}

/* Making one takes longer than using it: they are kept, by configuration. */
static struct device {
	struct worker worker;
	struct virtio_dev *dev;
	struct virtio_mmio *m;
	struct gmem mem;
	struct net_stats stats;
} devices[8];

static void make(struct device *d, unsigned which)
{
	static const int taps[PAIRS] = {-1, -1};
	struct net_config config = {.tap_fds = taps,
		.n_pairs = PAIRS,
		.tap_features = which & 1 ? ~0ull : 0,
		.mmds = which & 2 ? service : NULL,
		.stats = &d->stats};
	struct error err;

	if (which & 4)
		config.rx_limiter.ops = config.tx_limiter.ops =
			(struct bucket_config){.size = 4, .refill_ns = 1000000};
	*d = (struct device){.mem = {.n = 0}};
	d->worker.ready_end = &d->worker.ready;
	worker = &d->worker;
	check(gmem_add(&d->mem, RAM_GPA, ram, RAM_BYTES) == 0);
	check(net_create(&d->dev, worker, &config, &err) == 0);
	check(virtio_mmio_create(&d->m, d->dev, &d->mem, -1, NULL, &err) == 0);
	check(d->dev->ops->attach(d->dev, &err) == 0);
}

/* Without its tap it would be of no more use. */
static void discard_if_dead(struct device *d)
{
	const struct virtio_net_config *space = d->dev->config;

	if (space->status)
		return;
	virtio_mmio_destroy(d->m);
	d->dev->ops->destroy(d->dev);
	d->dev = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	unsigned bits = take8(&in), which = take8(&in) % 8;
	struct device *d = &devices[which];
	uint64_t features;

	if (!ram)
		ram = malloc(RAM_BYTES);
	check(ram != NULL);
	memset(ram, 0, RAM_BYTES);
	if (!d->dev)
		make(d, which);
	worker = &d->worker;
	packet_len = 0;
	write_result = 0;
	features = features_of(bits, d->dev);
	up(d->m, features);
	for (unsigned i = 0; i < MAX_OPS && in.at < in.end; i++)
		operate(&in, d->m, features);
	reg(d->m, VIRTIO_MMIO_STATUS, 0);
	check(worker->out == NULL && worker->ready == NULL);
	discard_if_dead(d);
	return 0;
}

/* Buffers, packets both ways, commands, errors, a reset: with all features and
 * with none. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const uint8_t ops[] = {11, 0, 0, 6, 27, 0, 0, 6, 43, 0, 0, 6, 2,
		0, 7, 9, 3, 100, 0, 0, 0, 7, 9, 3, 0, 8, 0, 0, 7, 9, 19, 0,
		0x60, 1, 1, 7, 9,                               /* rx */
		11, 1, 64, 0, 27, 1, 0, 6, 2, 1, 7, 9, 4, 7, 9, /* tx */
		24, 11, 43, 1, 80, 0, 2, 1, 7, 9, 4, 7, 9, 5, 4, 7, 9, 8, 4, 7,
		9,                                                  /* EAGAIN */
		24, 77, 11, 1, 64, 0, 2, 1, 7, 9, 4, 7, 9, 8,       /* EBADFD */
		9, 0, 0x20, 3, 4, 0, 2, 0, 4, 0, 0, 0, 4, 0, 1, 1,  /* ctrl */
		0, 4, 1, 64, 0, 1, 0, 2, 0, 1, 4, 0, 2, 4, 7, 9, 6, /* */
		10, 11, 0, 0, 6, 2, 0, 3, 100, 0, 7, 9};
	static const uint8_t heads[][2] = {
		{0xff, 1}, {0, 0}, {0xff, 7}, {0x1d, 3}, {0x0d, 4}};

	if (n >= sizeof(heads) / sizeof(heads[0]) || cap < sizeof(ops) + 2)
		return 0;
	memcpy(buf, heads[n], 2);
	memcpy(buf + 2, ops, sizeof(ops));
	return sizeof(ops) + 2;
}
