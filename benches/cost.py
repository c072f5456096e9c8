#!/usr/bin/env python3
"""Cost of `predictive` beside target tracking whose target was tuned in hindsight, at equal overload.

benches/cost.py FOLDER [--delay 5m] [--budgets 0.002,0.005,0.01,0.02] [--foresail PATH]

Replays every CSV file of FOLDER by `foresail compare`, with 16 targets from 0.05 to 0.95 on unclipped demand, and prints
for each budget and load, the costliest first: overload share in per cent; cost and scaling events ÷ those of target
tracking, read off between its two targets on either side of the same overload; cost of a clairvoyant with the same
budget ÷ predictive's; and the worst day's overload share ÷ the budget. Loads that no target carries so well have no ratio.
Standard library only.
"""
import argparse
import json
import math
import pathlib
import subprocess

TARGETS = "0.05..0.95/16"


def replay(foresail, file, budgets, delay, more):
    policies = [f"target_tracking:signal=demand,target={TARGETS}"]
    for budget in budgets:
        policies += [f"predictive:budget={budget}", f"oracle:budget={budget}"]
    command = [foresail, "compare", str(file), "--format", "json", "--startup-delay", delay, *more]
    for policy in policies:
        command += ["--policy", policy]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{file}: {done.stderr.strip()}")
    return json.loads(done.stdout)["traces"][0]


def at_overload(tracked, overload, field):
    """`field` between the two targets whose overload shares lie around `overload`."""
    tracked = sorted(tracked, key=lambda policy: policy["overload_share"])
    for low, high in zip(tracked, tracked[1:]):
        below, above = low["overload_share"], high["overload_share"]
        if below <= overload <= above and below < above:
            share = (overload - below) / (above - below)
            return low[field] + share * (high[field] - low[field])
    return None


def row(trace, budget):
    def of(name):
        return [policy for policy in trace["policies"] if policy["policy"] == name]

    def with_budget(name):
        return next(p for p in of(name) if math.isclose(p["parameters"]["budget"], budget))

    predictive, oracle = with_budget("predictive"), with_budget("oracle")
    overload = predictive["overload_share"]

    def ratio(field):
        tracked = at_overload(of("target_tracking"), overload, field)
        return predictive[field] / tracked if tracked else None

    worst_day = max((day["overload_share"] for day in predictive["days"]), default=0.0)
    return {
        "name": trace["name"],
        "overload": overload,
        "cost": ratio("replica_hours"),
        "changes": ratio("scaling_events"),
        "bound": oracle["replica_hours"] / predictive["replica_hours"],
        "worst_day": worst_day / budget,
    }


def geometric(values):
    values = [value for value in values if value]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def mean(values):
    return sum(values) / len(values) if values else math.nan


def show(budget, rows):
    def cell(value):
        return f"{value:8.3f}" if value is not None else "       -"

    print(f"\nbudget {100 * budget:g} %")
    print(f"{'load':34}{'overload':>9}{'cost':>8}{'changes':>8}{'bound':>8}{'worst day':>10}")
    for it in sorted(rows, key=lambda it: -(it["cost"] or 0)):
        numbers = cell(it["cost"]) + cell(it["changes"]) + cell(it["bound"])
        print(f"{it['name'][:33]:34}{100 * it['overload']:9.3f}{numbers}{it['worst_day']:10.1f}")
    excess = [max(0.0, 100 * (it["overload"] - budget)) for it in rows]
    gaps = [abs(100 * (it["overload"] - budget)) for it in rows]
    compared = [it for it in rows if it["cost"]]
    print(
        f"cost {geometric([it['cost'] for it in compared]):.3f}, changes"
        f" {geometric([it['changes'] for it in compared]):.3f} (geometric means of {len(compared)}), bound"
        f" {geometric([it['bound'] for it in rows]):.3f}; excess {mean(excess):.3f} (worst {max(excess):.2f})"
        f" points, distance {mean(gaps):.3f}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--delay", default="5m")
    parser.add_argument("--budgets", default="0.002,0.005,0.01,0.02")
    parser.add_argument("--foresail", default="target/release/foresail")
    parser.add_argument("more", nargs="*", help="after --: further options of `foresail compare`")
    options = parser.parse_args()
    budgets = [float(budget) for budget in options.budgets.split(",")]
    rows = {budget: [] for budget in budgets}
    for file in sorted(options.folder.glob("*.csv")):
        trace = replay(options.foresail, file, budgets, options.delay, options.more)
        for budget in budgets:
            rows[budget].append(row(trace, budget))
    for budget in budgets:
        show(budget, rows[budget])


if __name__ == "__main__":
    main()
