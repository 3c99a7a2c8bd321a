// Fp8Linear of octet/kernels.h: checks, packing, threads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dense_choice.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

// Multiply-adds worth a second thread: some 10 us of one core, where few rows wait for memory.
constexpr int64_t kGrainMacs = 200'000;
constexpr int64_t kPanel = 64;
// Rows whose totals stay in L2 beside a block of decoded weights.
constexpr int64_t kMostRows = 512;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

void Check(const Fp8Problem& p) {
  const int64_t dims[] = {p.n, p.k};
  const auto weights = CheckedProduct(dims);
  if (p.n < 1 || p.k < 1 || !weights || *weights > int64_t{1} << 40) {
    Fail(ErrorCode::kInvalidArgument, "Fp8Linear: N is ", p.n, ", K is ", p.k,
         "; expected 1 or more, and at most 2^40 weights");
  }
  if (p.weight == nullptr || p.scale == nullptr)
    Fail(ErrorCode::kInvalidArgument, "Fp8Linear: weight or scale is null");
}

}  // namespace

struct Fp8Linear::Impl {
  int64_t n, k;
  Fp8Format format;
  const KernelInfo* kernel = nullptr;
  std::vector<Candidate> candidates;
  AlignedBytes weights;
  std::vector<float> scale, bias;  // readable 64 past the last

  explicit Impl(const Fp8Problem& p);
};

Fp8Linear::Impl::Impl(const Fp8Problem& p)
    : n(p.n), k(p.k), format(p.format == Fp8Problem::Format::kE4M3 ? kFp8E4M3 : kFp8E5M2) {
  for (const KernelInfo& candidate : Registry()) {
    if (candidate.op != Op::Fp8Linear) continue;
    std::string why = kernel != nullptr ? Cat("later in the list than ", kernel->name)
                                        : RefusalByChoice(candidate);
    if (why.empty()) kernel = &candidate;
    candidates.push_back({std::string(candidate.name), std::move(why)});
  }
  OCTET_INVARIANT(kernel != nullptr);
  const float unit = format == kFp8E4M3 ? kFp8E4M3Unit : 1.0F;
  weights = AlignedBytes(CeilDiv(n, kPanel) * kPanel * k);
  scale.resize(static_cast<size_t>(n + kPanel));
  bias.resize(scale.size());
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!(std::fabs(p.scale[i]) < 0x1p119F))
      Fail(ErrorCode::kInvalidArgument, "Fp8Linear: scale of channel ", i, " is ", p.scale[i],
           "; expected below 2^119");
    scale[at] = p.scale[i] / unit;
    if (p.bias != nullptr) bias[at] = p.bias[i];
    const int64_t c = i % kPanel;
    uint8_t* out =
        weights.data() + i / kPanel * kPanel * k + c / 32 * 32 + c % 16 * 2 + c % 32 / 16;
    for (int64_t j = 0; j < k; ++j) {
      const uint8_t code = p.weight[i * k + j];
      const bool nan = (code & 0x7f) > (format == kFp8E4M3 ? 0x7e : 0x7c);
      // NaN times anything, plus anything: the bias alone says it, and kernels need not know.
      if (nan) bias[at] = std::numeric_limits<float>::quiet_NaN();
      out[j * kPanel] = nan ? uint8_t{0} : code;
    }
  }
}

Fp8Linear::Fp8Linear(const Fp8Problem& problem) : impl_((Check(problem), new Impl(problem))) {}
Fp8Linear::~Fp8Linear() = default;
Fp8Linear::Fp8Linear(Fp8Linear&&) noexcept = default;
Fp8Linear& Fp8Linear::operator=(Fp8Linear&&) noexcept = default;

void Fp8Linear::Run(int64_t m, const float* x, int64_t x_stride, float* y, int64_t y_stride) const {
  const Impl& l = *impl_;
  if (m < 0 || x_stride < l.k || y_stride < l.n) {
    Fail(ErrorCode::kInvalidArgument, "Fp8Linear: M is ", m, ", row strides of x, y are ", x_stride,
         ", ", y_stride, "; expected M >= 0, strides >= K = ", l.k, " and N = ", l.n);
  }
  if (m == 0) return;
  const auto run = [&](int64_t m0, int64_t m1, int64_t n0, int64_t n1) {
    auto* scratch =
        reinterpret_cast<float*>(BufferOfThread(kBufferScratch, kFp8Block * kPanel * 4));
    for (int64_t i = m0; i < m1; i += kMostRows) {
      Call(*l.kernel, Fp8LinearArgs{x + i * x_stride, x_stride, std::min(kMostRows, m1 - i), l.k,
                                    l.weights.data(), l.format, n0, n1, l.scale.data(),
                                    l.bias.data(), y + i * y_stride, y_stride, scratch});
    }
  };
  const int64_t panels = CeilDiv(l.n, kPanel), macs = m * l.n * l.k;
  const int64_t threads = std::min<int64_t>(MaxThreads(), std::max<int64_t>(1, macs / kGrainMacs));
  if (panels >= threads) {
    ParallelFor(panels, CeilDiv(panels, threads), [&](int64_t begin, int64_t end) {
      run(0, m, begin * kPanel, std::min(l.n, end * kPanel));
    });
  } else {
    ParallelFor(m, CeilDiv(m, threads),
                [&](int64_t begin, int64_t end) { run(begin, end, 0, l.n); });
  }
}

const std::vector<Candidate>& Fp8Linear::candidates() const { return impl_->candidates; }
int64_t Fp8Linear::packed_bytes() const {
  return impl_->weights.size() + static_cast<int64_t>(impl_->scale.size() * 8);
}

}  // namespace octet::kernels
