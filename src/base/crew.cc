#include "base/crew.h"

#include <omp.h>

#include <chrono>

#include "base/parallel.h"

namespace octet {
namespace {

constexpr uint32_t kMostPieces = 1 << 10;
// Looks at a word, some 50 ns each, before a thread sleeps.
constexpr int kSpins = 4000;

// A sleeping thread takes 50 us to wake, some loops' time.
constexpr int kMostTrust = 24;
constexpr int64_t kProbeNanoseconds = 200'000;

thread_local bool inside = false;

int64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

bool Crew::Inside() { return inside; }

Crew& Crew::Get() {
  static Crew crew;
  return crew;
}

Crew::Crew() : trust_(kMostTrust) {}

Crew::~Crew() {
  stop_ = true;
  ++epoch_;
  epoch_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void Crew::Work(int spins) {
  inside = true;
  omp_set_num_threads(1);  // of libraries that are called in a piece
  uint32_t seen = 0;
  while (true) {
    uint32_t epoch = epoch_.load();
    for (int i = 0; epoch == seen && i < spins; ++i) {
      Pause();
      epoch = epoch_.load(std::memory_order_relaxed);
    }
    if (epoch == seen) epoch_.wait(seen);
    seen = epoch_.load();
    if (stop_) return;
    Claim();
  }
}

uint32_t Crew::Claim() {
  uint32_t claimed = 0;
  uint32_t word = word_.load();
  while ((word & 0xffffU) < word >> 16U) {
    if (!word_.compare_exchange_weak(word, word + 1)) continue;
    ++claimed;
    (*piece_)(static_cast<int>(word & 0xffffU));
    const uint32_t pieces = word >> 16U;
    // The loop is not over before this piece is counted: `word` is still about it.
    if (done_.fetch_add(1) + 1 == pieces) done_.notify_one();
    word = word_.load();
  }
  return claimed;
}

bool Crew::Worthwhile() {
  return trust_.load(std::memory_order_relaxed) > 0 ||
         Now() - last_posted_.load(std::memory_order_relaxed) > kProbeNanoseconds;
}

bool Crew::TryRun(int count, const std::function<void(int)>& piece) {
  const auto pieces = static_cast<uint32_t>(count);
  if (pieces > kMostPieces || inside) return false;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return false;
  // More threads than cores only wait for each other.
  const int spins = count <= HardwareThreads() ? kSpins : 0;
  while (threads_.size() + 1 < pieces) threads_.emplace_back([this, spins] { Work(spins); });

  piece_ = &piece;
  done_.store(0);
  word_.store(pieces << 16U);
  ++epoch_;
  epoch_.notify_all();

  const int library_threads = omp_get_max_threads();
  omp_set_num_threads(1);
  inside = true;
  const bool alone = Claim() == pieces;
  inside = false;
  omp_set_num_threads(library_threads);
  const int trust = trust_.load(std::memory_order_relaxed);
  if (!alone) {
    trust_.store(kMostTrust, std::memory_order_relaxed);
  } else if (trust > 1) {
    trust_.store(trust - 1, std::memory_order_relaxed);
  } else {
    trust_.store(0, std::memory_order_relaxed);
    last_posted_.store(Now(), std::memory_order_relaxed);
  }

  uint32_t done = done_.load();
  for (int i = 0; done != pieces && i < spins; ++i) {
    Pause();
    done = done_.load(std::memory_order_relaxed);
  }
  while ((done = done_.load()) != pieces) done_.wait(done);
  return true;
}

}  // namespace octet
