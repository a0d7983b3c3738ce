"""One round: traffic through both bridges, a command in the middle of it, what was counted as JSON on the last line."""

import socket
import subprocess
import sys
import threading
import time

from pings import document, given_up, neighbours, ping, pings

SETTLE = 2.0
OPEN_EVERY = 0.2
PATIENCE = 30.0

SERVER = """
import socket, threading
listener = socket.create_server(("10.9.0.2", 7000), backlog=128)
print("ready", flush=True)
def echo(connection):
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""


def inside(name, *command, **more):
    return subprocess.Popen(["ip", "netns", "exec", name, *command], stdout=subprocess.PIPE, text=True, **more)


class Client:
    """Runs in name space a: one connection that is never silent, and new ones all the time."""

    def __init__(self):
        self.over = threading.Event()
        self.stream_gap_ms = 0.0
        self.stream_broke = False
        self.opened = self.refused = 0
        self.slowest_ms = 0.0

    def stream(self):
        try:
            with socket.create_connection(("10.9.0.2", 7000), PATIENCE) as connection:
                connection.settimeout(60)
                while not self.over.is_set():
                    began = time.monotonic()
                    connection.sendall(b"x" * 1000)
                    got = 0
                    while got < 1000:
                        data = connection.recv(4096)
                        if not data:
                            raise OSError("closed")
                        got += len(data)
                    self.stream_gap_ms = max(self.stream_gap_ms, 1000 * (time.monotonic() - began))
                    time.sleep(0.01)
        except OSError:
            self.stream_broke = True

    def open_one(self):
        began = time.monotonic()
        try:
            with socket.create_connection(("10.9.0.2", 7000), PATIENCE) as connection:
                connection.settimeout(PATIENCE)
                connection.sendall(b"x")
                connection.recv(1)
            self.slowest_ms = max(self.slowest_ms, 1000 * (time.monotonic() - began))
        except OSError:
            self.refused += 1

    def new(self):
        waiting = []
        while not self.over.is_set():
            self.opened += 1
            thread = threading.Thread(target=self.open_one)
            thread.start()
            waiting.append(thread)
            time.sleep(OPEN_EVERY)
        for thread in waiting:
            thread.join()

    def run(self):
        threads = [threading.Thread(target=self.stream), threading.Thread(target=self.new)]
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        self.over.set()
        for thread in threads:
            thread.join()
        figures = vars(self)
        del figures["over"]
        print(figures)


def main(command):
    server = inside("b", sys.executable, "-c", SERVER)
    server.stdout.readline()
    secure, standalone = ping("a", "10.9.0.2"), ping("c", "10.8.0.2")
    watched = [neighbours(name) for name in "abcd"]
    client = inside("a", sys.executable, __file__, "--client", stdin=subprocess.PIPE)
    time.sleep(SETTLE)
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    took = 1000 * (time.monotonic() - began)
    time.sleep(SETTLE)
    figures = eval(client.communicate("over\n", timeout=90)[0])
    figures |= {"secure": pings(*secure), "standalone": pings(*standalone)}
    figures["neighbours_lost"] = sum(given_up(*one) for one in watched)
    figures |= {"status": done.returncode, "took_ms": took, "said": done.stdout[-2000:]}
    server.kill()
    print(document(figures))


if sys.argv[1:] == ["--client"]:
    Client().run()
else:
    main(sys.argv[1:])
