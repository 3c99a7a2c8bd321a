// The rows of A, found one after another without dividing (internal linkage: kernel files of every
// instruction set include it).
#pragma once

#include "kernels/abi.h"

namespace octet::kernels {
namespace {

struct RowCursor {
  const uint8_t* next;
  int64_t left;  // rows of this run still to come, next's included
  int64_t lda, run, gap;

  explicit RowCursor(const DenseArgs& d)
      : next(d.a), left(d.run), lda(d.lda), run(d.run), gap((d.pitch - d.run) * d.lda) {}
  const uint8_t* Take() {
    const uint8_t* row = next;
    next += lda;
    if (--left == 0) {
      left = run;
      next += gap;
    }
    return row;
  }
};

}  // namespace
}  // namespace octet::kernels
