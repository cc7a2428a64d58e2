"""Stands in for the command gcloud: has warm_gcloud.py run it, with these streams, here."""

import json
import os
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["WARM_GCLOUD_SOCKET"])
request = {"args": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}  # noqa: PTH109
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
sys.exit(int(connection.recv(16) or b"1"))
