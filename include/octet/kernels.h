// The INT8 operators on their own, for people who want only those: plain-data arguments, no graph.
//
// Layout letters: N batch, C/OC channels, H,W/OH,OW space, KH,KW filter, G groups; GEMM is M,N,K.
// Activations are row-major (M,K) or NHWC; weights come as (N,K) or OIHW int8 and are packed once
// for the CPU at hand. Every result is exact: the same bits on every instruction set
// (src/numerics/rounding.h is the definition). Functions throw octet::Error for arguments that
// contradict each other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace octet::kernels {

// What happens to the int32 accumulator of output channel n before it is stored.
//
//   acc = sum((x - x_zero_point) * w) + bias[n], exact
//   uint8 or int8 out: q = saturate(rne(float(acc) * multiplier[n]) + y_zero_point) in [lo, hi]
//   float out:         y = clamp(float(acc) * multiplier[n] + float_bias[n])
//
// At construction the reach of every accumulator over all inputs is computed. Where it fits int32
// (always, for K <= 65,536 and |bias| < 2^23) the fast kernels are used, else one with 64-bit sums,
// of which kInt32 output stores the saturated value.
//
// With a residual r, a tensor of codes shaped like the output (quantized Conv -> Add -> Relu):
//   q1 = saturate(rne(float(acc) * multiplier[n]) + mid_zero_point) in [mid_lo, mid_hi]
//   q  = saturate(rne(float(q1 - mid_zero_point) * mid_ratio + float(r - r_zero_point) * r_ratio)
//                 + y_zero_point) in [lo, hi]
// where the graph has no quantizer between Conv and Add (`mid_codes` false):
//   q  = saturate(rne(float(acc) * multiplier[n] + float(r - r_zero_point) * r_ratio)
//                 + y_zero_point) in [lo, hi]
enum class CodeType : uint8_t { kUint8, kInt8 };
enum class OutputType : uint8_t { kUint8, kInt8, kInt32, kFloat32 };

struct Residual {
  bool present = false;
  CodeType type = CodeType::kUint8;
  int32_t zero_point = 0;
  float ratio = 1.0F;  // r_scale / y_scale
  bool mid_codes = true;
  int32_t mid_zero_point = 0;
  int32_t mid_lo = 0;
  int32_t mid_hi = 255;
  float mid_ratio = 1.0F;  // mid_scale / y_scale
};

struct Epilogue {
  OutputType output = OutputType::kUint8;
  std::vector<int32_t> bias;      // [N], or empty for zero
  std::vector<float> multiplier;  // [N] or [1]; not read for kInt32
  std::vector<float> float_bias;  // [N] or empty; read for kFloat32 only
  int32_t y_zero_point = 0;
  // Code bounds, [N] or [1], or empty for the type's: saturation and a fused Relu or Clip are the
  // same thing.
  std::vector<int32_t> lo, hi;
  float float_lo = -3.402823466e+38F;
  float float_hi = 3.402823466e+38F;
  Residual residual;
};

// What codes mean: scale * (code - zero_point).
struct Grid {
  float scale = 1.0F;
  int32_t zero_point = 0;
};

struct GemmProblem {
  int64_t n = 0, k = 0;  // M is given at run time
  CodeType x_type = CodeType::kUint8;
  int32_t x_zero_point = 0;
  // The grid of x comes with each run (RunOnGrid): uint8 in, float32 out; x_zero_point is not read.
  //   y = clamp(float(acc) * (grid.scale * multiplier[n]) + float_bias[n])
  // Throws kUnsupported where a sum could leave int32: never for K <= 65,536 without bias.
  bool grid_at_run = false;
  // (N,K) row-major if `weight_is_nk`, else (K,N); read at construction only
  const int8_t* weight = nullptr;
  bool weight_is_nk = true;
  Epilogue epilogue;
};

