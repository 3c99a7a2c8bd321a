// The arithmetic peak of this machine, measured: what `octet bench` gives its percentages of.
// Registers only, no memory, every core that the run may use at once.
#pragma once

#include <string>

namespace octet {

struct PeakRates {
  double int8_gops = 0;   // 10^9 operations (a multiply-add is two) per second on 8-bit codes
  double float_gops = 0;  // on float32
  std::string int8_instruction, float_instruction;  // "vpdpbusd zmm"
  double amx_gops = 0;          // on 8-bit codes by tiles; 0: not on this machine
  std::string amx_instruction;  // "tdpbusd"
};

// The best of several bursts of about `seconds` each, by the widest instructions of the machine
// (OCTET_FORCE_ISA does not count: a portable kernel is measured by the same stick), in `threads`
// threads.
[[nodiscard]] PeakRates MeasurePeak(int threads, double seconds = 0.003);

}  // namespace octet
