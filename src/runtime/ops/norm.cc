// Normalizations and Softmax in float32. LayerNorm and Softmax along rows are kernels::LayerNorm
// and kernels::Softmax; the others take their sums in double, each by one thread in a fixed order.
#include <octet/kernels.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "runtime/ops/dispatch.h"
#include "runtime/ops/families.h"

namespace octet::ops {
namespace {

void CheckFloat(const StepRequest& r) {
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    if (r.has(i) && r.dtype(i) != DType::kFloat32) {
      FailStep(r, Cat("input ", i, " is ", NameOf(r.dtype(i)), ", expected float32"));
    }
  }
}

// y = x * scale[c] + shift[c]
void Affine(const float* x, float* y, int64_t n, const float* scale, const float* shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale[i] + shift[i];
}
void Affine1(const float* x, float* y, int64_t n, float scale, float shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale + shift;
}

struct Moments {
  double mean, variance;
};

// Two passes, in double.
Moments MomentsOf(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = n > 0 ? sum / static_cast<double>(n) : 0;
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  return {mean, n > 0 ? squares / static_cast<double>(n) : 0};
}

int64_t RowGrain(int64_t row) {
  return std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, row));
}

// Per-channel scale and shift of inference-mode batch normalization.
struct ChannelAffine {
  std::vector<float> scale, shift;
};

ChannelAffine FoldedAffine(const float* gamma, const float* beta, const float* mean,
                           const float* variance, int64_t channels, float epsilon) {
  ChannelAffine a;
  for (int64_t c = 0; c < channels; ++c) {
    const double s = static_cast<double>(gamma[c]) /
                     std::sqrt(static_cast<double>(variance[c]) + static_cast<double>(epsilon));
    a.scale.push_back(static_cast<float>(s));
    a.shift.push_back(
        static_cast<float>(static_cast<double>(beta[c]) - static_cast<double>(mean[c]) * s));
  }
  return a;
}

}  // namespace

Step MakeBatchNormalization(const StepRequest& r) {
  CheckFloat(r);
  if (r.node->GetInt("training_mode", 0) != 0) FailStep(r, "training_mode is 1, expected 0");
  const Shape& x = r.shape(0);
  const int64_t channels = x.rank() > 1 ? x[1] : 1;
  const int64_t space = x.rank() > 2 ? x.product(2, x.rank()) : 1;
  const float epsilon = r.node->GetFloat("epsilon", 1e-5F);
  Step step = NewStep(r, "octet:affine");
  const Layout layout = r.inputs[0].layout;
  step.input_layouts[0] = step.output_layouts[0] = layout;
  step.overwrites = 0;
  bool known = true;
  for (size_t i = 1; i <= 4; ++i) {
    if (r.shape(i).elements() != channels)
      FailStep(r, Cat("input ", i, " is ", r.shape(i).ToString(), ", expected [", channels, "]"));
    known = known && r.constant(i) != nullptr;
  }
  ChannelAffine fixed;
  if (known) {
    auto data = [&](size_t i) { return r.constant(i)->data<float>().data(); };
    fixed = FoldedAffine(data(1), data(2), data(3), data(4), channels, epsilon);
  }
  const int64_t images = x.rank() > 0 ? x[0] : 1;
  step.run = [=](const StepArgs& a) {
    const ChannelAffine computed =
        known ? ChannelAffine()
              : FoldedAffine(a.in<float>(1), a.in<float>(2), a.in<float>(3), a.in<float>(4),
                             channels, epsilon);
    const ChannelAffine& affine = known ? fixed : computed;
    const float* from = a.in<float>(0);
    float* to = a.out<float>(0);
    if (layout == Layout::kChannelsLast) {
      // Narrow rows of channels are done several at a time.
      const int64_t repeat = std::max<int64_t>(1, 256 / channels);
      const int64_t row = repeat * channels;
      std::vector<float> scale, shift;
      for (int64_t i = 0; i < repeat; ++i) {
        scale.insert(scale.end(), affine.scale.begin(), affine.scale.end());
        shift.insert(shift.end(), affine.shift.begin(), affine.shift.end());
      }
      const int64_t n = images * space * channels;
      ParallelFor((n + row - 1) / row, RowGrain(row), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          Affine(from + i * row, to + i * row, std::min(row, n - i * row), scale.data(),
                 shift.data());
        }
      });
      return;
    }
    ParallelFor(images * channels, RowGrain(space), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto c = static_cast<size_t>(i % channels);
        Affine1(from + i * space, to + i * space, space, affine.scale[c], affine.shift[c]);
      }
    });
  };
  return step;
}

