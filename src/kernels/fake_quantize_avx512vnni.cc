// Fake quantization in vectors of 64 bytes.
#include "kernels/float_fake_quantize.h"

extern "C" void octet_fake_quantize_avx512vnni(const octet::kernels::FakeQuantizeArgs* args) {
  octet::kernels::FakeQuantizeKernel(*args);
}
