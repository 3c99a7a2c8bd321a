// Table lookup, byte by byte.
#include <cstdint>

#include "kernels/abi.h"

extern "C" void octet_lookup_portable(const octet::kernels::LookupArgs* args) {
  const octet::kernels::LookupArgs a = *args;
  for (int64_t i = 0; i < a.n; ++i) a.y[i] = a.table[a.x[i]];
}
