"""What `bench/run` prints: a heading that says where the numbers come from, and Markdown tables."""

import datetime
import os
import platform
import subprocess
from collections import defaultdict

from load import read
from works import TRAINING_LONGER

MEBIBYTE = 1 << 20


def heading(options):
    """Machine, date, versions, command, and what else the machine was doing."""

    def output(*words):
        return subprocess.run(words, check=True, text=True, capture_output=True).stdout.strip()

    processor = next(
        (line.split(":", 1)[1].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    torch = output(options.python, "-c", "import torch; print(torch.__version__)")
    cores = sorted(os.sched_getaffinity(0))
    where = "all" if len(cores) == os.cpu_count() else f"only {cores}"
    commit = output("git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty")
    rows = [
        ("machine", f"{processor}, {os.cpu_count()} cores, {where} used"),
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", f"`{command(options)}`"),
        ("commit", commit),
        ("peer", f"PyTorch {torch}, Python {platform.python_version()}"),
        *([("device", found_device(options))] if options.device else []),
        ("rounds", f"{options.rounds} of at least {options.seconds} s for each contender "
                   f"({TRAINING_LONGER * options.seconds:g} s for training steps), medians"),
        ("threads", str(options.threads)),
        ("load before", f"{os.getloadavg()[0]:.1f} runnable processes in the last minute"),
        ("others", "the machine did something else meanwhile" if options.busy else "at most 3 % of the cores before it"),
    ]
    lines = [
        "# Results",
        "",
        "The report of one run of `bench/run --output bench/RESULTS.md`. How it is measured, what is fair and what the networks",
        "are stands in [README.md](README.md). A ratio above 1 means that this project is faster; times are of this run only.",
        *(f"\n{note}" for note in options.note),
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    return "\n".join(lines)


def found_device(options):
    """What the program and PyTorch say of the device."""
    code = f"import torch; d = torch.device({options.torch_device!r}); print(torch.cuda.get_device_name(d) if d.type == 'cuda' else d)"
    theirs = subprocess.run([options.python, "-c", code], text=True, capture_output=True).stdout.strip() or "not there"
    return f"{options.device} here, {options.torch_device} ({theirs}) for PyTorch, f32 but in the modes bf16_…"


def command(options):
    """The command again, without what is a matter of this machine."""
    words = ["bench/run"] + [f"--only {word!r}" for word in options.only or []] + ["--quick"] * options.quick
    words += [f"--rounds {options.rounds}", f"--seconds {options.seconds}", f"--threads {options.threads}"]
    words += [f"--device {options.device}"] if options.device else []
    return " ".join(words + ([f"--modes {options.modes}"] if options.modes else []))


def tables(found):
    groups = defaultdict(list)
    for one in found:
        groups[one["work"].group].append(one)
    return [(scaling if group == "scaling" else table)(group, rows) for group, rows in groups.items()]


def ratio(value):
    return "–" if value is None else f"{value:.2f}×"


def table(group, rows):
    """Ratios first: of the best on each side, then of each precision; times only beside their peer's."""
    with_memory = any(row["memory"] for row in rows)
    head = [group, "best PyTorch / best here", "f32", "bf16", "PyTorch, ms (best mode), f32; bf16", "here, ms (least–most), f32; bf16",
            "GFLOP/s here, f32", "× ceiling"]
    head += ["peak memory: here / PyTorch, of the best"] if with_memory else []
    head += ["results apart, f32", "error in bf16: PyTorch; here"]
    lines = [row_of(head), row_of(["---"] * len(head))]
    for row in rows:

        def theirs(name):
            return f"{row['peer_ms'][name]:.1f} ({row['best'][name]})" if row["best"][name] else "–"

        def ours(name):
            if name not in row["ours_ms"]:
                return "–"
            low, high = row["spread"][name]
            return f"{row['ours_ms'][name]:.1f} ({low:.1f}–{high:.1f})"

        cells = [
            row["work"].name,
            f"**{ratio(row['best_ratio'])}**",
            ratio(row["ratio"]["f32"]),
            ratio(row["ratio"]["bf16"]),
            f"{theirs('f32')}; {theirs('bf16')}",
            f"{ours('f32')}; {ours('bf16')}",
            f"{row['report']['gflops']:.0f}",
            f"{row['report']['share_of_ceiling']:.2f}",
        ]
        if with_memory:
            peer, here = row["memory"]
            cells.append(f"**{here / peer:.2f}** ({here / MEBIBYTE:.0f} / {peer / MEBIBYTE:.0f} MiB)")
        of_peer, of_ours = row["bf16_difference"]
        cells += [f"{row['difference']:.0e}", "; ".join("–" if e is None else f"{e:.1e}" for e in (of_peer, of_ours))]
        lines.append(row_of(cells))
    ceiling = max(row["report"]["ceiling_gflops"] for row in rows)
    on_device = rows[0]["report"].get("device", "cpu") != "cpu"
    what = "matrix products" if on_device else "fused multiply-adds"
    notes = [f"Ceiling of {what} in f32 in the same rounds: {ceiling:.0f} GFLOP/s."]
    notes.append(f"Other processes took at most {max(row['others'] for row in rows):.0%} of the machine meanwhile.")
    problems = {f"{mode}: {t}" for row in rows for mode, t in row["modes"].items() if isinstance(t, str)}
    notes += [f"Not counted: {problem}." for problem in sorted(problems)]
    return "\n".join([*lines, "", *notes])


def scaling(group, rows):
    """Time per pixel of all pictures, relative to the row of one 128² picture."""

    def per_pixel(row):
        return row["ours_ms"]["f32"] / (row["work"].shape["batch"] * row["work"].shape["side"] ** 2)

    one = next((row for row in rows if row["work"].shape == dict(batch=1, side=128)), rows[0])
    lines = [
        row_of([group, "PyTorch / here", "time per pixel here", "PyTorch, ms (best mode)", "here, ms", "results apart"]),
        row_of(["---"] * 6),
    ]
    for row in rows:
        lines.append(row_of([
            row["work"].name,
            ratio(row["ratio"]["f32"]),
            f"**{per_pixel(row) / per_pixel(one):.2f}**",
            f"{row['peer_ms']['f32']:.1f} ({row['best']['f32']})",
            f"{row['ours_ms']['f32']:.1f}",
            f"{row['difference']:.0e}",
        ]))
    return "\n".join([*lines, "", f"Time per pixel is relative to {one['work'].name}; 1.00 everywhere would be exactly linear."])


def row_of(cells):
    return f"| {' | '.join(cells)} |"


def drawing(drawn):
    """Where the time of `imagen sample` goes."""
    events = drawn["events"]
    (whole,) = (e for e in events if e["name"] == "sample")

    parts = defaultdict(float)
    for e in events:
        if e["name"] in ("open text encoder", "encode text", "write picture") or e["name"].startswith(("build network", "step ")):
            parts[e["name"]] += 100 * e["dur"] / whole["dur"]
    operations = defaultdict(float)
    for e in events:
        if e["cat"] == "operation":
            operations[e["name"]] += 100 * e["dur"] / whole["dur"]
    lines = [
        f"`imagen sample \"a red apple\"`, whole process: {drawn['seconds']:.2f} s; `imagen --help`: {drawn['help_ms']:.1f} ms.",
        "",
        "| part | of the whole | | operation | of the whole |",
        "|---|---|---|---|---|",
    ]
    left = [*sorted(parts.items(), key=lambda p: -p[1]), ("the rest", 100 - sum(parts.values()))]
    right = sorted(operations.items(), key=lambda p: -p[1])
    for i in range(max(len(left), len(right))):
        cells = [*(left[i] if i < len(left) else ("", None)), "", *(right[i] if i < len(right) else ("", None))]
        lines.append(row_of(["" if c is None else c if isinstance(c, str) else f"{c:.1f} %" for c in cells]))
    return "\n".join(lines)
