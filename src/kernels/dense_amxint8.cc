// octet_dense_u8s8_32x32_amxint8: implicit GEMM on tdpbusd. Layout kTilesK64.
//
// Tile registers: C00 C01 C10 C11 (16 rows x 16 channels of int32), A0 A1 (16 rows x 64 bytes of
// K), B0 B1 (64 of K x 16 channels). A step of 64 along K loads two A and two B tiles, 4 KiB, for
// four products of 16 cycles each. B is a column of a packed panel; C starts as the bias, its 16
// rows read from one line with stride 0.
//
// A tiles are loaded from A itself. Sixteen rows must lie lda apart: either sixteen of a run, or,
// where that takes fewer tiles, any sixteen pixels, those between runs included, whose sums are not
// stored. Past a piece's kc bytes weights of zero meet what lies there; a tile that would read past
// `end` is copied first.
#include <string.h>

#include "kernels/tile_epilogue_avx512vnni.h"

// clang 14 leaves out the second underscore.
#if !(defined(__AMX_INT8__) || defined(__AMXINT8__))
#error "this file needs -mamx-tile -mamx-int8"
#endif

namespace octet::kernels {
namespace {

constexpr int64_t kStep = 64;  // bytes of K
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kMaxTiles = 64;  // row tiles prepared at once
constexpr int64_t kFewSteps = 4;   // of K: below this, the epilogue of a block is longer than they

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// K of every row of A.
struct Steps {
  int64_t taps, steps_per_tap;
  const int64_t* tap_offset;
};

// The intrinsics take literals for tile registers. Register C: row tile C / 2, vector of channels
// C % 2.
template <int C, bool Signed>
OCTET_INLINE void Product() {
#define OCTET_PRODUCT(c, a, b)                           \
  if constexpr (C == c && Signed) _tile_dpbssd(c, a, b); \
  if constexpr (C == c && !Signed) _tile_dpbusd(c, a, b)
  OCTET_PRODUCT(0, 4, 6);
  OCTET_PRODUCT(1, 4, 7);
  OCTET_PRODUCT(2, 5, 6);
  OCTET_PRODUCT(3, 5, 7);
#undef OCTET_PRODUCT
}

// C's rows = the 16 channels of the bias, or 0.
template <int C>
OCTET_INLINE void Start(const int32_t* bias) {
#define OCTET_START(c)                        \
  if constexpr (C == c) {                     \
    if (bias != nullptr) {                    \
      _tile_loadd(c, bias + (c) % 2 * 16, 0); \
    } else {                                  \
      _tile_zero(c);                          \
    }                                         \
  }
  OCTET_START(0)
  OCTET_START(1)
  OCTET_START(2)
  OCTET_START(3)
#undef OCTET_START
}

// sums (rows, NT * 16 channels) = C.
template <int C, int NT>
OCTET_INLINE void StoreSums(int32_t* sums) {
  if constexpr (C == 0) _tile_stored(0, sums, NT * 64);
  if constexpr (C == 1) _tile_stored(1, sums + 16, NT * 64);
  if constexpr (C == 2) _tile_stored(2, sums + kRows * NT * 16, NT * 64);
  if constexpr (C == 3) _tile_stored(3, sums + kRows * NT * 16 + 16, NT * 64);
}

// Blocks of MT row tiles by NT vectors of channels, one after another. Tiles are multiplied by a
// unit of their own, 16 cycles a product, and what must not happen is that it waits:
// - a tile store stops everything behind it until its sums are there, so the tiles of the next
//   block's first step are loaded before;
// - the sums of a block have their epilogue during the next block, a piece after every step, and
//   what is left in between the tile stores.
template <int MT, int NT, Store S, bool Signed>
class Blocks {
 public:
  Blocks(const DenseArgs& d, const Steps& steps)
      : d_(d), steps_(steps), buffers_(steps.taps * steps.steps_per_tap < kFewSteps ? 2 : 1) {
    const int64_t places = steps.taps * steps.steps_per_tap + buffers_ - 1;
    pieces_ = static_cast<int>((Before::kPieces + places - 1) / places);
  }

