#pragma once

#include "base/error.h"

/* The one place where an errno becomes an HTTP status. */
unsigned http_status(const struct error *e);
