#include "evaluate/peak.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/cpu.h"

namespace octet {
namespace {

TEST(Peak, IsPlausibleAndNamesItsInstructions) {
  const PeakRates one = MeasurePeak(1);
  // A core at 0.5 to 6 GHz issues one or two of these vectors a cycle: 8 to 128 operations each.
  EXPECT_GT(one.float_gops, 0.5 * 4);
  EXPECT_LT(one.float_gops, 6 * 2 * 32);
  EXPECT_GT(one.int8_gops, 0.5 * 8);
  EXPECT_LT(one.int8_gops, 6 * 2 * 128);
  EXPECT_FALSE(one.int8_instruction.empty());
  EXPECT_FALSE(one.float_instruction.empty());
}

TEST(Peak, VnniDoesFourTimesTheFloatWork) {
  bool vnni = false;
  for (Isa isa : SupportedIsas()) vnni = vnni || isa == Isa::kAvx512Vnni;
  if (!vnni) GTEST_SKIP() << "no AVX512-VNNI on this machine";
  // Both issue on the same ports with a quarter of the elements: 4 by construction. A neighbour may
  // steal half of either burst.
  const PeakRates r = MeasurePeak(1);
  EXPECT_GT(r.int8_gops / r.float_gops, 2.0);
  EXPECT_LT(r.int8_gops / r.float_gops, 8.0);
}

TEST(Peak, TilesDoEightTimesTheWorkOfVnni) {
  const auto isas = SupportedIsas();
  if (std::find(isas.begin(), isas.end(), Isa::kAmxInt8) == isas.end())
    GTEST_SKIP() << "no AMX-INT8 on this machine";
  // 16384 multiply-adds in 16 cycles against two vectors of 64 a cycle: 8 by construction. Codes
  // that are not zero cost a quarter of the frequency (measured: 6), and the tile unit of a core
  // may be shared with a neighbour: 3, or 2 where he takes from this burst alone.
  const PeakRates r = MeasurePeak(1);
  EXPECT_EQ(r.amx_instruction, "tdpbusd");
  EXPECT_GT(r.amx_gops / r.int8_gops, 1.5);
  EXPECT_LT(r.amx_gops / r.int8_gops, 16.0);
}

}  // namespace
}  // namespace octet
