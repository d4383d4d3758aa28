#pragma once

/* What one microVM can have; the API names these ranges in its errors. */

#define VM_ID_MAX 64 /* bytes, without the closing NUL */
#define VM_MAX_VCPUS 32
#define VM_MAX_DRIVES 16
#define VM_CMDLINE_MAX 2048 /* x86 COMMAND_LINE_SIZE, with the NUL */
#define VM_CONSOLE_BYTES (1u << 20)
#define VM_CONSOLE_INPUT_MAX 4096
