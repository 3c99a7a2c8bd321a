// Activations as a report draws them.
#pragma once

#include <string>
#include <vector>

namespace octet {

// Per-channel extrema and a histogram of an activation over the calibration samples.
struct ActivationView {
  std::string value;
  std::vector<float> channel_min, channel_max;
  float lo = 0, hi = 0;        // of the whole value; the histogram's ends
  std::vector<double> counts;  // of equally wide bins
};

// Of a model that is quantized; `after` is empty where smoothing changed nothing.
struct QuantizeViews {
  std::vector<ActivationView> before, after;
};

}  // namespace octet
