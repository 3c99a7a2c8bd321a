// Per-channel factors that move difficulty between the two sides of a channel: activation smoothing
// (spec/smoothquant.md 2.3, 5.0) and cross-layer equalization (Nagel et al. 2019). Pure arithmetic;
// which operators share a channel, and folding the factors, is the passes' business.
//
// One convention for both: what produces channel j is divided by s[j], what consumes it multiplied.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octet {

// into[c] = max(into[c], other[c]): several consumers of one channel. Throws kInvalidArgument on
// lengths.
void MaxInto(std::span<float> into, std::span<const float> other);

inline constexpr float kSmoothingFloor = 1e-5F;

struct SmoothingOptions {
  float alpha = 0.5F;  // 0: all difficulty stays in the activations; 1: all goes to the weights
  // As SmoothQuant itself does: activations not clamped and dead channels not spared (a channel
  // that is always 0 gets 1e-5, and its producer grows by 1e5). For comparison only.
  bool compat_smoothquant = false;
};

// s[j] = max(max(a[j], f)^alpha / max(w[j], f)^(1 - alpha), f), f = kSmoothingFloor; computed in
// double, rounded to float32 once. A channel whose a or w is below 1e-5 of the largest is dead: its
// factor is 1, or the nearest factor of a live channel where 1 lies outside of theirs (a dead
// channel left at 1 among live ones at 0.01 would set the weight scale for all). Throws kBadData on
// NaN, infinity or negative maxima, kInvalidArgument on alpha outside [0, 1] or lengths that
// differ.
[[nodiscard]] std::vector<float> SmoothingFactors(std::span<const float> activation_max,
                                                  std::span<const float> weight_max,
                                                  const SmoothingOptions& options);

// s[i] = sqrt(r1[i] r2[i]) / r2[i], r1 the producer's output channel maxima, r2 the consumers'
// input channel maxima: both become sqrt(r1 r2). Dead channels as above.
[[nodiscard]] std::vector<float> EqualizationFactors(std::span<const float> producer_max,
                                                     std::span<const float> consumer_max);

}  // namespace octet
