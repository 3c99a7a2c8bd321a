#include "runtime/arena.h"

#include <algorithm>
#include <new>

#include "base/error.h"

namespace octet {

int64_t AssignOffsets(std::vector<ArenaRequest>& requests) {
  std::vector<ArenaRequest*> by_size;
  for (ArenaRequest& r : requests) {
    if (r.bytes > 0) by_size.push_back(&r);
  }
  std::stable_sort(
      by_size.begin(), by_size.end(),
      [](const ArenaRequest* a, const ArenaRequest* b) { return a->bytes > b->bytes; });
  std::vector<const ArenaRequest*> placed;  // by offset
  int64_t total = 0;
  for (ArenaRequest* r : by_size) {
    int64_t offset = 0;
    for (const ArenaRequest* p : placed) {
      const bool together = p->first <= r->last && r->first <= p->last;
      if (!together) continue;
      if (offset + r->bytes <= p->offset) break;
      offset = std::max(offset, p->offset + p->bytes);
      offset = (offset + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    }
    r->offset = offset;
    total = std::max(total, offset + r->bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), r,
                                   [](const ArenaRequest* a, const ArenaRequest* b) {
                                     return a->offset < b->offset;
                                   }),
                  r);
  }
  return total;
}

Arena::Arena(int64_t bytes) {
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* p = ::operator new(size, std::align_val_t(kArenaAlignment), std::nothrow);
  if (p == nullptr)
    Fail(ErrorCode::kUnsupported, "run: cannot get ", bytes, " bytes for activations");
  base_.reset(static_cast<unsigned char*>(p));
}

void Arena::Free::operator()(unsigned char* p) const {
  ::operator delete(p, std::align_val_t(kArenaAlignment));
}

}  // namespace octet
