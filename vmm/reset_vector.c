#include "vmm/reset_vector.h"

#include "vmm/layout.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const uint8_t code[] = {
	0xb0, 0xfe,                  /* mov $0xfe, %al: pulse the reset line */
	0xe6, LAYOUT_PORT_I8042_CMD, /* out %al, $i8042 */
	0xf4,                        /* 1: hlt */
	0xeb, 0xfd,                  /* jmp 1b */
};

int reset_vector_write(const struct gmem *mem, struct error *err)
{
	void *p = gmem_range(mem, LAYOUT_RESET_VECTOR, sizeof(code));

	if (!p)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"must be at least 1 MiB");
	memcpy(p, code, sizeof(code));
	return 0;
}
