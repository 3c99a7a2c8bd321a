#!/usr/bin/env bash
# Fails, naming the files, where a source is not as clang-format 14 would write it.
# --fix (make format) rewrites them.
set -euo pipefail
cd "$(dirname "$0")/.."

formatter=${CLANG_FORMAT:-clang-format-14}
if ! command -v "$formatter" >/dev/null; then
  echo "check_format: $formatter is not there (tools/setup test installs it)" >&2
  exit 1
fi
mapfile -t sources < <(find src include cli bench fuzz tests examples python tools \
  \( -name '*.cc' -o -name '*.h' \) -type f 2>/dev/null | sort)
if [[ ${#sources[@]} -eq 0 ]]; then
  echo "check_format: no sources found" >&2
  exit 1
fi
if [[ "${1:-}" == --fix ]]; then
  "$formatter" -i "${sources[@]}"
elif ! "$formatter" --dry-run --Werror "${sources[@]}" 2>/dev/null; then
  for source in "${sources[@]}"; do
    "$formatter" --dry-run --Werror "$source" 2>/dev/null ||
      echo "check_format: $source is not formatted"
  done
  exit 1
fi
echo "check_format: ${#sources[@]} files"
