#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/crew.h"

namespace octet {
namespace {

thread_local Team team = Team::kCrew;

// Runs pieces [0, count) on several threads.
void RunPieces(int count, const std::function<void(int)>& piece) {
  if (team == Team::kCrew && Crew::Get().TryRun(count, piece)) return;
    // The crew is at another thread's loop, or not wanted.
#pragma omp parallel for num_threads(count) schedule(static, 1)
  for (int p = 0; p < count; ++p) piece(p);
}

void RethrowFirst(const std::vector<std::exception_ptr>& errors) {
  for (const auto& e : errors) {
    if (e) std::rethrow_exception(e);
  }
}

}  // namespace

int HardwareThreads() { return std::max(1, omp_get_num_procs()); }

int MaxThreads() {
  return Crew::Inside() || omp_in_parallel() ? 1 : std::max(1, omp_get_max_threads());
}

ThreadScope::ThreadScope(int threads) : previous_(omp_get_max_threads()) {
  omp_set_num_threads(threads > 0 ? threads : HardwareThreads());
}

ThreadScope::~ThreadScope() { omp_set_num_threads(previous_); }

TeamScope::TeamScope(Team t) : previous_(team) { team = t; }
TeamScope::~TeamScope() { team = previous_; }

void ParallelFor(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  const int64_t by_grain = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  const int pieces = static_cast<int>(std::min<int64_t>(MaxThreads(), by_grain));
  if (pieces <= 1 || (team == Team::kCrew && !Crew::Get().Worthwhile())) {
    body(0, n);
    return;
  }
  std::vector<std::exception_ptr> errors(static_cast<size_t>(pieces));
  RunPieces(pieces, [&](int p) {
    try {
      body(n * p / pieces, n * (p + 1) / pieces);
    } catch (...) {
      errors[static_cast<size_t>(p)] = std::current_exception();
    }
  });
  RethrowFirst(errors);
}

void ParallelForEach(int64_t n, const std::function<void(int64_t)>& body) {
  if (n <= 0) return;
  const int threads = static_cast<int>(std::min<int64_t>(MaxThreads(), n));
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  std::vector<std::exception_ptr> errors(static_cast<size_t>(n));
  std::atomic<int64_t> next{0};
  RunPieces(threads, [&](int) {
    for (int64_t i = next++; i < n; i = next++) {
      try {
        body(i);
      } catch (...) {
        errors[static_cast<size_t>(i)] = std::current_exception();
      }
    }
  });
  RethrowFirst(errors);
}

}  // namespace octet
