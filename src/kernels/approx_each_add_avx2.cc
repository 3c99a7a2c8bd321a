// octet_approx_each_add_avx2: lines in vectors of 32 bytes.
#include "kernels/approx_each_add.h"

extern "C" void octet_approx_each_add_avx2(const octet::kernels::ApproxRowsArgs* args) {
  octet::kernels::ApproxEachAddKernel(*args);
}
