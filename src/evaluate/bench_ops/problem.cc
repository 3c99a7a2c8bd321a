#include "evaluate/bench_ops/problem.h"

#include <array>
#include <charconv>
#include <span>
#include <sstream>

#include "base/checked_math.h"
#include "base/error.h"

namespace octet {
namespace {

constexpr int64_t kLargestElements = int64_t{1} << 31;

class Words {
 public:
  explicit Words(const std::string& text) : text_(text) {
    std::istringstream in(text);
    for (std::string word; in >> word;) words_.push_back(word);
  }

  [[noreturn]] void Refuse(const std::string& why) const {
    Fail(ErrorCode::kInvalidArgument, "bench: '", text_, "': ", why);
  }

  [[nodiscard]] bool done() const { return at_ == words_.size(); }
  [[nodiscard]] std::string Next(const std::string& expected) {
    if (done()) Refuse(Cat("ends where ", expected, " is expected"));
    return words_[at_++];
  }

  // "512x960x960": `least` to `most` positive numbers.
  [[nodiscard]] std::vector<int64_t> Dims(const std::string& word, size_t least, size_t most,
                                          const std::string& expected, int64_t smallest = 1) const {
    std::vector<int64_t> dims;
    const char* p = word.data();
    const char* const end = p + word.size();
    for (;;) {
      int64_t value = 0;
      const auto [rest, error] = std::from_chars(p, end, value);
      if (error != std::errc() || value < smallest || value > kLargestElements)
        Refuse(Cat("'", word, "' is not ", expected, " of numbers from ", smallest, " to 2^31"));
      dims.push_back(value);
      p = rest;
      if (p == end) break;
      if (*p++ != 'x') Refuse(Cat("'", word, "' is not ", expected));
    }
    if (dims.size() < least || dims.size() > most)
      Refuse(Cat("'", word, "' has ", dims.size(), " numbers, expected ", expected));
    return dims;
  }

  // The value of "key=value" where the next words hold it; each key once.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> Options(
      std::span<const char* const> known) {
    std::vector<std::pair<std::string, std::string>> options;
    std::string all;
    for (const char* key : known) all += Cat(all.empty() ? "" : ", ", key, "=");
    while (!done()) {
      const std::string word = Next("an option");
      const size_t equals = word.find('=');
      const std::string key = word.substr(0, equals);
      bool found = false;
      for (const char* k : known) found = found || key == k;
      if (equals == std::string::npos || !found)
        Refuse(Cat("unexpected '", word, "'; options are ", all));
      for (const auto& [before, value] : options) {
        if (before == key) Refuse(Cat(key, "= is given twice"));
      }
      options.emplace_back(key, word.substr(equals + 1));
    }
    return options;
  }

