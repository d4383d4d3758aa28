#pragma once

/* Which of Firecracker's releases the API of a VM's own socket is that of. */
#define FIRECRACKER_VERSION "1.14.0"
