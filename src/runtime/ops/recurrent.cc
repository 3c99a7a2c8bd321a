// RNN, GRU and LSTM in float32. What the inputs contribute to every gate is one product over all
// time steps; then a step in time is one product of the state (two for a GRU that resets before it
// multiplies) and the gates of each row. Directions share threads: each is one thread's work, so
// the bits do not depend on how many there are.
//
// What ONNX leaves open is as in ONNX Runtime: where a row's length is 0 its last states are 0,
// whatever the initial ones.
#include "graph/recurrent.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "runtime/ops/families.h"
#include "runtime/ops/onednn.h"
#include "runtime/ops/row_function.h"

namespace octet::ops {
namespace {

using dnnl::memory;

enum class Cell : uint8_t { kRnn, kGru, kLstm };

// Of n numbers, in place.
using Activation = std::function<void(float* x, int64_t n)>;

Activation ActivationOf(const GateFunction& f) {
  const float alpha = f.alpha, beta = f.beta;
  if (f.op == "Affine") {
    return [=](float* x, int64_t n) {
      for (int64_t i = 0; i < n; ++i) x[i] = alpha * x[i] + beta;
    };
  }
  Node node;
  node.op = f.op;
  node.attributes["alpha"] = alpha;
  node.attributes["beta"] = beta;
  if (f.op != "ScaledTanh") {
    return [fn = FloatFunction(node)](float* x, int64_t n) { fn(x, x, n); };
  }
  node.op = "Tanh";
  return [=, tanh = FloatFunction(node)](float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] *= beta;
    tanh(x, x, n);
    for (int64_t i = 0; i < n; ++i) x[i] *= alpha;
  };
}

// y (M,N) = x (M,K) w (N,K)^T in one thread; weights that are known are packed here.
class RowProduct {
 public:
  RowProduct(int64_t m, int64_t k, int64_t n, const float* known) : m_(m), k_(k), n_(n) {
    const ThreadScope one(1);
    const memory::desc plain({k, n}, memory::data_type::f32, memory::dims{1, k});
    const memory::desc any({k, n}, memory::data_type::f32, memory::format_tag::any);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    pd_ = dnnl::matmul::primitive_desc(
        dnnl::matmul::desc(DnnlDesc({m, k}), known != nullptr ? any : plain, DnnlDesc({m, n})),
        attr, DnnlEngine());
    primitive_ = dnnl::matmul(pd_);
    if (known != nullptr) packed_ = DnnlPacked(known, plain, pd_.weights_desc());
  }

  [[nodiscard]] int64_t macs() const { return m_ * k_ * n_; }
  [[nodiscard]] const char* kernel() const { return pd_.impl_info_str(); }
  [[nodiscard]] int64_t packed_bytes() const {
    return packed_ ? static_cast<int64_t>(pd_.weights_desc().get_size()) : 0;
  }
  [[nodiscard]] int64_t scratch_bytes() const {
    return static_cast<int64_t>(pd_.scratchpad_desc().get_size());
  }

  // The handles of one run.
  class Bound {
   public:
    Bound(const RowProduct& p, const float* weights, void* scratch)
        : p_(p),
          x_(p.pd_.src_desc(), DnnlEngine(), nullptr),
          // oneDNN's handles are not const; sources are only read.
          w_(p.packed_ ? p.packed_
                       : memory(p.pd_.weights_desc(), DnnlEngine(),
                                const_cast<float*>(weights))),  // NOLINT
          y_(p.pd_.dst_desc(), DnnlEngine(), nullptr),
          arguments_{
              {DNNL_ARG_SRC, x_},
              {DNNL_ARG_WEIGHTS, w_},
              {DNNL_ARG_DST, y_},
              {DNNL_ARG_SCRATCHPAD, memory(p.pd_.scratchpad_desc(), DnnlEngine(), scratch)}} {}
    void Run(dnnl::stream& stream, const float* x, float* y) {
      x_.set_data_handle(const_cast<float*>(x));  // NOLINT
      y_.set_data_handle(y);
      p_.primitive_.execute(stream, arguments_);
      stream.wait();
    }