 private:
  std::string text_;
  std::vector<std::string> words_;
  size_t at_ = 0;
};

std::string Join(std::span<const int64_t> dims) {
  std::string text;
  for (int64_t d : dims) text += Cat(text.empty() ? "" : "x", d);
  return text;
}

void CheckElements(const Words& words, const char* what, std::initializer_list<int64_t> dims) {
  const auto elements = CheckedProduct(std::span<const int64_t>(dims.begin(), dims.size()));
  if (!elements || *elements > kLargestElements)
    words.Refuse(Cat("the ", what, " has more than 2^31 elements"));
}

int32_t ZeroPoint(const Words& words, const std::string& value) {
  const int64_t z = words.Dims(value, 1, 1, "a zero point from 0 to 255", 0)[0];
  if (z > 255) words.Refuse(Cat("zero-point is ", z, ", expected 0 to 255"));
  return static_cast<int32_t>(z);
}

void ParseLinear(Words& words, OperatorProblem& p) {
  const auto mkn = words.Dims(words.Next("MxKxN"), 3, 3, "MxKxN");
  p.width = mkn[0];
  p.conv.in_channels = mkn[1];
  p.conv.out_channels = mkn[2];
  static constexpr const char* kOptions[] = {"zero-point", "multiplier"};
  for (const auto& [key, value] : words.Options(kOptions)) {
    if (key == "multiplier") {
      p.multipliers = value;
    } else {
      p.conv.x_zero_point = ZeroPoint(words, value);
    }
  }
  p.text = "linear " + Join(mkn);
}

void ParseBmm(Words& words, OperatorProblem& p) {
  const auto dims = words.Dims(words.Next("BxMxKxN"), 4, 4, "BxMxKxN");
  if (!words.done()) words.Refuse(Cat("unexpected '", words.Next("nothing"), "'"));
  p.batch = dims[0];
  p.width = dims[1];
  p.conv.in_channels = dims[2];
  p.conv.out_channels = dims[3];
  p.text = "bmm " + Join(dims);
  CheckElements(words, "second matrix", {dims[0], dims[2], dims[3]});
}

void ParseConv(Words& words, OperatorProblem& p) {
  kernels::ConvProblem& c = p.conv;
  const auto x = words.Dims(words.Next("NxCxHxW"), 4, 4, "NxCxHxW");
  p.batch = x[0];
  c.in_channels = x[1];
  p.height = x[2];
  p.width = x[3];
  c.out_channels = words.Dims(words.Next("OC"), 1, 1, "the number of output channels")[0];
  const auto k = words.Dims(words.Next("KHxKW"), 2, 2, "KHxKW");
  c.kernel_h = k[0];
  c.kernel_w = k[1];
  p.text = Cat("conv2d ", Join(x), " ", c.out_channels, " ", Join(k));
  static constexpr const char* kOptions[] = {"stride", "pad",        "dilation",
                                             "groups", "zero-point", "multiplier"};
  for (const auto& [key, value] : words.Options(kOptions)) {
    if (key == "zero-point") {
      c.x_zero_point = ZeroPoint(words, value);
      continue;
    }
    if (key == "multiplier") {
      p.multipliers = value;
      continue;
    }
    auto v = words.Dims(value, 1, key == "groups" ? 1 : 2,
                        key == "groups" ? "a number" : "S or SHxSW", key == "pad" ? 0 : 1);
    if (v.size() == 1) v.push_back(v[0]);
    if (key == "stride") {
      c.stride_h = v[0];
      c.stride_w = v[1];
    } else if (key == "pad") {
      c.pad_top = c.pad_bottom = v[0];
      c.pad_left = c.pad_right = v[1];
    } else if (key == "dilation") {
      c.dilation_h = v[0];
      c.dilation_w = v[1];
    } else {
      c.groups = v[0];
    }
  }
  const auto pair = [](int64_t h, int64_t w) { return h == w ? Cat(h) : Cat(h, "x", w); };
  if (c.stride_h != 1 || c.stride_w != 1) p.text += " stride=" + pair(c.stride_h, c.stride_w);
  if (c.pad_top != 0 || c.pad_left != 0) p.text += " pad=" + pair(c.pad_top, c.pad_left);
  if (c.dilation_h != 1 || c.dilation_w != 1)
    p.text += " dilation=" + pair(c.dilation_h, c.dilation_w);
  if (c.groups != 1) p.text += Cat(" groups=", c.groups);
  if (c.in_channels % c.groups != 0 || c.out_channels % c.groups != 0) {
    words.Refuse(Cat("groups is ", c.groups, ", expected a divisor of ", c.in_channels, " and ",
                     c.out_channels, " channels"));
  }
  // No sum of these can overflow: every number is at most 2^31.
  if (p.height + 2 * c.pad_top < c.dilation_h * (c.kernel_h - 1) + 1 ||
      p.width + 2 * c.pad_left < c.dilation_w * (c.kernel_w - 1) + 1)
    words.Refuse("the padded input is smaller than the filter");
}

void ParseQuantize(Words& words, OperatorProblem& p) {
  const auto x = words.Dims(words.Next("NxCxHxW"), 1, 4, "NxCxHxW, MxK or N");
  if (x.size() == 3) words.Refuse("three dimensions, expected NxCxHxW, MxK or N");
  p.text = "quantize " + Join(x);
  p.conv.in_channels = p.conv.out_channels = 1;
  if (x.size() == 4) {
    p.batch = x[0];
    p.conv.in_channels = p.conv.out_channels = x[1];
    p.height = x[2];
    p.width = x[3];
  } else {
    p.height = x.size() == 2 ? x[0] : 1;
    p.width = x.back();
  }
  static constexpr const char* kOptions[] = {"zero-point"};
  for (const auto& [key, value] : words.Options(kOptions))
    p.conv.x_zero_point = ZeroPoint(words, value);
}

void ParseLayerNorm(Words& words, OperatorProblem& p) {
  const auto mn = words.Dims(words.Next("MxN"), 2, 2, "MxN");
  if (!words.done()) words.Refuse(Cat("unexpected '", words.Next("nothing"), "'"));
  p.height = mn[0];
  p.width = mn[1];
  p.conv.in_channels = p.conv.out_channels = 1;
  p.text = "layernorm " + Join(mn);
}

int64_t OutSize(int64_t in, int64_t pad, int64_t dilation, int64_t kernel, int64_t stride) {
  return (in + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

}  // namespace

int64_t OperatorProblem::out_height() const {
  return OutSize(height, conv.pad_top, conv.dilation_h, conv.kernel_h, conv.stride_h);
}
int64_t OperatorProblem::out_width() const {
  return OutSize(width, conv.pad_left, conv.dilation_w, conv.kernel_w, conv.stride_w);
}
int64_t OperatorProblem::depth() const {
  return conv.in_channels / conv.groups * conv.kernel_h * conv.kernel_w;
}
int64_t OperatorProblem::macs() const {
  return op == Op::kQuantize || op == Op::kLayerNorm ? 0 : outputs() * depth();
}
int64_t OperatorProblem::inputs() const { return batch * conv.in_channels * height * width; }
int64_t OperatorProblem::outputs() const {
  return batch * conv.out_channels * out_height() * out_width();
}

OperatorProblem ParseProblem(const std::string& text) {
  Words words(text);
  OperatorProblem p;
  const std::string op = words.Next("an operator");
  if (op == "linear") {
    p.op = OperatorProblem::Op::kLinear;
    ParseLinear(words, p);
  } else if (op == "conv2d") {
    p.op = OperatorProblem::Op::kConv2d;
    ParseConv(words, p);
  } else if (op == "bmm") {
    p.op = OperatorProblem::Op::kBmm;
    ParseBmm(words, p);
  } else if (op == "quantize") {
    p.op = OperatorProblem::Op::kQuantize;
    ParseQuantize(words, p);
  } else if (op == "layernorm") {
    p.op = OperatorProblem::Op::kLayerNorm;
    ParseLayerNorm(words, p);
  } else {
    words.Refuse(
        Cat("no operator '", op, "'; expected linear, conv2d, bmm, quantize or layernorm"));
  }
  const kernels::ConvProblem& c = p.conv;
  if (c.x_zero_point != 0) p.text += Cat(" zero-point=", c.x_zero_point);
  if (!p.multipliers.empty()) p.text += " multiplier=" + p.multipliers;
  CheckElements(words, "input", {p.batch, c.in_channels, p.height, p.width});
  CheckElements(words, "output", {p.batch, c.out_channels, p.out_height(), p.out_width()});
  CheckElements(words, "weight",
                {c.out_channels, c.in_channels / c.groups, c.kernel_h, c.kernel_w});
  return p;
}

}  // namespace octet
