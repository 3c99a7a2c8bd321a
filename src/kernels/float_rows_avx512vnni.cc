// The float row kernels in vectors of 64 bytes.
#include "kernels/float_rows.h"

using namespace octet::kernels;

extern "C" {

void octet_map_avx512vnni(const MapArgs* args) { MapKernel(*args); }

void octet_softmax_avx512vnni(const SoftmaxArgs* args) { SoftmaxKernel(*args); }

void octet_layer_norm_avx512vnni(const LayerNormArgs* args) { LayerNormKernel(*args); }

}  // extern "C"