   private:
    const RowProduct& p_;
    memory x_, w_, y_;
    std::unordered_map<int, memory> arguments_;
  };

 private:
  int64_t m_, k_, n_;
  dnnl::matmul::primitive_desc pd_;
  dnnl::matmul primitive_;
  memory packed_;
};

int64_t Aligned(int64_t floats) { return (floats + 15) / 16 * 16; }

struct Layer {
  Cell cell = Cell::kLstm;
  std::string name;
  int64_t gates = 4, time = 0, batch = 0, input = 0, hidden = 0, directions = 1;
  bool batch_first = false, reverse = false, reset_after = false, input_forget = false;
  float clip = std::numeric_limits<float>::infinity();
  std::vector<std::vector<Activation>> functions;  // by direction
  // By direction: inputs to gates (none where there are no inputs); state to gates (all, or those
  // before the reset); reset state to the candidate.
  std::vector<RowProduct> from_input, from_state, from_reset;
  int64_t scratch_floats = 0;  // of one direction

  [[nodiscard]] int64_t rows() const { return gates * hidden; }
  [[nodiscard]] bool is_reverse(int64_t d) const { return reverse || d == 1; }
  // Row of x, and of the products with it.
  [[nodiscard]] int64_t InputRow(int64_t t, int64_t b) const {
    return batch_first ? b * time + t : t * batch + b;
  }
  [[nodiscard]] int64_t StateRow(int64_t d, int64_t b) const {
    return batch_first ? b * directions + d : d * batch + b;
  }
  [[nodiscard]] int64_t OutputRow(int64_t t, int64_t d, int64_t b) const {
    return batch_first ? (b * time + t) * directions + d : (t * directions + d) * batch + b;
  }
};

void AddBias(float* x, const float* bias, int64_t n) {
  if (bias == nullptr) return;
  for (int64_t i = 0; i < n; ++i) x[i] += bias[i];
}
void Clamp(float* x, int64_t n, float clip) {
  if (clip == std::numeric_limits<float>::infinity()) return;
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(x[i], -clip, clip);
}
void Finish(const Layer& l, const Activation& f, float* x, int64_t n) {
  Clamp(x, n, l.clip);
  f(x, n);
}

// One direction of one run.
class Pass {
 public:
  Pass(const Layer& layer, const StepArgs& args, int64_t d, float* scratch)
      : l_(layer),
        a_(args),
        d_(d),
        h_(l_.hidden),
        f_(l_.functions[static_cast<size_t>(d)]),
        stream_(DnnlEngine()) {
    const auto take = [&](int64_t floats) {
      float* at = scratch;
      scratch += Aligned(floats);
      return at;
    };
    projected_ = take(l_.time * l_.batch * l_.rows());
    products_ = take(l_.batch * l_.rows());
    state_ = take(l_.batch * h_);
    cell_ = take(l_.batch * h_);
    reset_ = take(l_.batch * h_);
    candidate_ = take(l_.batch * h_);
    library_ = scratch;
    const int64_t rows = l_.rows();
    w_ = a_.in<float>(1) != nullptr ? a_.in<float>(1) + d * rows * l_.input : nullptr;
    r_ = a_.in<float>(2) != nullptr ? a_.in<float>(2) + d * rows * h_ : nullptr;
    if (a_.has(3)) {
      input_bias_ = a_.in<float>(3) + d * 2 * rows;
      state_bias_ = input_bias_ + rows;
    }
    if (a_.has(7)) peepholes_ = a_.in<float>(7) + d * 3 * h_;
  }

