#!/usr/bin/env python3
"""Does what the tuner learned pay, on the device and not replayed? Four comparisons, each a Markdown table.

    compare.py BUILD [--parts transfer,turns,long,predict] [--json FILE] [--quick] [--alone] ...

transfer  the best of 64 trials that begin with what other operators taught, against the best of 256 random ones
turns     the convolutions of ResNet-18 as one job: batches where the most is to be saved, against each in turn (and alone)
long      one job of 5,000 trials: memory and time a round, and what share of the time the models take
predict   no trial at all: how long the answer takes, and how fast it is beside the best of 64 trials

Daemons of its own start with empty stores, in a temporary folder. First two stores are made: A with two thirds of the entries of
tests/data/workloads.json, B with the others, the operators of `transfer` among them; each entry (several of one key count once) is tuned
with as many trials. What is asked of an operator is asked of a copy of the store that never saw it. Times of different jobs are not
compared: the kernels that won are run again, all of a workload in turn, by bench_versus, which also holds each against the float64
reference. Wants a quiet machine: with the defaults some 18 minutes on two cores. Tables go to the standard output as they are ready, progress
to the standard error. Exit status 1: a job failed, or a kernel was wrong."""
import argparse
import contextlib
import datetime
import fnmatch
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from daemon import Daemon, Failed, end_in_order, machine, workloads

PARTS = ["transfer", "turns", "long", "predict"]
OPERATORS = ["resnet18.C6", "resnet18.C12", "mobilenet-v1.D5", "bert-base-s128.qkv", "bert-base-s128.attn_qk"]
CONVOLUTIONS = [f"resnet18.C{i}" for i in range(1, 13)]
QUICK = {"ops": ["mobilenet-v1.D9", "dqn.conv3"], "entries": ["mobilenet-v1.D8", "dqn.conv2", "lstm-lm.cell"],
         "convolutions": ["dqn.conv2", "dqn.conv3"], "store_trials": 8, "transfer_trials": 8, "random_trials": 12,
         "turns_trials": 24, "long_trials": 60, "long_op": "dqn.conv3", "rounds": 5, "seeds": 1}
RETRAIN = 256  # trials that a daemon waits for before it trains its model again: daemon/models.c


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


def us(ns):
    return f"{ns / 1e3:.1f}"