  // All channels [begin, end) of MT row tiles, then of the next MT: A stays in L1 while the weights
  // stream by from L2.
  void Run(const RowTile* tiles, int64_t count, int64_t begin, int64_t end) {
    if (count < MT || begin == end) return;
    // Compilers do not know that a tile load reads memory: copied rows must be there.
    __asm__ volatile("" ::: "memory");
    end_ = end;
    const RowTile* const last = tiles + (count / MT - 1) * MT;
    Block block = At(tiles, begin);
    LoadFirst(block);
    StartAll(block.bias);
    while (true) {
      const bool columns_left = block.c + NT * 16 < end;
      const bool any_left = columns_left || block.tiles != last;
      Block next = block;
      if (columns_left) {
        next = At(block.tiles, block.c + NT * 16);
      } else if (any_left) {
        next = At(block.tiles + MT, begin);
      }
      One(block, next);
      if (!any_left) break;
      block = next;
    }
    Of(done_).Do(Before::kPieces);
  }

 private:
  using Before = Epilogue<MT, NT, S>;
  struct Block {
    const RowTile* tiles = nullptr;
    int64_t c = 0;
    const int8_t* w = nullptr;
    int64_t w_step = 0;  // bytes from one step's tiles to the next's
    const int32_t* bias = nullptr;
  };

  [[nodiscard]] Block At(const RowTile* tiles, int64_t c) const {
    const int64_t panel = c - (c - d_.n_begin) % 64;
    const int64_t width = d_.n_end - panel < 64 ? d_.n_end - panel : 64;
    const int8_t* w = static_cast<const int8_t*>(d_.weight) +
                      panel * steps_.taps * steps_.steps_per_tap * kStep +
                      (c - panel) / 16 * kTileBytes;
    return {tiles, c, w, (width + 15) / 16 * kTileBytes,
            d_.epilogue.bias == nullptr ? nullptr : d_.epilogue.bias + c};
  }
  [[nodiscard]] Before Of(const Block& done) const {
    return Before(d_, done.tiles, sums_[last_], done.c, end_ - done.c);
  }

  [[gnu::always_inline]] void LoadFirst(const Block& block) const {
    const int64_t tap = steps_.tap_offset[0];
    _tile_stream_loadd(6, block.w, 64);
    _tile_loadd(4, block.tiles[0].a + tap, block.tiles[0].lda);
    if (NT > 1) _tile_stream_loadd(7, block.w + kTileBytes, 64);
    if (MT > 1) _tile_loadd(5, block.tiles[MT - 1].a + tap, block.tiles[MT - 1].lda);
  }
  [[gnu::always_inline]] void StartAll(const int32_t* bias) const {
    Start<0>(bias);
    if (NT > 1) Start<1>(bias);
    if (MT > 1) Start<2>(bias);
    if (MT > 1 && NT > 1) Start<3>(bias);
  }

  // Loads and products of a step, each product as soon as what it needs is loaded.
  [[gnu::always_inline]] void Step(const uint8_t* a0, int64_t lda0, const uint8_t* a1, int64_t lda1,
                                   const int8_t* w) const {
    _tile_stream_loadd(6, w, 64);
    _tile_loadd(4, a0, lda0);
    Product<0, Signed>();
    if (NT > 1) {
      _tile_stream_loadd(7, w + kTileBytes, 64);
      Product<1, Signed>();
    }
    if (MT > 1) {
      _tile_loadd(5, a1, lda1);
      Product<2, Signed>();
      if (NT > 1) Product<3, Signed>();
    }
  }

