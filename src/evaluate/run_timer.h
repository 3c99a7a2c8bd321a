// Times of one thing among others that take turns.
//
// A turn begins with runs that are not timed: they bring the data back into the caches, and the
// core back to the frequency that this work runs at. After a burst of float32 multiply-adds that
// takes 12 ms (measured: INT8 at 0.70 of its speed for 1 ms, 0.83 for another 6). Then samples
// follow, of about a millisecond each. Samples in which the system took a core away from this
// process are left out, and more are taken, if enough others remain.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace octet {

struct TimeSummary {
  double median = 0, mad = 0, best = 0;
};
// Of at least one time.
[[nodiscard]] TimeSummary SummarizeTimes(std::span<const double> seconds);

class RunTimer {
 public:
  explicit RunTimer(std::function<void()> run);  // runs it, to find how long it takes

  void TakeTurn();
  // Enough samples, of this many seconds in all.
  [[nodiscard]] bool Done(double seconds) const;
  [[nodiscard]] double total() const { return total_; }  // seconds timed so far

  struct Result {
    TimeSummary seconds;      // of one run
    int64_t runs = 0;         // timed, in the samples that count
    int64_t samples = 0;      // that count
    int64_t interrupted = 0;  // samples in which another process took a core
    bool disturbed = false;   // ... which count all the same: too few others remained
    double best_alone = 0;    // of the samples that were not interrupted; 0: there are none
  };
  [[nodiscard]] Result Finish() const;

 private:
  std::function<void()> run_;
  double run_seconds_ = 0;
  int64_t repeats_ = 1;
  std::vector<double> clean_, interrupted_;
  double total_ = 0;
};

// Turns until every timer is Done(); calls `progress(spent, of)`, in seconds, after each round.
void TakeTurns(std::span<RunTimer> timers, double seconds,
               const std::function<void(double, double)>& progress);

}  // namespace octet
