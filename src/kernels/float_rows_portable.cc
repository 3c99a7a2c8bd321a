// The float row kernels in vectors of 16 bytes.
#include "kernels/float_rows.h"

using namespace octet::kernels;

extern "C" {

void octet_map_portable(const MapArgs* args) { MapKernel(*args); }

void octet_softmax_portable(const SoftmaxArgs* args) { SoftmaxKernel(*args); }

void octet_layer_norm_portable(const LayerNormArgs* args) { LayerNormKernel(*args); }

}  // extern "C"
