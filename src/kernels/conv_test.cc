// Every convolution kernel against octet_conv_reference: equal bytes, no access outside the
// buffers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "base/parallel.h"
#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

struct Case {
  int64_t batch, height, width;
  ConvProblem problem;
  std::string name;
  int mode = 0;  // FillCodes
};

int64_t OutputBytes(const Epilogue& e) {
  return e.output == OutputType::kUint8 || e.output == OutputType::kInt8 ? 1 : 4;
}

// Multipliers around 1 / (range of the sums), so that codes spread over the range and past both
// ends.
Epilogue MakeEpilogue(int64_t n, int64_t taps, OutputType output, bool per_channel,
                      std::mt19937* rng) {
  Epilogue e;
  e.output = output;
  std::uniform_int_distribution<int32_t> bias(-2000, 2000);
  std::uniform_real_distribution<float> spread(0.2F, 1.8F);
  const float base = 1.0F / (40.0F * std::sqrt(static_cast<float>(taps)) + 1.0F);
  for (int64_t i = 0; i < n; ++i) {
    e.bias.push_back(bias(*rng));
    if (per_channel || i == 0) e.multiplier.push_back(base * spread(*rng));
    if (output == OutputType::kFloat32) e.float_bias.push_back(spread(*rng) - 1.0F);
  }
  const bool int8 = output == OutputType::kInt8;
  e.y_zero_point = int8 ? -7 : 117;
  if (output == OutputType::kFloat32) {
    e.float_lo = -3.0F;
    e.float_hi = 6.0F;
  }
  if (per_channel && (int8 || output == OutputType::kUint8)) {
    for (int64_t i = 0; i < n; ++i) {
      const int32_t lowest = int8 ? -128 : 0;
      e.lo.push_back(lowest + static_cast<int32_t>((*rng)() % 100));
      e.hi.push_back(lowest + 255 - static_cast<int32_t>((*rng)() % 100));
    }
  }
  return e;
}

class ConvCheck {
 public:
  explicit ConvCheck(uint32_t seed) : rng_(seed) {}

  void Run(Case c) {
    ConvProblem& p = c.problem;
    const int64_t group_in = p.in_channels / p.groups;
    std::vector<int8_t> weight(
        static_cast<size_t>(p.out_channels * group_in * p.kernel_h * p.kernel_w));
    FillCodes(reinterpret_cast<uint8_t*>(weight.data()), static_cast<int64_t>(weight.size()),
              c.mode, &rng_);
    p.weight = weight.data();
    GuardedBuffer x(c.batch * c.height * c.width * p.in_channels);
    FillCodes(x.data(), x.size(), c.mode == 3 ? 2 : c.mode, &rng_);

    const auto run = [&](Isa isa, const std::string& kernel, std::vector<uint8_t>* y) {
      const ForcedChoice forced(isa, kernel);
      std::unique_ptr<Conv> conv;
      try {
        conv = std::make_unique<Conv>(p);
      } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("no kernel fits"), std::string::npos) << e.what();
        return false;
      }
      const int64_t pixels = c.batch * conv->OutHeight(c.height) * conv->OutWidth(c.width);
      GuardedBuffer out(pixels * p.out_channels * OutputBytes(p.epilogue));
      std::memset(out.data(), 0xa5, static_cast<size_t>(out.size()));
      if (p.epilogue.residual.present && residual_ == nullptr) {
        residual_ = std::make_unique<GuardedBuffer>(pixels * p.out_channels);
        FillCodes(residual_->data(), residual_->size(), c.mode == 0 ? 0 : 1, &rng_);
      }
      conv->Run(c.batch, c.height, c.width, x.data(), out.data(),
                p.epilogue.residual.present ? residual_->data() : nullptr);
      *y = out.Copy();
      return true;
    };

    residual_.reset();
    std::vector<uint8_t> expected;
    ASSERT_TRUE(run(Isa::kPortable, "octet_conv_reference", &expected));
    for (const auto& kernels : kernels_) {
      for (const auto& [isa, kernel] : kernels) {
        std::vector<uint8_t> got;
        if (!run(isa, kernel, &got)) continue;
        ++runs_;
        const auto at =
            std::mismatch(expected.begin(), expected.end(), got.begin()).first - expected.begin();
        ASSERT_EQ(at, static_cast<std::ptrdiff_t>(expected.size()))
            << c.name << " " << kernel << ": byte " << at << " is "
            << int{got[static_cast<size_t>(at)]} << ", expected "
            << int{expected[static_cast<size_t>(at)]};
      }
    }
  }

  std::mt19937* rng() { return &rng_; }
  int runs() const { return runs_; }

 private:
  std::mt19937 rng_;
  std::unique_ptr<GuardedBuffer> residual_;
  std::vector<std::pair<Isa, std::string>> kernels_[3] = {testing::KernelsOf(Op::Dense),
                                                          testing::KernelsOf(Op::DenseNarrow),
                                                          testing::KernelsOf(Op::Depthwise)};
  int runs_ = 0;
};

