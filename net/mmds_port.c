#include "net/mmds_port.h"

#include "base/counter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

/*
 * One interface's conversations: Ethernet, ARP (RFC 826) and IPv4 around the
 * TCP of mmds_tcp.c. Whatever is for the service's address ends here, answered
 * or not. IPv4 has no options and no fragments (the guest is on the same link).
 */

/* Locally administered, and no interface's of a guest: what is for it ends
 * here, too. */
static const uint8_t our_mac[ETH_ALEN] = {0x02, 'M', 'M', 'D', 'S', 0};

#define HEADERS_MAX (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define OPTIONS_MAX 40
#define MSS_OPTION_LEN 4
#define TTL 64

_Static_assert(HEADERS_MAX + TCP_SEGMENT_MAX == MMDS_FRAME_MAX, "a full frame");

struct mmds_port {
	struct mmds *m;
	struct tcp tcp;
	/* One reply: who asks again is answered again. */
	bool owes_arp;
	struct ether_arp arp;
};

static size_t serve(void *arg, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close)
{
	struct mmds_port *p = arg;

	return mmds_answer(p->m, rx, n, tx, ret_len, ret_close);
}

static void opened(void *arg)
{
	struct mmds_port *p = arg;

	counter_add(&p->m->service.stats->connections, 1);
}

int mmds_port_create(struct mmds_port **ret, struct mmds *m, struct error *err)
{
	/* Zero, and untouched until a connection needs it. */
	struct mmds_port *p = calloc(1, sizeof(*p));
	struct tcp_app app = {
		.serve = serve, .opened = opened, .arg = p, .port = 80};

	if (!p)
		return error_set(err, ENOMEM, "out of memory");
	p->m = m;
	tcp_init(&p->tcp, &app, m->tcp_key);
	*ret = p;
	return 0;
}

void mmds_port_destroy(struct mmds_port *p)
{
	free(p);
}

void mmds_port_reset(struct mmds_port *p)
{
	tcp_reset_all(&p->tcp);
	p->owes_arp = false;
}

static void malformed(struct mmds_port *p)
{
	counter_add(&p->m->service.stats->malformed, 1);
}

/* ---- checksums (RFC 1071) ---- */

static uint32_t add_words(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *b = data;

	for (; len > 1; len -= 2, b += 2)
		sum += (uint32_t)b[0] << 8 | b[1];
	if (len)
		sum += (uint32_t)b[0] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

static uint32_t pseudo_header(uint32_t from, uint32_t to, size_t len)
{
	return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) +
	       IPPROTO_TCP + (uint32_t)len;
}

/*
 * Over guest memory, which may change meanwhile: this finds a guest's mistakes,
 * and protects nobody. At most 64 KiB, so that the sum does not overflow.
 */
static bool tcp_sum_ok(const struct iovs *frame, size_t off, size_t len,
	uint32_t from, uint32_t to)
{
	uint32_t sum = pseudo_header(from, to, len);
	uint8_t piece[1024] = {0};

	while (len) {
		size_t n = len < sizeof(piece) ? len : sizeof(piece);

		if (iovs_read(frame, off, piece, n) < 0)
			return false;
		sum = add_words(sum, piece, n);
		off += n;
		len -= n;
	}
	return fold(sum) == 0xffff;
}

/* ---- what comes in ---- */

/* Somebody one can answer to. */
static bool is_host(const struct mmds_port *p, const uint8_t *mac, uint32_t ip)
{
	return !(mac[0] & 1) && !IN_MULTICAST(ip) && !IN_BADCLASS(ip) &&
	       ip != INADDR_ANY && ip != p->m->ipv4;
}

static bool input_arp(
	struct mmds_port *p, const struct iovs *frame, size_t off, size_t len)
{
	struct ether_arp arp;
	uint32_t target;

	if (len < sizeof(arp) || iovs_read(frame, off, &arp, sizeof(arp)) < 0)
		return false;
	memcpy(&target, arp.arp_tpa, sizeof(target));
	if (arp.arp_hrd != htons(ARPHRD_ETHER) ||
		arp.arp_pro != htons(ETHERTYPE_IP) || arp.arp_hln != ETH_ALEN ||
		arp.arp_pln != sizeof(target) || ntohl(target) != p->m->ipv4)
		return false;
	/* Its asker's address may be unknown to itself yet (RFC 5227). */
	if (arp.arp_op == htons(ARPOP_REQUEST) && !(arp.arp_sha[0] & 1)) {
		p->arp = arp;
		p->owes_arp = true;
	}
	return true;
}

