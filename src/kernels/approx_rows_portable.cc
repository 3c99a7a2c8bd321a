// octet_approx_rows_portable: table rows of whole integers, four steps at a time: two loads and an
// addition per product.
#include "kernels/approx_abi.h"

namespace octet::kernels {
namespace {

template <typename T>
void RunChannels(const ApproxRowsArgs& a) {
  for (int64_t o = 0; o < a.n; ++o) {
    const uint8_t* rows = a.rows + a.table_of[o] * a.table_bytes;
    const uint8_t* w = a.weight + o * a.weight_stride;
    auto* sums = reinterpret_cast<int64_t*>(static_cast<uint8_t*>(a.sums) + o * a.sums_stride);
    const auto row = [&](int64_t i) {
      return reinterpret_cast<const T*>(rows + w[i] * a.row_bytes);
    };
    int64_t i = 0;
    for (; i + 4 <= a.k; i += 4) {
      const T *r0 = row(i), *r1 = row(i + 1), *r2 = row(i + 2), *r3 = row(i + 3);
      const uint8_t* x0 = a.x + i * kApproxLanes;
      const uint8_t *x1 = x0 + kApproxLanes, *x2 = x1 + kApproxLanes, *x3 = x2 + kApproxLanes;
      for (int64_t lane = 0; lane < a.lanes; ++lane)
        sums[lane] += int64_t{r0[x0[lane]]} + r1[x1[lane]] + (int64_t{r2[x2[lane]]} + r3[x3[lane]]);
    }
    for (; i < a.k; ++i) {
      const T* r = row(i);
      const uint8_t* x = a.x + i * kApproxLanes;
      for (int64_t lane = 0; lane < a.lanes; ++lane) sums[lane] += r[x[lane]];
    }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_approx_rows_portable(const octet::kernels::ApproxRowsArgs* args) {
  using namespace octet::kernels;
  if (args->wide) {
    RunChannels<int64_t>(*args);
  } else {
    RunChannels<int32_t>(*args);
  }
}
