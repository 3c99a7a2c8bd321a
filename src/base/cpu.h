// What this CPU can run, found once with CPUID and the operating system's own answer (XGETBV).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

// Ordered by preference: a kernel of a higher level is taken where the CPU has it.
enum class Isa : uint8_t {
  kPortable = 0,
  kAvx2 = 1,
  kAvxVnni = 2,
  kAvx512Vnni = 3,
  kAvx512Vbmi = 4,
  kAmxInt8 = 5
};

[[nodiscard]] std::string_view IsaName(Isa isa);    // "portable", "avx2", ..., "amxint8"
[[nodiscard]] Isa ParseIsa(std::string_view name);  // throws kInvalidArgument, naming the choices

// The levels this machine can execute, lowest first; always holds kPortable. avxvnni is not implied
// by avx512vnni (Cascade Lake has the latter alone). amxint8 needs the operating system's leave,
// which the first call asks for (Linux: arch_prctl).
[[nodiscard]] std::vector<Isa> SupportedIsas();
[[nodiscard]] bool IsSupported(Isa isa);

// The highest supported level, or what OCTET_FORCE_ISA names. Throws kInvalidArgument where that
// names an unknown level or one this machine lacks.
[[nodiscard]] Isa ActiveIsa();

// True if a kernel of level `kernel` may run when `active` is the level in force.
[[nodiscard]] bool IsaAllows(Isa active, Isa kernel);

[[nodiscard]] std::string CpuModelName();  // "Intel(R) Xeon(R) ...", or "unknown"

}  // namespace octet