ConvProblem Problem(int64_t groups, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                    int64_t pad) {
  ConvProblem p;
  p.groups = groups;
  p.in_channels = in;
  p.out_channels = out;
  p.kernel_h = p.kernel_w = kernel;
  p.stride_h = p.stride_w = stride;
  p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = pad;
  p.x_zero_point = 113;
  return p;
}

Case MakeCase(ConvProblem p, int64_t batch, int64_t h, int64_t w, OutputType output,
              ConvCheck* check, int mode = 0, bool per_channel = true) {
  p.epilogue = MakeEpilogue(p.out_channels, p.in_channels / p.groups * p.kernel_h * p.kernel_w,
                            output, per_channel, check->rng());
  std::string name = Cat("g", p.groups, " ", p.in_channels, ">", p.out_channels, " k", p.kernel_h,
                         "x", p.kernel_w, " s", p.stride_h, " in ", batch, "x", h, "x", w,
                         " out type ", static_cast<int>(output), " mode ", mode);
  return {batch, h, w, std::move(p), std::move(name), mode};
}

// Tiles of the dense kernels: 6 rows (12 for narrow panels) x 64 channels, 4 bytes of K; 16 rows,
// two at a time, x 32 channels, 64 bytes of K.
TEST(Conv, PointwiseSizesAroundTheTile) {
  ConvCheck check(1);
  for (const int64_t m : {1, 5, 6, 7, 11, 12, 13, 15, 16, 27, 33, 49})
    for (const int64_t n : {1, 15, 16, 17, 33, 63, 64, 65, 131})
      for (const int64_t k : {1, 3, 4, 5, 11, 64}) {
        check.Run(MakeCase(Problem(1, k, n, 1, 1, 0), 1, 1, m, OutputType::kUint8, &check));
        if (HasFatalFailure()) return;
      }
  EXPECT_GE(check.runs(), 648);
}

