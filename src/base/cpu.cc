#include "base/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace octet {
namespace {

struct Features {
  bool avx2 = false, avx_vnni = false, avx512_vnni = false, avx512_vbmi = false, amx_int8 = false;
};

#if defined(__x86_64__)
uint64_t Xgetbv0() {
  uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

// Tile data is off until a process asks for it (Linux 5.16; Documentation/arch/x86/xstate.rst).
bool AllowTileData() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features Detect() {
  Features f;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool osxsave = (c >> 27) & 1u;
  const bool fma = (c >> 12) & 1u;
  if (!osxsave) return f;
  const uint64_t xcr0 = Xgetbv0();
  const bool os_ymm = (xcr0 & 0x6) == 0x6;
  const bool os_zmm = (xcr0 & 0xe6) == 0xe6;  // opmask, ZMM_Hi256, Hi16_ZMM
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  const auto bit = [](unsigned reg, int n) { return ((reg >> n) & 1u) != 0; };
  f.avx2 = os_ymm && fma && bit(b, 5);
  const bool avx512_core = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  f.avx512_vnni = os_zmm && f.avx2 && avx512_core && bit(c, 11);
  f.avx512_vbmi = f.avx512_vnni && bit(c, 1);
  const bool os_tiles = (xcr0 & 0x60000) == 0x60000;  // XTILECFG, XTILEDATA
  const bool tiles = bit(d, 24) && bit(d, 25);        // AMX-TILE, AMX-INT8
  f.amx_int8 = f.avx512_vnni && os_tiles && tiles && AllowTileData();
  if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx_vnni = f.avx2 && bit(a, 4);
  return f;
}
#else
Features Detect() { return {}; }
#endif

constexpr Isa kIsas[] = {Isa::kPortable,   Isa::kAvx2,       Isa::kAvxVnni,
                         Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kAmxInt8};

const Features& Cpu() {
  static const Features features = Detect();
  return features;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avxvnni";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Vbmi:
      return "avx512vbmi";
    case Isa::kAmxInt8:
      return "amxint8";
  }
  return "unknown";
}

Isa ParseIsa(std::string_view name) {
  for (Isa isa : kIsas) {
    if (IsaName(isa) == name) return isa;
  }
  Fail(ErrorCode::kInvalidArgument, "unknown instruction set '", name,
       "'; expected portable, avx2, avxvnni, avx512vnni, avx512vbmi or amxint8");
}

bool IsSupported(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return Cpu().avx2;
    case Isa::kAvxVnni:
      return Cpu().avx_vnni;
    case Isa::kAvx512Vnni:
      return Cpu().avx512_vnni;
    case Isa::kAvx512Vbmi:
      return Cpu().avx512_vbmi;
    case Isa::kAmxInt8:
      return Cpu().amx_int8;
  }
  return false;
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas) {
    if (IsSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa ActiveIsa() {
  static const Isa best = SupportedIsas().back();
  const char* forced = std::getenv("OCTET_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return best;
  const Isa isa = ParseIsa(forced);
  if (!IsSupported(isa)) {
    Fail(ErrorCode::kInvalidArgument, "OCTET_FORCE_ISA=", forced, ": this CPU (", CpuModelName(),
         ") does not have it; its best is ", IsaName(best));
  }
  return isa;
}

bool IsaAllows(Isa active, Isa kernel) { return kernel <= active && IsSupported(kernel); }

std::string CpuModelName() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace octet
