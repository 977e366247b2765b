/* SPDX-License-Identifier: BSD-3-Clause */
/* drivers.h - the drivers there are, for format.c's table. */
#pragma once

#include "formats/format.h"

extern const struct fmt_driver raw_driver;
extern const struct fmt_driver qcow2_driver;
extern const struct fmt_driver null_driver;
extern const struct fmt_driver vdi_driver;  /* to read only, as those that follow */
extern const struct fmt_driver vhdx_driver;
extern const struct fmt_driver vmdk_driver;
extern const struct fmt_driver vpc_driver;
