// Convolutions and linear layers whose products come from a multiplier's table. Any codes are data:
// inputs are positive ones, as after a Relu, weights have both signs.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/error.h"
#include "evaluate/bench_ops/rows.h"
#include "files/multiplier_table.h"
#include "numerics/approx_product.h"
#include "octet/approx.h"

namespace octet {
namespace {

struct ApproxData {
  std::vector<int64_t> table;
  kernels::SumRounding rounding;
  std::vector<uint8_t> x, weight;  // (N,C,H,W) or (M,K); (OC,C/G,KH,KW)
  std::vector<float> y;
};

CodeFormat FormatOf(const Multiplier& m) {
  if (m.format.empty())
    Fail(ErrorCode::kInvalidArgument, "bench: multiplier ", m.Name(),
         " has no number format; write it behind the colon, such as hw:e3m4,d=3");
  return CodeFormatOf(FloatFormat::Parse(m.format), 1.0F, "bench");
}

std::vector<int64_t> TableOf(const Multiplier& m) {
  if (m.kind == MultiplierKind::kTable) return ReadMultiplierTable(m.file);
  const CodeFormat f = FormatOf(m);
  return MakeProductTable(m, {f, f, f, 0}).value;
}

std::shared_ptr<ApproxData> Make(const OperatorData& d, const Multiplier& m) {
  auto out = std::make_shared<ApproxData>();
  out->table = TableOf(m);
  if (m.kind == MultiplierKind::kQamaa) {
    const CodeFormat f = FormatOf(m);
    const GridRounding r = RoundingOf({f, f, f, 0});
    out->rounding = {true, m.each_add, r.mantissa_bits, r.largest};
  }
  for (int64_t i = 0; i < d.problem.inputs(); ++i)
    out->x.push_back(static_cast<uint8_t>(d.codes.data()[i] & 0x7f));
  for (const int8_t w : d.weight) out->weight.push_back(static_cast<uint8_t>(w));
  out->y.resize(static_cast<size_t>(d.problem.outputs()));
  return out;
}

void Verify(const OperatorProblem& p, const std::string& name, const ApproxData& a) {
  const kernels::ConvProblem& c = p.conv;
  const bool linear = p.op == OperatorProblem::Op::kLinear;
  const int64_t group_in = c.in_channels / c.groups, group_out = c.out_channels / c.groups;
  for (const OutputAt& at : SampledOutputs(p)) {
    const GridRounding rounding{a.rounding.mantissa_bits, a.rounding.largest};
    int64_t sum = 0;
    for (int64_t i = 0; i < p.depth(); ++i) {
      const int64_t kx = i % c.kernel_w, ky = i / c.kernel_w % c.kernel_h;
      const int64_t channel = at.channel / group_out * group_in + i / (c.kernel_w * c.kernel_h);
      const int64_t iy = at.y * c.stride_h + ky * c.dilation_h - c.pad_top;
      const int64_t ix = at.x * c.stride_w + kx * c.dilation_w - c.pad_left;
      const bool inside = iy >= 0 && iy < p.height && ix >= 0 && ix < p.width;
      const int64_t from =
          linear ? at.x * c.in_channels + i
                 : ((at.image * c.in_channels + channel) * p.height + iy) * p.width + ix;
      const int64_t x = inside ? a.x[static_cast<size_t>(from)] : 0;
      const int64_t w = a.weight[static_cast<size_t>(at.channel * p.depth() + i)];
      sum += a.table[static_cast<size_t>(x * 256 + w)];
      if (a.rounding.enabled && (a.rounding.each_add || i + 1 == p.depth()))
        sum = static_cast<int64_t>(rounding.Round(static_cast<double>(sum)));
    }
    const int64_t to = linear ? at.x * c.out_channels + at.channel : IndexNchw(p, at);
    const float got = a.y[static_cast<size_t>(to)], expected = static_cast<float>(sum);
    if (got == expected) continue;
    Fail(ErrorCode::kCheckFailed, p.text, ": ", name, " is wrong at image ", at.image, ", row ",
         at.y, ", column ", at.x, ", channel ", at.channel, ": got ", got, ", expected ", expected);
  }
}

template <typename Layer>
void TakeLayer(const Layer& layer, BenchRow& row) {
  row.packed_bytes = layer.packed_bytes();
  for (const kernels::Candidate& c : layer.candidates()) {
    if (c.refused_because.empty()) {
      row.kernel = c.kernel;
    } else {
      row.refused.push_back(c.kernel + ": " + c.refused_because);
    }
  }
}

}  // namespace

std::vector<BenchRow> ApproxRows(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  std::vector<BenchRow> rows;
  std::istringstream names(p.multipliers);
  for (std::string name; std::getline(names, name, '+');) {
    const auto data = Make(*d, Multiplier::Parse(name));
    kernels::ApproxMultiply multiply;
    multiply.tables = {data->table.data()};
    multiply.unit = {1.0F};
    multiply.rounding = data->rounding;
    BenchRow row;
    row.name = name;
    row.data = "codes > f32";
    row.peak = PeakKind::kNone;
    row.verify = [=] { Verify(d->problem, name, *data); };
    if (p.op == OperatorProblem::Op::kLinear) {
      const auto layer = std::make_shared<kernels::ApproxLinear>(kernels::ApproxLinearProblem{
          p.conv.out_channels, p.depth(), data->weight.data(), multiply});
      TakeLayer(*layer, row);
      row.run = [=, m = p.width, k = p.depth(), n = p.conv.out_channels] {
        layer->Run(m, data->x.data(), k, data->y.data(), n);
      };
    } else {
      kernels::ApproxConvProblem c;
      c.groups = p.conv.groups;
      c.in_channels = p.conv.in_channels;
      c.out_channels = p.conv.out_channels;
      c.kernel_h = p.conv.kernel_h;
      c.kernel_w = p.conv.kernel_w;
      c.stride_h = p.conv.stride_h;
      c.stride_w = p.conv.stride_w;
      c.dilation_h = p.conv.dilation_h;
      c.dilation_w = p.conv.dilation_w;
      c.pad_top = p.conv.pad_top;
      c.pad_left = p.conv.pad_left;
      c.pad_bottom = p.conv.pad_bottom;
      c.pad_right = p.conv.pad_right;
      c.weight = data->weight.data();
      c.multiply = multiply;
      const auto layer = std::make_shared<kernels::ApproxConv>(c);
      TakeLayer(*layer, row);
      row.run = [=, batch = p.batch, height = p.height, width = p.width] {
        layer->Run(batch, height, width, data->x.data(), data->y.data());
      };
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace octet