  // The sums of `block`, whose first tiles are loaded, into a buffer; first tiles and sums of
  // `next`.
  void One(const Block& block, const Block& next) {
    Before before = Of(done_);
    Product<0, Signed>();
    if (NT > 1) Product<1, Signed>();
    if (MT > 1) Product<2, Signed>();
    if (MT > 1 && NT > 1) Product<3, Signed>();
    before.Do(pieces_);
    const RowTile &tile0 = block.tiles[0], &tile1 = block.tiles[MT - 1];
    const int8_t* w = block.w + block.w_step;
    for (int64_t t = 0, s = 1; t < steps_.taps; ++t, s = 0) {
      const uint8_t* a0 = tile0.a + steps_.tap_offset[t] + s * kStep;
      const uint8_t* a1 = tile1.a + steps_.tap_offset[t] + s * kStep;
      for (; s < steps_.steps_per_tap; ++s) {
        Step(a0, tile0.lda, a1, tile1.lda, w);
        a0 += kStep;
        a1 += kStep;
        w += block.w_step;
        before.Do(pieces_);
      }
    }
    LoadFirst(next);
    last_ = buffers_ - 1 - last_;
    int32_t* sums = sums_[last_];
    Change<0>(sums, next.bias, &before);
    if (NT > 1) Change<1>(sums, next.bias, &before);
    if (MT > 1) Change<2>(sums, next.bias, &before);
    if (MT > 1 && NT > 1) Change<3>(sums, next.bias, &before);
    before.Do(Before::kPieces);
    done_ = block;
  }

  template <int C>
  [[gnu::always_inline]] void Change(int32_t* sums, const int32_t* next_bias,
                                     Before* before) const {
    StoreSums<C, NT>(sums);
    Start<C>(next_bias);
    before->Do(Before::kPieces / (MT * NT));
  }

  const DenseArgs& d_;
  const Steps& steps_;
  int64_t end_ = 0;
  // One buffer where the epilogue ends before the next tile store: what it reads stays in L1.
  const int buffers_;
  int pieces_ = 0;
  int last_ = 0;  // the buffer that holds the sums of done_, the block before
  Block done_;
  alignas(64) int32_t sums_[2][MT * kRows * NT * 16];
};

template <int MT, int NT, Store S>
void RunBlocks(const DenseArgs& d, const RowTile* tiles, int64_t count, const Steps& steps,
               int64_t begin, int64_t end) {
  if (d.a_signed) {
    Blocks<MT, NT, S, true>(d, steps).Run(tiles, count, begin, end);
  } else {
    Blocks<MT, NT, S, false>(d, steps).Run(tiles, count, begin, end);
  }
}

template <Store S>
void AllColumns(const DenseArgs& d, const RowTile* tiles, int64_t count, const Steps& steps) {
  const int64_t over = (d.n_end - d.n_begin) % 32;
  const int64_t narrow = over > 0 && over <= 16 ? d.n_end - over : d.n_end;
  const int64_t pairs = count / 2 * 2;
  RunBlocks<2, 2, S>(d, tiles, pairs, steps, d.n_begin, narrow);
  RunBlocks<1, 2, S>(d, tiles + pairs, count - pairs, steps, d.n_begin, narrow);
  RunBlocks<2, 1, S>(d, tiles, pairs, steps, narrow, d.n_end);
  RunBlocks<1, 1, S>(d, tiles + pairs, count - pairs, steps, narrow, d.n_end);
}

// Pixel p, counting those between runs.
OCTET_INLINE const uint8_t* Pixel(const DenseArgs& d, int64_t p) { return d.a + p * d.lda; }

// Row tiles are made and used in batches.
class Walk {
 public:
  explicit Walk(const DenseArgs& d)
      : d_(d),
        pixels_((d.m / d.run - 1) * d.pitch + d.run),
        piece_((d.kc + kStep - 1) / kStep * kStep) {
    int64_t furthest = 0;
    for (int64_t t = 0; t < d.taps; ++t)
      furthest = d.tap_offset[t] > furthest ? d.tap_offset[t] : furthest;
    reach_ = furthest + piece_;
  }

  void Run() {
    const int64_t runs = d_.m / d_.run;
    if (d_.run >= kRows && runs * TilesOf(d_.run) <= TilesOf(pixels_)) {
      AlongRuns(runs);
    } else {
      AcrossRuns();
    }
    Flush();
  }

