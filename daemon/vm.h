#pragma once

/*
 * One VM: its configuration and files, its process and their conversation, and
 * everybody who waits for something of it.
 *
 * vm.c: configuring; vm_show.c: showing; vm_start.c and vm_message.c: how it
 * starts; vm_talk.c: requests and messages; vm_update.c: changes while it runs;
 * vm_mmds.c: its metadata; vm_port.c: its own API socket; vm_exit.c: how it
 * ends; vm_save.c: what a daemon after this one has to know; vm_adopt.c: how
 * that one finds it.
 */

#include "api/backend.h"
#include "api/fc_metrics.h"
#include "api/port.h"
#include "base/log.h"
#include "daemon/api_socket.h"
#include "daemon/events.h"
#include "daemon/images.h"
#include "daemon/loop.h"
#include "daemon/memory_sample.h"
#include "daemon/output.h"
#include "daemon/pool.h"
#include "daemon/taps.h"
#include "daemon/vm_state.h"
#include "daemon/vsock.h"
#include "jailer/jail.h"
#include "vmm/config.h"
#include "vmm/msg.h"

#include <stdbool.h>
#include <sys/queue.h>

struct vm;
struct throttle_seen;

/* What all VMs of a daemon share; borrowed by each. */
struct vm_env {
	struct loop *loop;
	struct api_server *server; /* for their own sockets */
	struct process_env procs;
	struct pool *pool;
	unsigned n_starting;
	struct events *events; /* NULL: nobody wants to know */
	struct histogram start_times;
	uint32_t n_cpuid;
	struct msg_cpuid_entry cpuid[MSG_CPUID_MAX];
	uint64_t host_mem_mib;
	struct tap_list taps;        /* that any VM has */
	uint64_t start_timeout_ns;   /* to MSG_STARTED */
	uint64_t request_timeout_ns; /* to MSG_DONE */
	/* The VM has to go: its deletion is complete, or it was created with
	 * its start and that failed. It has no process. */
	void (*gone)(void *arg, struct vm *vm);
	void *arg;
};

/* Something asked of a guest that runs, in progress (vm_update.c). */
struct vm_change;

/* What a message brings about once it is done. */
struct vm_then {
	enum vm_event event;      /* VM_EVENTS: none */
	struct vm_change *change; /* owned; NULL: none */
};

/* Somebody waits: for a message's answer, the exit, the deletion. */
struct vm_pending {
	LIST_ENTRY(vm_pending) link;
	struct vm *vm;
	struct api_op *op; /* NULL: no longer interested */
	struct loop_timer timer;
	uint32_t seq; /* of the message */
	struct vm_then then;
};

LIST_HEAD(vm_pendings, vm_pending);

/* In place of a protocol: what was written down of it cannot be read. */
#define VM_DAMAGED UINT32_MAX

/* What became of the process. */
struct vm_exit {
	enum vm_exit_reason reason;
	int status; /* -1: died of a signal */
	int signal; /* 0: exited */
	char detail[256];
};

/* Connections the guest wants to host ports. */
struct vm_vsock_asks {
	struct {
		uint64_t token;
		uint32_t port;
	} asks[VSOCK_MAX_CONNECTING];
	unsigned n;
	int fd; /* of the first, connected but not sent yet; -1: none */
	struct loop_timer timer;
	struct log_limit limit;
};

/* Its own API socket (vm_port.c), and the process it ends with. */
struct vm_port {
	struct api_socket socket;
	struct loop_source listen;
	struct loop_timer pause;
	struct api_port *api;
	int owner_fd; /* of config.host.owner_pid; -1: none */
	struct loop_source owner;
	struct loop_timer orphaned; /* the owner was gone already */
};

/* Where it writes about itself (vm_log.c). */
struct vm_log {
	int fd, metrics_fd; /* -1: nowhere */
	struct fc_metrics *metrics;
	struct fc_missed missed;
	struct loop_timer timer; /* to the next line of metrics */
};

struct vm {
	TAILQ_ENTRY(vm) link; /* registry: in order of creation */
	struct vm *hash_next;
	struct vm_env *env;
	char id[VM_ID_MAX + 1];
	enum vm_state state;
	uint64_t number; /* in the order of creation, over restarts too */
	struct vm_config config;
	struct vm_images images; /* closed once it runs */
	struct vsock_uds uds;    /* of config.vsock; its path, until it ends */
	struct vm_taps taps;     /* handed over once it runs */
	struct vm_port port;     /* ... as well */
	struct vm_log log;
	struct output *output;
	struct api_mmds_data mmds; /* json NULL: none */