  void Run() {
    const ThreadScope one(1);
    const auto at = static_cast<size_t>(d_);
    Load(5, state_);
    if (l_.cell == Cell::kLstm) Load(6, cell_);
    if (l_.time * l_.batch > 0) {
      if (l_.input > 0) {
        RowProduct::Bound project(l_.from_input[at], w_, library_);
        project.Run(stream_, a_.in<float>(0), projected_);
      } else {
        std::fill_n(projected_, l_.time * l_.batch * l_.rows(), 0.0F);
      }
      RowProduct::Bound recur(l_.from_state[at], r_, library_);
      std::optional<RowProduct::Bound> again;
      if (!l_.from_reset.empty()) {
        again.emplace(l_.from_reset[at], r_ != nullptr ? r_ + 2 * h_ * h_ : nullptr, library_);
      }
      for (int64_t s = 0; s < l_.time; ++s) {
        recur.Run(stream_, state_, products_);
        if (l_.cell == Cell::kGru) {
          StepGru(s, again ? &*again : nullptr);
        } else {
          for (int64_t b = 0; b < l_.batch; ++b) {
            if (s >= Length(b)) continue;
            if (l_.cell == Cell::kLstm) {
              StepLstm(TimeOf(s, b), b);
            } else {
              StepRnn(TimeOf(s, b), b);
            }
          }
        }
        for (int64_t b = 0; b < l_.batch; ++b) Emit(s, b);
      }
    }
    Store(1, state_);
    if (l_.cell == Cell::kLstm) Store(2, cell_);
  }

 private:
  [[nodiscard]] int64_t Length(int64_t b) const {
    return a_.has(4) ? a_.in<int32_t>(4)[b] : l_.time;
  }
  // Backwards means from the last step that the row has.
  [[nodiscard]] int64_t TimeOf(int64_t s, int64_t b) const {
    const int64_t length = Length(b);
    return l_.is_reverse(d_) && s < length ? length - 1 - s : s;
  }
  [[nodiscard]] float* Gates(int64_t t, int64_t b) {
    return projected_ + l_.InputRow(t, b) * l_.rows();
  }

  void Load(size_t input, float* state) {
    for (int64_t b = 0; b < l_.batch; ++b) {
      float* row = state + b * h_;
      if (a_.has(input)) {
        std::copy_n(a_.in<float>(input) + l_.StateRow(d_, b) * h_, h_, row);
      } else {
        std::fill_n(row, h_, 0.0F);
      }
    }
  }
  void Store(size_t output, const float* state) {
    if (output >= a_.outputs.size() || a_.outputs[output].raw == nullptr) return;
    for (int64_t b = 0; b < l_.batch; ++b) {
      float* row = a_.out<float>(output) + l_.StateRow(d_, b) * h_;
      if (Length(b) > 0) {
        std::copy_n(state + b * h_, h_, row);
      } else {
        std::fill_n(row, h_, 0.0F);
      }
    }
  }
  void Emit(int64_t s, int64_t b) {
    if (a_.outputs[0].raw == nullptr) return;
    float* y = a_.out<float>(0) + l_.OutputRow(TimeOf(s, b), d_, b) * h_;
    if (s < Length(b)) {
      std::copy_n(state_ + b * h_, h_, y);
    } else {
      std::fill_n(y, h_, 0.0F);
    }
  }

  // Inputs' and state's share of `count` gates, and their biases, into g.
  void AddUp(float* g, const float* product, int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) g[i] += product[i];
    if (input_bias_ == nullptr) return;
    AddBias(g, input_bias_ + first, count);
    AddBias(g, state_bias_ + first, count);
  }

  void StepRnn(int64_t t, int64_t b) {
    float* g = Gates(t, b);
    AddUp(g, products_ + b * h_, 0, h_);
    Finish(l_, f_[0], g, h_);
    std::copy_n(g, h_, state_ + b * h_);
  }

