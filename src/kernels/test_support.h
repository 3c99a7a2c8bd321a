// For this layer's tests: buffers that end at an unmapped page, codes with the edge values, every
// kernel in turn.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/dispatch.h"

namespace octet::kernels::testing {

// `size` bytes whose last one is the last before a page that faults.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t size) : size_(size) {
    const int64_t page = ::sysconf(_SC_PAGESIZE);
    mapped_ = (size + page - 1) / page * page + page;
    void* p = ::mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OCTET_INVARIANT(p != MAP_FAILED);
    base_ = static_cast<uint8_t*>(p);
    OCTET_INVARIANT(::mprotect(base_ + mapped_ - page, static_cast<size_t>(page), PROT_NONE) == 0);
    data_ = base_ + mapped_ - page - size;
  }
  ~GuardedBuffer() { ::munmap(base_, static_cast<size_t>(mapped_)); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] int64_t size() const { return size_; }
  [[nodiscard]] std::vector<uint8_t> Copy() const { return {data_, data_ + size_}; }

 private:
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
  int64_t size_, mapped_ = 0;
};

// 0: random bytes; 1: mostly 0x00, 0x7f, 0x80, 0xff; 2: all 0xff; 3: all 0x80.
inline void FillCodes(uint8_t* p, int64_t n, int mode, std::mt19937* rng) {
  static constexpr uint8_t kEdges[] = {0x00, 0x7f, 0x80, 0xff};
  for (int64_t i = 0; i < n; ++i) {
    const auto r = static_cast<uint32_t>((*rng)());
    p[i] = mode == 0   ? static_cast<uint8_t>(r)
           : mode == 1 ? kEdges[r & 3]
           : mode == 2 ? 0xff
                       : 0x80;
  }
}

// The levels to test; those this machine lacks are printed, and are failures where OCTET_EXPECT_ISA
// names them.
inline std::vector<Isa> IsasToTest() {
  const auto supported = SupportedIsas();
  const char* expected = std::getenv("OCTET_EXPECT_ISA");
  for (const Isa isa :
       {Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kAmxInt8}) {
    if (std::find(supported.begin(), supported.end(), isa) != supported.end()) continue;
    std::printf("[  SKIPPED ] %s: not on this CPU (%s)\n", std::string(IsaName(isa)).c_str(),
                CpuModelName().c_str());
    OCTET_INVARIANT(expected == nullptr || IsaName(isa) != expected);
  }
  return supported;
}

// Kernels of `op` that this machine can run, each with the level to force.
inline std::vector<std::pair<Isa, std::string>> KernelsOf(Op op) {
  std::vector<std::pair<Isa, std::string>> out;
  const auto isas = IsasToTest();
  for (const KernelInfo& k : Registry()) {
    if (k.op == op && std::find(isas.begin(), isas.end(), k.isa) != isas.end())
      out.emplace_back(k.isa, k.name);
  }
  return out;
}

}  // namespace octet::kernels::testing