TEST(Conv, EveryOutputInputTypeAndResidual) {
  ConvCheck check(2);
  for (const auto output :
       {OutputType::kUint8, OutputType::kInt8, OutputType::kInt32, OutputType::kFloat32})
    for (const auto input : {CodeType::kUint8, CodeType::kInt8})
      for (const int mode : {0, 1, 2, 3})
        for (const int residual : {0, 1, 2})
          for (const int shape : {0, 1, 2, 3, 4, 5, 6}) {
            if (residual > 0 && (output == OutputType::kInt32 || output == OutputType::kFloat32))
              continue;
            ConvProblem p = shape == 0   ? Problem(1, 12, 80, 3, 1, 1)
                            : shape == 1 ? Problem(1, 3, 24, 3, 2, 1)
                            : shape == 2 ? Problem(1, 64, 40, 1, 1, 0)
                            : shape == 3 ? Problem(72, 72, 72, 3, 1, 1)
                            : shape == 4 ? Problem(24, 24, 24, 5, 2, 2)
                            : shape == 5 ? Problem(16, 16, 16, 3, 1, 1)
                                         : Problem(8, 8, 8, 3, 2, 1);
            p.x_type = input;
            p.x_zero_point = input == CodeType::kUint8 ? 113 : -9;
            Case c = MakeCase(p, 2, 7, 6, output, &check, mode);
            Residual& r = c.problem.epilogue.residual;
            r.present = residual > 0;
            r.type = (mode & 1) != 0 ? CodeType::kInt8 : CodeType::kUint8;
            r.zero_point = r.type == CodeType::kInt8 ? -3 : 130;
            r.ratio = 0.73F;
            r.mid_codes = residual == 1;
            r.mid_zero_point = 100;
            r.mid_lo = 5;
            r.mid_hi = 250;
            r.mid_ratio = 0.61F;
            check.Run(c);
            if (HasFatalFailure()) return;
          }
}

// Codes without bounds of their own and with zero point 0, which have an epilogue of their own.
TEST(Conv, PlainCodes) {
  ConvCheck check(12);
  for (const auto output : {OutputType::kUint8, OutputType::kInt8})
    for (const int64_t n : {16, 24, 32, 40, 64, 72})
      for (const int64_t k : {16, 64, 320})
        for (const int64_t m : {5, 33, 64})
          for (const float multiplier : {0.002F, 0.02F}) {
            Case c = MakeCase(Problem(1, k, n, 1, 1, 0), 1, 1, m, output, &check, 0, false);
            c.problem.epilogue.multiplier = {multiplier};
            c.problem.epilogue.y_zero_point = 0;
            check.Run(c);
            (k == 16 ? c.problem.epilogue.lo : c.problem.epilogue.hi) = {21};
            check.Run(c);
            if (HasFatalFailure()) return;
          }
}

TEST(Conv, KernelsStridesPadsDilationsGroups) {
  ConvCheck check(3);
  std::mt19937& rng = *check.rng();
  const auto pick = [&](std::initializer_list<int64_t> of) {
    return *(of.begin() + rng() % of.size());
  };
  for (int i = 0; i < 400; ++i) {
    ConvProblem p;
    const int kind = static_cast<int>(rng() % 3);
    if (kind == 0) {
      p.in_channels = pick({1, 2, 3, 4, 7, 8, 16, 20, 64});
      p.out_channels = pick({1, 8, 16, 24, 64, 96});
    } else if (kind == 1) {  // grouped, with and without a depthwise multiplier
      p.groups = pick({2, 3, 5});
      p.in_channels = p.groups * pick({1, 2, 4, 6});
      p.out_channels = p.groups * pick({1, 2, 3, 17});
    } else {
      p.groups = p.in_channels = p.out_channels =
          pick({2, 8, 15, 16, 17, 31, 33, 48, 49, 64, 65, 100, 131});
    }
    p.kernel_h = pick({1, 2, 3, 5, 7});
    p.kernel_w = pick({1, 2, 3, 5, 7});
    p.stride_h = pick({1, 1, 2, 3});
    p.stride_w = pick({1, 1, 2, 3});
    p.dilation_h = pick({1, 1, 2, 3});
    p.dilation_w = pick({1, 1, 2, 3});
    p.pad_top = pick({0, 1, 2, 4});
    p.pad_left = pick({0, 1, 2, 4});
    p.pad_bottom = pick({0, 1, 3});
    p.pad_right = pick({0, 1, 3});
    p.x_type = (rng() & 1) != 0 ? CodeType::kUint8 : CodeType::kInt8;
    p.x_zero_point = static_cast<int32_t>(rng() % 256) - (p.x_type == CodeType::kInt8 ? 128 : 0);
    const auto extent = [](int64_t k, int64_t d) { return d * (k - 1) + 1; };
    const int64_t h =
        std::max<int64_t>(1, extent(p.kernel_h, p.dilation_h) - p.pad_top - p.pad_bottom) +
        pick({0, 1, 2, 6});
    const int64_t w =
        std::max<int64_t>(1, extent(p.kernel_w, p.dilation_w) - p.pad_left - p.pad_right) +
        pick({0, 1, 2, 6, 11});
    const auto output = (rng() & 1) != 0 ? OutputType::kUint8 : OutputType::kInt8;
    check.Run(MakeCase(p, pick({1, 1, 2}), h, w, output, &check, static_cast<int>(rng() % 4),
                       (rng() & 1) != 0));
    if (HasFatalFailure()) return;
  }
}

