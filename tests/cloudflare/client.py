"""The tests' hold on the emulated bridge."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[1:1] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "worker")]

from emulation import client  # noqa: E402


class Emulator(client.Emulator):
    program = os.path.join(HERE, "emulator.py")
