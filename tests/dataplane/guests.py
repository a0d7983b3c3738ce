"""Pings to guests while a command runs; what was counted as JSON on the last line.

python3 guests.py NAMESPACE ADDRESS,... COMMAND...
"""

import subprocess
import sys
import time

from pings import document, given_up, neighbours, ping, pings

SETTLE = 2.0


def main(name, addresses, command):
    running = {address: ping(name, address) for address in addresses.split(",")}
    watched = neighbours(name)
    time.sleep(SETTLE)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(SETTLE)
    guests = {address: pings(*one) for address, one in running.items()}
    print(document({
        "guests": guests,
        "neighbours_lost": given_up(*watched),
        "status": done.returncode,
        "said": done.stdout[-20000:],
    }))


main(sys.argv[1], sys.argv[2], sys.argv[3:])