  // Gates in the order input, output, forget, cell.
  void StepLstm(int64_t t, int64_t b) {
    float* g = Gates(t, b);
    AddUp(g, products_ + b * 4 * h_, 0, 4 * h_);
    float* input = g;
    float* output = g + h_;
    float* forget = g + 2 * h_;
    float* fresh = g + 3 * h_;
    float* cell = cell_ + b * h_;
    if (peepholes_ != nullptr) {
      for (int64_t i = 0; i < h_; ++i) {
        input[i] += peepholes_[i] * cell[i];
        forget[i] += peepholes_[2 * h_ + i] * cell[i];
      }
    }
    Finish(l_, f_[0], input, h_);
    if (l_.input_forget) {
      for (int64_t i = 0; i < h_; ++i) forget[i] = 1.0F - input[i];
    } else {
      Finish(l_, f_[0], forget, h_);
    }
    Finish(l_, f_[1], fresh, h_);
    for (int64_t i = 0; i < h_; ++i) cell[i] = forget[i] * cell[i] + input[i] * fresh[i];
    if (peepholes_ != nullptr) {
      for (int64_t i = 0; i < h_; ++i) output[i] += peepholes_[h_ + i] * cell[i];
    }
    Finish(l_, f_[0], output, h_);
    float* squashed = fresh;  // no longer needed
    std::copy_n(cell, h_, squashed);
    f_[2](squashed, h_);
    for (int64_t i = 0; i < h_; ++i) state_[b * h_ + i] = output[i] * squashed[i];
  }

  // Gates in the order update, reset, candidate.
  void StepGru(int64_t s, RowProduct::Bound* again) {
    const int64_t wide = l_.reset_after ? 3 * h_ : 2 * h_;  // of a row of products_
    for (int64_t b = 0; b < l_.batch; ++b) {
      float* g = Gates(TimeOf(s, b), b);
      const float* product = products_ + b * wide;
      float* reset = reset_ + b * h_;
      if (s < Length(b)) {
        AddUp(g, product, 0, 2 * h_);
        Finish(l_, f_[0], g, 2 * h_);
      }
      for (int64_t i = 0; i < h_; ++i) {
        const float what =
            l_.reset_after ? product[2 * h_ + i] + (state_bias_ ? state_bias_[2 * h_ + i] : 0.0F)
                           : state_[b * h_ + i];
        reset[i] = g[h_ + i] * what;
      }
    }
    const float* candidates = reset_;
    if (again != nullptr) {
      again->Run(stream_, reset_, candidate_);
      candidates = candidate_;
    }
    for (int64_t b = 0; b < l_.batch; ++b) {
      if (s >= Length(b)) continue;
      float* g = Gates(TimeOf(s, b), b);
      float* fresh = g + 2 * h_;
      for (int64_t i = 0; i < h_; ++i) fresh[i] += candidates[b * h_ + i];
      if (input_bias_ != nullptr) AddBias(fresh, input_bias_ + 2 * h_, h_);
      if (!l_.reset_after && state_bias_ != nullptr) AddBias(fresh, state_bias_ + 2 * h_, h_);
      Finish(l_, f_[1], fresh, h_);
      float* state = state_ + b * h_;
      for (int64_t i = 0; i < h_; ++i) state[i] = (1.0F - g[i]) * fresh[i] + g[i] * state[i];
    }
  }

  const Layer& l_;
  const StepArgs& a_;
  int64_t d_, h_;
  const std::vector<Activation>& f_;
  dnnl::stream stream_;
  float *projected_, *products_, *state_, *cell_, *reset_, *candidate_, *library_;
  const float* w_ = nullptr;
  const float* r_ = nullptr;
  const float* input_bias_ = nullptr;
  const float* state_bias_ = nullptr;
  const float* peepholes_ = nullptr;
};