// Sixteen pixels of a tile in one row of the image, over two, with the gap between padded rows in
// any place; more tiles than a batch of them.
TEST(Conv, RowsOfTheImageAroundTheTile) {
  ConvCheck check(6);
  for (const int64_t w : {5, 14, 15, 16, 17, 31, 50})
    for (const int64_t h : {1, 2, 9})
      for (const int64_t kernel : {1, 3})
        for (const int64_t stride : {1, 2})
          for (const int64_t in : {16, 64, 70}) {
            check.Run(MakeCase(Problem(1, in, 40, kernel, stride, kernel / 2), 1, h, w,
                               OutputType::kUint8, &check));
            if (HasFatalFailure()) return;
          }
  check.Run(MakeCase(Problem(1, 20, 17, 3, 1, 1), 2, 33, 40, OutputType::kInt8, &check));
  check.Run(MakeCase(Problem(1, 64, 40, 1, 1, 0), 2, 33, 40, OutputType::kInt8, &check));
}

// Wide images with padding, which tiles read in place but for the edges: every side without padding
// once, filters wholly in the padding, columns of edge pixels around the tile, residuals.
TEST(Conv, WideImagesReadInPlace) {
  ConvCheck check(10);
  const auto run = [&](ConvProblem p, int64_t h, int64_t w) {
    check.Run(MakeCase(p, 2, h, w, OutputType::kUint8, &check));
    Case c = MakeCase(p, 1, h, w, OutputType::kInt8, &check);
    c.problem.epilogue.residual.present = true;
    c.problem.epilogue.residual.ratio = 0.4F;
    check.Run(c);
    check.Run(MakeCase(p, 1, h, w, OutputType::kFloat32, &check));
  };
  for (const int64_t h : {1, 2, 3, 4, 19, 36}) {
    for (const int64_t w : {24, 30, 33}) run(Problem(1, 64, 40, 3, 1, 1), h, w);
    if (HasFatalFailure()) return;
  }
  for (const int side : {0, 1, 2, 3}) {  // pads top, left, bottom, right
    ConvProblem p = Problem(1, 64, 17, 3, 1, 0);
    p.pad_top = side == 0 ? 0 : 4;
    p.pad_bottom = side == 1 ? 0 : 3;
    p.pad_left = side == 2 ? 0 : side == 3 ? 2 : 1;
    p.pad_right = 2 - p.pad_left;
    run(p, 7, 26);
    p.dilation_h = 2;
    run(p, 7, 26);
    p.dilation_w = 2;
    p.pad_left *= 2, p.pad_right *= 2;
    run(p, 7, 50);
    if (HasFatalFailure()) return;
  }
  ConvProblem row = Problem(1, 64, 33, 1, 1, 0);
  row.kernel_w = 3;
  row.pad_left = row.pad_right = 1;
  run(row, 5, 24);
  run(Problem(1, 64, 33, 5, 1, 2), 20, 49);
}

