"""Is a network, or any step of it, slower on two threads than on one?

Runs `octet bench MODEL --steps` on both, in turns, takes each step's best median over the rounds,
and names the steps that lose by more than a tenth and a microsecond: their loops may be cut too fine
(kGrain... in src/kernels, kElementGrain in src/runtime), or their input lies in the other core's
cache. Exit code 1 where a whole network loses.

    python bench/threads.py int8.onnx --octet build/release/octet --rounds 5

Best of rounds, because a core that another process takes for a moment slows two threads, not one.
"""

import argparse
import json
import pathlib
import subprocess
import sys


def steps_of(program, model, threads, seconds):
    command = [program, "bench", model, "--steps", "--threads", threads, "--seconds", seconds, "--json"]
    out = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout
    row = json.loads(out)["rows"][-1]
    return row["median_s"], row["steps"]


def compare(program, model, threads, rounds, seconds):
    """(best seconds of a run on 1 and on `threads`, steps with both best times)"""
    whole = {1: [], threads: []}
    best = {1: None, threads: None}
    for _ in range(rounds):
        for count in (1, threads):
            median, steps = steps_of(program, model, count, seconds)
            whole[count].append(median)
            times = [step["seconds"] for step in steps]
            best[count] = times if best[count] is None else list(map(min, best[count], times))
    return whole, [
        (step, one, many) for step, one, many in zip(steps, best[1], best[threads], strict=True)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--octet", default="build/release/octet", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2)
    arguments = parser.parse_args()
    lost = 0
    for model in arguments.models:
        whole, steps = compare(arguments.octet, model, arguments.threads, arguments.rounds,
                               arguments.seconds)
        one, many = min(whole[1]), min(whole[arguments.threads])
        lost += many > one
        print(f"{model.name}: {one * 1e3:.3f} ms on 1 thread, {many * 1e3:.3f} ms on "
              f"{arguments.threads} ({one / many:.2f}x as fast)")
        for step, alone, together in steps:
            if together > 1.1 * alone and together > alone + 1e-6:
                print(f"  slower: {step['node']} ({step['op']}, {step['kernel']}, {step['shape']}): "
                      f"{alone * 1e6:.1f} us on 1, {together * 1e6:.1f} us on {arguments.threads}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
