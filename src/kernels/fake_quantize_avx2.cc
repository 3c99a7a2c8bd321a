// Fake quantization in vectors of 32 bytes.
#include "kernels/float_fake_quantize.h"

extern "C" void octet_fake_quantize_avx2(const octet::kernels::FakeQuantizeArgs* args) {
  octet::kernels::FakeQuantizeKernel(*args);
}
