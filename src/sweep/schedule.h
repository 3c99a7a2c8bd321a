// Runs pieces of work beside each other within memory. The first runs alone on all cores: it fills
// what the others share, and its peak says how many of them fit beside each other.
#pragma once

#include <cstdint>
#include <functional>

namespace octet {

struct ScheduleOptions {
  int jobs = 0;        // at most; 0: cores
  int64_t memory = 0;  // bytes for all pieces at once; 0: what the system has free
};

// Bytes that this process could still take: of the system, or of its control group where that is
// less. 0: not known.
[[nodiscard]] int64_t FreeMemory();

// How many pieces of `peak` bytes each fit in `memory` (0: not known); at least 1, at most `jobs`.
[[nodiscard]] int JobsThatFit(int jobs, int64_t memory, int64_t peak);

// work(i, threads) for every i below n; it must not throw. Returns how many ran at once.
int RunBeside(int64_t n, const ScheduleOptions& options,
              const std::function<void(int64_t, int)>& work);

}  // namespace octet
