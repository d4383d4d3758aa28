#pragma once

/* The devices by which a guest learns of its generation (generation.h), within
 * \_SB. */

#include "vmm/aml.h"

void acpi_add_clocks(struct aml *a);
