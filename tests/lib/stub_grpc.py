"""A gRPC service that fails in every way, beside the stub's other answers: /grpc.Stub/<what>[/<key>]."""

import asyncio
import struct
from urllib.parse import quote

HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
TEXT = quote("n\u00f6: 5%", safe=" :")
FLOOD_BYTES = 64 << 20

counts = {}  # by path without /grpc.Stub/: how often it was called
flooded = {"bytes": 0}


def frame(message, flags=0):
    return struct.pack(">BI", flags, len(message)) + message


async def answer(connection, stream, request):
    """connection: stub_http_server's Http2."""
    what = request.words[1]
    key = "/".join(request.words[1:])
    counts[key] = counts.get(key, 0) + 1
    h = connection.h
    message = bytes(request.body[5:])

    async def begin(*data):
        h.send_headers(stream, HEADERS)
        for piece in data:
            await connection.send_data(stream, piece, end=False)

    async def finish(status="0", text=""):
        h.send_headers(stream, [("grpc-status", status), ("grpc-message", text)], end_stream=True)
        await connection.flush()

    async def reset(code):
        await connection.flush()
        await asyncio.sleep(0.05)  # else it overtakes what was sent
        h.reset_stream(stream, error_code=code)
        await connection.flush()

    async def answer_with(text):
        await begin(frame(str(text).encode()))
        await finish()

    async def go_away(last_stream):
        h.close_connection(last_stream_id=last_stream)
        await connection.flush()
        connection.writer.close()

    number = what.rpartition("-")[2]
    if what == "echo":
        text = "|".join(request.header(name) or "" for name in ("content-type", "te", "grpc-timeout", "x-one")).encode()
        data = frame(message + b"|" + text)
        await begin(data[:3], data[3:7], data[7:])
        await finish()
    elif what == "mirror":
        await begin(frame(message))
        await finish()
    elif what.startswith("status-"):
        await begin()
        await finish(number, TEXT)
    elif what.startswith("trailers-only-"):
        h.send_headers(stream, [*HEADERS, ("grpc-status", number), ("grpc-message", TEXT)], end_stream=True)
    elif what == "details":
        h.send_headers(stream, [*HEADERS, ("grpc-status", "8"), ("grpc-status-details-bin", "CAg")], end_stream=True)
    elif what.startswith("http-"):
        h.send_headers(stream, [(":status", number), ("content-type", "text/html")], end_stream=True)
    elif what.startswith("rst-"):
        await reset(int(number))
    elif what == "no-status":
        await begin(frame(b"x"))
        h.end_stream(stream)
    elif what == "nothing":
        await begin()
        h.end_stream(stream)
    elif what == "empty":
        await begin()
        await finish()
    elif what == "half":
        await begin(frame(b"xyz")[:6])
        await finish()
    elif what == "twice":
        await begin(frame(b"x") * 2)
        await finish()
    elif what == "compressed":
        await begin(frame(b"x", 1))
        await finish()
    elif what == "length":
        await answer_with(len(message))
    elif what == "big":
        await begin(frame(b"b" * int(message)))
        await finish()
    elif what == "count":
        await answer_with(counts.get(message.decode(), 0))
    elif what == "flooded":
        await answer_with(flooded["bytes"])
    elif what == "close":
        connection.writer.close()
        return
    elif what == "drop" and counts[key] == 1:
        connection.writer.close()
        return
    elif what == "unseen" and counts[key] == 1:
        return await go_away(stream - 2)
    elif what == "seen" and counts[key] == 1:
        return await go_away(stream)
    elif what in ("drop", "unseen", "seen"):
        await answer_with(what)
    elif what == "leave":  # what is under way is answered, then the connection ends
        connection.writer.write(b"\0\0\x08\x07\0\0\0\0\0" + struct.pack(">II", stream, 0))  # GOAWAY; h2's own ends all at once
        await connection.writer.drain()
        return await answer_with(what)
    elif what == "flood":
        await begin()
        piece = frame(b"f" * 65531)
        while flooded["bytes"] < FLOOD_BYTES:
            await connection.send_data(stream, piece, end=False)
            flooded["bytes"] += len(piece)
        await finish()
    elif what == "stall":
        await begin()
    elif what == "stream":
        await begin(frame(b"m" * 1000) * 1000)
        await finish()
    elif what.startswith("stream-"):
        await begin(frame(b"one"), frame(b"two"))
        if what == "stream-rst":
            await reset(2)
        elif what == "stream-half":
            await connection.send_data(stream, frame(b"three")[:7], end=False)
            await finish()
        elif what == "stream-no-status":
            h.end_stream(stream)
        else:
            await finish("14", "moved")
    await connection.flush()
