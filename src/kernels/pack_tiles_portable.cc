// octet_pack_tiles_portable: layout kTilesK64, byte by byte.
#include <cstring>

#include "kernels/linear_abi.h"

extern "C" void octet_pack_tiles_portable(const octet::kernels::PackTilesArgs* args) {
  const octet::kernels::PackTilesArgs& p = *args;
  const int64_t row = (p.k + 63) / 64 * 64;
  for (int64_t n0 = 0; n0 < p.n; n0 += 64) {
    const int64_t here = p.n - n0 < 64 ? p.n - n0 : 64, width = (here + 15) / 16 * 16;
    int8_t* panel = p.out + n0 * row;
    std::memset(panel, 0, static_cast<size_t>(width * row));
    for (int64_t n = 0; n < here; ++n) {
      const int8_t* from = p.b + (n0 + n) * p.stride;
      int32_t sum = 0;
      for (int64_t k = 0; k < p.k; ++k) {
        panel[k / 64 * 64 * width + n / 16 * 1024 + k % 64 / 4 * 64 + n % 16 * 4 + k % 4] = from[k];
        sum += from[k];
      }
      if (p.sums != nullptr) p.sums[n0 + n] = sum;
    }
  }
}
