#pragma once

/* A disk with a driver, for the tests of virtio-blk: one at a time. */

#include "block/blk.h"
#include "driver.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#define SECTORS ((size_t)128)
#define BYTES (SECTORS * 512)
#define SIZE 64u
#define V1 (1ull << VIRTIO_F_VERSION_1)
#define F_FLUSH (1ull << VIRTIO_BLK_F_FLUSH)
#define F_DISCARD (1ull << VIRTIO_BLK_F_DISCARD)
#define F_ZEROES (1ull << VIRTIO_BLK_F_WRITE_ZEROES)
#define F_MQ (1ull << VIRTIO_BLK_F_MQ)
#define F_INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define F_EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define F_ALL (V1 | F_FLUSH | F_INDIRECT | F_EVENT_IDX)

/* Guest memory of request i: header, status, data. */
#define HDR(i) (DRIVER_DATA_GPA + 32ull * (i))
#define STATUS(i) (DRIVER_DATA_GPA + 0x4000 + (i))
#define BUF(i) (DRIVER_DATA_GPA + 0x8000 + 2048ull * (i))

extern struct driver d;
extern struct virtio_dev *dev;
extern struct virtio_mmio *m;
extern struct worker *w;
extern struct blk_stats stats;
extern int disk, peer, irq;
extern uint8_t image[BYTES];
extern unsigned n_errors;
extern int last_error;
extern struct error err;

/* The device on the file `disk`, of BYTES, with what else config says. */
void make(struct blk_config config);
/* A file with a known content: `disk` and `image`. */
void make_image(void);
void teardown(void);

void setup(void); /* both of the above, with a write cache */
/* A disk that answers when we let it: a read waits for what we write to peer,
 * a sync fails. */
void setup_stream(void);

void kick(void);
uint8_t *status_of(unsigned i);
void header(unsigned i, uint32_t type, uint64_t sector);
/* Request i in descriptors 3i, 3i + 1, 3i + 2; not offered yet. */
void request(unsigned i, uint32_t type, uint64_t sector, uint32_t data_bytes);
/* A request with ranges: of DISCARD or WRITE_ZEROES. */
void range_request(unsigned i, uint32_t type,
	const struct virtio_blk_discard_write_zeroes *segs, unsigned n);
void pause_ms(long ms);
/* The next used entry of a queue, within seconds: its head. */
uint32_t next_used_of(struct driver *q, uint32_t *ret_len);
uint32_t next_used(uint32_t *ret_len);
/* Carries request i out and returns its status. */
uint8_t run(unsigned i, uint32_t *ret_len);
/* Until one of stats is n, and it stays so. */
void wait_count(const uint64_t *counter, uint64_t n);
uint64_t signals(void); /* of the interrupt, since the last time */
void read_space(struct virtio_blk_config *ret);
void check_image(void); /* the file is as `image` */
