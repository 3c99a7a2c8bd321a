#include "kernels/abi.h"

extern "C" void octet_interleave_rows_portable(const octet::kernels::InterleaveRowsArgs* args) {
  const octet::kernels::InterleaveRowsArgs p = *args;
  for (int64_t i = 0; i < p.pixels; ++i) {
    uint8_t* to = p.to + i * 2 * p.channels;
    for (int64_t c = 0; c < p.channels; ++c) {
      to[c] = static_cast<uint8_t>(p.upper[i * p.channels + c] ^ p.flip);
      to[p.channels + c] = static_cast<uint8_t>(p.lower[i * p.channels + c] ^ p.flip);
    }
  }
}
