// octet_approx_each_add_portable: lines in vectors of 16 bytes.
#include "kernels/approx_each_add.h"

extern "C" void octet_approx_each_add_portable(const octet::kernels::ApproxRowsArgs* args) {
  octet::kernels::ApproxEachAddKernel(*args);
}