Layer ReadLayer(const StepRequest& r) {
  Layer l;
  l.cell = r.node->op == "LSTM" ? Cell::kLstm : r.node->op == "GRU" ? Cell::kGru : Cell::kRnn;
  l.name = r.node->name;
  const RecurrentAttributes a = ReadRecurrent(*r.node);
  l.gates = a.gates;
  l.directions = a.directions;
  l.batch_first = a.batch_first;
  l.reverse = a.reverse;
  l.reset_after = a.reset_after;
  l.input_forget = a.input_forget;
  l.clip = a.clip;
  for (const auto& of_direction : a.functions) {
    l.functions.emplace_back();
    for (const GateFunction& f : of_direction) l.functions.back().push_back(ActivationOf(f));
  }
  const Shape& x = r.shape(0);
  l.time = x[l.batch_first ? 1 : 0];
  l.batch = x[l.batch_first ? 0 : 1];
  l.input = x[2];
  l.hidden = r.shape(2)[2];
  return l;
}

// Of the rows of the batch, as given.
void CheckLengths(const Layer& l, const StepArgs& a) {
  if (!a.has(4)) return;
  for (int64_t b = 0; b < l.batch; ++b) {
    const int64_t length = a.in<int32_t>(4)[b];
    if (length >= 0 && length <= l.time) continue;
    Fail(ErrorCode::kBadData, "run: node '", l.name, "': sequence_lens[", b, "] is ", length,
         ", expected 0 to ", l.time);
  }
}

}  // namespace

Step MakeRecurrent(const StepRequest& r) {
  for (size_t i = 0; i < r.inputs.size(); ++i) {
    const DType want = i == 4 ? DType::kInt32 : DType::kFloat32;
    if (r.has(i) && r.dtype(i) != want)
      FailStep(r, Cat("input ", i, " is ", NameOf(r.dtype(i)), ", expected ", NameOf(want)));
  }
  auto layer = std::make_shared<Layer>(ReadLayer(r));
  Layer& l = *layer;
  Step step = NewStep(r, "octet:recurrent");
  const Tensor* w = r.constant(1);
  const Tensor* state_w = r.constant(2);
  int64_t library_bytes = 0;
  const auto add = [&](std::vector<RowProduct>& to, int64_t m, int64_t k, int64_t n,
                       const float* known, int64_t repeat) {
    to.emplace_back(m, k, n, known);
    library_bytes = std::max(library_bytes, to.back().scratch_bytes());
    step.info.macs += to.back().macs() * repeat;
    step.info.packed_bytes += to.back().packed_bytes();
  };
  if (l.time * l.batch > 0) {
    WithDnnlErrors(r, [&] {
      for (int64_t d = 0; d < l.directions; ++d) {
        const float* wd = w != nullptr ? w->data<float>().data() + d * l.rows() * l.input : nullptr;
        const float* rd =
            state_w != nullptr ? state_w->data<float>().data() + d * l.rows() * l.hidden : nullptr;
        const bool twice = l.cell == Cell::kGru && !l.reset_after;
        if (l.input > 0) add(l.from_input, l.time * l.batch, l.input, l.rows(), wd, 1);
        add(l.from_state, l.batch, l.hidden, twice ? 2 * l.hidden : l.rows(), rd, l.time);
        if (twice) {
          add(l.from_reset, l.batch, l.hidden, l.hidden,
              rd != nullptr ? rd + 2 * l.hidden * l.hidden : nullptr, l.time);
        }
      }
      return 0;
    });
    step.info.kernel += std::string("+onednn:") + l.from_state[0].kernel();
    step.taken = (w != nullptr ? 1U << 1U : 0U) | (state_w != nullptr ? 1U << 2U : 0U);
  }
  l.scratch_floats = Aligned(l.time * l.batch * l.rows()) + Aligned(l.batch * l.rows()) +
                     4 * Aligned(l.batch * l.hidden) + Aligned((library_bytes + 3) / 4);
  step.scratch_bytes = l.scratch_floats * l.directions * 4;
  step.run = [layer](const StepArgs& a) {
    CheckLengths(*layer, a);
    ParallelForEach(layer->directions, [&](int64_t d) {
      Pass(*layer, a, d, static_cast<float*>(a.scratch) + d * layer->scratch_floats).Run();
    });
  };
  return step;
}

}  // namespace octet::ops
