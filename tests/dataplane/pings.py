"""Pings and neighbours of name spaces, and a way to say what was counted."""

import re
import subprocess
import tempfile


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
    return subprocess.Popen(words, stdout=log), log


# So many, those of the last half second, may have their answer on its way when all is over.
LATE = 50


def pings(process, log):
    """Sent, lost and the longest time between two answers."""
    process.send_signal(2)
    process.wait(30)
    log.seek(0)
    text = log.read()
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", text).groups())
    answers = re.findall(r"^\[([\d.]+)\] \d+ bytes from .* icmp_seq=(\d+)", text, re.M)
    times = [float(at) for at, _ in answers]
    gaps = [after - before for before, after in zip(times, times[1:])]
    # The number of a ping has 16 bits.
    late = (sent - int(answers[-1][1])) % 65536 if answers else LATE + 1
    lost = sent - received - (late if late <= LATE else 0)
    return {"sent": sent, "lost": lost, "gap_ms": 1000 * max(gaps, default=0)}


def neighbours(name):
    """What becomes of the addresses that this name space knows: a lost one explains lost pings."""
    log = tempfile.TemporaryFile("w+", dir="/run")
    words = ["ip", "netns", "exec", name, "ip", "-ts", "monitor", "neigh"]
    return subprocess.Popen(words, stdout=log), log


def given_up(process, log):
    """How often nobody answered when the kernel asked who has an address."""
    process.terminate()
    process.wait(30)
    log.seek(0)
    return len(re.findall(r"FAILED", log.read()))
