#pragma once

/* The metrics of VMs, as GET /metrics has them: one after the other, each with
 * the samples of all VMs. */

#include "api/exposition.h"
#include "api/sample.h"

struct vm_metric;

/* The n-th; NULL: there are not so many. */
const struct vm_metric *vm_metric_at(unsigned n);
void vm_metric_head(const struct vm_metric *m, struct exposition *e);
/* What one VM has of it: several devices' samples, or none. */
void vm_metric_write(const struct vm_metric *m, struct exposition *e,
	const struct vm_sample *v);