// Few channels and stride 2: two input rows side by side, odd numbers of filter rows, padding of
// either parity, rows beyond the image.
TEST(Conv, TwoFilterRowsAsOnePiece) {
  ConvCheck check(8);
  for (const int64_t in : {1, 3, 4, 10})
    for (const int64_t kernel : {2, 3, 7})
      for (const int64_t pad : {0, 1, 3})
        for (const int64_t stride_w : {1, 2, 3})
          for (const auto type : {CodeType::kUint8, CodeType::kInt8}) {
            if (2 * kernel * in > 64 || pad >= kernel) continue;
            ConvProblem p = Problem(1, in, 24, kernel, 2, pad);
            p.stride_w = stride_w;
            p.x_type = type;
            p.x_zero_point = 7;
            check.Run(MakeCase(p, 2, 11, 40, OutputType::kUint8, &check));
            check.Run(MakeCase(p, 1, kernel, kernel + 3, OutputType::kInt8, &check));
            if (HasFatalFailure()) return;
          }
}

// Few channels out, whose kernels have pixels in their lanes: runs around 16 and 32 pixels,
// channels around 8 and 16, every side without padding once, rows that end where the image does.
TEST(Conv, FewChannelsOut) {
  ConvCheck check(11);
  std::mt19937& rng = *check.rng();
  for (const int64_t in : {1, 3, 8})
    for (const int64_t out : {1, 7, 8, 9, 16, 24, 40})
      for (const int64_t w : {17, 34, 50, 66})
        for (const int64_t stride : {1, 2}) {
          ConvProblem p = Problem(1, in, out, 3, stride, 1);
          const auto side = rng() % 5;
          if (side == 0) p.pad_top = 0;
          if (side == 1) p.pad_left = 0;
          if (side == 2) p.pad_bottom = 0;
          if (side == 3) p.pad_right = 0;
          p.pad_left += static_cast<int64_t>(rng() % 3);
          p.dilation_h = 1 + static_cast<int64_t>(rng() % 2);
          p.x_type = (rng() & 1) != 0 ? CodeType::kUint8 : CodeType::kInt8;
          p.x_zero_point = static_cast<int32_t>(rng() % 100);
          check.Run(MakeCase(p, 2, 6, w, OutputType::kUint8, &check, static_cast<int>(rng() % 3)));
          if (HasFatalFailure()) return;
        }
  check.Run(MakeCase(Problem(1, 3, 16, 1, 1, 0), 1, 1, 83, OutputType::kInt8, &check));
  ConvProblem p = Problem(1, 3, 8, 3, 1, 0);  // as many columns inside as the image has steps
  p.kernel_w = p.stride_w = p.pad_right = 2;
  check.Run(MakeCase(p, 1, 6, 40, OutputType::kUint8, &check));
  check.Run(MakeCase(Problem(1, 2, 8, 5, 1, 2), 1, 40, 83, OutputType::kInt8, &check));
}

TEST(Conv, ThreadsDoNotChangeTheResult) {
  const ThreadScope threads(5);
  ConvCheck check(9);
  check.Run(MakeCase(Problem(1, 64, 64, 3, 1, 1), 1, 40, 40, OutputType::kUint8, &check));
  check.Run(MakeCase(Problem(1, 3, 32, 7, 2, 3), 2, 80, 80, OutputType::kUint8, &check));
  check.Run(MakeCase(Problem(64, 64, 64, 3, 1, 1), 2, 40, 40, OutputType::kUint8, &check));
}

// The fast 3x3 depthwise road: every parity of rows and width around its unrolling, both strides.
TEST(Conv, Depthwise3x3Borders) {
  ConvCheck check(4);
  for (const int64_t stride : {1, 2})
    for (const int64_t c : {8, 16, 24, 32, 40, 64, 72, 144})
      for (const int64_t h : {1, 2, 3, 4, 5, 7})
        for (const int64_t w : {1, 2, 3, 4, 5, 6, 7, 9}) {
          for (const int64_t pad : {0, 1, 2}) {
            if (h + 2 * pad < 3 || w + 2 * pad < 3) continue;
            ConvProblem p = Problem(c, c, c, 3, stride, pad);
            if (pad == 1 && stride == 2) p.pad_top = p.pad_left = 0;  // TensorFlow's SAME
            if (h + p.pad_top + p.pad_bottom < 3 || w + p.pad_left + p.pad_right < 3) continue;
            check.Run(MakeCase(p, 1, h, w, OutputType::kUint8, &check));
            if (HasFatalFailure()) return;
          }
        }
}

