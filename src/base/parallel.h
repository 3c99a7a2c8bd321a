// Threads. All of Octet's parallelism goes through here; OpenMP is behind it, so that oneDNN's
// float operators and Octet's own kernels share one pool.
#pragma once

#include <cstdint>
#include <functional>

namespace octet {

// Threads a parallel loop started from this thread may use: the innermost ThreadScope's figure, or
// the number of cores. Inside a ParallelFor body it is 1: loops do not nest.
[[nodiscard]] int MaxThreads();
[[nodiscard]] int HardwareThreads();

// Sets the number of threads for loops (Octet's and oneDNN's) started by this thread while it
// lives. 0 means HardwareThreads().
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int previous_;
};

// Calls body(begin, end) for consecutive pieces of [0, n), each at least `grain` long (but the
// last), at most one piece per thread; runs in the calling thread where one piece results. An
// exception of a body is rethrown here (the first by piece order).
void ParallelFor(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

// Calls body(i) for every i in [0, n), handed out one at a time: for few and uneven pieces of work.
void ParallelForEach(int64_t n, const std::function<void(int64_t)>& body);

}  // namespace octet