 private:
  static int64_t TilesOf(int64_t pixels) { return (pixels + kRows - 1) / kRows; }
  [[nodiscard]] bool Readable(int64_t pixel) const {
    return d_.end - Pixel(d_, pixel + kRows - 1) >= reach_;
  }

  // Sixteen rows of a run at a time; the last tile of a run starts early enough to be whole.
  void AlongRuns(int64_t runs) {
    for (int64_t r = 0; r < runs; ++r) {
      for (int64_t i = 0; i < d_.run; i += kRows)
        Place(r * d_.pitch + (i + kRows <= d_.run ? i : d_.run - kRows), kRows);
    }
  }

  // Sixteen pixels at a time, whatever row of the image they are in; the last tile starts early.
  void AcrossRuns() {
    if (pixels_ < kRows) {
      Place(0, static_cast<int>(pixels_));
      return;
    }
    for (int64_t p = 0; p < pixels_; p += kRows)
      Place(p + kRows <= pixels_ ? p : pixels_ - kRows, kRows);
  }

  void Place(int64_t pixel, int rows) {
    if (!Readable(pixel) && copied_ == 2) Flush();
    RowTile& tile = tiles_[count_++];
    tile.a = Pixel(d_, pixel);
    tile.lda = d_.lda;
    tile.rows = rows;
    const int64_t run = d_.run == d_.m ? 0 : pixel / d_.pitch, in_run = pixel - run * d_.pitch;
    int64_t y = run * d_.run + (in_run < d_.run ? in_run : d_.run), left = d_.run - in_run;
    if (left >= kRows) {
      for (int i = 0; i < kRows; ++i) tile.y[i] = static_cast<int32_t>(y + i);
    } else {
      for (int i = 0; i < rows; ++i) {
        tile.y[i] = static_cast<int32_t>(y);
        y += left > 0 ? 1 : 0;
        if (--left == d_.run - d_.pitch) left = d_.run;
      }
    }
    if (!Readable(pixel)) Copy(pixel, &tile);
    if (count_ == kMaxTiles) Flush();
  }

  // Of one piece per row: dispatch sees to it that others are readable. Rows a multiple of 1 KiB
  // apart would share few sets of L1: 64 bytes more.
  void Copy(int64_t pixel, RowTile* tile) {
    const int64_t lda = piece_ + kStep;
    uint8_t* to = d_.scratch + copied_ * kRows * lda;
    ++copied_;
    for (int i = 0; i < tile->rows; ++i) {
      memcpy(to + i * lda, Pixel(d_, pixel + i) + d_.tap_offset[0], static_cast<size_t>(d_.kc));
    }
    tile->a = to - d_.tap_offset[0];
    tile->lda = lda;
  }

  void Flush() {
    if (count_ != 0) {
      const Steps steps{d_.taps, piece_ / kStep, d_.tap_offset};
      const EpilogueArgs& e = d_.epilogue;
      if (e.output == kStoreInt32) {
        AllColumns<kInts>(d_, tiles_, count_, steps);
      } else if (e.output == kStoreFloat) {
        AllColumns<kFloats>(d_, tiles_, count_, steps);
      } else if (e.residual == kResidualOnMidCodes && e.small) {
        AllColumns<kCodesOnMid>(d_, tiles_, count_, steps);
      } else if (e.residual != kNoResidual) {
        AllColumns<kCodesWithResidual>(d_, tiles_, count_, steps);
      } else if (e.plain) {
        AllColumns<kCodesPlain>(d_, tiles_, count_, steps);
      } else if (e.small) {
        AllColumns<kCodes>(d_, tiles_, count_, steps);
      } else {
        AllColumns<kCodesClamped>(d_, tiles_, count_, steps);
      }
    }
    count_ = copied_ = 0;
  }

  const DenseArgs& d_;
  int64_t pixels_, piece_, reach_;
  int64_t count_ = 0, copied_ = 0;
  RowTile tiles_[kMaxTiles];
};

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_32x32_amxint8(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  const TileConfig config;
  _tile_loadconfig(&config);
  Walk(*args).Run();
  _tile_release();
}
