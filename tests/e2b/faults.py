"""Scripted faults: which request goes wrong, how, and how often.

A rule is a JSON object:

    method   exact; left out: any
    path     regular expression, searched in "<path>?<query>"; left out: any
    template the template that the request's sandbox is made from; left out: any
    body     regular expression, searched in the request's body; left out: any
    skip     so many matching requests pass first (0)
    times    so many are hit after that (1; null: all)
    after    true: the service carries the request out and only its answer suffers; false: it never learns of the request

and one way to go wrong:

    status, reply, headers   this answer instead: reply is JSON, or text as it is
    merge                    the service's own JSON answer with these members over it (after)
    close                    the connection ends without an answer
    reset                    it is reset
    truncate                 so many bytes of the answer's body, though Content-Length announces all of it, then the end
    stall                    no answer, and the connection stays open, until the client or the emulator gives up
    stallBody                headers and so many bytes of the body, then the same
    delayMs                  the right answer, late
    dropStream               so many bytes of a followed log, then the end without a close frame
    closeStream              [bytes, code]: the same with a close frame of this code
"""

import re
import threading

WAYS = ("status", "merge", "close", "reset", "truncate", "stall", "stallBody", "delayMs", "dropStream", "closeStream")
AFTER_ONLY = ("merge", "truncate", "stallBody", "delayMs", "dropStream", "closeStream")


class Rule:
    def __init__(self, text):
        unknown = set(text) - {"method", "path", "body", "template", "skip", "times", "after", "reply", "headers", *WAYS}
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
        self.template = text.get("template")
        self.skip = text.get("skip", 0)
        self.times = text.get("times", 1)
        self.after = text.get("after", self.way in AFTER_ONLY)
        if self.way in AFTER_ONLY and not self.after:
            raise ValueError(f"{self.way} needs an answer of the service")
        self.reply = text.get("reply", "")
        self.headers = text.get("headers", {})

    def matches(self, method, target, body, template):
        return (self.template in (None, template) and (self.method is None or self.method == method) and self.path.search(target) is not None
                and self.body.search(body) is not None)


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []
        self.given_up = threading.Event()

    def add(self, text):
        rule = Rule(text)
        with self.lock:
            self.rules.append(rule)

    def clear(self):
        """Forgets the rules, and lets go of the connections that stall."""
        with self.lock:
            self.rules = []
            self.given_up.set()
            self.given_up = threading.Event()

    def take(self, method, target, body, template):
        """The fault of this request, or None. Only the first rule that matches counts the request."""
        with self.lock:
            for rule in self.rules:
                if not rule.matches(method, target, body, template):
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
