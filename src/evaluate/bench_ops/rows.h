// The rows of a table of `octet bench linear | conv2d | bmm | quantize | layernorm`. A new operator
// adds a function that makes its rows and a line in RowsOf().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "evaluate/bench_ops/data.h"
#include "evaluate/bench_ops/problem.h"

namespace octet {

// Which measured peak a row's rate is a share of.
enum class PeakKind : uint8_t { kNone, kInt8, kAmxInt8, kFloat };

struct BenchRow {
  std::string name;  // "int8"
  std::string data;  // "u8 > u8"
  bool peer = false;
  std::string kernel;
  std::string missing;  // not empty: the row cannot run here, and why; nothing below is set
  PeakKind peak = PeakKind::kInt8;
  double bytes = 0;  // read and written, where the operator has no multiply-adds to count
  std::function<void()> run;
  std::function<void()> verify;  // after a run; throws kCheckFailed
  int64_t packed_bytes = -1, scratch_bytes = -1;
  std::vector<std::string> refused;  // "kernel: reason"
};

// At the end of `data` where kernels were chosen as on a CPU without AMX.
inline constexpr const char* kWithoutAmx = ", no AMX";

// The kernel that was taken, and why not the others. A kernel of tiles sets
// the row's peak to theirs.
void TakeCandidates(const std::vector<kernels::Candidate>& candidates, BenchRow& row);

using DataPtr = std::shared_ptr<const OperatorData>;

// Octet's own. They are made, as they run, for the threads of the scope around.
[[nodiscard]] std::vector<BenchRow> LinearRows(const DataPtr& data);
[[nodiscard]] std::vector<BenchRow> ConvRows(const DataPtr& data);
// Of linear: float32 rows times weights in eight bits.
[[nodiscard]] std::vector<BenchRow> WeightOnlyRows(const DataPtr& data);
// Of linear and conv2d: each of the problem's multipliers.
[[nodiscard]] std::vector<BenchRow> ApproxRows(const DataPtr& data);
[[nodiscard]] std::vector<BenchRow> BmmRows(const DataPtr& data);
[[nodiscard]] std::vector<BenchRow> QuantizeRows(const DataPtr& data);
// Of quantize: float32 onto a format's grid and still float32.
[[nodiscard]] std::vector<BenchRow> FakeQuantizeRows(const DataPtr& data);
[[nodiscard]] std::vector<BenchRow> LayerNormRows(const DataPtr& data);
// A yardstick: the C library's copy of so many bytes, in all threads.
[[nodiscard]] BenchRow CopyRow(int64_t bytes);
// oneDNN, which this program is linked with for its float operators: as it comes, and, where that
// takes AMX, also the best of its implementations that does not.
[[nodiscard]] std::vector<BenchRow> OneDnnRows(const DataPtr& data);

[[nodiscard]] std::vector<BenchRow> RowsOf(const DataPtr& data, bool peers);

}  // namespace octet
