"""A client of the daemon for tests: libzmq and PyYAML, as the graphical programs have them.

Binds a PAIR socket at the address of its one argument. Each line on standard input is JSON, a list of bytes, and goes
out as one message. Each message that comes is a line of JSON on standard output: its text, and what PyYAML makes of
it, where moments have a mark of their own.
"""

import datetime
import json
import os
import sys

import yaml
import zmq


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime.datetime):
        return {"moment": value.astimezone(datetime.timezone.utc).timestamp()}
    return value


def main():
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.bind(sys.argv[1])
    print(json.dumps({"bound": True}), flush=True)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(0, zmq.POLLIN)
    lines = b""
    while True:
        ready = dict(poller.poll())
        if socket in ready:
            parts = socket.recv_multipart()
            text = parts[0].decode("utf-8")
            value = plain(yaml.safe_load(text))
            print(json.dumps({"parts": len(parts), "text": text, "value": value}), flush=True)
        if 0 in ready:
            bytes_read = os.read(0, 65536)
            if not bytes_read:
                return
            lines += bytes_read
            while b"\n" in lines:
                line, lines = lines.split(b"\n", 1)
                socket.send(bytes(json.loads(line)))


main()