Step MakeInstanceNormalization(const StepRequest& r) {
  CheckFloat(r);
  const Shape& x = r.shape(0);
  const int64_t channels = x[1];
  const int64_t space = x.product(2, x.rank());
  const auto epsilon = static_cast<double>(r.node->GetFloat("epsilon", 1e-5F));
  Step step = NewStep(r, "octet:instance_norm");
  step.overwrites = 0;
  step.run = [=](const StepArgs& a) {
    ParallelFor(x[0] * channels, RowGrain(space), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* from = a.in<float>(0) + i * space;
        const Moments m = MomentsOf(from, space);
        const double s =
            static_cast<double>(a.in<float>(1)[i % channels]) / std::sqrt(m.variance + epsilon);
        const double b = static_cast<double>(a.in<float>(2)[i % channels]) - m.mean * s;
        Affine1(from, a.out<float>(0) + i * space, space, static_cast<float>(s),
                static_cast<float>(b));
      }
    });
  };
  return step;
}

Step MakeGroupNormalization(const StepRequest& r) {
  CheckFloat(r);
  const Shape& x = r.shape(0);
  const int64_t channels = x[1];
  const int64_t groups = r.node->GetInt("num_groups", 1);
  if (groups < 1 || channels % groups != 0)
    FailStep(r, Cat("num_groups ", groups, " does not divide ", channels));
  const int64_t space = x.product(2, x.rank());
  const int64_t per_group = channels / groups;
  // One scale per group before operator set 21, one per channel since.
  const int64_t scales = r.shape(1).elements();
  if (scales != channels && scales != groups)
    FailStep(r, Cat("scale has ", scales, " elements, expected ", channels));
  const auto epsilon = static_cast<double>(r.node->GetFloat("epsilon", 1e-5F));
  Step step = NewStep(r, "octet:group_norm");
  step.overwrites = 0;
  step.run = [=](const StepArgs& a) {
    ParallelFor(x[0] * groups, RowGrain(per_group * space), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* from = a.in<float>(0) + i * per_group * space;
        const Moments m = MomentsOf(from, per_group * space);
        const double inverse = 1.0 / std::sqrt(m.variance + epsilon);
        for (int64_t c = 0; c < per_group; ++c) {
          const int64_t channel = i % groups * per_group + c;
          const int64_t k = scales == channels ? channel : channel / per_group;
          const double s = static_cast<double>(a.in<float>(1)[k]) * inverse;
          const double b = static_cast<double>(a.in<float>(2)[k]) - m.mean * s;
          Affine1(from + c * space, a.out<float>(0) + (i * per_group + c) * space, space,
                  static_cast<float>(s), static_cast<float>(b));
        }
      }
    });
  };
  return step;
}

Step MakeLayerNormalization(const StepRequest& r) {
  CheckFloat(r);
  const Shape& x = r.shape(0);
  const int axis = Axis(r, r.node->GetInt("axis", -1), x.rank());
  const int64_t rows = x.product(0, axis);
  const int64_t row = x.product(axis, x.rank());
  const bool has_bias = r.has(2);
  for (size_t i = 1; i < (has_bias ? 3U : 2U); ++i) {
    if (r.shape(i).elements() != row)
      FailStep(r, Cat("input ", i, " is ", r.shape(i).ToString(), ", expected ", row, " elements"));
  }
  const float epsilon = r.node->GetFloat("epsilon", 1e-5F);
  const bool rms = r.node->Is("RMSNormalization");
  Step step = NewStep(r, "octet_layer_norm");
  step.overwrites = 0;
  step.run = [=](const StepArgs& a) {
    if (rows == 0 || row == 0) return;
    kernels::LayerNormProblem p;
    p.rows = rows;
    p.n = row;
    p.rms = rms;
    p.epsilon = epsilon;
    p.x = a.in<float>(0);
    p.gamma = a.in<float>(1);
    p.beta = has_bias ? a.in<float>(2) : nullptr;
    p.y = a.out<float>(0);
    p.mean = a.outputs.size() > 1 ? a.out<float>(1) : nullptr;
    p.inverse = a.outputs.size() > 2 ? a.out<float>(2) : nullptr;
    kernels::LayerNorm(p);
  };
  return step;
}

