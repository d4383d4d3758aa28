#pragma once

#include "base/error.h"

/* The one place where an errno becomes an HTTP status. */
unsigned http_status(const struct error *e);
/* When to come again, for a status that says so; 0: it does not. */
unsigned http_retry_after_s(unsigned status);
