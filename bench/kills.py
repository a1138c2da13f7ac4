"""Kills every verb that writes at its system calls, and cuts the power under it; then the same command again must come to what
it would have come to undisturbed.

    python bench/kills.py IMAGEN FOLDER [--kills 1000] [--cuts 200] [--seed 1] [--verb NAME ...] [--keep]

IMAGEN is the program, FOLDER a place for the work. A kill is SIGKILL at a system call that strace injects, chosen evenly among
those that a verb makes; up to three come one after another. A cut is drawn from a journal of one undisturbed run (strace again):
of every file only what was synced is sure to be there, with a part of what was written since or bytes of zero in its place; of
every folder only the names up to its last sync, with some of those after, in their order. Times, and numbers that are times, are
not compared. Needs strace and NumPy, Linux, and a few gigabytes of nothing: all sets and networks are tiny.
"""

import argparse
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy

from kills_journal import Journal

GOLDEN = Path(__file__).resolve().parent.parent / "crates/imagen/tests/golden"
CALLS = "openat,close,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat"

# that of the tests, which writes more
RECIPE = (GOLDEN.parent / "tiny.toml").read_text().split("[data]")[0] + """[data]
folder = "set"
captions = "captions.safetensors"
[train]
steps = 12
batch = 4
lr = 1e-3
warmup = 1
ema_decay = 0.9
checkpoint_every = 3
sample_every = 6
validate_every = 6
keep_last = 2
sample_prompts = ["a red circle"]
"""

HUB = {"config.json": b'{"model_type":"t5"}', "model.safetensors": bytes(range(256)) * 800}


class Verb:
    """A command, what it is given when it is repeated, and what it writes below `out`."""

    def __init__(self, name, words, again=(), loose=()):
        self.name, self.words, self.again, self.loose = name, words, list(again), loose

    def command(self, program, again):
        return [str(program), *self.words, *(self.again if again else [])]


def verbs():
    draw = ["-t", "1", "-q"]
    return [
        Verb("train", ["train", "r.toml", "--run", "out/run", *draw], ["--resume"]),
        Verb("sample", ["sample", "-m", "model", "a red circle", "-n", "6", "-s", "1", "-o", "out/{index}.png", "--grid", "out/grid.png", *draw], ["--force"]),
        Verb("export", ["export", "run", "--model", "out/model"]),
        Verb("encode", ["data", "encode", "set", "-o", "out/c.safetensors", *draw]),
        Verb("shapes", ["data", "shapes", "out/shapes", "-n", "12", "--size", "16"]),
        Verb("compose", ["data", "compose", str(GOLDEN / "world"), "out/composed", "-n", "8", "--size", "32", *draw]),
        Verb("stats", ["eval", "stats", "set", "-o", "out/s.safetensors", "--features", "-q"]),
        Verb("sweep", ["eval", "sweep", "--data", "set", "-o", "out/sweep", "-n", "6", "-m", "model", "--guidance", "1,2", "--references", "train", *draw]),
        Verb("coco", ["eval", "coco", "out/drawn", "--captions", "coco.json", "-n", "8", "-m", "model", "--until", "base", "--guidance", "1", *draw]),
        Verb("drawbench", ["eval", "drawbench", "out/study", "--suite", "suite.csv", "-n", "2", "--model", "ours=model", "--import", "theirs=theirs", *draw]),
        Verb("human export", ["eval", "human", "export", "study", "-o", "out/votes"]),
        Verb("human report", ["eval", "human", "report", "study", "-o", "out/human.html"]),
        Verb("report", ["report", "run", "-o", "out/r.html", "-q"]),
        Verb("recipe new", ["recipe", "new", "--data", "set", "-o", "out/new.toml", "--minutes", "1", "-q"], ["--force"], loose=("new.toml",)),
        Verb("convert", ["models", "convert", "dict.safetensors", "--model", "out/converted"]),
        Verb("pull", ["models", "pull", "org/tiny", "-q"]),
    ]


# What verbs need


