// octet_approx_each_add_avx512vnni: lines of 64 bytes, a vector each; 16 products gathered at a
// time.
#if !defined(__clang__)
// g++ 12 warns of its own headers' _mm512_undefined_*() (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "kernels/approx_each_add.h"

extern "C" void octet_approx_each_add_avx512vnni(const octet::kernels::ApproxRowsArgs* args) {
  octet::kernels::ApproxEachAddKernel(*args);
}
