"""Pings and neighbours of name spaces, and a way to say what was counted."""

import os
import re
import signal
import subprocess
import tempfile
import time


def document(value):
    """JSON; python3-minimal has no module for it."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ",".join(f"{document(key)}:{document(of)}" for key, of in value.items()) + "}"
        case str():
            plain = "".join(c if " " <= c <= "~" and c not in '"\\\\' else " " for c in value)
            return f'"{plain}"'
    return str(value)


def ping(name, address):
    """Every 10 ms. To a file: a pipe that nobody reads would stop it when it is full."""
    log = tempfile.TemporaryFile("w+", dir="/run")
    words = ["ip", "netns", "exec", name, "ping", "-D", "-n", "-i", "0.01", address]
    return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT), log


# What has no answer by then is lost. One that is emulated within an emulated machine takes its time.
PATIENCE = 5.0


def read(log):
    """From another place than where ping writes, which shares the file's offset with this process."""
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode()


def answered(text):
    """When each was answered, by the number of the ping; on the wire that has 16 bits."""
    times, last = {}, 0
    for at, number in re.findall(r"^\[([\d.]+)\] \d+ bytes from .* icmp_seq=(\d+)", text, re.M):
        last += (int(number) - last + 0x8000) % 0x10000 - 0x8000
        times.setdefault(last, float(at))
    return times


def ranges(numbers):
    """As 1-9 12 15-16."""
    runs = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def until(deadline, look):
    """What is looked for, or what was seen last."""
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


def pings(process, log):
    """Sent until now, lost of them and which, and the longest time between two answers."""
    # Says how many it has sent, and goes on.
    process.send_signal(signal.SIGQUIT)
    said = until(time.monotonic() + 30, lambda: re.search(r"(\d+)/(\d+) packets", read(log)))
    sent = int(said.group(2))
    of_these = lambda: {number: at for number, at in answered(read(log)).items() if number <= sent}
    until(time.monotonic() + PATIENCE, lambda: len(of_these()) == sent)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    answers = of_these()
    times = sorted(answers.values())
    gaps = [after - before for before, after in zip(times, times[1:])]
    missing = ranges(number for number in range(1, sent + 1) if number not in answers)
    return {"sent": sent, "lost": sent - len(answers), "missing": missing,
            "gap_ms": 1000 * max(gaps, default=0)}


def neighbours(name):
    """What becomes of the addresses that this name space knows: a lost one explains lost pings."""
    log = tempfile.TemporaryFile("w+", dir="/run")
    words = ["ip", "netns", "exec", name, "ip", "-ts", "monitor", "neigh"]
    return subprocess.Popen(words, stdout=log), log


def given_up(process, log):
    """How often nobody answered when the kernel asked who has an address."""
    process.terminate()
    process.wait(30)
    return len(re.findall(r"FAILED", read(log)))
