// Rows of `octet bench quantize` that stay float32: numbers moved onto a format's grid.
#include <cstring>

#include "evaluate/bench_ops/rows.h"
#include "kernels/dispatch.h"
#include "kernels/fake_quantize.h"
#include "octet/error.h"

namespace octet {
namespace {

// Every number against the scalar definition.
void CheckFake(const OperatorData& d, const std::string& row, const Extents& extents,
               const QuantParams& params, const std::vector<float>& y) {
  std::vector<float> expected(d.x.begin(), d.x.begin() + static_cast<ptrdiff_t>(y.size()));
  FakeQuantizeArray(expected, extents, params);
  if (std::memcmp(expected.data(), y.data(), y.size() * sizeof(float)) != 0) {
    throw Error(ErrorCode::kCheckFailed, row + ": not the numbers of the scalar definition");
  }
}

BenchRow FakeRow(const DataPtr& d, const char* name, bool per_channel) {
  const OperatorProblem& p = d->problem;
  const int64_t space = p.height * p.width;
  const Extents extents =
      per_channel ? Extents{p.batch, p.conv.in_channels, space} : Extents{1, 1, p.inputs()};
  QuantParams params;
  params.format = NumberFormat::Parse(name);
  params.granularity = per_channel ? Granularity::kChannel : Granularity::kTensor;
  params.axis = per_channel ? 1 : -1;
  for (int64_t c = 0; c < extents.channels; ++c) {
    // Ranges about that of the data, whose codes are those of 8 bits.
    const float absmax = 127 * OperatorData::kXScale * (1 + 0.01F * static_cast<float>(c % 64));
    params.scale.push_back(ChooseScale(absmax, params.format));
    params.zero_point.push_back(0);
  }
  const auto y = std::make_shared<std::vector<float>>(static_cast<size_t>(p.inputs()));
  BenchRow row;
  row.peak = PeakKind::kNone;
  row.bytes = static_cast<double>(p.inputs()) * 8;
  row.name = std::string("fake quantize ") + name + (per_channel ? ", per channel" : "");
  row.data = "f32 > f32";
  row.kernel = kernels::Select(kernels::Op::FakeQuantize).name;
  row.run = [=] { kernels::FakeQuantize(d->x.data(), extents, params, y->data()); };
  row.verify = [=, text = row.name] { CheckFake(*d, text, extents, params, *y); };
  return row;
}

}  // namespace

std::vector<BenchRow> FakeQuantizeRows(const DataPtr& d) {
  std::vector<BenchRow> rows = {FakeRow(d, "e4m3", false), FakeRow(d, "int8", false)};
  if (d->problem.conv.in_channels > 1) rows.push_back(FakeRow(d, "e4m3", true));
  // As many bytes as these read and write.
  rows.push_back(CopyRow(d->problem.inputs() * 4));
  rows.back().name = "memcpy of floats";
  return rows;
}

}  // namespace octet