Step MakeLrn(const StepRequest& r) {
  CheckFloat(r);
  const Shape& x = r.shape(0);
  const int64_t channels = x[1];
  const int64_t space = x.product(2, x.rank());
  const int64_t size = r.node->GetInt("size", 1);
  const auto alpha = static_cast<double>(r.node->GetFloat("alpha", 1e-4F));
  const auto beta = static_cast<double>(r.node->GetFloat("beta", 0.75F));
  const auto bias = static_cast<double>(r.node->GetFloat("bias", 1.0F));
  const int64_t before = (size - 1) / 2;
  const int64_t after = size - 1 - before;
  Step step = NewStep(r, "octet:lrn");
  step.run = [=](const StepArgs& a) {
    ParallelFor(x[0] * channels, RowGrain(space * size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t c = i % channels;
        const float* image = a.in<float>(0) + (i - c) * space;
        for (int64_t p = 0; p < space; ++p) {
          double squares = 0;
          for (int64_t k = std::max<int64_t>(0, c - before); k <= std::min(channels - 1, c + after);
               ++k) {
            const auto v = static_cast<double>(image[k * space + p]);
            squares += v * v;
          }
          const double divisor = std::pow(bias + alpha / static_cast<double>(size) * squares, beta);
          a.out<float>(0)[i * space + p] =
              static_cast<float>(static_cast<double>(image[c * space + p]) / divisor);
        }
      }
    });
  };
  return step;
}

Step MakeSoftmax(const StepRequest& r) {
  CheckFloat(r);
  const Shape& x = r.shape(0);
  const bool flatten = r.opset() < 13;  // then everything from the axis on is one distribution
  const int axis = x.rank() == 0 ? 0 : Axis(r, r.node->GetInt("axis", flatten ? 1 : -1), x.rank());
  const int64_t outer = x.product(0, axis);
  const int64_t size = x.rank() == 0 ? 1 : flatten ? x.product(axis, x.rank()) : x[axis];
  const int64_t inner = x.rank() == 0 || flatten ? 1 : x.product(axis + 1, x.rank());
  const bool log = r.node->op == "LogSoftmax";
  Step step = NewStep(r, "octet:softmax");
  step.overwrites = 0;
  if (inner == 1 && !log) {
    step.info.kernel = "octet_softmax";
    step.run = [=](const StepArgs& a) {
      if (outer * size > 0) kernels::Softmax(a.in<float>(0), outer, size, a.out<float>(0));
    };
    return step;
  }
  step.run = [=](const StepArgs& a) {
    ParallelFor(outer * inner, RowGrain(8 * size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i / inner * size * inner + i % inner;
        const float* from = a.in<float>(0) + at;
        float* to = a.out<float>(0) + at;
        float largest = size > 0 ? from[0] : 0.0F;
        for (int64_t k = 1; k < size; ++k) largest = std::max(largest, from[k * inner]);
        double sum = 0;
        for (int64_t k = 0; k < size; ++k) {
          const float shifted = from[k * inner] - largest;
          const float e = std::exp(shifted);
          sum += static_cast<double>(e);
          to[k * inner] = log ? shifted : e;
        }
        if (log) {
          const auto l = static_cast<float>(std::log(sum));
          for (int64_t k = 0; k < size; ++k) to[k * inner] -= l;
        } else {
          const auto s = static_cast<float>(1.0 / sum);
          for (int64_t k = 0; k < size; ++k) to[k * inner] *= s;
        }
      }
    });
  };
  return step;
}

}  // namespace octet::ops
