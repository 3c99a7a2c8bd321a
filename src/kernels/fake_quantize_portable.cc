// Fake quantization in vectors of 16 bytes.
#include "kernels/float_fake_quantize.h"

extern "C" void octet_fake_quantize_portable(const octet::kernels::FakeQuantizeArgs* args) {
  octet::kernels::FakeQuantizeKernel(*args);
}
