// octet_approx_rows_avx2: lines in vectors of 32 bytes. Floor, of a line of 64 bytes: 3 loads, 2
// additions, 6 operations in all: 1 cycle, where the table is in L1.
#include "kernels/approx_lines.h"

extern "C" void octet_approx_rows_avx2(const octet::kernels::ApproxRowsArgs* args) {
  octet::kernels::ApproxRowsKernel(*args);
}