struct ConvProblem {
  int64_t groups = 1;
  int64_t in_channels = 0, out_channels = 0;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t dilation_h = 1, dilation_w = 1;
  // taps in the padding read real 0 = x_zero_point
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  CodeType x_type = CodeType::kUint8;
  int32_t x_zero_point = 0;
  bool grid_at_run = false;        // as in GemmProblem
  const int8_t* weight = nullptr;  // OIHW: (OC, C/G, KH, KW); read at construction only
  Epilogue epilogue;
};

// One candidate of the registry and what became of it: for --explain.
struct Candidate {
  std::string kernel;           // "octet_dense_u8s8_6x64_avx512vnni"
  std::string refused_because;  // empty for the one that was taken
};

// A linear layer, weights packed for this CPU. Run() may be called from several threads at once.
class Gemm {
 public:
  explicit Gemm(const GemmProblem& problem);  // OCTET_FORCE_ISA is honoured
  ~Gemm();
  Gemm(Gemm&&) noexcept;
  Gemm& operator=(Gemm&&) noexcept;

  // x (M,K) codes, row stride x_stride elements; y (M,N), row stride y_stride elements; residual
  // (M,N) codes with row stride residual_stride, or null.
  void Run(int64_t m, const void* x, int64_t x_stride, void* y, int64_t y_stride,
           const void* residual = nullptr, int64_t residual_stride = 0) const;
  // Where grid_at_run is set, instead of Run().
  void RunOnGrid(int64_t m, const uint8_t* x, int64_t x_stride, Grid grid, float* y,
                 int64_t y_stride) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A linear layer on float activations that are quantized as they come:
//   s = max(largest |x|, 1e-8) / 127 of a row (per token), or of all rows (per tensor)
//   q = rne(x / s), y = clamp(float(sum(q * w)) * weight_scale[n] * s + bias[n])
// multiplied from left to right (torch-int's dynamic absmax quantizers and its dequantization). NaN
// counts for nothing in s and becomes code -128.
enum class DynamicRange : uint8_t { kPerToken, kPerTensor };

struct DynamicGemmProblem {
  int64_t n = 0, k = 0;
  DynamicRange range = DynamicRange::kPerToken;
  const int8_t* weight = nullptr;  // (N,K) if `weight_is_nk`, else (K,N); read at construction only
  bool weight_is_nk = true;
  std::vector<float> weight_scale;  // [N] or [1]
  std::vector<float> bias;          // [N] or empty
  float lo = -3.402823466e+38F;
  float hi = 3.402823466e+38F;
};

class DynamicGemm {
 public:
  // Throws kUnsupported where a sum could leave int32: never for K <= 65,536.
  explicit DynamicGemm(const DynamicGemmProblem& problem);
  ~DynamicGemm();
  DynamicGemm(DynamicGemm&&) noexcept;
  DynamicGemm& operator=(DynamicGemm&&) noexcept;

  // x (M,K), y (M,N) float32; strides between rows in elements.
  void Run(int64_t m, const float* x, int64_t x_stride, float* y, int64_t y_stride) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A 2-D convolution (1-D: H = 1), any groups, depthwise included.
class Conv {
 public:
  explicit Conv(const ConvProblem& problem);
  ~Conv();
  Conv(Conv&&) noexcept;
  Conv& operator=(Conv&&) noexcept;

