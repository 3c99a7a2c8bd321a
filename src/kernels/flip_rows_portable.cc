#include "kernels/abi.h"

extern "C" void octet_flip_rows_portable(const octet::kernels::FlipRowsArgs* args) {
  const octet::kernels::FlipRowsArgs p = *args;
  for (int64_t i = 0; i < p.rows; ++i) {
    const uint8_t* from = p.from + i * p.from_stride;
    uint8_t* to = p.to + i * p.to_stride;
    for (int64_t j = 0; j < p.n; ++j) to[j] = static_cast<uint8_t>(from[j] ^ p.flip);
  }
}