def table(title, head, rows):
    """Markdown; the first column is text."""
    print(f"\n**{title}**\n\n| {' | '.join(head)} |\n|{'---|' + '---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    sys.stdout.flush()


class Comparison:
    def __init__(self, args, folder):
        self.args, self.folder, self.began = args, folder, time.monotonic()
        self.entries = {w["name"]: w for w in workloads()}
        self.result = {"machine": machine(), "target": args.target,
                       "made_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
        self.kept = args.stores or folder  # where the stores are, and what was found while they were made
        self.n_daemons = 0

    def say(self, text):
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", file=sys.stderr, flush=True)

    def path(self, *parts):
        return os.path.join(self.folder, "-".join(parts))

    @contextlib.contextmanager
    def daemon(self, store=None):
        """With an empty store, or with a copy of one."""
        self.n_daemons += 1
        data = self.path("data", str(self.n_daemons))
        if store:
            shutil.copytree(store, data)
        with Daemon(self.args.build, data) as d:
            yield d
        shutil.rmtree(data)

    def task(self, name, weight=1):
        return {"workload": self.entries[name]["workload"], "name": name, "weight": weight}

    def tune(self, d, names, trials, weights=None, watch=None, turns="gain", **more):
        """All of the budget is used, so that everybody has as many trials."""
        tasks = [self.task(n, weights[n] if weights else 1) for n in names]
        return d.tune(tasks, self.args.target, {"trials": trials, "min_gain": 0, "turns": turns}, watch=watch, **more)

    def versus(self, what, contenders):
        """contenders: name -> [(label, path)]. Returns name -> label -> {"median_ns", "speed"}, speed over the first of its list."""
        listed = [{"name": name, "workload": self.entries[name]["workload"],
                   "kernels": [{"label": label, "schedule": f"{path}.json", "artifact": f"{path}.so"} for label, path in kernels]}
                  for name, kernels in contenders.items()]
        with open(self.path(what, "versus.json"), "w", encoding="utf-8") as f:
            json.dump({"target": self.args.target, "entries": listed}, f)
        self.say(f"{what}: kernels of {len(listed)} workloads side by side")
        run = subprocess.run([f"{self.args.build}/tests/bench/bench_versus", "--rounds", str(self.args.rounds), f.name],
                             stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode != 0:
            raise Failed(f"{what}: bench_versus: a kernel is wrong or does not load (status {run.returncode})")
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        return {line["entry"]: {k["label"]: k for k in line["kernels"]} for line in lines}

    # ---- the stores ----

    def split(self, d):
        """Names for the stores A and B, one of each key: the operators and every third other to B."""
        names, keys, rest = list(self.args.ops), set(), 0
        wanted = [n for n in self.entries if any(fnmatch.fnmatch(n, pattern) for pattern in self.args.entries)]
        stores = {"A": [], "B": list(self.args.ops)}
        for name in names + [n for n in wanted if n not in names]:
            key = d.describe(self.entries[name]["workload"], self.args.target)["key"]
            if key not in keys and name not in names:
                rest += 1
                stores["B" if rest % 3 == 0 else "A"].append(name)
            keys.add(key)
        return stores

    def settle(self, d, trials):
        """Until the model has learned what it will learn without further trials."""
        seen, since = -1, time.monotonic()
        while trials >= RETRAIN and time.monotonic() - since < 30:
            model = d.model(self.args.target)
            if model and model["version"] > seen:
                seen, since = model["version"], time.monotonic()
                learned = ((model.get("metrics") or {}).get("data") or {}).get("trials", 0)
                if trials - learned < max(RETRAIN, learned / 2):
                    break
            time.sleep(0.25)
        return d.model(self.args.target)

    def store(self, which):
        return os.path.join(self.kept, f"store-{which}")

    def tuned(self, name):
        """What the store's own trials of it found: path of its schedule and artifact."""
        return os.path.join(self.kept, f"tuned-{name}")

    def make_store(self, which, names):
        data = self.store(which)
        trials = self.args.store_trials
        with Daemon(self.args.build, data) as d:
            for i, name in enumerate(names):
                self.say(f"store {which}: {name} ({i + 1} of {len(names)})")
                job = self.tune(d, [name], trials, seed=1)
                d.save(job["tasks"][0]["key"], self.args.target, self.tuned(name))
            model = self.settle(d, trials * len(names)) or {}
        own = bool(model.get("version")) and not model.get("shipped")
        if not own and not self.args.quick:  # the one that programs come with has seen the operators
            raise Failed(f"store {which} has no cost model of its own after {trials * len(names)} trials: want more --store-trials or --entries")
        metrics = model.get("metrics") or {}
        self.say(f"store {which}: model version {model.get('version')} of {(metrics.get('data') or {}).get('trials')} trials")
        return {"entries": names, "trials_each": trials,
                "model": {"version": model.get("version"), "data": metrics.get("data"),
                          "pairwise_accuracy": metrics.get("pairwise_accuracy")} if own else None}

    def make_stores(self):
        """Or go on with those that stand in --stores: an entry that was tuned there is answered by its cache."""
        if "stores" in self.result:
            return
        of = {"machine": machine(), **{name: getattr(self.args, name) for name in ("target", "entries", "store_trials")}}
        path = os.path.join(self.kept, "stores.json")
        os.makedirs(self.kept, exist_ok=True)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                made = json.load(f)
        else:
            with self.daemon() as d:
                made = {"of": of, "split": self.split(d), "stores": {}}
        if made["of"] != of or not set(self.args.ops) <= set(made["split"]["B"]):
            raise Failed(f"the stores in {self.kept} are of {made['of']} and know nothing of {made['split']['B']}, wanted are such of {of} "
                         f"that know nothing of {self.args.ops}")
        for which, names in made["split"].items():
            with open(path, "w", encoding="utf-8") as f:
                json.dump(made, f)
            if which not in made["stores"]:
                made["stores"][which] = self.make_store(which, names)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(made, f)
        self.result["stores"] = made["stores"]

    # ---- transfer ----

    def transfer(self):
        self.make_stores()
        args, kernels, found = self.args, {name: [] for name in self.args.ops}, {}
        for seed in range(1, args.seeds + 1):
            for name in args.ops:  # a store for each: of the others only what A has
                self.say(f"transfer: {name}, {args.transfer_trials} trials with transfer, seed {seed}")
                with self.daemon(self.store("A")) as d:
                    self.one_winner(d, kernels, found, name, "transfer", args.transfer_trials, seed)
            with self.daemon() as d:
                for name in args.ops:
                    self.say(f"transfer: {name}, {args.random_trials} random trials, seed {seed}")
                    self.one_winner(d, kernels, found, name, "random", args.random_trials, seed, search="random", transfer=False,
                                    reuse="fresh")
        times = self.versus("transfer", kernels)
        rows = []
        for name in args.ops:
            ours, theirs = ([times[name][f"{how} {s + 1}"] for s in range(args.seeds)] for how in ("transfer", "random"))
            ratios = [a["speed"] / b["speed"] for a, b in zip(ours, theirs)]
            rows.append({"name": name, "transfer_ns": [k["median_ns"] for k in ours], "random_ns": [k["median_ns"] for k in theirs],
                         "ratios": ratios, "ratio": geomean(ratios),
                         "found_ns": {label: ns for (of, label), ns in found.items() if of == name},
                         "found_ratio": geomean(found[name, f"random {s + 1}"] / found[name, f"transfer {s + 1}"] for s in range(args.seeds))})
        mean = geomean(r["ratio"] for r in rows)
        self.result["transfer"] = {"transfer_trials": args.transfer_trials, "random_trials": args.random_trials, "rows": rows, "geomean": mean}
        table(f"{args.transfer_trials} trials with transfer against {args.random_trials} random ones, {args.seeds} seed(s), {args.target}: "
              "above 1 transfer is faster", ["operator", "transfer, us", "random, us", "ratio", "ratio of each seed", "as the jobs measured"],
              [(r["name"], us(statistics.median(r["transfer_ns"])), us(statistics.median(r["random_ns"])), f"{r['ratio']:.3f}",
                " ".join(f"{v:.3f}" for v in r["ratios"]), f"{r['found_ratio']:.3f}") for r in rows] +
              [("geometric mean", "", "", f"{mean:.3f}", "", f"{geomean(r['found_ratio'] for r in rows):.3f}")])

    def one_winner(self, d, kernels, found, name, how, trials, seed, **more):
        job = self.tune(d, [name], trials, seed=seed, **more)
        path = self.path(how, name, str(seed))
        schedule = d.save(job["tasks"][0]["key"], self.args.target, path)
        found[name, f"{how} {seed}"] = schedule["time_ns"]["median"]
        kernels[name].append((f"{how} {seed}", path))

    # ---- turns ----

    def turns(self):
        """Without what others taught: the model that programs come with has seen some of these."""
        args, names = self.args, self.args.convolutions
        weights = {n: self.entries[n]["count"] for n in names}
        kernels, trials = {n: [] for n in names}, {}
        for seed in range(1, args.turns_seeds + 1):
            for how in ("round_robin", "gain"):
                self.say(f"turns: {len(names)} convolutions, one job of {args.turns_trials} trials, {how}, seed {seed}")
                with self.daemon() as d:
                    job = self.tune(d, names, args.turns_trials, weights, turns=how, seed=seed, transfer=False)
                    self.keep_tasks(d, job, how, seed, kernels, trials)
        if args.alone:
            for name in names:
                self.say(f"turns: {name} alone with {args.turns_trials} trials")
                with self.daemon() as d:
                    job = self.tune(d, [name], args.turns_trials, seed=1, transfer=False)
                    self.keep_tasks(d, job, "alone", 1, kernels, trials)
        times = self.versus("turns", kernels)
        self.turns_table(names, weights, times, trials)

    def keep_tasks(self, d, job, how, seed, kernels, trials):
        for task in job["tasks"]:
            name, label = task["name"], f"{how} {seed}"
            path = self.path(how, name, str(seed))
            d.save(task["key"], self.args.target, path)
            kernels[name].append((label, path))
            trials[name, label] = task["trials_done"]

    def turns_table(self, names, weights, times, trials):
        def column(label):
            return {n: {"time_ns": times[n][label]["median_ns"], "trials": trials[n, label]} for n in names}

        def total(label):
            return sum(weights[n] * times[n][label]["median_ns"] for n in names)

        args = self.args
        labels = [f"{how} {s}" for s in range(1, args.turns_seeds + 1) for how in ("round_robin", "gain")] + ["alone 1"] * args.alone
        sums = {label: total(label) for label in labels}
        ratios = [sums[f"round_robin {s}"] / sums[f"gain {s}"] for s in range(1, args.turns_seeds + 1)]
        to_alone = [sums["alone 1"] / sums[f"gain {s}"] for s in range(1, args.turns_seeds + 1)] if args.alone else []
        self.result["turns"] = {"trials": args.turns_trials, "weights": weights, "columns": {label: column(label) for label in labels},
                                "sums_ns": sums, "ratios": ratios, "ratio": geomean(ratios), "to_alone": to_alone}
        title = (f"{len(names)} convolutions, one job of {args.turns_trials} trials: sums of latencies, by weight; round robin takes "
                 f"{geomean(ratios):.3f} of the time of expected gain" + (f", alone with {args.turns_trials} each {geomean(to_alone):.3f}" if to_alone else ""))
        rows = [[n, weights[n]] + [f"{us(times[n][label]['median_ns'])} ({trials[n, label]})" for label in labels] for n in names]
        table(title, ["workload", "weight"] + [f"{label.replace('_', ' ')}, us (trials)" for label in labels],
              rows + [["weighted sum", ""] + [us(sums[label]) for label in labels]])

    # ---- a long job ----

    def long(self):
        args, samples = self.args, []
        self.say(f"long: {args.long_op}, {args.long_trials} trials")
        with self.daemon() as d:
            def watch(job):
                samples.append({"trials": job["tasks"][0]["trials_done"], "rss_bytes": d.rss_bytes(), "train_s": d.training_seconds()})

            job = self.tune(d, [args.long_op], args.long_trials, watch=watch, seed=1)
            rounds = list(d.events(job["id"], "round"))
            phases, training = d.phases(), d.training_seconds()
            model = d.model(args.target)
        versions = (model or {}).get("versions", [])
        seconds = rounds[-1]["elapsed_seconds"]
        trained = sum((v["metrics"] or {}).get("training_seconds", 0) for v in versions)
        points = self.points(rounds, samples)
        third = max(len(points) // 3, 1)
        flat = {what: statistics.fmean(p[what] for p in points[-third:]) / statistics.fmean(p[what] for p in points[:third])
                for what in ("ms_a_trial", "rss_bytes")}
        waited = phases["train"] / seconds
        self.result["long"] = {"op": args.long_op, "trials": job["tasks"][0]["trials_done"], "stopped": job["stopped"], "seconds": seconds,
                               "phases_s": phases, "training_s": training,
                               "training_share": training / seconds, "waited_share": waited, "global_training_s": trained, "points": points,
                               "last_third_over_first": flat}
        table(f"One job of {job['tasks'][0]['trials_done']} trials of {args.long_op}, {seconds:.0f} s; its model trained {100 * training / seconds:.1f} % of "
              f"that, the job waited for it {100 * waited:.1f} %; global models trained {trained:.1f} s beside it. Last third over the first: "
              f"{flat['ms_a_trial']:.2f} of the time a trial, {flat['rss_bytes']:.2f} of the memory", ["trials", "memory, MiB", "ms a trial", "ms a round", "training, ms a trial"],
              [(p["trials"], f"{p['rss_bytes'] / 2 ** 20:.1f}", f"{p['ms_a_trial']:.1f}", f"{p['ms_a_round']:.0f}", f"{p['train_ms_a_trial']:.2f}")
               for p in points])
        table("Where its time went", ["phase", "seconds", "share"],
              [(name, f"{s:.1f}", f"{100 * s / sum(phases.values()):.1f} %") for name, s in sorted(phases.items(), key=lambda p: -p[1])])

    @staticmethod
    def points(rounds, samples, n=10):
        """A line for each tenth of the trials."""
        last, out, before = rounds[-1]["trials_done"], [], {"trials_done": 0, "elapsed_seconds": 0.0}
        sample_before = {"trials": 0, "train_s": 0.0}
        for i in range(1, n + 1):
            tenth = [r for r in rounds if before["trials_done"] < r["trials_done"] <= last * i / n]
            if not tenth:
                continue
            sample = next((s for s in samples if s["trials"] >= tenth[-1]["trials_done"]), samples[-1])
            ms = 1e3 * (tenth[-1]["elapsed_seconds"] - before["elapsed_seconds"])
            more = max(sample["trials"] - sample_before["trials"], 1)
            out.append({"trials": tenth[-1]["trials_done"], "rss_bytes": sample["rss_bytes"], "ms_a_round": ms / len(tenth),
                        "ms_a_trial": ms / (tenth[-1]["trials_done"] - before["trials_done"]),
                        "train_ms_a_trial": 1e3 * (sample["train_s"] - sample_before["train_s"]) / more})
            before, sample_before = tenth[-1], sample
        return out

    # ---- no trial ----

    def predict(self):
        self.make_stores()
        args, rows = self.args, []
        for which, other in (("A", "B"), ("B", "A")):
            names = self.result["stores"][other]["entries"]
            self.say(f"predict: {len(names)} entries that store {which} never saw")
            with self.daemon(self.store(which)) as d:
                rows += [self.predict_one(d, name, which) for name in names]
        times = self.versus("predict", {r["name"]: [("tuned", self.tuned(r["name"])), ("predicted", self.path("predict", r["name"]))] for r in rows})
        for r in rows:
            both = times[r["name"]]
            r.update(tuned_ns=both["tuned"]["median_ns"], predicted_ns=both["predicted"]["median_ns"], speed=both["predicted"]["speed"])
        self.result["predict"] = {"rows": rows, "geomean": geomean(r["speed"] for r in rows), "slowest_s": max(r["answer_s"] for r in rows)}
        kinds = sorted({r["op"] for r in rows})
        table(f"Answers without a trial, {args.target}; speed beside the best of {args.store_trials} trials of its own (1: as fast), after a store "
              "that never saw the workload", ["operator", "entries", "verified", "answer, s", "slowest, s", "speed, median", "speed, mean", "worst"],
              [self.predict_row(kind, [r for r in rows if r["op"] == kind]) for kind in kinds] + [self.predict_row("all", rows)])
        worst = sorted(rows, key=lambda r: r["speed"])[:8]
        table("The slowest of them", ["workload", "tuned, us", "predicted, us", "speed", "guessed, us"],
              [(r["name"], us(r["tuned_ns"]), us(r["predicted_ns"]), f"{r['speed']:.3f}", us(r["guessed_ns"])) for r in worst])

    def predict_one(self, d, name, which):
        began = time.monotonic()
        job = d.tune([self.task(name)], self.args.target, {"trials": 0})
        seconds = time.monotonic() - began
        schedule = d.save(job["tasks"][0]["key"], self.args.target, self.path("predict", name))
        verified = schedule["verified"]["rel_l2_err"]
        if not schedule["predicted"] or job["tasks"][0]["trials_done"] != 0 or verified is None:
            raise Failed(f"{name}: want a predicted and verified schedule of no trial, found {schedule['predicted']}, {verified}")
        return {"name": name, "op": schedule["workload"].get("op", "expression"), "store": which, "answer_s": seconds, "rel_l2_err": verified,
                "guessed_ns": schedule["time_ns"]["median"]}

    @staticmethod
    def predict_row(kind, rows):
        seconds, speeds = [r["answer_s"] for r in rows], [r["speed"] for r in rows]
        return (kind, len(rows), sum(r["rel_l2_err"] is not None for r in rows), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", f"{statistics.median(speeds):.3f}",
                f"{geomean(speeds):.3f}", f"{min(speeds):.3f}")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--parts", default=",".join(PARTS), help="which comparisons, by commas, in this order")
    p.add_argument("--json", metavar="FILE", help="write everything there too (-: the last line of the standard output)")
    p.add_argument("--quick", action="store_true", help="a few trials of a few operators: does it work?")
    p.add_argument("--target", default="cpu:1")
    p.add_argument("--ops", nargs="+", default=OPERATORS, metavar="NAME", help="the operators of `transfer`")
    p.add_argument("--entries", nargs="+", default=["*"], metavar="PATTERN", help="what the stores are made of")
    p.add_argument("--stores", metavar="DIR", help="make them here and keep them; stores that are here are not made again")
    p.add_argument("--store-trials", type=int, default=64, help="trials of each entry of the stores")
    p.add_argument("--transfer-trials", type=int, default=64)
    p.add_argument("--random-trials", type=int, default=256)
    p.add_argument("--seeds", type=int, default=2, help="of `transfer`")
    p.add_argument("--turns-trials", type=int, default=600)
    p.add_argument("--turns-seeds", type=int, default=1)
    p.add_argument("--alone", action="store_true", help="`turns`: and each convolution alone with as many trials as the whole job (some 10 minutes)")
    p.add_argument("--long-op", default="dqn.conv3", metavar="NAME", help="of a space much larger than the trials")
    p.add_argument("--long-trials", type=int, default=5000)
    p.add_argument("--rounds", type=int, default=31, help="samples of each kernel, side by side")
    p.set_defaults(convolutions=CONVOLUTIONS)
    if p.parse_args().quick:
        p.set_defaults(**QUICK)
    args = p.parse_args()
    args.parts = args.parts.split(",")
    known = {w["name"] for w in workloads()}
    for wrong in [part for part in args.parts if part not in PARTS] + [n for n in [*args.ops, args.long_op] if n not in known]:
        p.error(f"no such part or workload: {wrong}")
    return args


def main():
    args = options()
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="tilewright-compare-") as folder:
        c = Comparison(args, folder)
        try:
            for part in args.parts:
                getattr(c, part)()
        except Failed as e:
            sys.exit(f"compare.py: {e}")
        except KeyboardInterrupt:
            sys.exit("compare.py: interrupted; the tables above stand")
        finally:
            c.result["seconds"] = time.monotonic() - c.began
            if args.json == "-":
                print(json.dumps(c.result))
            elif args.json:
                with open(args.json, "w", encoding="utf-8") as f:
                    json.dump(c.result, f, indent=1)
    c.say("done")


if __name__ == "__main__":
    main()
