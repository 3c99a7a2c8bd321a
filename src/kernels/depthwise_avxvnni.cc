// The depthwise kernels on vpdpbusd of 32 and 16 bytes.
#include "kernels/depthwise_avx2.h"

extern "C" {

void octet_depthwise3x3_u8s8_32_avxvnni(const octet::kernels::DepthwiseArgs* args) {
  octet::kernels::Run(*args, true);
}

void octet_depthwise_u8s8_32_avxvnni(const octet::kernels::DepthwiseArgs* args) {
  octet::kernels::Run(*args, false);
}

}  // extern "C"