  // x (N,H,W,C) codes; y (N,OH,OW,OC), which neither of the others overlaps; residual like y, or
  // null.
  void Run(int64_t batch, int64_t height, int64_t width, const void* x, void* y,
           const void* residual = nullptr) const;
  // Where grid_at_run is set, instead of Run().
  void RunOnGrid(int64_t batch, int64_t height, int64_t width, const uint8_t* x, Grid grid,
                 float* y) const;
  // OH, OW for an input; throws where the padded input is smaller than the filter.
  [[nodiscard]] int64_t OutHeight(int64_t height) const;
  [[nodiscard]] int64_t OutWidth(int64_t width) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// x: NCHW float32 -> y: NHWC codes (one pass). scale, zero_point: per tensor.
void QuantizeToNhwc(const float* x, int64_t batch, int64_t channels, int64_t space, float scale,
                    int32_t zero_point, CodeType type, void* y);
// x: NHWC codes -> y: NCHW float32.
void DequantizeToNchw(const void* x, CodeType type, int64_t batch, int64_t channels, int64_t space,
                      float scale, int32_t zero_point, float* y);
// Elementwise over n elements, layout unchanged.
void Quantize(const float* x, int64_t n, float scale, int32_t zero_point, CodeType type, void* y);
void Dequantize(const void* x, CodeType type, int64_t n, float scale, int32_t zero_point, float* y);

// ONNX DynamicQuantizeLinear: the grid of x's range, widened to hold 0, and the codes on it.
//   scale = (max - min) / 255, or 1 where all are 0; zero_point = saturate(rne(-min / scale))
// NaN counts for nothing in the range.
[[nodiscard]] Grid DynamicQuantize(const float* x, int64_t n, uint8_t* y);

// y = clamp(a + b) on codes, see AddCodesOne in src/numerics/rounding.h. a, b, y have n elements
// each.
struct AddProblem {
  CodeType type = CodeType::kUint8;  // of a, b and y
  int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
  float a_ratio = 1.0F, b_ratio = 1.0F;  // a_scale / y_scale, b_scale / y_scale
  int32_t lo = 0, hi = 255;
};
void Add(const AddProblem& problem, const void* a, const void* b, int64_t n, void* y);

// y = clamp(a * b) on codes: what DequantizeLinear of both, the product and QuantizeLinear give,
// bit for bit. All of one type. a, b, y have n elements each.
struct MulProblem {
  CodeType type = CodeType::kUint8;
  Grid a, b, y;
  int32_t lo = 0, hi = 255;
};
void Mul(const MulProblem& problem, const void* a, const void* b, int64_t n, void* y);
// The gate of a squeeze-and-excitation block: a, y (N,space,C), b (N,C).
void MulChannels(const MulProblem& problem, int64_t batch, int64_t space, int64_t channels,
                 const void* a, const void* b, void* y);

// Pooling on NHWC codes. Max pooling keeps codes; padding never wins. The averages sum in int32 and
// requantize once:
//   q = saturate(rne(float(sum - count * x_zero_point) * multiplier) + y_zero_point)
// with multiplier = (x_scale / y_scale) / count in float32, per distinct count. count: the window's
// pixels inside the image, or, with count_include_pad, inside the padded image.
struct PoolProblem {
  CodeType type = CodeType::kUint8;
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  bool ceil_mode = false;
  bool count_include_pad = false;  // average only
  int32_t x_zero_point = 0, y_zero_point = 0;
  float ratio = 1.0F;  // x_scale / y_scale; average only
};
// Output sizes: floor, or ceil where ceil_mode is set, less a last window that would start in the
// end padding.
[[nodiscard]] int64_t PoolOutHeight(const PoolProblem& problem, int64_t height);
[[nodiscard]] int64_t PoolOutWidth(const PoolProblem& problem, int64_t width);
void MaxPool(const PoolProblem& problem, int64_t batch, int64_t height, int64_t width,
             int64_t channels, const void* x, void* y);
void AveragePool(const PoolProblem& problem, int64_t batch, int64_t height, int64_t width,
                 int64_t channels, const void* x, void* y);
// (N,space,C) -> (N,C): AveragePool over all of the space.
void GlobalAveragePool(const PoolProblem& problem, int64_t batch, int64_t space, int64_t channels,
                       const void* x, void* y);

// y[i] = table[x[i]]: requantization to another scale, Sigmoid, HardSwish, ... of 8-bit codes. The
// table is indexed by the code's byte (int8 -1 is entry 255). Rows of `row` bytes, strides in
// bytes.
void Lookup(const uint8_t table[256], int64_t rows, int64_t row, const void* x, int64_t x_stride,
            void* y, int64_t y_stride);

// The float operators around the integer ones, by rows. Their results, too, are the same bits on
// every instruction set; the errors of exp, erf and tanh are stated in
// src/kernels/float_functions.h (a few units in the last place). Where `codes` is set, the result
// is also, or instead, quantized in the same pass, exactly as Quantize() would do it.
struct CodesOut {
  void* codes = nullptr;
  CodeType type = CodeType::kUint8;
  float scale = 1.0F;
  int32_t zero_point = 0;
};

enum class Function : uint8_t {
  kErf,
  kTanh,
  kSigmoid,
  kSilu,       // x sigmoid(x)
  kGelu,       // x / 2 (1 + erf(x / sqrt 2))
  kGeluTanh,   // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  kHardSwish,  // x (min(max(x + 3, 0), 6) / 6)
};
// Elementwise; y may be x, or null where only codes are wanted. NaN gives NaN.
void Map(Function function, const float* x, int64_t n, float* y, const CodesOut& codes = {});

// Of scale x (scale > 0) along rows of n >= 1; y may be x and is always written. A row that holds
// NaN or +infinity, or nothing but -infinity, becomes NaN. Terms below 2^-126 of the largest count
// as 0.
void Softmax(const float* x, int64_t rows, int64_t n, float* y, const CodesOut& codes = {},
             float scale = 1.0F);

// LayerNorm and RMSNorm over rows of n >= 1, with dequantization, residual addition and
// quantization in the same pass:
//   s = value of x + residual
//   LayerNorm: y = (s - mean(s)) / sqrt(variance(s) + epsilon) * gamma + beta
//   RMSNorm:   y = s / sqrt(mean(s^2) + epsilon) * gamma + beta
// x is float32, or int32 accumulators (value = float(x) * x_scale), or codes (value =
// float(x - x_zero_point) * x_scale); the residual is float32 or codes. torch-int's LayerNormQ is
// {x, gamma, beta, codes int8 of scale 1}, with gamma and beta divided by the output scale
// beforehand or `codes.scale` being it; its dq_add_layernorm_q is {int32 x, x_scale, residual, sum,
// codes}.
//
// Sums run in float32 over 32 partial sums, and the rounding of the mean is corrected: exact to a
// few units in the last place of the largest deviation. A row that holds NaN or an infinity becomes
// NaN (its codes the lowest); so that squares do not overflow, deviations must be below 1e18.
struct LayerNormProblem {
  enum class Input : uint8_t { kFloat32, kInt32, kCodes };
  int64_t rows = 0, n = 0;
  bool rms = false;
  float epsilon = 1e-5F;
  const void* x = nullptr;
  Input input = Input::kFloat32;
  CodeType x_type = CodeType::kUint8;
  float x_scale = 1.0F;
  int32_t x_zero_point = 0;
  const float* residual = nullptr;       // (rows, n), or null
  const void* residual_codes = nullptr;  // instead of `residual`
  CodeType residual_type = CodeType::kUint8;
  float residual_scale = 1.0F;
  int32_t residual_zero_point = 0;
  const float* gamma = nullptr;  // [n]
  const float* beta = nullptr;   // [n], or null
  // Results, each optional. `sum` may be `residual`, or x where that is float32; `y` may be either.
  float* sum = nullptr;
  float* y = nullptr;
  float* mean = nullptr;     // [rows]; 0 for RMSNorm
  float* inverse = nullptr;  // [rows]: 1 / sqrt(... + epsilon)
  CodesOut codes;
};
void LayerNorm(const LayerNormProblem& problem);

// Where the matrices of an operand lie, in elements. Elements of a row are neighbours.
struct MatrixPlaces {
  int64_t row_stride = 0;        // 0: the rows of a matrix follow each other
  std::vector<int64_t> offsets;  // one per matrix; empty: the matrices follow each other
};
// Attention's products: y (B,M,N) = a (B,M,K) b (B,N,K)^T, a in 8-bit codes, b int8 about 0
// (torch-int's bmm_s8t_s8n_s8t, _f32t, _s32t); acc = sum (a - a_zero_point) b.
//   int8 or uint8 out: q = saturate(rne(float(acc) * alpha) + y_zero_point)
//   float32 out:       float(acc) * alpha
//   int32 out:         acc, saturated where K is so large that it can leave int32
// b is packed in each call: some N K / 16 cycles a matrix beside M N K / 128 of the product itself,
// twice as many where it is (B,K,N).
struct BatchedMatMulProblem {
  int64_t batch = 0, m = 0, n = 0, k = 0;
  OutputType output = OutputType::kInt8;
  float alpha = 1.0F;
  CodeType a_type = CodeType::kInt8;
  int32_t a_zero_point = 0;
  int32_t y_zero_point = 0;  // of codes
  bool b_is_kn = false;      // b (B,K,N)
  MatrixPlaces a_places = {}, b_places = {}, y_places = {};
};
void BatchedMatMul(const BatchedMatMulProblem& problem, const void* a, const int8_t* b, void* y);

// Weights in int8, activations in float32 (W8A16, W8A32): y (M,N) = x (M,K) (scale * weight)^T +
// bias, one scale per output channel, or per channel and group of K.
//
// Rows of x are rounded to multiples of `step`, the least power of two (from 2^-123) of which
// max |x| is at most 8,355,711: 23 bits and more, so float16 and bfloat16 values stay exact over 12
// and 15 binades below the largest. Everything after that is exact but for one rounding per group
// in double precision and the last, to float32:
//   |error| <= step / 2 * sum |scale w| + 2^-24 |y|, to first order.
// A row that holds NaN or an infinity becomes NaN.
struct WeightOnlyProblem {
  int64_t n = 0, k = 0;
  const int8_t* weight = nullptr;  // (N,K); read at construction only, as `scale` and `bias`
  int64_t group = 0;               // of K, the last may be shorter; 0: all of K
  const float* scale = nullptr;    // (N, groups), finite
  const float* bias = nullptr;     // [N], or null
};
class WeightOnlyLinear {
 public:
  explicit WeightOnlyLinear(const WeightOnlyProblem& problem);
  ~WeightOnlyLinear();
  WeightOnlyLinear(WeightOnlyLinear&&) noexcept;
  WeightOnlyLinear& operator=(WeightOnlyLinear&&) noexcept;