// Wide enough for vectors of several pixels that lie wholly inside a row.
TEST(Conv, Depthwise3x3Interiors) {
  ConvCheck check(10);
  for (const int64_t stride : {1, 2})
    for (const int64_t c : {8, 16, 32, 80})
      for (const int64_t w : {18, 35, 36, 39})
        for (const int64_t pad : {0, 1, 2})
          for (const auto output : {OutputType::kUint8, OutputType::kInt8}) {
            ConvProblem p = Problem(c, c, c, 3, stride, pad);
            if (pad == 1 && stride == 2) p.pad_top = p.pad_left = 0;
            check.Run(MakeCase(p, 1, 5, w, output, &check));
            if (HasFatalFailure()) return;
          }
}

// Filters of other sizes: rows in fours and one too many, more columns than are kept at once.
TEST(Conv, DepthwiseColumns) {
  ConvCheck check(13);
  const int64_t filters[][2] = {{5, 5}, {7, 7}, {1, 9}, {9, 1}, {4, 3}, {13, 2}};
  for (const auto& [kernel_h, kernel_w] : filters)
    for (const int64_t c : {16, 40, 72})
      for (const int64_t w : {9, 150})
        for (const int64_t stride : {1, 2, 3}) {
          ConvProblem p = Problem(c, c, c, 1, stride, 0);
          p.kernel_h = kernel_h;
          p.kernel_w = kernel_w;
          p.pad_top = p.pad_bottom = kernel_h / 2;
          p.pad_left = kernel_w / 2;
          p.dilation_w = 1 + (c + stride) / 8 % 2;
          p.pad_right = p.dilation_w * kernel_w / 2;
          check.Run(MakeCase(p, 1, 5, w, OutputType::kUint8, &check));
          check.Run(MakeCase(p, 2, 3, w, OutputType::kInt8, &check, 1));
          if (HasFatalFailure()) return;
        }
}

// Rows whose pixels are pending together: every width modulo their number, padding wider than the
// image, several rows a block.
TEST(Conv, DepthwiseFiltersOfFiveAndSeven) {
  ConvCheck check(14);
  std::mt19937& rng = *check.rng();
  for (const int64_t kernel : {5, 7})
    for (const int64_t stride : {1, 2})
      for (const int64_t c : {16, 40, 64, 72, 120})
        for (int64_t w = 1; w < 24; ++w) {
          ConvProblem p = Problem(c, c, c, kernel, stride, 0);
          p.pad_top = static_cast<int64_t>(rng() % 4);
          p.pad_bottom = kernel;
          p.pad_left = w % 8 == 0 ? w + 2 : static_cast<int64_t>(rng() % 4);
          p.pad_right = kernel / 2 + static_cast<int64_t>(rng() % 3);
          const auto h = static_cast<int64_t>(rng() % 8) + 1;
          if (p.pad_left + w + p.pad_right < kernel) continue;
          const auto output = w % 5 == 4 ? OutputType::kInt8 : OutputType::kUint8;
          check.Run(MakeCase(p, 1, h, w, output, &check));
          if (HasFatalFailure()) return;
        }
}

