// INT8 operators on real layers: ours beside oneDNN's u8s8u8, same process, interleaved samples,
// result verified first.
//
//   kernels_bench [--threads 1,2] [--only TEXT] [--samples N] [--json FILE]
//
// ops = 2 * multiply-adds of the un-padded layer. Peak: vpdpbusd on registers, measured in the same
// run. Weights and activations are warm (as after the layer before); both sides pack weights
// beforehand.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <dnnl.hpp>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dispatch.h"
#include "kernels/pack.h"
#include "octet/kernels.h"

namespace octet {
namespace {

using kernels::Conv;
using kernels::ConvProblem;

struct Row {
  std::string name;
  int64_t height, width;
  ConvProblem problem;
  bool gemm;
};

Row GemmRow(int64_t m, int64_t k, int64_t n) {
  ConvProblem p;
  p.in_channels = k;
  p.out_channels = n;
  return {Cat("gemm ", m, "x", k, "x", n), 1, m, p, true};
}

Row ConvRow(const std::string& name, int64_t size, int64_t in, int64_t out, int64_t kernel,
            int64_t stride, int64_t groups = 1) {
  ConvProblem p;
  p.in_channels = in;
  p.out_channels = out;
  p.groups = groups;
  p.kernel_h = p.kernel_w = kernel;
  p.stride_h = p.stride_w = stride;
  p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = kernel / 2;
  return {Cat(name, " ", size, " ", in, ">", out, " k", kernel, stride > 1 ? "s2" : ""), size, size,
          p, false};
}

std::vector<Row> Rows() {
  std::vector<Row> rows = {
      GemmRow(512, 960, 960),
      GemmRow(1, 768, 768),
      GemmRow(128, 768, 3072),
      GemmRow(512, 768, 768),
      GemmRow(1, 4096, 4096),
      GemmRow(512, 2048, 8192),
      ConvRow("rn50", 224, 3, 64, 7, 2),
      ConvRow("rn50", 56, 64, 64, 1, 1),
      ConvRow("rn50", 56, 64, 64, 3, 1),
      ConvRow("rn50", 56, 64, 256, 1, 1),
      ConvRow("rn50", 56, 256, 64, 1, 1),
      ConvRow("rn50", 56, 128, 128, 3, 2),
      ConvRow("rn50", 28, 128, 128, 3, 1),
      ConvRow("rn50", 28, 512, 128, 1, 1),
      ConvRow("rn50", 14, 256, 256, 3, 1),
      ConvRow("rn50", 14, 1024, 256, 1, 1),
      ConvRow("rn50", 7, 512, 512, 3, 1),
      ConvRow("rn50", 7, 512, 2048, 1, 1),
      ConvRow("mbv1", 224, 3, 8, 3, 2),
      ConvRow("mbv1", 112, 8, 16, 1, 1),
      ConvRow("mbv1", 56, 32, 32, 1, 1),
      ConvRow("face", 60, 32, 32, 3, 1),
      ConvRow("face", 120, 16, 16, 3, 1),
      ConvRow("mbv1", 14, 128, 128, 1, 1),
      ConvRow("mbv1", 56, 128, 128, 1, 1),
  };
  for (const auto& [size, channels, stride] : {std::tuple{112, 8, 1},
                                               {112, 16, 2},
                                               {112, 32, 1},
                                               {112, 64, 2},
                                               {56, 144, 1},
                                               {28, 64, 1},
                                               {14, 128, 1},
                                               {14, 512, 1},
                                               {14, 576, 1}}) {
    rows.push_back(ConvRow("dw", size, channels, channels, 3, stride, channels));
  }
  return rows;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// 24 independent vpdpbusd per round: Gop/s of one core.
double PeakGops() {
  if (!IsaAllows(Isa::kAvx512Vnni, Isa::kAvx512Vnni)) return 0.0;
  double best = 0.0;
  for (int sample = 0; sample < 20; ++sample) {
    constexpr int64_t kRounds = 20000;
    const double start = Seconds();
    for (int64_t i = 0; i < kRounds; ++i) {
#define OCTET_DOT(n) "vpdpbusd %%zmm31, %%zmm30, %%zmm" #n "\n"
      __asm__ volatile(OCTET_DOT(0) OCTET_DOT(1) OCTET_DOT(2) OCTET_DOT(3) OCTET_DOT(4) OCTET_DOT(5)
                           OCTET_DOT(6) OCTET_DOT(7) OCTET_DOT(8) OCTET_DOT(9) OCTET_DOT(10)
                               OCTET_DOT(11) OCTET_DOT(12) OCTET_DOT(13) OCTET_DOT(14) OCTET_DOT(15)
                                   OCTET_DOT(16) OCTET_DOT(17) OCTET_DOT(18) OCTET_DOT(19)
                                       OCTET_DOT(20) OCTET_DOT(21) OCTET_DOT(22) OCTET_DOT(23)::
                                           : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                                             "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                                             "xmm13", "xmm14", "xmm15");
#undef OCTET_DOT
    }
    best = std::max(best, static_cast<double>(kRounds) * 24 * 128 / (Seconds() - start) * 1e-9);
  }
  return best;
}

// oneDNN's convolution or matmul on the same codes (zero points 0, one multiplier per channel).
class OneDnn {
 public:
  OneDnn(const Row& row, int64_t oh, int64_t ow, uint8_t* x, int8_t* w, int32_t* bias, uint8_t* y)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    using Tag = memory::format_tag;
    using Type = memory::data_type;
    const ConvProblem& p = row.problem;
    dnnl::primitive_attr attributes;
    attributes.set_output_scales(2, p.epilogue.multiplier);
    if (row.gemm) {
      const memory::desc src({row.width, p.in_channels}, Type::u8, Tag::ab),
          dst({row.width, p.out_channels}, Type::u8, Tag::ab);
      const memory::desc user_w({p.in_channels, p.out_channels}, Type::s8, Tag::ba),
          b({1, p.out_channels}, Type::s32, Tag::ab);
      const dnnl::matmul::desc d(src, memory::desc(user_w.dims(), Type::s8, Tag::any), b, dst);
      const dnnl::matmul::primitive_desc pd(d, attributes, engine_);
      Finish(dnnl::matmul(pd), memory(src, engine_, x), memory(user_w, engine_, w),
             pd.weights_desc(), memory(b, engine_, bias), memory(dst, engine_, y));
      return;
    }
    const bool grouped = p.groups > 1;
    const memory::desc src({1, p.in_channels, row.height, row.width}, Type::u8, Tag::nhwc);
    const memory::desc dst({1, p.out_channels, oh, ow}, Type::u8, Tag::nhwc);
    const memory::desc b({p.out_channels}, Type::s32, Tag::a);
    const memory::desc user_w =
        grouped ? memory::desc({p.groups, p.out_channels / p.groups, p.in_channels / p.groups,
                                p.kernel_h, p.kernel_w},
                               Type::s8, Tag::goihw)
                : memory::desc({p.out_channels, p.in_channels, p.kernel_h, p.kernel_w}, Type::s8,
                               Tag::oihw);
    const dnnl::convolution_forward::desc d(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, src,
        memory::desc(user_w.dims(), Type::s8, Tag::any), b, dst, {p.stride_h, p.stride_w},
        {p.pad_top, p.pad_left}, {p.pad_bottom, p.pad_right});
    const dnnl::convolution_forward::primitive_desc pd(d, attributes, engine_);
    Finish(dnnl::convolution_forward(pd), memory(src, engine_, x), memory(user_w, engine_, w),
           pd.weights_desc(), memory(b, engine_, bias), memory(dst, engine_, y));
  }

  void Run() {
    primitive_.execute(stream_, args_);
    stream_.wait();
  }

 private:
  void Finish(dnnl::primitive primitive, dnnl::memory x, dnnl::memory w,
              const dnnl::memory::desc& packed, dnnl::memory bias, dnnl::memory y) {
    primitive_ = std::move(primitive);
    dnnl::memory weights(packed, engine_);
    dnnl::reorder(w, weights).execute(stream_, w, weights);
    args_ = {
        {DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, y}};
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> args_;
};

struct Timing {
  double median_us, best_us;
};

// Median and best of `samples`, the bodies taking turns; a sample repeats its body for about 1 ms.
std::vector<Timing> Measure(const std::vector<std::function<void()>>& bodies, int samples) {
  std::vector<int> repeats;
  for (const auto& body : bodies) {
    body();
    const double start = Seconds();
    int n = 0;
    while (Seconds() - start < 2.5e-3) body(), ++n;
    repeats.push_back(std::max(1, n * 2 / 5));
  }
  std::vector<std::vector<double>> times(bodies.size());
  for (int s = 0; s < samples; ++s)
    for (size_t i = 0; i < bodies.size(); ++i) {
      const double start = Seconds();
      for (int r = 0; r < repeats[i]; ++r) bodies[i]();
      times[i].push_back((Seconds() - start) * 1e6 / repeats[i]);
    }
  std::vector<Timing> out;
  for (auto& t : times) {
    std::sort(t.begin(), t.end());
    out.push_back({t[t.size() / 2], t[0]});
  }
  return out;
}

struct Options {
  std::vector<int> threads = {1, 2};
  std::string only, json;
  int samples = 15;
};

nlohmann::json RunRow(Row row, int threads, double peak, int samples) {
  ConvProblem& p = row.problem;
  std::mt19937 rng(7);
  const int64_t k = p.in_channels / p.groups * p.kernel_h * p.kernel_w;
  std::vector<int8_t> w(static_cast<size_t>(p.out_channels * k));
  for (auto& v : w) v = static_cast<int8_t>(rng() % 255 - 127);
  p.weight = w.data();
  p.epilogue.multiplier.assign(static_cast<size_t>(p.out_channels),
                               0.02F / std::sqrt(static_cast<float>(k)));
  for (int64_t n = 0; n < p.out_channels; ++n)
    p.epilogue.bias.push_back(static_cast<int32_t>(rng() % 4000));
  // 64-byte aligned, as a runtime's arena is.
  const kernels::AlignedBytes x(row.height * row.width * p.in_channels);
  for (int64_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<uint8_t>(rng());

  const ThreadScope scope(threads);
  const Conv conv(p);
  const int64_t oh = conv.OutHeight(row.height), ow = conv.OutWidth(row.width);
  const kernels::AlignedBytes y(oh * ow * p.out_channels), expected(y.size()), peer_y(y.size());
  {
    const kernels::ForcedChoice forced(Isa::kPortable);
    Conv(p).Run(1, row.height, row.width, x.data(), expected.data());
  }
  conv.Run(1, row.height, row.width, x.data(), y.data());
  if (std::memcmp(y.data(), expected.data(), static_cast<size_t>(y.size())) != 0)
    Fail(ErrorCode::kCheckFailed, row.name, ": our result differs from the portable kernel's");
  OneDnn peer(row, oh, ow, x.data(), w.data(), p.epilogue.bias.data(), peer_y.data());
  peer.Run();
  int64_t off = 0;
  for (int64_t i = 0; i < y.size(); ++i)
    off += std::abs(int{y.data()[i]} - int{peer_y.data()[i]}) > 1 ? 1 : 0;
  if (off != 0)
    Fail(ErrorCode::kCheckFailed, row.name, ": ", off,
         " codes differ from oneDNN's by more than 1");

  const auto t = Measure(
      {[&] { conv.Run(1, row.height, row.width, x.data(), y.data()); }, [&] { peer.Run(); }},
      samples);
  const double ops = 2.0 * static_cast<double>(oh * ow * p.out_channels * k);
  const auto gops = [&](const Timing& timing) { return ops / timing.median_us * 1e-3; };
  std::string kernel;
  for (const auto& c : conv.candidates()) {
    if (c.refused_because.empty()) kernel = c.kernel;
  }
  std::printf(
      "%-24s %dT %9.1f us (best %9.1f) %7.1f Gop/s %5.1f%%   oneDNN %9.1f us (best %9.1f)   x%.2f "
      "(x%.2f)\n",
      row.name.c_str(), threads, t[0].median_us, t[0].best_us, gops(t[0]),
      100 * gops(t[0]) / (peak * threads), t[1].median_us, t[1].best_us,
      t[1].median_us / t[0].median_us, t[1].best_us / t[0].best_us);
  std::fflush(stdout);
  return {{"row", row.name},
          {"threads", threads},
          {"kernel", kernel},
          {"median_us", t[0].median_us},
          {"best_us", t[0].best_us},
          {"gops", gops(t[0])},
          {"samples", samples},
          {"onednn_median_us", t[1].median_us},
          {"onednn_best_us", t[1].best_us},
          {"onednn_gops", gops(t[1])}};
}

Options Parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (i + 1 >= argc) Fail(ErrorCode::kInvalidArgument, "kernels_bench: ", flag, " needs a value");
    const std::string value = argv[++i];
    if (flag == "--threads") {
      o.threads.clear();
      for (size_t at = 0; at < value.size(); at = std::min(value.size(), value.find(',', at)) + 1) {
        o.threads.push_back(std::stoi(value.substr(at)));
      }
    } else if (flag == "--only") {
      o.only = value;
    } else if (flag == "--samples") {
      o.samples = std::max(1, std::stoi(value));
    } else if (flag == "--json") {
      o.json = value;
    } else {
      Fail(ErrorCode::kInvalidArgument, "kernels_bench: unknown option ", flag);
    }
  }
  return o;
}

int Main(int argc, char** argv) {
  const Options o = Parse(argc, argv);
  const double peak = PeakGops();
  std::printf("%s, kernels for %s, vpdpbusd peak %.0f Gop/s per core, oneDNN %d.%d.%d\n",
              CpuModelName().c_str(), std::string(IsaName(ActiveIsa())).c_str(), peak,
              dnnl::version()->major, dnnl::version()->minor, dnnl::version()->patch);
  nlohmann::json all = {
      {"cpu", CpuModelName()}, {"isa", IsaName(ActiveIsa())}, {"peak_gops", peak}};
  for (const int threads : o.threads)
    for (const Row& row : Rows()) {
      if (row.name.find(o.only) != std::string::npos)
        all["rows"].push_back(RunRow(row, threads, peak, o.samples));
    }
  if (!o.json.empty()) std::ofstream(o.json) << all.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace octet

int main(int argc, char** argv) {
  try {
    return octet::Main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