	/* From the start on. */
	bool remove_if_start_fails; /* as its record says, too */
	bool ready_told; /* the guest said it is ready, and so did we */
	struct api_op *start_op;
	struct loop_timer start_timer;
	struct pool_wait wait;  /* for a process */
	struct error start_err; /* code 0: none yet */
	uint64_t received_ns;   /* the request to start */

	/* The process; its pid 0: none any more. Its directory stays as long as
	 * the VM. */
	struct process process;
	/* Protocol of a VMM we cannot talk to; VM_DAMAGED; 0: we can. */
	uint32_t foreign;
	struct loop_source sock, pidfd;
	struct loop_timer linger; /* it said it exits: until it is made to */
	uint32_t next_seq;
	unsigned n_requests;
	struct vm_pendings requests, waiters, deleters;
	struct log_limit events_limit, unasked_limit;
	struct vm_vsock_asks vsock_asks;
	struct vm_exit exit;

	/* The process's memory as it was at that time (sampler.c). */
	struct memory_sample memory;
	pid_t memory_pid; /* whose it is; 0: not known */
	uint64_t sampled_ns;

	/* throttle.c's; NULL: nobody has looked yet. */
	struct throttle_seen *throttle_seen;
	uint64_t throttle_since_ns;

	/* Deleting, without a process: until its taps are free. */
	struct loop_timer taps_timer;
	unsigned taps_tries;
};

/* Opens all of config's files. config is taken over, whatever happens. */
int vm_create(struct vm **ret, struct vm_env *env, const char *id,
	struct vm_config *config, struct error *err);
/* Without a process, or one that is left to another daemon. NULL is fine. */
void vm_destroy(struct vm *vm);

/* vm_save.c: for a daemon that comes after us. What cannot be written is an
 * error where somebody can be told, else logged. */
int vm_save(const struct vm *vm, struct error *err); /* the configuration */
void vm_save_changed(const struct vm *vm);           /* the same, later */
int vm_save_mmds(
	const struct vm *vm, const struct api_mmds_data *d, struct error *err);
void vm_save_started(const struct vm *vm);
void vm_save_exit(const struct vm *vm);
/* 1; 0: there is none; or a negative errno: it cannot be told. */
int vm_read_exit(struct vm *vm);
void vm_forget(struct vm *vm); /* all there is of it */

/*
 * vm_adopt.c: what the daemon before this one knew as id. 0 with *ret NULL:
 * there was no such VM, or it was half made, and nothing is left of it; or
 * nobody can make anything of what was written down, and it stays so. A failure
 * (files or memory are short, say) leaves it as it was: nothing that may be its
 * own must be removed then.
 */
int vm_adopt(
	struct vm **ret, struct vm_env *env, const char *id, struct error *err);
/* A start that another daemon has begun has failed: its files. */
void vm_open_again(struct vm *vm);
/* The other way round: the daemon goes, the VM stays. Who waits is told. */
void vm_leave(struct vm *vm);

/* config is taken over, whatever happens. */
int vm_configure(struct vm *vm, struct vm_config *config,
	enum api_section section, const char *sub_id, struct error *err);

void vm_show(const struct vm *vm, struct api_vm *ret);
int vm_counters(const struct vm *vm, struct api_counters *ret);
int vm_device_state(
	const struct vm *vm, struct api_device_state *ret, struct error *err);

/* Operations: as api_backend_ops says. */
int vm_start(struct vm *vm, uint64_t received_ns, bool remove_if_fails,
	struct api_op *op, struct error *err);
int vm_act(
	struct vm *vm, enum api_action a, struct api_op *op, struct error *err);
/* *u is taken over. */
int vm_update(struct vm *vm, struct api_update *u, struct api_op *op,
	struct error *err);
/* *d is taken over. */
int vm_mmds_set(struct vm *vm, struct api_mmds_data *d, struct api_op *op,
	struct error *err);
int vm_console_input(struct vm *vm, const void *data, size_t len,
	struct api_op *op, struct error *err);
int vm_wait(struct vm *vm, uint64_t timeout_ns, struct api_op *op,
	struct error *err);
/* Kills and reaps; env->gone() comes at the end, perhaps before it returns. */
int vm_delete(struct vm *vm, struct api_op *op, struct error *err);
void vm_cancel(struct api_op *op); /* of a vm_wait() */
/* vm_delete() in any state: the daemon stops. */
void vm_shut_down(struct vm *vm);

/* Between the vm_*.c files. */

void vm_port_init(struct vm *vm);
/* All that config.api_socket and config.host ask for. */
int vm_port_open(struct vm *vm, struct error *err);
/* The same of a VM whose process an earlier daemon has started, and its log and
 * metrics: without what cannot be had. Whose owner is gone has to go, soon.
 * Fails where files or memory are short. */
int vm_port_reopen(struct vm *vm, struct error *err);
void vm_port_close(struct vm *vm); /* the socket: its guest is no more */
void vm_port_fini(struct vm *vm);