/* The MSS option of a SYN: 0 when there is none, -1 when the options are not
 * well-formed. */
static int find_mss(const uint8_t *o, size_t len)
{
	int mss = 0;

	for (size_t i = 0; i < len && o[i] != TCPOPT_EOL;) {
		if (o[i] == TCPOPT_NOP) {
			i++;
			continue;
		}
		if (len - i < 2 || o[i + 1] < 2 || o[i + 1] > len - i)
			return -1;
		if (o[i] == TCPOPT_MAXSEG && o[i + 1] == MSS_OPTION_LEN)
			mss = o[i + 2] << 8 | o[i + 3];
		i += o[i + 1];
	}
	return mss;
}

/* What the sender of a segment says of itself: false when it is malformed. */
static bool read_tcp(const struct iovs *frame, size_t off, size_t len,
	struct tcp_peer *peer, struct tcp_header *ret, size_t *ret_head)
{
	uint8_t options[OPTIONS_MAX];
	struct tcphdr tcp;
	size_t head;
	int mss = 0;

	if (len < sizeof(tcp) || iovs_read(frame, off, &tcp, sizeof(tcp)) < 0)
		return false;
	head = (size_t)tcp.doff * 4;
	if (head < sizeof(tcp) || head > len || tcp.source == 0)
		return false;
	if (tcp.syn) {
		size_t n = head - sizeof(tcp);

		if (iovs_read(frame, off + sizeof(tcp), options, n) < 0)
			return false;
		mss = find_mss(options, n);
	}
	if (mss < 0)
		return false;
	peer->port = ntohs(tcp.source);
	peer->local_port = ntohs(tcp.dest);
	*ret = (struct tcp_header){
		.seq = ntohl(tcp.seq),
		.ack = ntohl(tcp.ack_seq),
		.window = ntohs(tcp.window),
		.mss = (uint16_t)mss,
		.flags = (tcp.fin ? TCP_FIN : 0) | (tcp.syn ? TCP_SYN : 0) |
			 (tcp.rst ? TCP_RST : 0) | (tcp.psh ? TCP_PSH : 0) |
			 (tcp.ack ? TCP_ACK : 0) | (tcp.urg ? TCP_URG : 0),
	};
	*ret_head = head;
	return true;
}

static void input_tcp(struct mmds_port *p, const uint8_t *mac, uint32_t from,
	const struct iovs *frame, size_t off, size_t len, bool partial_csum)
{
	struct tcp_peer peer = {.ip = from};
	struct tcp_header hdr;
	size_t head;

	memcpy(peer.mac, mac, sizeof(peer.mac));
	if (read_tcp(frame, off, len, &peer, &hdr, &head) &&
		(partial_csum || tcp_sum_ok(frame, off, len, from, p->m->ipv4)))
		tcp_input(&p->tcp, p->m->clock(), &peer, &hdr, frame,
			off + head, len - head);
	else
		malformed(p);
}

static bool input_ip(struct mmds_port *p, const struct ether_header *eth,
	const struct iovs *frame, size_t off, size_t len, bool partial_csum)
{
	struct iphdr ip;
	uint32_t from;
	size_t total;

	if (len < sizeof(ip) || iovs_read(frame, off, &ip, sizeof(ip)) < 0 ||
		ntohl(ip.daddr) != p->m->ipv4)
		return false;
	from = ntohl(ip.saddr);
	total = ntohs(ip.tot_len);
	if (ip.version != IPVERSION || ip.ihl != sizeof(ip) / 4 ||
		total < sizeof(ip) || total > len ||
		(ntohs(ip.frag_off) & (uint16_t)~IP_DF) ||
		fold(add_words(0, &ip, sizeof(ip))) != 0xffff ||
		!is_host(p, eth->ether_shost, from))
		malformed(p);
	else if (ip.protocol == IPPROTO_TCP)
		input_tcp(p, eth->ether_shost, from, frame, off + sizeof(ip),
			total - sizeof(ip), partial_csum);
	return true;
}

bool mmds_port_input(struct mmds_port *p, const struct iovs *frame, size_t off,
	size_t len, bool partial_csum)
{
	struct ether_header eth;
	bool ours = false;

	if (len < sizeof(eth) || iovs_read(frame, off, &eth, sizeof(eth)) < 0)
		return false;
	off += sizeof(eth);
	len -= sizeof(eth);
	if (eth.ether_type == htons(ETHERTYPE_ARP))
		ours = input_arp(p, frame, off, len);
	else if (eth.ether_type == htons(ETHERTYPE_IP))
		ours = input_ip(p, &eth, frame, off, len, partial_csum);
	return ours || memcmp(eth.ether_dhost, our_mac, ETH_ALEN) == 0;
}