  // Strides of rows in elements. May be called from several threads at once.
  void Run(int64_t m, const float* x, int64_t x_stride, float* y, int64_t y_stride) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Weights in 8-bit floating point (OCP): E4M3 without infinities (torch.float8_e4m3fn), or E5M2.
// Everything is float32, with fused multiply-adds:
//   s_b = sum of x w over block b of 128 of K, from its first to its last
//   y   = fma(s_0 + s_1 + ..., scale, bias)
// E4M3 weights count as 2^-8 of their value and `scale` as 2^8 of its own, which shows only where
// numbers leave float32's range.
struct Fp8Problem {
  enum class Format : uint8_t { kE4M3, kE5M2 };
  int64_t n = 0, k = 0;
  Format format = Format::kE4M3;
  const uint8_t* weight = nullptr;  // (N,K); read at construction only, as `scale` and `bias`
  const float* scale = nullptr;     // [N], finite, |scale| < 2^119
  const float* bias = nullptr;      // [N], or null
};
class Fp8Linear {
 public:
  explicit Fp8Linear(const Fp8Problem& problem);
  ~Fp8Linear();
  Fp8Linear(Fp8Linear&&) noexcept;
  Fp8Linear& operator=(Fp8Linear&&) noexcept;

  void Run(int64_t m, const float* x, int64_t x_stride, float* y, int64_t y_stride) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::kernels
