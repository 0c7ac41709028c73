"""The tests' hold on E2B's emulated services."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "worker")]

from emulation import client  # noqa: E402


class Emulator(client.Emulator):
    program = os.path.join(HERE, "emulator.py")

    @property
    def services(self):
        """The part of a config that says where they are."""
        url = self.urls.get("tlsUrl", self.url)
        return {"apiUrl": f"{url}/api", "sandboxUrl": url}

    def pause(self, sandbox):
        """Behind its owner's back."""
        self.control("POST", "pause", {"id": sandbox})

    def cut(self, sandbox):
        """Resets the streams of its commands."""
        self.control("POST", "cut", {"id": sandbox})
