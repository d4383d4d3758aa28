#pragma once

#include "base/error.h"

/*
 * Compiles the programs of all roles (base/seccomp_image.h) into a memfd sealed
 * against any change. Returns the descriptor, or a negative errno.
 */
int seccomp_image_make(struct error *err);
