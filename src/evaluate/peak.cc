// Loops of independent multiply-adds in assembly, so that no compiler rearranges them. Each has at
// least as many accumulators as latency times ports needs (vpdpbusd: 5 x 2, FMA: 4 x 2 to 5 x 2).
#include "evaluate/peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/cpu.h"
#include "base/parallel.h"

namespace octet {
namespace {

// Many bursts shorter than a scheduler's time slice: one of them is left alone even on a busy
// machine.
constexpr int kBursts = 32;

struct Loop {
  const char* instruction;
  double operations;  // per iteration
  void (*run)(int64_t iterations);
};

// The code touches the upper parts of vector registers, which code for x86-64 does not use: naming
// the xmm parts as clobbered is enough, and vzeroupper puts them back as they are expected.
#define OCTET_PEAK_LOOP(before, body)                                                            \
  asm volatile(before "1:\n" body                                                                \
                      "dec %0\n"                                                                 \
                      "jnz 1b\n"                                                                 \
               : "+r"(n)                                                                         \
               :                                                                                 \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc")

// One instruction with two equal sources, for accumulators 1 to 12; register 0 is zero throughout.
#define OCTET_TWELVE(op, r)                                                                        \
  op " %%" r "0, %%" r "0, %%" r "1\n" op " %%" r "0, %%" r "0, %%" r "2\n" op " %%" r "0, %%" r   \
     "0, %%" r "3\n" op " %%" r "0, %%" r "0, %%" r "4\n" op " %%" r "0, %%" r "0, %%" r "5\n" op  \
     " %%" r "0, %%" r "0, %%" r "6\n" op " %%" r "0, %%" r "0, %%" r "7\n" op " %%" r "0, %%" r   \
     "0, %%" r "8\n" op " %%" r "0, %%" r "0, %%" r "9\n" op " %%" r "0, %%" r "0, %%" r "10\n" op \
     " %%" r "0, %%" r "0, %%" r "11\n" op " %%" r "0, %%" r "0, %%" r "12\n"

// vzeroall clears all registers that the loops use (0 to 15, in full width).
void Int8Avx512(int64_t n) {
  OCTET_PEAK_LOOP("vzeroall\n", OCTET_TWELVE("vpdpbusd", "zmm"));
  asm volatile("vzeroupper" ::: "memory");
}
void FloatAvx512(int64_t n) {
  OCTET_PEAK_LOOP("vzeroall\n", OCTET_TWELVE("vfmadd231ps", "zmm"));
  asm volatile("vzeroupper" ::: "memory");
}
void Int8AvxVnni(int64_t n) {
  OCTET_PEAK_LOOP("vzeroall\n", OCTET_TWELVE("%{vex%} vpdpbusd", "ymm"));
  asm volatile("vzeroupper" ::: "memory");
}
void FloatAvx2(int64_t n) {
  OCTET_PEAK_LOOP("vzeroall\n", OCTET_TWELVE("vfmadd231ps", "ymm"));
  asm volatile("vzeroupper" ::: "memory");
}

// Tiles of 16 rows by 64 bytes: 0 to 5 are accumulators (a product takes 16 cycles and ends after
// 52), 6 and 7 hold codes that are not zero. Not a clobber: nothing else in this program keeps
// tiles.
void Int8Amx(int64_t n) {
  struct alignas(64) Configuration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } configuration;
  static_assert(sizeof(Configuration) == 64);
  uint8_t codes[16 * 64];
  for (size_t i = 0; i < sizeof(codes); ++i) codes[i] = static_cast<uint8_t>(i * 97 + 13);
  asm volatile(
      "ldtilecfg (%1)\n"
      "tilezero %%tmm0\ntilezero %%tmm1\ntilezero %%tmm2\n"
      "tilezero %%tmm3\ntilezero %%tmm4\ntilezero %%tmm5\n"
      "tileloadd (%2,%3,1), %%tmm6\n"
      "tileloadd (%2,%3,1), %%tmm7\n"
      "1:\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm0\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm1\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm2\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm3\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm4\n"
      "tdpbusd %%tmm7, %%tmm6, %%tmm5\n"
      "dec %0\n"
      "jnz 1b\n"
      "tilerelease\n"
      : "+r"(n)
      : "r"(&configuration), "r"(codes), "r"(int64_t{64})
      : "cc", "memory");
}

// u8 x s8 without VNNI: three instructions for 32 multiply-adds.
#define OCTET_MADD_AVX2(t, acc)     \
  "vpmaddubsw %%ymm0, %%ymm0, %%" t \
  "\n"                              \
  "vpmaddwd %%" t ", %%ymm0, %%" t  \
  "\n"                              \
  "vpaddd %%" t ", %%" acc ", %%" acc "\n"
void Int8Avx2(int64_t n) {
  OCTET_PEAK_LOOP("vzeroall\n",
                  OCTET_MADD_AVX2("ymm1", "ymm7") OCTET_MADD_AVX2("ymm2", "ymm8")
                      OCTET_MADD_AVX2("ymm3", "ymm9") OCTET_MADD_AVX2("ymm4", "ymm10")
                          OCTET_MADD_AVX2("ymm5", "ymm11") OCTET_MADD_AVX2("ymm6", "ymm12"));
  asm volatile("vzeroupper" ::: "memory");
}

// SSE2: 16-bit multiply-adds in pairs, eight at a time; float multiplies and adds apart, four at a
// time.
#define OCTET_MADD_SSE2(t, acc) \
  "movdqa %%xmm0, %%" t         \
  "\n"                          \
  "pmaddwd %%xmm0, %%" t        \
  "\n"                          \
  "paddd %%" t ", %%" acc "\n"
#define OCTET_FLOAT_SSE2(t, acc) \
  "movaps %%xmm0, %%" t          \
  "\n"                           \
  "mulps %%xmm0, %%" t           \
  "\n"                           \
  "addps %%" t ", %%" acc "\n"
void Int8Sse2(int64_t n) {
  OCTET_PEAK_LOOP("pxor %%xmm0, %%xmm0\n",
                  OCTET_MADD_SSE2("xmm1", "xmm7") OCTET_MADD_SSE2("xmm2", "xmm8")
                      OCTET_MADD_SSE2("xmm3", "xmm9") OCTET_MADD_SSE2("xmm4", "xmm10")
                          OCTET_MADD_SSE2("xmm5", "xmm11") OCTET_MADD_SSE2("xmm6", "xmm12"));
}
// The accumulators start at whatever they hold; zero keeps denormals out of the sums.
void FloatSse2(int64_t n) {
  OCTET_PEAK_LOOP(
      "xorps %%xmm0, %%xmm0\nxorps %%xmm7, %%xmm7\nxorps %%xmm8, %%xmm8\nxorps %%xmm9, %%xmm9\n"
      "xorps %%xmm10, %%xmm10\nxorps %%xmm11, %%xmm11\nxorps %%xmm12, %%xmm12\n",
      OCTET_FLOAT_SSE2("xmm1", "xmm7") OCTET_FLOAT_SSE2("xmm2", "xmm8")
          OCTET_FLOAT_SSE2("xmm3", "xmm9") OCTET_FLOAT_SSE2("xmm4", "xmm10")
              OCTET_FLOAT_SSE2("xmm5", "xmm11") OCTET_FLOAT_SSE2("xmm6", "xmm12"));
}

#undef OCTET_PEAK_LOOP
#undef OCTET_TWELVE
#undef OCTET_MADD_AVX2
#undef OCTET_MADD_SSE2
#undef OCTET_FLOAT_SSE2

bool Supports(Isa isa) {
  const auto all = SupportedIsas();
  return std::find(all.begin(), all.end(), isa) != all.end();
}

Loop Int8Loop() {
  if (Supports(Isa::kAvx512Vnni)) return {"vpdpbusd zmm", 12 * 64 * 2, Int8Avx512};
  if (Supports(Isa::kAvxVnni)) return {"vpdpbusd ymm", 12 * 32 * 2, Int8AvxVnni};
  if (Supports(Isa::kAvx2)) return {"vpmaddubsw ymm", 6 * 32 * 2, Int8Avx2};
  return {"pmaddwd xmm", 6 * 8 * 2, Int8Sse2};
}

Loop FloatLoop() {
  if (Supports(Isa::kAvx512Vnni)) return {"vfmadd231ps zmm", 12 * 16 * 2, FloatAvx512};
  if (Supports(Isa::kAvx2)) return {"vfmadd231ps ymm", 12 * 8 * 2, FloatAvx2};
  return {"mulps, addps xmm", 6 * 4 * 2, FloatSse2};
}

double SecondsFor(const Loop& loop, int threads, int64_t iterations) {
  const auto start = std::chrono::steady_clock::now();
  ParallelFor(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) loop.run(iterations);
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double Gops(const Loop& loop, int threads, double seconds) {
  int64_t iterations = 1 << 12;
  // Sized in one thread: starting the others may take longer than a burst on a busy machine.
  while (std::min(SecondsFor(loop, 1, iterations), SecondsFor(loop, 1, iterations)) < seconds / 2)
    iterations *= 2;
  double best = SecondsFor(loop, threads, iterations);
  for (int i = 1; i < kBursts; ++i) best = std::min(best, SecondsFor(loop, threads, iterations));
  return loop.operations * static_cast<double>(iterations) * threads / best * 1e-9;
}

}  // namespace

PeakRates MeasurePeak(int threads, double seconds) {
  const ThreadScope scope(threads);
  const int workers = MaxThreads();
  const Loop int8 = Int8Loop(), real = FloatLoop();
  PeakRates peak;
  peak.int8_gops = Gops(int8, workers, seconds);
  peak.float_gops = Gops(real, workers, seconds);
  if (Supports(Isa::kAmxInt8)) {
    peak.amx_instruction = "tdpbusd";
    peak.amx_gops = Gops({"tdpbusd", 6 * 16 * 16 * 64 * 2, Int8Amx}, workers, seconds);
  }
  peak.int8_instruction = int8.instruction;
  peak.float_instruction = real.instruction;
  return peak;
}

}  // namespace octet