// Products of 0.5 by construction: acc * 0.5 ends in .5 for every odd acc, on both sides of zero.
TEST(Conv, RequantizeTiesGoToEven) {
  for (const auto& op : {Op::Dense, Op::DenseNarrow, Op::Reference}) {
    for (const auto& [isa, kernel] : testing::KernelsOf(op)) {
      const ForcedChoice forced(isa, kernel);
      const int8_t one = 1;
      ConvProblem p = Problem(1, 1, 1, 1, 1, 0);
      p.x_zero_point = 128;
      p.weight = &one;
      p.epilogue.multiplier = {0.5F};
      p.epilogue.y_zero_point = 128;
      const uint8_t x[] = {121, 123, 125, 127, 128, 129, 131, 133, 135, 130};
      //        acc          -7   -5   -3   -1    0    1    3    5    7    2
      const uint8_t want[] = {124, 126, 126, 128, 128, 128, 130, 130, 132, 129};
      uint8_t y[10];
      Conv(p).Run(1, 1, 10, x, y);
      for (int i = 0; i < 10; ++i) EXPECT_EQ(int{y[i]}, int{want[i]}) << kernel << " " << i;
    }
  }
}

TEST(Conv, HugeMultipliersSaturate) {
  for (const auto& op : {Op::Dense, Op::DenseNarrow, Op::Reference}) {
    for (const auto& [isa, kernel] : testing::KernelsOf(op)) {
      const ForcedChoice forced(isa, kernel);
      const int8_t weight[] = {1, -1};
      ConvProblem p = Problem(1, 1, 2, 1, 1, 0);
      p.x_zero_point = 0;
      p.weight = weight;
      p.epilogue.multiplier = {3e38F, 3e38F};
      p.epilogue.y_zero_point = 10;
      const uint8_t x[] = {200, 0};
      uint8_t y[4];
      Conv(p).Run(1, 1, 2, x, y);
      EXPECT_EQ(int{y[0]}, 255) << kernel;
      EXPECT_EQ(int{y[1]}, 0) << kernel;
      EXPECT_EQ(int{y[2]}, 10) << kernel;
      EXPECT_EQ(int{y[3]}, 10) << kernel;
    }
  }
}

TEST(Conv, ReferenceByHand) {
  const ForcedChoice forced(Isa::kPortable, "octet_conv_reference");
  // 1x2x2x1 image, 2x2 filter, pad 1 left only: columns -1..1; zero point 10.
  const int8_t weight[] = {1, 2, 3, -4};
  ConvProblem p = Problem(1, 1, 1, 2, 1, 0);
  p.pad_left = 1;
  p.x_zero_point = 10;
  p.weight = weight;
  p.epilogue.output = OutputType::kInt32;
  p.epilogue.bias = {100};
  const uint8_t x[] = {11, 12, 13, 15};
  int32_t y[2];
  Conv(p).Run(1, 2, 2, x, y);
  EXPECT_EQ(y[0], 100 + 0 + 2 * 1 + 0 - 4 * 3);
  EXPECT_EQ(y[1], 100 + 1 * 1 + 2 * 2 + 3 * 3 - 4 * 5);
}

