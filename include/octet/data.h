// Data to calibrate and judge on, as the command line and sweeps name them.
#pragma once

#include <cstdint>
#include <string>

namespace octet {

// Where samples come from and how they become inputs (docs/data.md). Empty strings: as the preset
// has it.
struct DataOptions {
  std::string path;
  std::string preset;  // none | unit | imagenet-torch | imagenet-tf
  std::string resize, crop, mean, std, scale, order, layout;
  std::string labels;        // integer .npy of one label per sample
  int64_t skip = 0;          // samples left out at the beginning
  int64_t samples = -1;      // how many are taken; -1: all
  bool allow_noise = false;  // calibrate on images of noise, which is refused otherwise
};

}  // namespace octet
