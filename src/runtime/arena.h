// Places buffers with known lifetimes in one block of memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace octet {

inline constexpr int64_t kArenaAlignment = 64;  // a cache line, and the widest vector

// A buffer that is written by step `first` and last read by step `last` (both included).
struct ArenaRequest {
  int64_t bytes = 0;
  int64_t first = 0;
  int64_t last = 0;
  int64_t offset = 0;  // the answer
};

// Sets every offset so that no two buffers alive at once overlap; returns the bytes needed. Largest
// first, each at the lowest offset that is free throughout its life.
int64_t AssignOffsets(std::vector<ArenaRequest>& requests);

// Aligned memory; not zeroed.
class Arena {
 public:
  explicit Arena(int64_t bytes);
  [[nodiscard]] void* at(int64_t offset) const { return base_.get() + offset; }

 private:
  struct Free {
    void operator()(unsigned char* p) const;
  };
  std::unique_ptr<unsigned char, Free> base_;
};

}  // namespace octet