def prepare(program, at):
    run = lambda *words: subprocess.run([str(program), *words], cwd=at, check=True, capture_output=True)
    (at / "r.toml").write_text(RECIPE)
    run("data", "shapes", "set", "-n", "16", "--size", "16")
    listed = [json.loads(line) | {"split": "validation" if k >= 12 else "train"} for k, line in enumerate((at / "set/metadata.jsonl").open())]
    (at / "set/metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in listed))
    run("data", "encode", "set", "-o", "captions.safetensors", "-q")
    run("train", "r.toml", "--run", "run", "-q", "-t", "1")
    run("export", "run", "--model", "model")
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(8)]
    (at / "coco.json").write_text(json.dumps({"images": images, "annotations": [{"image_id": k, "id": k, "caption": f"a red thing {k}"} for k in range(8)]}))
    (at / "suite.csv").write_text('prompt,category\n"a red, round thing",Colors\ntwo things,Counting\n')
    for prompt in range(2):
        (at / f"theirs/{prompt}").mkdir(parents=True)
        for k in range(2):
            shutil.copy(at / f"set/images/00000{k}.png", at / f"theirs/{prompt}/{k}.png")
    run("eval", "drawbench", "study", "--suite", "suite.csv", "-n", "2", "--model", "ours=model", "--import", "theirs=theirs", "-q", "-t", "1")
    vote(program, at / "study")
    # a state dict of imagen-pytorch for this program's text encoder: its text layers are as wide as that
    data = (GOLDEN / "imagen_pytorch/model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body, tensors, offset = json.loads(data[8 : 8 + length]), data[8 + length :], {}, 0
    out = bytearray()
    for name, it in header.items():
        if name == "__metadata__":
            tensors[name] = it
            continue
        part, shape = body[slice(*it["data_offsets"])], it["shape"]
        if name.endswith("text_to_cond.weight"):
            shape = [shape[0], 384]
            it = {"dtype": "F32"}
            part = (numpy.sin(numpy.arange(shape[0] * 384) * 0.7) * 0.05).astype("<f4").tobytes()
        tensors[name] = {"dtype": it["dtype"], "shape": shape, "data_offsets": [len(out), len(out) + len(part)]}
        out += part
    text = json.dumps(tensors).encode()
    (at / "dict.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + out)


def vote(program, study):
    """A few votes of one rater, as a browser gives them."""
    server = subprocess.Popen([str(program), "eval", "human", "serve", str(study), "--port", "0"], stdout=subprocess.PIPE, text=True)
    host = re.search(r"//(.+)/$", server.stdout.readline().strip())[1]

    def ask(method, path, body=None):
        link = http.client.HTTPConnection(host, timeout=60)
        link.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = link.getresponse()
        return answer.status, answer.read().decode()

    for _ in range(4):
        trial = re.search(r'name="trial" value="([0-9a-f]+)"', ask("GET", "/rate/anna")[1])
        if trial is None:
            break
        status, _ = ask("POST", "/rate/anna", f"trial={trial[1]}&spent=10&fidelity=left&alignment=left")
        assert status == 303, status
    server.terminate()
    server.wait()


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one small model."""

    def do_GET(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if self.path.startswith("/api/models/"):
            files = [{"rfilename": n, "size": len(b), "lfs": {"sha256": hashlib.sha256(b).hexdigest(), "size": len(b)}} for n, b in HUB.items()]
            self.answer(json.dumps({"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": files}).encode())
        elif name in HUB:
            self.answer(HUB[name], name)
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, body, name=None):
        start = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0])
        self.send_response(206 if "Range" in self.headers else 200)
        if name:
            blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest() if name.endswith("safetensors") else blob}"')
            self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        if "Range" in self.headers:
            end = re.findall(r"\d+", self.headers["Range"])[1:]
            whole, end = len(body), int(end[0]) + 1 if end else len(body)
            body = body[start:end]
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


# What came out


def content(path):
    """What is compared of a file: all but times."""
    data = path.read_bytes()
    if path.name == "metrics.jsonl":
        return json.dumps([[l.get("kind"), l.get("step")] for l in map(json.loads, data.decode().splitlines())]).encode()
    if path.suffix == ".html":
        return b"page" if data.rstrip().endswith(b"</html>") else b"half a page"
    if path.name == "state.safetensors" or re.fullmatch(r"state-\d+\.safetensors", path.name):
        length = int.from_bytes(data[:8], "little")
        return data[8 + length :]
    return data


def tree(at, loose=()):
    found = {}
    for path in sorted(at.rglob("*")):
        name = str(path.relative_to(at))
        if "events.out.tfevents" in name:
            continue
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_file():
            found[name] = "there" if path.name in loose else hashlib.sha256(content(path)).hexdigest()[:12]
    return found


def differences(reference, now):
    return {
        "missing": sorted(set(reference) - set(now)),
        "left over": sorted(set(now) - set(reference)),
        "other": sorted(name for name in reference if name in now and now[name] != reference[name]),
    }


class Trial:
    def __init__(self, program, at, seed, keep):
        self.program, self.at, self.random, self.keep = program, at, random.Random(seed), keep
        self.environment = {**os.environ, "HF_HOME": str(at / "out/hub"), "XDG_CACHE_HOME": str(at / "cache")}
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.environment["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        self.failures = []

    def fresh(self):
        shutil.rmtree(self.at / "out", ignore_errors=True)
        (self.at / "out").mkdir()

    def run(self, command):
        return subprocess.run(command, cwd=self.at, env=self.environment, capture_output=True, text=True, timeout=300)

    def reference(self, verb):
        self.fresh()
        shutil.rmtree(self.at / "cache", ignore_errors=True)
        done = self.run(verb.command(self.program, False))
        assert done.returncode == 0, (verb.name, done.stderr)
        return tree(self.at / "out", verb.loose)

    def began(self, verb):
        """Whether the command of a run that was stopped says that it goes on."""
        if verb.name == "train":
            return any((self.at / "out/run").glob("state*.safetensors"))
        return any((self.at / "out").iterdir())

    def repeat(self, verb, reference, what):
        """The command again; whether it came to the reference."""
        done = self.run(verb.command(self.program, self.began(verb)))
        return self.compare(verb, reference, what, done)

    def compare(self, verb, reference, what, done):
        differ = differences(reference, tree(self.at / "out", verb.loose))
        finished = any(words in done.stderr for words in ["already exists", "already holds a set", "holds pictures already"])
        if not (done.returncode == 0 or finished) or any(differ.values()):
            self.failures.append(verb.name)
            differ = {kind: names for kind, names in differ.items() if names}
            print(f"    {verb.name} {what}: exit {done.returncode}, {done.stderr.strip()[-300:]!r}, {differ}", flush=True)
            if self.keep:
                shutil.copytree(self.at / "out", self.at / f"failed-{len(self.failures)}", symlinks=True)
            return False
        return True

    def calls(self, verb):
        """The system calls that a verb makes, each as often as it makes it: places for a kill."""
        self.fresh()
        counted = self.run(["strace", "-f", "-c", "-o", str(self.at / "counts"), "-e", f"trace={CALLS}", *verb.command(self.program, False)])
        assert counted.returncode == 0, counted.stderr
        rows = [line.split() for line in (self.at / "counts").read_text().splitlines()]
        return [(row[-1], place) for row in rows if row and row[-1] in CALLS.split(",") for place in range(1, int(row[3]) + 1)]

    def kills(self, verb, wanted):
        reference, calls, done, ended = self.reference(verb), self.calls(verb), 0, Counter()
        while done < wanted and ended.total() < 3 * wanted + 10:
            self.fresh()
            places, killed = [], True
            for _ in range(self.random.choice([1, 1, 2, 3])):
                call, place = self.random.choice(calls)
                inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={place}"]
                command = verb.command(self.program, bool(places) and self.began(verb))
                stopped = self.run(["strace", "-f", "-qq", "-o", "/dev/null", *inject, *command])
                killed = stopped.returncode in (-9, 137)
                if not killed:
                    break
                places.append(f"{call} {place}")
            done += len(places)
            what = f"killed at {', '.join(places)}"
            ended[self.repeat(verb, reference, what) if killed else self.compare(verb, reference, what, stopped)] += 1
        return f"{done} kills, {ended[True]} of {ended.total()} came to the same"

    def cuts(self, verb, wanted):
        reference = self.reference(verb)
        self.fresh()
        journal = Journal.record(self.at, self.at / "out", verb.command(self.program, False), self.environment)
        ended = Counter()
        for _ in range(wanted):
            self.fresh()
            where = journal.cut(self.at / "out", self.random)
            ended[self.repeat(verb, reference, f"power cut {where}")] += 1
        return f"{wanted} cuts among {len(journal.events)} events, {ended[True]} came to the same"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verb", action="append")
    parser.add_argument("--keep", action="store_true", help="keep the folders that came out otherwise")
    given = parser.parse_args()
    at = given.folder.resolve()
    if not (at / "study").exists():
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir(parents=True)
        prepare(given.program.resolve(), at)
    trial = Trial(given.program.resolve(), at, given.seed, given.keep)
    chosen = [verb for verb in verbs() if not given.verb or verb.name in given.verb]
    for verb in chosen:
        share = lambda total: -(-total // len(chosen))
        lines = [trial.kills(verb, share(given.kills))] if given.kills else []
        lines += [trial.cuts(verb, share(given.cuts))] if given.cuts else []
        print(f"{verb.name:13} {'; '.join(lines)}", flush=True)
    sys.exit(bool(trial.failures))


main()
