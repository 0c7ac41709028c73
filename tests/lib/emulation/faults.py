"""Scripted faults: which request goes wrong, how, and how often.

A rule is a JSON object:

    method   exact; left out: any
    path     regular expression, searched in "<path>?<query>"; left out: any
    body     regular expression, searched in the request's body; left out: any
    of       whose request it is, in the words of the service (its owner_of); left out: anybody's
    skip     so many matching requests pass first (0)
    times    so many are hit after that (1; null: all)
    after    true: the service carries the request out and only its answer suffers; false: it never learns of the request

and one way to go wrong:

    status, reply, headers   this answer instead: reply is JSON, or text as it is; "base64:…" is bytes
    merge                    the service's own JSON answer with these members over it (after)
    close                    the connection ends without an answer
    reset                    it is reset
    truncate                 so many bytes of the answer's body, though more are announced, then the end
    stall                    no answer, and the connection stays open, until the client or the emulator gives up
    stallBody                headers and so many bytes of the body, then the same
    delayMs                  the right answer, late
    dropStream               so many bytes of the body, then a reset, or the end without a close frame
    closeStream              [bytes, code]: of a WebSocket, with a close frame of this code
"""

import base64
import os
import re
import threading

WAYS = ("status", "merge", "close", "reset", "truncate", "stall", "stallBody", "delayMs", "dropStream", "closeStream")
AFTER_ONLY = ("merge", "truncate", "stallBody", "delayMs", "dropStream", "closeStream")
IN_PART = ("truncate", "stallBody", "dropStream", "closeStream")


class Rule:
    def __init__(self, text):
        unknown = set(text) - {"method", "path", "body", "of", "skip", "times", "after", "reply", "headers", *WAYS}
        if unknown:
            raise ValueError(f"unknown member of a fault: {', '.join(sorted(unknown))}")
        ways = [way for way in WAYS if way in text]
        if len(ways) != 1:
            raise ValueError(f"a fault goes wrong in one way; this one has {ways or 'none'}")
        self.way = ways[0]
        self.value = text[self.way]
        self.method = text.get("method")
        self.path = re.compile(text.get("path", ""))
        self.body = re.compile(text.get("body", "").encode())
        self.of = text.get("of")
        self.skip = text.get("skip", 0)
        self.times = text.get("times", 1)
        self.after = text.get("after", self.way in AFTER_ONLY)
        if self.way in AFTER_ONLY and not self.after:
            raise ValueError(f"{self.way} needs an answer of the service")
        self.reply = text.get("reply", "")
        if isinstance(self.reply, str) and self.reply.startswith("base64:"):
            self.reply = base64.b64decode(self.reply.removeprefix("base64:"))
        self.headers = text.get("headers", {})

    def matches(self, request, owner):
        return (self.of in (None, owner) and self.method in (None, request.method) and self.path.search(request.target) is not None
                and self.body.search(request.body) is not None)


class GivenUp(threading.Event):
    """That connections need not stall any longer: an event that poll() can wait for, too."""

    def __init__(self):
        super().__init__()
        self.fd, self.end = os.pipe()

    def set(self):
        super().set()
        os.close(self.end)

    def fileno(self):
        return self.fd


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []
        self.given_up = GivenUp()

    def add(self, texts):
        rules = [Rule(text) for text in (texts if isinstance(texts, list) else [texts])]
        with self.lock:
            self.rules += rules

    def clear(self):
        """Forgets the rules, and lets go of the connections that stall."""
        with self.lock:
            self.rules = []
            self.given_up.set()
            self.given_up = GivenUp()

    def take(self, request, owner):
        """The fault of this request, or None. Only the first rule that matches counts the request."""
        with self.lock:
            for rule in self.rules:
                if not rule.matches(request, owner):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    return None
                if rule.times is None:
                    return rule
                if rule.times > 0:
                    rule.times -= 1
                    return rule
            return None
