// The float row kernels in vectors of 32 bytes.
#include "kernels/float_rows.h"

using namespace octet::kernels;

extern "C" {

void octet_map_avx2(const MapArgs* args) { MapKernel(*args); }

void octet_softmax_avx2(const SoftmaxArgs* args) { SoftmaxKernel(*args); }

void octet_layer_norm_avx2(const LayerNormArgs* args) { LayerNormKernel(*args); }

}  // extern "C"
