#!/usr/bin/env python3
"""A sensor process in Python: the load of this board, once a second, for ever.

    sensor.py [SOCKET]

COUNT=N ends it after N readings, PAUSE=S waits S seconds between two. Each datagram
is one line or several; no answer comes. When the agent is not there the reading is
given up, and the next one tried: the socket may be another by then.
"""

import os
import socket
import sys
import time

path = sys.argv[1] if len(sys.argv) > 1 else "/run/understudy/readings.sock"
count = int(os.environ.get("COUNT", "-1"))
pause = float(os.environ.get("PAUSE", "1"))

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    while count != 0:
        line = f"board/load/python {os.getloadavg()[0]:.2f}"
        try:
            sender.sendto(line.encode(), path)
        except OSError as error:
            print(f"{path}: {error}", file=sys.stderr)
        count -= 1
        time.sleep(pause)
