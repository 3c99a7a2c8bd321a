// octet_approx_rows_portable: lines in vectors of 16 bytes.
#include "kernels/approx_lines.h"

extern "C" void octet_approx_rows_portable(const octet::kernels::ApproxRowsArgs* args) {
  octet::kernels::ApproxRowsKernel(*args);
}
