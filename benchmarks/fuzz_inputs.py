"""Feed damaged and hostile images to the reader, and count how it ends.

    python benchmarks/fuzz_inputs.py --count 10000 --seed 0 --out fuzz

Every input is a valid image with one to three mutations (`fuzz_seeds.py`). A worker process opens it as a region, and
reads it;
what can be read is also taken through the display and back, written, and read again. An input ends as

    read      a Radiograph whose display gives its own pixels back, and whose file holds them
    refused   an InputError of one printable line (or OutputError, for what can be read but not written)
    crash     any other exception, a broken promise of the above, a file left behind, or a signal
    hang      more than --seconds of processor time, or thirty times that by the clock
    memory    more than --memory GiB above what the worker needs by itself

The last three are failures: their inputs are kept in OUT, and the exit code is 1. The same seed gives the same inputs.
Not for continuous integration: 10,000 inputs take about half an hour. POSIX only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from fuzz_seeds import SEEDS, hostile, name
from rich.console import Console
from rich.progress import Progress

OUTCOMES = ("read", "refused", "crash", "hang", "memory")


def judge(folder: Path, path: Path) -> tuple[str, str]:
    """How one input ends, and the line that says why."""
    from instructx2x.errors import InputError, OutputError
    from instructx2x.imaging import edited_suffix, read, write
    from instructx2x.imaging.pictures import open_picture

    before = sorted(folder.iterdir())
    try:
        open_picture(path)
    except InputError as error:
        if not str(error).isprintable():
            return "crash", f"not one printable line: {str(error)!r}"
    except Exception as error:
        return "crash", f"as a region: {error!r}"[:200]
    try:
        radiograph = read(path)
        everywhere = np.ones(radiograph.pixels.shape, bool)
        again = radiograph.with_display(radiograph.display(), everywhere)
        if not np.array_equal(again.pixels, radiograph.pixels):
            return "crash", "the display does not give the pixels back"
        edited = folder / f"edited{edited_suffix(radiograph)}"
        write(again, edited, text={"Synthetic": "yes"})
        copy = read(edited)
        edited.unlink()
        if edited.suffix != ".png" and not np.array_equal(copy.pixels, radiograph.pixels):
            return "crash", "the file does not give the pixels back"
        outcome, line = "read", ""
    except (InputError, OutputError) as error:
        line = str(error).replace(str(path), "FILE")
        outcome = "memory" if isinstance(error.__cause__, MemoryError) else "refused"
        if not line.isprintable():
            return "crash", f"not one printable line: {line!r}"
    except MemoryError:
        return "memory", "MemoryError"
    except Exception as error:
        return "crash", repr(error)[:200]
    if sorted(folder.iterdir()) != before:
        return "crash", f"left behind: {sorted(set(folder.iterdir()) - set(before))}"
    return outcome, line


def spent() -> float:
    """Processor time of this process and of the decoders it started, in seconds: the same on a busy machine."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def work(pipe, seed: int, memory: float, folder: str) -> None:
    """Judge every index that comes through the pipe, until None."""
    warnings.simplefilter("ignore")  # of pydicom, about what the mutations write
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    tempfile.tempdir = folder
    # What the worker needs by itself, imports on first use among it, must not count.
    for first in ("PNG 8", "TIFF 8", "JPEG gray", "DICOM explicit"):
        (Path(folder) / "input").write_bytes(SEEDS[first])
        judge(Path(folder), Path(folder) / "input")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    while (index := pipe.recv()) is not None:
        path = Path(folder) / "input"
        path.write_bytes(hostile(index, seed))
        started = spent()
        outcome, line = judge(Path(folder), path)
        pipe.send((outcome, line, spent() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Worker:
    """A process that is started anew after each that had to be ended."""

    def __init__(self, seed: int, seconds: float, memory: float) -> None:
        self.arguments, self.seconds, self.process = (seed, memory), seconds, None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        self.pipe, other = context.Pipe()
        seed, memory = self.arguments
        self.process = context.Process(target=work, args=(other, seed, memory, self.folder.name), daemon=True)
        self.process.start()
        other.close()

    def stop(self) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join()
        self.folder.cleanup()
        self.process = None

    def judge(self, index: int) -> tuple[str, str, float, int]:
        """Outcome, line, seconds and the process's peak memory so far in KiB."""
        if self.process is None:
            self.start()
        self.pipe.send(index)
        try:
            # Processor time decides; the clock only ends what waits for something that never comes.
            if not self.pipe.poll(30 * self.seconds):
                self.stop()
                return "hang", "never ended", self.seconds, 0
            outcome, line, spent, peak = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self.stop()
            return "crash", f"the process ended with {code}", 0.0, 0
        return ("hang" if spent > self.seconds else outcome), line, spent, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="index of the first input, to try one again")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--memory", type=float, default=2, help="GiB above the worker's own")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder for inputs that fail")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    workers = SimpleQueue()
    for _ in range(options.workers):
        workers.put(Worker(options.seed, options.seconds, options.memory))

    def judged(index: int) -> tuple[int, str, str, float, int]:
        worker = workers.get()
        try:
            return index, *worker.judge(index)
        finally:
            workers.put(worker)

    counts, slowest, peak, lines = defaultdict(Counter), defaultdict(float), 0, Counter()
    indices = range(options.first, options.first + options.count)
    with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(options.workers) as pool:
        ended = progress.track(pool.map(judged, indices), total=options.count, description="inputs")
        for index, outcome, line, spent, memory in ended:
            source = name(index)
            kind = source if source.startswith("DICOM") else source.split()[0]
            counts[kind][outcome] += 1
            slowest[kind], peak = max(slowest[kind], spent), max(peak, memory)
            lines[line] += outcome == "refused"
            if outcome not in ("read", "refused"):
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / f"{outcome}-{options.seed}-{index}").write_bytes(hostile(index, options.seed))
                print(f"{outcome} {index} ({source}): {line}", file=sys.stderr, flush=True)
    while not workers.empty():
        workers.get().stop()

    print(f"| inputs | {' | '.join(OUTCOMES)} | processor time at most, s |\n|---|{'---:|' * (len(OUTCOMES) + 1)}")
    for kind in counts:
        print(f"| {kind} | {' | '.join(str(counts[kind][outcome]) for outcome in OUTCOMES)} | {slowest[kind]:.1f} |")
    total = sum(counts.values(), Counter())
    cells = " | ".join(str(total[outcome]) for outcome in OUTCOMES)
    print(f"| **all {total.total()}** | {cells} | {max(slowest.values()):.1f} |")
    vague = sum(count for line, count in lines.items() if "of a rare kind" in line)
    print(f"\nThe reader's own peak memory: {peak / 2**20:.2f} GiB.", end=" ")
    print(f"{vague} of the {total['refused']} refusals say no more than that the file is damaged.")
    return int(total["read"] + total["refused"] < total.total())


if __name__ == "__main__":
    sys.exit(main())
