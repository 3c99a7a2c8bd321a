// Octet's own threads, for base/parallel.h alone.
//
// One loop at a time. Its pieces are claimed one by one from an atomic word, by the thread that
// posted it as by the others, so the loop ends when its pieces do, not when every thread has
// answered. Threads watch for the next loop for some 200 us, then sleep. Where nobody came to the
// last loops (the cores are taken by other processes), only one in 200 us is posted: Worthwhile().
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace octet {

class Crew {
 public:
  static Crew& Get();
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Calls piece(p) for p in [0, count), 2 <= count, on at most `count` threads, this one included;
  // false, and nothing done, where another thread's loop is running or count is too large. Bodies
  // must not throw.
  bool TryRun(int count, const std::function<void(int)>& piece);

  // False where a loop would most likely be left to the thread that posts it.
  bool Worthwhile();

  // True in a thread that is running a piece.
  static bool Inside();

 private:
  Crew();
  void Work(int spins);
  // Claims pieces until none is left; how many.
  uint32_t Claim();

  std::mutex mutex_;  // held while a loop runs
  std::vector<std::thread> threads_;
  const std::function<void(int)>* piece_ = nullptr;  // written before word_, read after a claim
  // Pieces of the loop << 16 | the next one to claim.
  alignas(64) std::atomic<uint32_t> word_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // loops posted; what sleepers wait for
  std::atomic<bool> stop_{false};
  // Hints: wrong ones cost time only.
  std::atomic<int> trust_;               // loops that may yet find nobody
  std::atomic<int64_t> last_posted_{0};  // nanoseconds
};

}  // namespace octet
