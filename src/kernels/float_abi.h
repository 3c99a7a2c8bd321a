// Arguments of the float row kernels (kernels/float_rows.h), plain data as in kernels/abi.h. Rows
// are dense. What is null is not read, or not written.
#pragma once

#include <stdint.h>

namespace octet::kernels {

// The grid that a float result is quantized to: rne(clamp(v / scale, lo, hi)) + zero_point.
struct CodeGrid {
  float scale;
  float lo, hi;        // bounds of the code minus the zero point
  int32_t zero_point;  // of the stored code type
};

enum MapFunction : int32_t {
  kMapErf,
  kMapTanh,
  kMapSigmoid,
  kMapSilu,
  kMapGelu,       // x / 2 * (1 + erf(x / sqrt 2))
  kMapGeluTanh,   // x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
  kMapHardSwish,  // x * (min(max(x + 3, 0), 6) / 6)
};

// y[i] = f(x[i]); codes[i] = the same on the grid. y may be x.
struct MapArgs {
  const float* x;
  float* y;
  uint8_t* codes;
  int64_t n;
  MapFunction function;
  CodeGrid grid;
};

// y = softmax of scale times every row, scale > 0; y may be x.
struct SoftmaxArgs {
  const float* x;
  float* y;
  uint8_t* codes;
  int64_t rows, n;
  float scale;
  CodeGrid grid;
};

enum RowSource : int32_t { kRowFloat, kRowInt32, kRowCodes };

// Where a row comes from. kFloat: as it is; kInt32: float(v) * scale; kCodes: float(v - zero_point)
// * scale.
struct RowInput {
  const void* data;
  RowSource source;
  float scale;
  int32_t zero_point;  // kRowCodes, of unsigned codes
  uint8_t flip;        // kRowCodes: 0x80 where int8 is stored
};

// s = x + residual; y = normal(s) * gamma + beta; codes = y on the grid.
struct LayerNormArgs {
  RowInput x, residual;
  const float* gamma;
  const float* beta;
  float epsilon;
  bool centred;    // false: the root mean square instead of the deviation, and no mean
  float* sum;      // s; may be `residual`, or x where that is float
  float* y;        // may be x or `residual`
  float* mean;     // one per row
  float* inverse;  // 1 / sqrt(variance + epsilon), one per row
  uint8_t* codes;
  float* scratch;  // n floats
  int64_t rows, n;
  CodeGrid grid;
};

}  // namespace octet::kernels
