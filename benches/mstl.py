"""Fit and forecast of MSTL (statsforecast) and of foresail on one series, in one run on one core.

Needs `pip install statsforecast` and a release build:

    cargo build --release
    taskset -c 0 python benches/mstl.py target/release/foresail

Prints the seconds of each, the shortest of several, and their ratio. Seconds are of the processor,
not of the clock on the wall, so that other work on the machine hardly moves them.
"""

import datetime
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from statsforecast.models import MSTL, AutoETS

POINTS, DAY, WEEK, HORIZON = 8_064, 288, 2_016, 12


def load():
    """A day's wave, quieter at the weekend, with noise."""
    i = np.arange(POINTS)
    wave = 1.5 + np.sin(2 * math.pi * i / DAY)
    noise = np.random.default_rng(1).normal(0, 0.3, POINTS)
    return np.where(i % WEEK < 5 * DAY, 5.0, 2.0) * wave + np.abs(noise)


def mstl_seconds(values, runs=3):
    def run():
        started = time.process_time()
        model = MSTL(season_length=[DAY, WEEK], trend_forecaster=AutoETS(model="ZZN"))
        model.forecast(values, h=HORIZON, level=[80, 98])
        return time.process_time() - started

    run()  # Compiles.
    return min(run() for _ in range(runs))


def foresail_seconds(binary, values, runs=3):
    """One more origin of a backtest: training of all members and of the ensemble, and a forecast."""
    start = datetime.datetime(2026, 1, 5, tzinfo=datetime.timezone.utc)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "load.csv")
        rows = (
            f"{(start + datetime.timedelta(minutes=5 * i)).isoformat()},{v}"
            for i, v in enumerate(values)
        )
        file.write_text("\n".join(["timestamp,value", *rows]) + "\n")
        command = [binary, "backtest", str(file), "--models", "foresail"]
        # Origins at the end of the series, so that a training sees nearly all of it.
        command += ["--step", "5m", "--horizon", str(HORIZON), "--from", "0.99"]

        def run(origins):
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run([*command, "--origins", str(origins)], check=True, capture_output=True)
            return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

        return min((run(23) - run(3)) / 20 for _ in range(runs))


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FORESAIL_BINARY")
    values = load()
    ours = foresail_seconds(sys.argv[1], values)
    theirs = mstl_seconds(values)
    print(f"MSTL of statsforecast: {theirs:.3f} s")
    print(f"foresail:              {ours:.3f} s")
    print(f"ratio:                 {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