// A grid that comes with the run gives what the same grid gives at construction.
TEST(Conv, GridAtRun) {
  std::mt19937 rng(41);
  const Grid grids[] = {{0.25F, 0}, {0.0173F, 113}, {2.0F, 255}};
  for (ConvProblem p :
       {Problem(1, 20, 24, 3, 1, 1), Problem(1, 3, 8, 3, 2, 1), Problem(4, 16, 8, 3, 1, 2),
        Problem(24, 24, 24, 3, 1, 1), Problem(16, 16, 16, 3, 2, 1), Problem(24, 24, 24, 5, 1, 2)}) {
    std::vector<int8_t> weight(
        static_cast<size_t>(p.out_channels * p.in_channels / p.groups * p.kernel_h * p.kernel_w));
    FillCodes(reinterpret_cast<uint8_t*>(weight.data()), static_cast<int64_t>(weight.size()), 0,
              &rng);
    p.weight = weight.data();
    p.epilogue = MakeEpilogue(p.out_channels, 9 * p.in_channels, OutputType::kFloat32, true, &rng);
    GuardedBuffer x(2 * 9 * 11 * p.in_channels);
    FillCodes(x.data(), x.size(), 0, &rng);
    for (const Op op : {Op::Dense, Op::Depthwise}) {
      for (const auto& [isa, kernel] : testing::KernelsOf(op)) {
        if (op == Op::Depthwise && p.groups != p.in_channels) continue;
        const ForcedChoice forced(isa, kernel);
        for (const Grid& grid : grids) {
          ConvProblem fixed = p, open = p;
          fixed.x_zero_point = grid.zero_point;
          for (float& m : fixed.epilogue.multiplier) m = grid.scale * m;
          open.x_zero_point = 0;
          open.grid_at_run = true;
          std::unique_ptr<Conv> conv;
          try {
            conv = std::make_unique<Conv>(fixed);
          } catch (const Error&) {
            continue;  // not this kernel's filter
          }
          const int64_t outputs = 2 * conv->OutHeight(9) * conv->OutWidth(11) * p.out_channels;
          GuardedBuffer want(outputs * 4), got(outputs * 4);
          conv->Run(2, 9, 11, x.data(), want.data());
          Conv(open).RunOnGrid(2, 9, 11, x.data(), grid, reinterpret_cast<float*>(got.data()));
          ASSERT_EQ(want.Copy(), got.Copy())
              << kernel << ", groups " << p.groups << ", zero point " << grid.zero_point;
        }
      }
    }
  }
}

TEST(Conv, TheChoiceIsExplained) {
  const std::vector<int8_t> weight(16 * 16, 1);
  ConvProblem p = Problem(1, 16, 16, 1, 1, 0);
  p.weight = weight.data();
  p.epilogue.multiplier = {1.0F};
  const Conv conv(p);
  int taken = 0;
  for (const Candidate& c : conv.candidates()) {
    taken += c.refused_because.empty() ? 1 : 0;
    if (c.kernel.find("depthwise") != std::string::npos) {
      EXPECT_FALSE(c.refused_because.empty());
    }
  }
  EXPECT_EQ(taken, 1);
  EXPECT_GE(conv.packed_bytes(), 256);
}

TEST(Conv, BadArgumentsAreNamed) {
  const int8_t weight[16] = {};
  const auto message = [&](auto change) {
    ConvProblem p = Problem(1, 4, 4, 1, 1, 0);
    p.weight = weight;
    p.epilogue.multiplier = {1.0F};
    change(&p);
    try {
      const Conv conv(p);
      uint8_t x[4] = {}, y[4];
      conv.Run(1, 1, 1, x, y);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message([](ConvProblem*) {}), "");
  EXPECT_NE(message([](ConvProblem* p) { p->groups = 3; }).find("multiples of groups = 3"),
            std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->stride_w = 0; }).find("stride_w is 0"),
            std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->x_zero_point = 256; }).find("x_zero_point is 256"),
            std::string::npos);
  EXPECT_NE(
      message([](ConvProblem* p) { p->epilogue.multiplier.assign(3, 1.0F); }).find("3 values"),
      std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->epilogue.multiplier = {NAN}; }).find("multiplier[0]"),
            std::string::npos);
  EXPECT_NE(
      message([](ConvProblem* p) { p->epilogue.lo = {9}, p->epilogue.hi = {8}; }).find("[9, 8]"),
      std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->kernel_h = 0; }).find("kernel_h is 0"),
            std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->weight = nullptr; }).find("weight is null"),
            std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->epilogue.residual.present = true; }).find("residual"),
            std::string::npos);
  EXPECT_NE(message([](ConvProblem* p) { p->kernel_h = 3, p->in_channels = 1; }).find("height 1"),
            std::string::npos);
}

}  // namespace
}  // namespace octet::kernels
