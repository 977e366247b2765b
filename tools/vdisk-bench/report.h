/* SPDX-License-Identifier: BSD-3-Clause */
/* report.h - the results on stdout, for people (normal), programs (json) or tables (tsv: a header and a line an
 * operation). */
#pragma once

#include "run.h"

int report(const struct options *o, const struct results *res);