void vm_log_init(struct vm *vm);
void vm_log_fini(struct vm *vm);
/* Open what config says, in place of what is open. */
int vm_open_logger(
	struct vm *vm, const struct vm_config *config, struct error *err);
int vm_open_metrics(
	struct vm *vm, const struct vm_config *config, struct error *err);
int vm_flush_metrics(struct vm *vm, struct error *err);
/* What was counted by now is in an earlier daemon's lines. */
void vm_resume_metrics(struct vm *vm);
void vm_log_event(struct vm *vm, enum api_event_kind kind);
void vm_log_served(struct vm *vm, const struct api_served *s);

void vm_vsock_init(struct vm *vm);
/* Opens what it says, in place of what is open. */
int vm_open_vsock(struct vm *vm, const struct vm_config *c, struct error *err);
void vm_take_vsock_connect(struct vm *vm, const struct msg_vsock_connect *m);
void vm_forget_vsock_asks(struct vm *vm);

/* vm.c: without its files; the configuration is taken over. */
struct vm *vm_new(struct vm_env *env, const char *id, struct vm_config *config);

/* The machine: the same for VMs whose machine is the same. */
int vm_fill_prepare(const struct vm_env *env, const struct vm_config *c,
	struct msg_prepare *m, struct error *err);
/* All of MSG_START but what taps and sockets tell; measures the files again. */
int vm_fill_start(struct vm *vm, struct msg_start *m, struct error *err);
/* vm_cpu.c: what the configuration makes of the host's CPU; and whether this
 * host can do it. */
int vm_cpu_fill(const struct vm_env *env, const struct vm_config *c,
	struct msg_prepare *m, struct error *err);
int vm_cpu_check(
	const struct vm_env *env, const struct vm_config *c, struct error *err);
/* Where msg_start_fds() says: kernel, initrd, drives, pmem. */
void vm_place_image_fds(
	const struct vm *vm, const struct msg_start *m, int *fds);
void vm_fill_limiter(
	struct rate_limiter_config *to, const struct vm_rate_limiter *l);

/* vm_mmds.c: the metadata for the VM, in a memfd which is the caller's. */
int vm_mmds_memfd(const struct api_mmds_data *d, struct error *err);
void vm_mmds_fini(struct api_mmds_data *d);

/* A message, or the end of the conversation, may have come. */
void vm_on_sock(struct loop_source *s, uint32_t events);
void vm_take_messages(struct vm *vm, unsigned max);
void vm_on_pidfd(struct loop_source *s, uint32_t events);
void vm_on_linger(struct loop_timer *t);
void vm_on_taps_timer(struct loop_timer *t);
void vm_started(struct vm *vm);
int vm_watch(struct vm *vm);        /* its process; 0 or a negative errno */
int vm_start_clock(struct vm *vm);  /* until it has to have started */
void vm_undo_launch(struct vm *vm); /* as if there had been no process */
void vm_start_failed(struct vm *vm);
/* SIGKILL; what follows is seen at the pidfd. why: NULL or a sentence. */
void vm_record_unseen_exit(struct vm *vm);
void vm_kill(struct vm *vm, enum vm_exit_reason reason, const char *why);
/* Answers everybody in the list; err NULL: with success. */
void vm_answer_all(struct vm_pendings *list, const struct error *err);
struct vm_pending *vm_pend(struct vm *vm, struct vm_pendings *list,
	struct api_op *op, void (*timed_out)(struct loop_timer *t),
	uint64_t timeout_ns);
void vm_pending_free(struct vm_pending *p);
/* Sends one message; `then` is taken over, whatever happens. op NULL: nobody
 * waits. */
int vm_request(struct vm *vm, union msg *m, const int *fds, unsigned n_fds,
	struct vm_then then, struct api_op *op, struct error *err);
/* It was found, and cannot be talked to. */
int vm_refuse_foreign(const struct vm *vm, struct error *err);
/* The VM has done a change's message: goes on with it (as an operation). */
int vm_change_done(struct vm *vm, struct vm_change *c, struct api_op *op,
	struct error *err);
/* ... or has not, with this errno. */
void vm_change_failed(int code, struct error *err);
void vm_change_free(struct vm_change *c); /* NULL is fine */
const char *vm_exit_reason_name(enum vm_exit_reason r);
/* Tells those who follow the events. */
void vm_publish(struct vm *vm, enum api_event_kind kind);
/* A limiter holds a device back: "drives/data"; direction: NULL, or of a
 * network interface. */
void vm_publish_throttled(
	const struct vm *vm, const char *device, const char *direction);

/* Of 4 KiB. */
static inline uint32_t vm_balloon_pages(uint32_t mib)
{
	return mib << 8;
}
