"""The tests' hold on Daytona's emulated services."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "worker")]

from emulation import client  # noqa: E402


class Emulator(client.Emulator):
    program = os.path.join(HERE, "emulator.py")

    def toolbox(self, **text):
        self.control("POST", "toolbox", text)

    def set_state(self, sandbox_id, state, **text):
        self.control("POST", "state", {"id": sandbox_id, "state": state, **text})

    def end_sessions(self, sandbox_id):
        self.control("POST", "sessions/end", {"id": sandbox_id})