/* ---- what goes out ---- */

static uint8_t *put_ethernet(uint8_t *at, const uint8_t *to, uint16_t type)
{
	struct ether_header eth = {.ether_type = htons(type)};

	memcpy(eth.ether_dhost, to, ETH_ALEN);
	memcpy(eth.ether_shost, our_mac, ETH_ALEN);
	memcpy(at, &eth, sizeof(eth));
	return at + sizeof(eth);
}

static size_t output_arp(struct mmds_port *p, uint8_t *buf)
{
	struct ether_arp reply = p->arp;

	p->owes_arp = false;
	reply.arp_op = htons(ARPOP_REPLY);
	memcpy(reply.arp_sha, our_mac, ETH_ALEN);
	memcpy(reply.arp_spa, p->arp.arp_tpa, sizeof(reply.arp_spa));
	memcpy(reply.arp_tha, p->arp.arp_sha, ETH_ALEN);
	memcpy(reply.arp_tpa, p->arp.arp_spa, sizeof(reply.arp_tpa));
	buf = put_ethernet(buf, reply.arp_tha, ETHERTYPE_ARP);
	memcpy(buf, &reply, sizeof(reply));
	return ETH_HLEN + sizeof(reply);
}

static size_t put_tcp(uint8_t *at, const struct tcp_out *out, uint32_t from)
{
	size_t options = out->hdr.mss ? MSS_OPTION_LEN : 0;
	size_t len = sizeof(struct tcphdr) + options + out->len;
	struct tcphdr tcp = {
		.source = htons(out->peer.local_port),
		.dest = htons(out->peer.port),
		.seq = htonl(out->hdr.seq),
		.ack_seq = htonl(out->hdr.ack),
		.window = htons(out->hdr.window),
		.doff = (uint16_t)((sizeof(tcp) + options) / 4) & 0xf,
		.fin = !!(out->hdr.flags & TCP_FIN),
		.syn = !!(out->hdr.flags & TCP_SYN),
		.rst = !!(out->hdr.flags & TCP_RST),
		.psh = !!(out->hdr.flags & TCP_PSH),
		.ack = !!(out->hdr.flags & TCP_ACK),
	};
	const uint8_t mss[MSS_OPTION_LEN] = {TCPOPT_MAXSEG, MSS_OPTION_LEN,
		(uint8_t)(out->hdr.mss >> 8), (uint8_t)out->hdr.mss};
	uint16_t sum;

	memcpy(at, &tcp, sizeof(tcp));
	memcpy(at + sizeof(tcp), mss, options);
	if (out->len)
		memcpy(at + sizeof(tcp) + options, out->data, out->len);
	sum = htons((uint16_t)~fold(
		add_words(pseudo_header(from, out->peer.ip, len), at, len)));
	memcpy(at + offsetof(struct tcphdr, check), &sum, sizeof(sum));
	return len;
}

static size_t put_frame(uint8_t *buf, const struct tcp_out *out, uint32_t from)
{
	uint8_t *at = put_ethernet(buf, out->peer.mac, ETHERTYPE_IP);
	size_t len = put_tcp(at + sizeof(struct iphdr), out, from);
	struct iphdr ip = {
		.version = IPVERSION,
		.ihl = sizeof(ip) / 4,
		.tot_len = htons((uint16_t)(sizeof(ip) + len)),
		.frag_off = htons(IP_DF),
		.ttl = TTL,
		.protocol = IPPROTO_TCP,
		.saddr = htonl(from),
		.daddr = htonl(out->peer.ip),
	};
	uint16_t sum;

	memcpy(at, &ip, sizeof(ip));
	sum = htons((uint16_t)~fold(add_words(0, at, sizeof(ip))));
	memcpy(at + offsetof(struct iphdr, check), &sum, sizeof(sum));
	return ETH_HLEN + sizeof(ip) + len;
}

size_t mmds_port_output(struct mmds_port *p, void *buf)
{
	struct tcp_out out;

	if (p->owes_arp)
		return output_arp(p, buf);
	if (!tcp_output(&p->tcp, p->m->clock(), &out))
		return 0;
	return put_frame(buf, &out, p->m->ipv4);
}

uint64_t mmds_port_deadline(const struct mmds_port *p)
{
	return tcp_deadline(&p->tcp);
}
