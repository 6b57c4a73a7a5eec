"""An Otii as a meter, through the TCP server of its program."""

import json
import socket
import statistics
import time
from itertools import pairwise

from .metering import MeterError, energy, standard_error

_OTII_PORT, _OTII_S, _MAX_ANSWER = 1905, 15, 1 << 20
_OTII_ANSWER_S = 60  # with all that it tells before an answer
_MOST_AVERAGE = 1e6  # amperes or volts
_SETTLE_S = 0.25  # at both ends of a phase, that belong to neither by the clock of this computer


class OtiiMeter:
    """An Otii that feeds the board, through the TCP server of its program: JSON objects, one a line.

    Log in and reserve the licence for automation in that program: no password passes through here.
    """

    needs_marker, on_board, phase_s = False, "None", 4.0

    def __init__(self, kind, name, options, say):
        host, _, port = name.partition(":")
        try:
            self.host, self.port = host or "127.0.0.1", int(port or _OTII_PORT)
        except ValueError:
            raise MeterError(f"meter otii: got {name!r}, expected otii:HOST:PORT") from None
        self.marks, self.socket, self.buffer, self.n_sent = {}, None, b"", 0

    def start(self, link):
        try:
            self.socket = socket.create_connection((self.host, self.port), timeout=_OTII_S)
        except (OSError, ValueError, OverflowError) as error:  # the last two: no name of a host, no port
            raise MeterError(
                f"meter otii: nobody answers at {self.host}:{self.port} "
                f"({getattr(error, 'strerror', None) or error}); start the "
                "server in the Otii program"
            ) from None
        if not self._ask("otii_has_license", license_type="Automation").get("has_license"):
            raise MeterError(
                "meter otii: no licence for automation is reserved; log in and reserve it in the Otii program, or "
                "export the recording there and give --meter csv:FILE"
            )
        devices = self._ask("otii_get_devices", timeout=5).get("devices")
        if not isinstance(devices, list) or len(devices) != 1:
            n = len(devices) if isinstance(devices, list) else 0
            raise MeterError(f"meter otii: {n} devices are connected to it, expected one")
        self.device = _dict(devices[0]).get("device_id")
        for channel in ("mc", "mv"):
            self._ask("arc_enable_channel", device_id=self.device, channel=channel, enable=True)
        self.project = self._ask("otii_get_active_project").get("project_id", -1)
        self._ask("project_start_recording", project_id=self.project)
        self.begin = time.monotonic()

    def mark(self, phase):
        self.marks[phase] = time.monotonic() - self.begin

    def stop(self, run):
        try:
            self._ask("project_stop_recording", project_id=self.project)
            self.recording = self._ask("project_get_last_recording", project_id=self.project).get("recording_id", -1)
            idle, busy = (self._milliwatts(*phase) for phase in ("IB", "BD"))
        finally:
            self.socket.close()
        how = "Otii, means of current and voltage, phases by the clock of this computer"
        return energy(statistics.mean(idle), statistics.mean(busy), run, how, error_mw=standard_error(idle, busy))

    def _milliwatts(self, first, last):
        """Returns the mean power of four parts of a phase."""
        begin, end = self.marks[first] + _SETTLE_S, self.marks[last] - _SETTLE_S
        if end <= begin:
            raise MeterError("meter otii: a phase was too short; run it again")
        edges = [begin + (end - begin) * i / 4 for i in range(5)]
        return [1000 * self._average("mc", a, b) * self._average("mv", a, b) for a, b in pairwise(edges)]

    def _average(self, channel, begin, end):
        where = {"recording_id": self.recording, "device_id": self.device, "channel": channel}
        value = self._ask("recording_get_channel_statistics", **where, **{"from": begin, "to": end}).get("average")
        if not isinstance(value, int | float) or not abs(value) < _MOST_AVERAGE:
            raise MeterError(f"meter otii: channel {channel}: got {str(value)[:40]}, expected an average; run it again")
        return value

    def _ask(self, command, **data):
        """Sends a request and returns the data of its answer."""
        self.n_sent += 1
        request = {"type": "request", "cmd": command, "trans_id": str(self.n_sent), "data": data}
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\r\n")
            end = time.monotonic() + _OTII_ANSWER_S
            while True:
                answer = self._line(end)
                if answer.get("type") in ("information", "progress"):
                    continue
                if answer.get("trans_id") == str(self.n_sent):
                    break
        except (OSError, ValueError, RecursionError) as error:
            raise MeterError(f"meter otii: no answer to {command} ({error}); is it an Otii server?") from None
        if answer.get("type") != "response":
            raise MeterError(f"meter otii: {command}: refused ({str(answer.get('errorcode', 'no reason'))[:200]})")
        return _dict(answer.get("data"))

    def _line(self, end):
        while b"\r\n" not in self.buffer:
            if time.monotonic() > end:
                raise ValueError("it sends without end")
            data = self.socket.recv(65536)
            if not data or len(self.buffer) > _MAX_ANSWER:
                raise ValueError("the line is closed" if not data else "an answer without end")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        if time.monotonic() > end:
            raise ValueError("it sends without end")
        return _dict(json.loads(line))


def _dict(value):
    return value if isinstance(value, dict) else {}
