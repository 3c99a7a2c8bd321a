// Threads. All of Octet's parallelism goes through here: its own crew of threads, or OpenMP's where
// loops alternate with oneDNN's threaded operators (Team).
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

// Who runs the loops that this thread starts.
//   kCrew    Octet's own threads. Whoever is free takes the next piece, the caller first: a thread
//            that the system keeps from running holds nobody up. A fork and join costs about 1 us.
//   kOpenMp  the threads of oneDNN's operators, which keep their cores busy for a while after each:
//            beside them, a crew would wait for its cores.
enum class Team : uint8_t { kCrew, kOpenMp };

class TeamScope {
 public:
  explicit TeamScope(Team team);
  ~TeamScope();
  TeamScope(const TeamScope&) = delete;
  TeamScope& operator=(const TeamScope&) = delete;

 private:
  Team previous_;
};

// Calls body(begin, end) for consecutive pieces of [0, n), each at least `grain` long (but the
// last), at most one piece per thread allowed; runs in the calling thread where one piece results.
// An exception of a body is rethrown here (the first by piece order).
void ParallelFor(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

// Calls body(i) for every i in [0, n), handed out one at a time: for few and uneven pieces of work.
void ParallelForEach(int64_t n, const std::function<void(int64_t)>& body);

}  // namespace octet
